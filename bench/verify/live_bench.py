"""The bench for live measurements: a scratch folder, small plans, and workers that are driven as a run drives them."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.catalog import Catalog, Framework
from bench.core import files, paths
from bench.core.errors import BenchError
from bench.machine.lock import MachineLock
from bench.prepare import launch, native
from bench.stats.load import Requests
from bench.workers.client import Launch, Order, Worker, WorkerFailed, running

#: Tokens of every row, and seconds in which a worker must be ready.
TOKENS = 8
LOAD_S = 60.0


@dataclass
class LiveBench:
    """Where live claims are measured.

    Attributes:
        folder: scratch, under build/, as a worker's plans and OUT folders must be.
        machine_lock: lists the workers, so that the next holder ends them should this process be killed.
    """

    folder: Path
    machine_lock: MachineLock
    catalogue: Catalog
    _count: int = field(default=0)

    def plan(self, gaps: npt.NDArray[np.float64]) -> Path:
        """The folder of a plan (WORKER.md) with one row of TOKENS ids for each gap."""
        folder = self._new("plan")
        folder.mkdir()
        ids = (np.arange(len(gaps) * TOKENS, dtype="<i8") % 30_000) + 1
        ids.tofile(folder / "tokens.i64")
        rows = (f"{gap:.9f},{place * TOKENS},{TOKENS}" for place, gap in enumerate(gaps))
        (folder / "rows.csv").write_text("\n".join(["gap,offset,length", *rows, ""]))
        return folder

    @contextmanager
    def worker(self, launch: Launch) -> Iterator[Worker]:
        """A worker that has said `ready`, ended on leaving.

        Raises:
            BenchError: it does not start.
            WorkerFailed: it fails after it was ready.
        """
        started = False
        try:
            with running(launch, self._new("log"), self.machine_lock, LOAD_S) as (worker, _):
                started = True
                yield worker
        except WorkerFailed as failure:
            if started:
                raise
            raise BenchError(f"{' '.join(launch.command)}: {failure}; see `invoke doctor`") from None

    @contextmanager
    def fixed_service(self, ms: float, fault: str | None = None, **settings: str) -> Iterator[Worker]:
        """A worker whose every service takes `ms` milliseconds."""
        command, env = (sys.executable, "-m", "bench.verify.fixed_service_worker"), {"PYTHONPATH": str(paths.ROOT)}
        with self.worker(Launch(command, env, self.folder, 0, settings={"ms": str(ms), **settings}, fault=fault)) as worker:
            yield worker

    @contextmanager
    def null(self, framework: Framework, fault: str | None = None) -> Iterator[Worker]:
        """The null worker of a language."""
        command, env = launch.command_and_env(framework, 1, 1)
        with self.worker(Launch(command, env, self.folder, 0, fault=fault)) as worker:
            yield worker

    def serve(self, worker: Worker, plan: Path, count: int, rate: float, guard_s: float = 120.0) -> Requests:
        """Serve the first `count` rows of a plan one at a time, back to back (`rate` 0) or at a rate per second."""
        samples = worker.serve(Order(plan, 0, count, 1, guard_s, rate), self.folder, guard_s + 60).samples
        none, zeros = np.zeros(len(samples), dtype=np.int64), np.zeros(len(samples))
        request, due, start, end = (samples[name].to_numpy() for name in ("request", "due_ns", "start_ns", "end_ns"))
        return Requests(none, none, request, none + TOKENS, due, start, end, zeros, zeros, zeros)

    def file(self, size: int) -> Path:
        """A new file of `size` zero bytes."""
        path = self._new("file")
        path.write_bytes(bytes(size))
        return path

    def _new(self, what: str) -> Path:
        self._count += 1
        return self.folder / f"{what}-{self._count}"


@contextmanager
def opened(machine_lock: MachineLock, catalogue: Catalog) -> Iterator[LiveBench]:
    """A live bench whose folder is removed at the end."""
    folder = paths.SCRATCH / f"verify-{files.short_hash(time.time_ns())}"
    folder.mkdir(parents=True)
    try:
        yield LiveBench(folder, machine_lock, catalogue)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def null_workers(catalogue: Catalog) -> tuple[list[Framework], list[str]]:
    """The null workers that can run here, built; and for each of the others its language and why it cannot."""
    ready, absent = [], []
    for framework in catalogue.frameworks.values():
        if framework.role != "floor":
            continue
        try:
            if reason := launch.missing(framework):
                raise BenchError(reason)
            if framework.build:
                native.ensure(framework)
            ready.append(framework)
        except BenchError as error:
            absent.append(f"{framework.language}: {error}")
    return ready, absent
