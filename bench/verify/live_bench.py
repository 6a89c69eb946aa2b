"""What a live measurement stands on: a scratch folder, small plans, and workers that are driven as a run drives them."""

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

from bench import catalog
from bench.catalog import Framework
from bench.core import files, paths
from bench.core.errors import BenchError
from bench.machine.lock import MachineLock
from bench.prepare import launch, native
from bench.stats.load import Served
from bench.workers.client import Launch, Order, Worker, WorkerFailed, running

TOKENS = 8
LOAD_S = 60.0


@dataclass
class LiveBench:
    """Where live promises are measured. `folder` lies under build/, as a worker's plans and OUT folders must; `held` lists the workers
    for whoever holds the machine next, were we killed."""

    folder: Path
    held: MachineLock
    _count: int = field(default=0)

    def plan(self, gaps: npt.NDArray[np.float64]) -> Path:
        """A plan of rows of TOKENS ids with these gaps (WORKER.md)."""
        folder = self._new("plan")
        folder.mkdir()
        ids = (np.arange(len(gaps) * TOKENS, dtype="<i8") % 30_000) + 1
        ids.tofile(folder / "tokens.i64")
        rows = (f"{gap:.9f},{place * TOKENS},{TOKENS}" for place, gap in enumerate(gaps))
        (folder / "rows.csv").write_text("\n".join(["gap,offset,length", *rows, ""]))
        return folder

    @contextmanager
    def worker(self, launch: Launch) -> Iterator[Worker]:
        """A worker with one session that has said `ready`; ended when the block is left.

        Raises:
            BenchError: it does not start.
            WorkerFailed: it dies later.
        """
        started = False
        try:
            with running(launch, self._new("log"), self.held, LOAD_S) as (worker, _):
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

    def serve(self, worker: Worker, plan: Path, count: int, rate: float, guard_s: float = 120.0) -> Served:
        """Rows 0 … of a plan, one at a time, back to back or at a rate; int64 ns as the worker wrote them."""
        samples = worker.serve(Order(plan, 0, count, 1, guard_s, rate), self.folder, guard_s + 60).samples
        none, zeros = np.zeros(len(samples), dtype=np.int64), np.zeros(len(samples))
        request, due, start, end = (samples[name].to_numpy() for name in ("request", "due_ns", "start_ns", "end_ns"))
        return Served(none, none, request, none + TOKENS, due, start, end, zeros, zeros, zeros)

    def file(self, size: int) -> Path:
        """A new file of zeros."""
        path = self._new("file")
        path.write_bytes(bytes(size))
        return path

    def _new(self, what: str) -> Path:
        self._count += 1
        return self.folder / f"{what}-{self._count}"


@contextmanager
def opened(held: MachineLock) -> Iterator[LiveBench]:
    """A live_bench that leaves nothing behind."""
    folder = paths.SCRATCH / f"verify-{files.short_hash(time.time_ns())}"
    folder.mkdir(parents=True)
    try:
        yield LiveBench(folder, held)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def nulls() -> tuple[list[Framework], list[str]]:
    """The null workers that can run here, built; and of the others why not."""
    ready, absent = [], []
    for framework in catalog.load().frameworks.values():
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
