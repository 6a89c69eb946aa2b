"""The workers of a run that are alive: started, served from, frozen and ended. At most one of them works at a time.

Callers resume (SIGCONT) and stop (SIGSTOP) workers. `serve` requires a running worker; `start` returns one running; `freeze` blocks until
the process is stopped.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from bench.catalog import control_arms
from bench.core import paths
from bench.core.stopwatch import Stopwatch
from bench.machine import lock
from bench.measure.cold_start import ColdStarts, start_of
from bench.plan.folder import Plan
from bench.prepare.spec import PreparedArm
from bench.runs.writer import RunFolder
from bench.workers.client import Launch, Order, Ready, Served, Worker, WorkerFailed, load_timeout_s

#: Unrecorded rows are served in pieces of this part of the time to a planted stall, so that the stall happens in a recorded slice.
BEFORE_STALL = 0.8
#: A slice may take this long beyond its guard and ten times the longest service seen; shorter in tests.
SLICE_TIMEOUT_S = float(os.environ.get("BENCH_SLICE_TIMEOUT_S", "30"))

#: Sees every order that a worker has served.
Observer = Callable[["WorkerSlot", Plan, Order, Served], None]


@dataclass
class WorkerSlot:
    """A live worker of an arm, and what its process has served.

    Attributes:
        start: number of the process among the arm's, from 0.
        longest_s: the longest service seen, at first a guess.
        warm: scenarios for which the process is warmed up, `batches` their batches, `lengths` the tokens of the rows that warm-up served.
    """

    prepared: PreparedArm
    worker: Worker
    ready: Ready
    start: int
    scratch: Path
    observe: Observer
    longest_s: float = 1.0
    failed_slices: int = 0
    warm: set[str] = field(default_factory=set)
    batches: set[int] = field(default_factory=set)
    lengths: set[int] = field(default_factory=set)

    @property
    def patience_s(self) -> float:
        """A guard for a single request: 30 s and ten times the longest service seen."""
        return 30 + 10 * self.longest_s

    def serve(self, plan: Plan, first: int, rows: int, batch: int, guard_s: float, rate_per_s: float = 0.0) -> Served:
        """Have the running worker serve rows, back to back unless there is a rate.

        Raises:
            SliceFailed: the worker said so and goes on.
            WorkerFailed: it died, or gave no answer in time.
        """
        order = Order(plan.folder, first, rows, batch, guard_s, rate_per_s)
        served = self.worker.serve(order, self.scratch, guard_s + 10 * self.longest_s + SLICE_TIMEOUT_S)
        self.observe(self, plan, order, served)
        services_ns = served.samples["end_ns"] - served.samples["start_ns"]
        if len(services_ns):
            self.longest_s = max(self.longest_s, float(services_ns.max()) / 1e9)
        return served

    def unrecorded(self, plan: Plan, rows: int, batch: int, guard_s: float) -> pd.DataFrame:
        """Serve the first rows of a plan within `guard_s`, for warmth only; returns the samples."""
        stall = control_arms.stall_of(self.prepared.fault)
        piece_s = BEFORE_STALL * stall[0] if stall else guard_s
        deadline_s, served = time.monotonic() + guard_s, 0
        frames: list[pd.DataFrame] = []
        while served < rows and (not frames or time.monotonic() < deadline_s):
            frames.append(self.serve(plan, served, rows - served, batch, min(piece_s, guard_s)).samples)
            if not stall or frames[-1].empty:
                break
            served += len(frames[-1])
        return pd.concat(frames, ignore_index=True)


class WorkerPool:
    """All live workers of a run, by arm id."""

    def __init__(
        self,
        folder: RunFolder,
        held: lock.MachineLock,
        phase: Stopwatch,
        pad_id: int,
        observe: Observer,
        start_worker: Callable[[Launch, Path], Worker] = Worker,
    ) -> None:
        """
        Args:
            held: lists the workers for the next holder of the machine.
            phase: takes the seconds of loading and of making page caches cold.
        """
        self.folder, self.held, self.phase, self.pad_id, self.observe = folder, held, phase, pad_id, observe
        self.slots: dict[str, WorkerSlot] = {}
        self.cold_starts = ColdStarts()
        self.scratch = paths.SCRATCH / folder.run_id
        self._start_worker = start_worker

    @contextmanager
    def opened(self) -> Iterator[None]:
        """A fresh scratch folder; however the body ends, no worker is left."""
        shutil.rmtree(paths.SCRATCH, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        try:
            yield
        finally:
            for slot in list(self.slots.values()):
                self.kill(slot)
            shutil.rmtree(self.scratch, ignore_errors=True)

    def in_starting_order(self, arms: Sequence[PreparedArm]) -> list[PreparedArm]:
        """Arms in the order in which they should be started: see ColdStarts."""
        return self.cold_starts.order(arms)

    def start(self, prepared: PreparedArm, dim: int) -> WorkerSlot:
        """A running worker of an arm with its model loaded; the start is recorded.

        Args:
            dim: elements of the model's vectors.

        Raises:
            WorkerFailed: it does not load, computes in another precision than asked, or has a fault that was not asked for.
        """
        arm_id = prepared.arm.id
        start = self.folder.start_count(arm_id)
        with self.phase("page cache"):
            page_cache = self.cold_starts.prepare(prepared, start)
        worker = self._start_worker(prepared.launch(self.pad_id), self.folder.log(arm_id, start))
        self.held.add(worker.pid)
        try:
            with self.phase("load"):
                ready = worker.wait_ready(load_timeout_s(prepared.artefact.bytes))
            _expect(ready, prepared, dim)
        except BaseException:
            worker.kill()
            self.held.remove(worker.pid)
            raise
        slot = self.slots[arm_id] = WorkerSlot(prepared, worker, ready, start, self.scratch, self.observe)
        self.folder.write_start(start_of(prepared, start, worker, ready, page_cache))
        return slot

    def end(self, slot: WorkerSlot) -> None:
        """Ask a worker to end; the arm's next start is a new process."""
        slot.worker.quit()
        self.kill(slot)

    def end_all(self) -> None:
        for slot in list(self.slots.values()):
            self.end(slot)

    def kill(self, slot: WorkerSlot) -> None:
        """SIGKILL a worker, if it is still there."""
        slot.worker.kill()
        self.held.remove(slot.worker.pid)
        self.slots.pop(slot.prepared.arm.id, None)


def _expect(ready: Ready, prepared: PreparedArm, dim: int) -> None:
    """A worker serves only what was asked for.

    Raises:
        WorkerFailed: another precision, a fault that was not asked for, or vectors of another length.
    """
    precision = prepared.arm.precision
    if ready.settings.get("precision") != precision:
        raise WorkerFailed("ENV_INVALID", f"asked for {precision}, the runtime reads back {ready.settings.get('precision')}")
    if prepared.fault is None and any(key.startswith("fault") for key in ready.settings):
        raise WorkerFailed("ENV_INVALID", "its worker was started with a fault: only control arms have one")
    if ready.dim != dim:
        raise WorkerFailed("PARITY_FAIL", f"vectors have {ready.dim} elements, the model has {dim}")
