"""The workers of a run: started, warmed up, checked, served from, frozen and ended. One of them works at a time.

What is awake is the caller's choice: `serve` wants an awake worker, `start` leaves one awake, `freeze` waits until it stands still.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.catalog import Scenario, control_arms
from bench.core import paths
from bench.core.progress import Progress
from bench.core.stopwatch import Stopwatch
from bench.correctness import check_cache, checks, reference
from bench.correctness.determinism import RunToRun
from bench.machine import lock
from bench.measure import budget, service_time
from bench.measure.cold_start import Starts, start_of
from bench.plan.folder import Plan
from bench.prepare.spec import Experiment, PreparedArm
from bench.runs.schema import Check
from bench.runs.writer import RunFolder
from bench.workers.client import Order, Served, SliceFailed, Worker, WorkerFailed, load_timeout_s

WARM_UP_S = 3.0
#: The unique-versus-repeat tests of all arms take about this part of the budget.
REPEAT_SHARE = 0.1
#: Where every scenario takes its own cost there is no budget to take a part of: the test is as long as in one of this many seconds.
REPEAT_BUDGET_S = 180.0
#: What is not recorded is served in stretches of this part of the time to a stall: it must not come where nobody looks.
BEFORE_STALL = 0.8
#: What a slice may take beyond its guard and ten times the longest service seen; shorter in tests.
SLICE_TIMEOUT_S = float(os.environ.get("BENCH_SLICE_TIMEOUT_S", "30"))
#: A worker that fails this many slices is not asked again in its scenario.
MAX_FAILED_SLICES = 3
Vectors = npt.NDArray[np.float32]


@dataclass
class Seat:
    """An arm with its worker.

    `warm` names the scenarios that this process is warmed up for, `batches` their batches, `lengths` holds the tokens of the rows that
    warm-up served.
    """

    prepared: PreparedArm
    worker: Worker
    start: int
    longest_s: float = 1.0
    failed_slices: int = 0
    warm: set[str] = field(default_factory=set)
    batches: set[int] = field(default_factory=set)
    lengths: set[int] = field(default_factory=set)


class Seats:
    """All workers that are alive, by arm id, and what a request of each arm costs in each scenario, as warm-up showed."""

    def __init__(self, experiment: Experiment, folder: RunFolder, held: lock.MachineLock, progress: Progress) -> None:
        self.experiment, self.folder, self.held, self.progress = experiment, folder, held, progress
        self.taken: dict[str, Seat] = {}
        self.costs: dict[tuple[str, str], budget.ServiceTime] = {}
        self.stage = Stopwatch()
        self.stage.seconds.update(experiment.stages)
        self.measured_s = 0.0
        self.starts, self.run_to_run = Starts(), RunToRun()
        self.warm_up_s = 0.0
        self.scratch = paths.SCRATCH / folder.run_id

    @contextmanager
    def opened(self) -> Iterator[None]:
        """A fresh scratch folder; at the end, however it comes, no worker is left."""
        shutil.rmtree(paths.SCRATCH, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        try:
            yield
        finally:
            for seat in list(self.taken.values()):
                self._remove(seat)
            shutil.rmtree(self.scratch, ignore_errors=True)

    # --- coming and going ------------------------------------------------------------------------------------------------

    def ready(self, prepared: PreparedArm, scenario: Scenario, limit_s: float) -> Seat:
        """A seat that is warmed up for `scenario` (at most `limit_s`), checked once in the run, and awake."""
        seat = self.taken.get(prepared.arm.id)
        if seat is None:
            seat = self._start(prepared)
        else:
            seat.worker.thaw()
        if scenario.name not in seat.warm:
            if scenario.batch in seat.batches and (prepared.arm.id, scenario.name) in self.costs:
                self._add_lengths(seat, scenario)
            else:
                self._warm_up(seat, scenario, limit_s)
            if len(seat.warm) == 1:
                self.folder.write_first_pss(prepared.arm.id, seat.start, seat.worker.memory().pss_bytes)
            # A control is the very program that is checked as the measured arm; its timed vectors are compared all the same.
            if prepared.arm.role == "measured" and not self.folder.has_checks(prepared.arm.id):
                self._check(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """End a worker; its next start is a fresh process."""
        seat.worker.quit()
        self._remove(seat)

    def leave_all(self) -> None:
        for seat in list(self.taken.values()):
            self.leave(seat)

    @contextmanager
    def retire_on_failure(self, prepared: PreparedArm, scenario: Scenario) -> Iterator[None]:
        """An arm that fails loses its worker and gets a row with the reason; the run goes on."""
        try:
            yield
        except (WorkerFailed, SliceFailed) as failure:
            status = failure.status if isinstance(failure, WorkerFailed) else "CRASH"
            self.folder.write_failure(prepared.arm.id, scenario.name, status, str(failure))
            self.progress.say(f"{prepared.name}: {status}: {failure}")
            if prepared.arm.id in self.taken:
                self._remove(self.taken[prepared.arm.id])

    def _remove(self, seat: Seat) -> None:
        seat.worker.kill()
        self.held.remove(seat.worker.pid)
        self.taken.pop(seat.prepared.arm.id, None)

    def _start(self, prepared: PreparedArm) -> Seat:
        arm_id = prepared.arm.id
        start = self.folder.start_count(arm_id)
        with self.stage("page cache"):
            cache = self.starts.prepare(prepared, start)
        with self.stage("load"):
            worker = Worker(prepared.launch(self.experiment.pad_id), self.folder.log(arm_id, start))
            self.held.add(worker.pid)
            seat = self.taken[arm_id] = Seat(prepared, worker, start)
            ready = worker.wait_ready(load_timeout_s(prepared.artefact.bytes))
        wanted, dim = prepared.arm.precision, self.experiment.spec.model.dim
        if ready.settings.get("precision") != wanted:
            raise WorkerFailed("ENV_INVALID", f"asked for {wanted}, the runtime reads back {ready.settings.get('precision')}")
        if prepared.fault is None and any(key.startswith("fault") for key in ready.settings):
            raise WorkerFailed("ENV_INVALID", "its worker was started with a fault: only control arms have one")
        if ready.dim != dim:
            raise WorkerFailed("PARITY_FAIL", f"vectors have {ready.dim} elements, the model has {dim}")
        self.folder.write_start(start_of(prepared, start, worker, ready, cache))
        if start == 0:
            self.progress.say(f"{prepared.name}: loaded in {ready.load_ns / 1e9:.2f} s")
        return seat

    # --- serving ---------------------------------------------------------------------------------------------------------

    def serve(self, seat: Seat, plan: Plan, first: int, count: int, batch: int, seconds: float, rate_per_s: float = 0.0) -> Served:
        """One `serve` of an awake worker, back to back unless there is a rate."""
        order = Order(plan.folder, first, count, batch, seconds, rate_per_s)
        served = seat.worker.serve(order, self.scratch, seconds + 10 * seat.longest_s + SLICE_TIMEOUT_S)
        if seat.prepared.arm.role == "measured" and first == 0 and batch == 1 and plan.warm:
            self._compare_runs(seat, plan, served)
        services = served.samples["end_ns"] - served.samples["start_ns"]
        if len(services):
            seat.longest_s = max(seat.longest_s, float(services.max()) / 1e9)
        return served

    def slice(
        self, seat: Seat, scenario: Scenario, plan: Plan, first: int, rows: int, rate_per_s: float | None = None
    ) -> tuple[Served | None, str | None]:
        """Two unrecorded requests, then the slice: what was served, or why it failed. The worker must be awake.

        With a rate the slice is an open-loop piece; an arm that does not keep up is cut off, so that it costs no more than its guard.
        """
        cost = self.costs[seat.prepared.arm.id, scenario.name]
        seconds = 30 + 10 * cost.batch_s * (-(-rows // scenario.batch))
        try:
            self.unrecorded(seat, plan, budget.THAW_ROWS, 1, seconds)
            if rate_per_s is not None:
                return self.serve(seat, plan, first, rows, scenario.batch, budget.guard_s(rows, rate_per_s, cost), rate_per_s), None
            return self.serve(seat, plan, first, rows, scenario.batch, seconds), None
        except SliceFailed as failure:
            seat.failed_slices += 1
            if seat.failed_slices >= MAX_FAILED_SLICES:
                raise WorkerFailed("CRASH", f"{seat.failed_slices} slices failed, the last with: {failure}") from None
            return None, str(failure)

    def unrecorded(self, seat: Seat, plan: Plan, count: int, batch: int, seconds: float) -> pd.DataFrame:
        """Serve the first `count` rows within `seconds`, for warmth only; returns the samples. A worker with a stall in wait does it in
        short stretches, so that the stall is left for a recorded slice."""
        stall = control_arms.stall_of(seat.prepared.fault)
        stretch_s = BEFORE_STALL * stall[0] if stall else seconds
        deadline, done = time.monotonic() + seconds, 0
        frames: list[pd.DataFrame] = []
        while done < count and (not frames or time.monotonic() < deadline):
            frames.append(self.serve(seat, plan, done, count - done, batch, min(stretch_s, seconds)).samples)
            if not stall or frames[-1].empty:
                break
            done += len(frames[-1])
        return pd.concat(frames, ignore_index=True)

    def _warm_up(self, seat: Seat, scenario: Scenario, limit_s: float) -> None:
        """Serve the plan's reserved rows (each length once) within the limit, and learn what a batch costs."""
        plan = self.experiment.plans[scenario.name]
        began = time.monotonic()
        with self.measuring():
            singles_s, batches_s = service_time.warm_up_limits_s(limit_s)
            singles = self.unrecorded(seat, plan, min(plan.warm, service_time.WARM_UP_SINGLES), 1, singles_s)
            rows = plan.warm // scenario.batch * scenario.batch
            batches = self.unrecorded(seat, plan, rows, scenario.batch, batches_s)
            cost = budget.ServiceTime(self._cost_s(seat, plan, batches, scenario.batch), self._cost_s(seat, plan, singles, 1))
        self.warm_up_s += time.monotonic() - began
        self.costs[seat.prepared.arm.id, scenario.name] = cost
        seat.warm.add(scenario.name)
        seat.batches.add(scenario.batch)
        seat.lengths.update(plan.lengths[: max(len(singles), len(batches))].tolist())

    def _add_lengths(self, seat: Seat, scenario: Scenario) -> None:
        """Warm a process up for one scenario more of a batch that it has served: with the lengths only that are new to it."""
        plan = self.experiment.plans[scenario.name]
        with self.measuring():
            for row in range(plan.warm):
                if plan.lengths[row] not in seat.lengths:
                    self.serve(seat, plan, row, 1, 1, 30 + 10 * seat.longest_s)
                    seat.lengths.add(int(plan.lengths[row]))
        seat.warm.add(scenario.name)

    def _cost_s(self, seat: Seat, plan: Plan, served: pd.DataFrame, batch: int) -> float:
        """Expected seconds of a batch of measured rows, by what warm-up `served`; by one typical batch more where that says too little."""
        wanted = service_time.width_to_come(plan, batch)
        found = service_time.batch_s(served, plan, wanted)
        if found is None:
            first = service_time.typical_first(plan, batch, wanted)
            typical = self.serve(seat, plan, first, batch, batch, 30 + 10 * seat.longest_s).samples
            width = plan.lengths[first : first + batch].max()
            found = float((typical["end_ns"] - typical["start_ns"]).max()) / 1e9 * wanted / width
        return found

    def _check(self, seat: Seat) -> None:
        """Hard inputs, batch equals single, and the unique-versus-repeat test, before any time of this arm is recorded."""
        repeat, verdict = self.experiment.repeat, check_cache.key(self.experiment, seat.prepared)
        found = check_cache.load(verdict)
        if found is None:
            found = self._hard_inputs(seat)
            check_cache.save(verdict, self.folder.run_id, found)
        with self.measuring():
            limit_s, guard_s = self._repeat_limit_s(), 30 + 10 * seat.longest_s * checks.REPEAT_PIECE
            warm = self.serve(seat, repeat.plan, 0, repeat.plan.warm, 1, min(WARM_UP_S, limit_s / 4)).samples
            request_s = float((warm["end_ns"] - warm["start_ns"]).median()) / 1e9
            asked = checks.repeat_pieces(repeat, request_s, limit_s * 3 / 4)
            pieces = [self.serve(seat, repeat.plan, first, asked.rows, 1, guard_s).samples for first in asked.firsts]
        found += checks.unique_versus_repeat(pieces)
        self.folder.write_checks(seat.prepared.arm.id, found)
        for check in found:
            if check.held is False:
                self.progress.say(f"{seat.prepared.name}: {check.name}: {check.detail}")

    def _hard_inputs(self, seat: Seat) -> list[Check]:
        """What only the hard inputs show; no verdict of an earlier run may be taken over."""
        hard = self.experiment.hard
        expected = self.reference(hard, 0, hard.rows)
        with self.stage("hard inputs"):
            guard_s = 60 + 10 * hard.rows * seat.longest_s
            batched = self.serve(seat, hard, 0, hard.rows, checks.HARD_BATCH, guard_s)
            single = self.serve(seat, hard, 0, min(hard.rows, checks.HARD_SINGLES), 1, guard_s)
        found = checks.hard_inputs(seat.prepared.arm.precision, single.vectors, batched.vectors, expected)
        found += checks.latency_over_tokens(single.samples, hard.lengths)
        return found + checks.time_accounted(single.samples, single.wall_ns)

    def _repeat_limit_s(self) -> float:
        """Seconds of the budget that the unique-versus-repeat test of one arm may take."""
        measured = sum(prepared.arm.role == "measured" for prepared in self.experiment.prepared_arms)
        budget_s = self.experiment.spec.budget_s
        return REPEAT_SHARE * (REPEAT_BUDGET_S if budget_s is None else budget_s) / max(1, measured)

    def _compare_runs(self, seat: Seat, plan: Plan, served: Served) -> None:
        """Hold the vectors of warm-up against those of the arm's first process."""
        arm = seat.prepared.arm
        check = self.run_to_run.see(arm.id, arm.precision, seat.start, plan.hash, served.vectors)
        if check:
            self.folder.add_check(arm.id, check)
            if check.held is False:
                self.progress.say(f"{seat.prepared.name}: {check.name}: {check.detail}")

    def reference(self, plan: Plan, first: int, count: int) -> Vectors:
        """Reference vectors of plan rows (count, dim)."""
        artefact, (source, rows) = self.experiment.reference, plan.distinct(first, count)
        low, high = int(rows.min()), int(rows.max()) + 1
        with self.stage("reference"):
            found = reference.ensure(artefact.folder, artefact.hash, source.folder, source.hash, low, high - low, self.experiment.pad_id)
        return found[rows - low]

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """What runs inside is paid from the budget."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.measured_s += time.monotonic() - began
