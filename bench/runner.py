"""Measures an experiment: resident workers, idle ones frozen, slices of equal rows in seeded random order, block by block.

One framework works at a time. A worker that crashes, hangs or is killed becomes a failure with its reason and the others go on;
nothing outlives this process (the workers die with it, and the machine's lock lists them for the next holder).
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import budget, checks, files, lock, parity, paths, reference
from bench.catalog import Scenario
from bench.experiment import Experiment, Lane, Stopwatch
from bench.plan import Plan
from bench.process import SliceFailed, Usage, Worker, WorkerFailed
from bench.progress import Progress
from bench.runfolder import RunFolder, now

WARM_UP_S, WARM_UP_SHARE = 3.0, 0.2
LOAD_TIMEOUT_S, LOAD_BYTES_PER_S = 60.0, 20e6
#: What a slice may take beyond its guard and ten times the longest service seen; shorter in tests.
SLICE_TIMEOUT_S = float(os.environ.get("BENCH_SLICE_TIMEOUT_S", "30"))
#: Each arm is started afresh at least this often in a run.
MIN_STARTS = 3
#: A worker that fails this many slices is not asked again in its scenario.
MAX_FAILED_SLICES = 3
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Served:
    """A slice that a worker served: its samples (DataFrame of samples.csv), its vectors (rows, dim), and what it took."""

    samples: pd.DataFrame
    vectors: Vectors
    wall_ns: int
    cpu_ns: int


@dataclass
class Seat:
    """A lane with its resident worker, frozen while others work."""

    lane: Lane
    worker: Worker
    start: int
    longest_s: float = 1.0
    failed_slices: int = 0
    cost: dict[str, budget.Cost] = field(default_factory=dict)


class Runner:
    """One run of one model. `seats` maps arm ids to resident workers."""

    def __init__(self, experiment: Experiment, folder: RunFolder, held: lock.MachineLock, progress: Progress) -> None:
        self.experiment, self.folder, self.held, self.progress = experiment, folder, held, progress
        self.seats: dict[str, Seat] = {}
        self.costs: dict[tuple[str, str], budget.Cost] = {}
        self.stage = Stopwatch()
        self.stage.seconds.update(experiment.stages)
        self.measured_s = 0.0
        self.warm_up_s = 0.0
        self.outs = 0
        self.scratch = paths.SCRATCH / folder.run_id

    # --- the whole run -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Measure every scenario, then mark the run as done."""
        shutil.rmtree(paths.SCRATCH, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        try:
            scenarios = self.experiment.wish.scenarios
            for position, scenario in enumerate(scenarios):
                left_s = self.experiment.wish.budget_s - self.measured_s
                self._scenario(scenario, left_s / (len(scenarios) - position))
            self.folder.done({**self.stage.seconds, "measuring": round(self.measured_s, 3)})
        finally:
            for seat in self.seats.values():
                seat.worker.kill()
                self.held.remove(seat.worker.pid)
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _scenario(self, scenario: Scenario, share_s: float) -> None:
        """All blocks of one scenario within `share_s` seconds of measuring."""
        plan = self.experiment.plans[scenario.name]
        began_s, warmed_s = self.measured_s, self.warm_up_s
        # An arm that failed in an earlier scenario gets another chance here.
        self._seat_all(scenario, share_s)
        pace = self.folder.pace(scenario.name)
        if pace is None:
            costs = [self.costs[seat.lane.arm.id, scenario.name] for seat in self.seats.values()]
            if not costs:
                return
            # What is spent already, and the warm-ups of the restarts still to come, are paid from the same share.
            overhead_s = self.measured_s - began_s + (self._starts_per_scenario() - 1) * (self.warm_up_s - warmed_s)
            found = budget.pace(share_s - overhead_s, scenario.batch, plan.rows - plan.warm, costs, self.experiment.wish.requests)
            if isinstance(found, budget.TooSmall):
                self._skip(scenario, (found.needed_s + overhead_s) * len(self.experiment.wish.scenarios))
                return
            pace = found
            self.folder.set_pace(scenario.name, pace)
        with self.stage("reference"):
            expected = self._reference(plan, plan.warm, pace.rows_per_arm)
        with self.progress.scenario(scenario, pace) as advance:
            for block in range(pace.blocks):
                if self.folder.has_block(scenario.name, block):
                    advance()
                    continue
                late = self.measured_s - began_s + pace.block_s > share_s * 1.1
                if late and block >= budget.MIN_BLOCKS and self.experiment.wish.requests is None:
                    self.progress.say(f"{scenario.name}: stopped after {block} of {pace.blocks} blocks, its share of the budget is used up")
                    break
                if block and block % self._blocks_per_start(pace) == 0:
                    self._leave_all()
                    self._seat_all(scenario, share_s)
                self._block(scenario, block, pace, plan, expected)
                advance()

    def _starts_per_scenario(self) -> int:
        """Process starts of each arm within a scenario, so that a run has at least MIN_STARTS."""
        return max(2, -(-MIN_STARTS // len(self.experiment.wish.scenarios)))

    def _blocks_per_start(self, pace: budget.Pace) -> int:
        return max(1, -(-pace.blocks // self._starts_per_scenario()))

    def _skip(self, scenario: Scenario, needed_s: float) -> None:
        reason = f"3 blocks do not fit the budget: `--budget {needed_s * 1.2:.0f}s` would do"
        for seat in self.seats.values():
            self.folder.failure(seat.lane.arm.id, scenario.name, "SKIPPED", reason)
        self.progress.say(f"{scenario.name}: skipped, {reason}")

    # --- workers ---------------------------------------------------------------------------------------------------------

    def _seat_all(self, scenario: Scenario, share_s: float) -> None:
        """Start every lane that has no worker, warm it up for `scenario`, check it once, and freeze it."""
        for lane in self.experiment.lanes:
            arm_id = lane.arm.id
            with self._retire_on_failure(lane, scenario):
                if arm_id not in self.seats:
                    self._seat(lane)
                seat = self.seats[arm_id]
                if scenario.name not in seat.cost:
                    # All others are in state T: `freeze` waits for it.
                    seat.worker.thaw()
                    self._warm_up(seat, scenario, share_s)
                    if not self.folder.has_checks(arm_id) and lane.arm.role != "floor":
                        self._check(seat)
                    seat.worker.freeze()

    def _seat(self, lane: Lane) -> None:
        arm_id = lane.arm.id
        start = self.folder.starts(arm_id)
        with self.stage("load"):
            timeout_s = LOAD_TIMEOUT_S + lane.artefact.bytes / LOAD_BYTES_PER_S
            worker = Worker(lane.command, lane.flags(self.experiment.pad_id), lane.env, paths.BUILD, self.folder.log(arm_id, start))
            self.held.add(worker.pid)
            self.seats[arm_id] = Seat(lane, worker, start)
            ready = worker.wait_ready(timeout_s)
        wanted = lane.arm.precision
        if ready.settings.get("precision") != wanted:
            raise WorkerFailed("ENV_INVALID", f"asked for {wanted}, the runtime reads back {ready.settings.get('precision')}")
        if ready.dim != self.experiment.wish.model.dim:
            raise WorkerFailed("PARITY_FAIL", f"vectors have {ready.dim} elements, the model has {self.experiment.wish.model.dim}")
        self.folder.start_of(arm_id, start, {
            "spawn_ns": worker.spawn_ns, "load_ns": ready.load_ns, "first_ns": ready.first_ns, "second_ns": ready.second_ns,
            "dim": ready.dim, "version": dict(lane.version), "settings": dict(ready.settings),
        })  # fmt: skip

    def _leave_all(self) -> None:
        """End every worker, so that the next block starts afresh."""
        for seat in list(self.seats.values()):
            self._leave(seat)

    def _leave(self, seat: Seat) -> None:
        seat.worker.quit()
        self.held.remove(seat.worker.pid)
        self.seats.pop(seat.lane.arm.id, None)

    @contextmanager
    def _retire_on_failure(self, lane: Lane, scenario: Scenario) -> Iterator[None]:
        """An arm that fails loses its worker and gets a row with the reason; the run goes on."""
        try:
            yield
        except (WorkerFailed, SliceFailed) as failure:
            status = failure.status if isinstance(failure, WorkerFailed) else "CRASH"
            self.folder.failure(lane.arm.id, scenario.name, status, str(failure))
            self.progress.say(f"{lane.framework.name}: {status}: {failure}")
            seat = self.seats.pop(lane.arm.id, None)
            if seat:
                seat.worker.kill()
                self.held.remove(seat.worker.pid)

    # --- serving ---------------------------------------------------------------------------------------------------------

    def _serve(self, seat: Seat, plan: Plan, first: int, count: int, scenario_batch: int, seconds: float, rate: float = 0.0) -> Served:
        """One `serve`; the worker must be awake. The OUT folder is read and removed."""
        self.outs += 1
        out = self.scratch / f"{self.outs}"
        before = seat.worker.usage()
        began = time.monotonic_ns()
        plan_path, out_path = (str(path.relative_to(paths.BUILD)) for path in (plan.folder, out))
        timeout_s = seconds + 10 * seat.longest_s + SLICE_TIMEOUT_S
        with files.disk_full_is_said(out):
            seat.worker.serve(plan_path, first, count, rate, scenario_batch, seconds, out_path, timeout_s)
            wall_ns = time.monotonic_ns() - began
            used: Usage = seat.worker.usage()
            served = read_out(out, wall_ns, used.cpu_ns - before.cpu_ns)
        shutil.rmtree(out)
        services = served.samples["end_ns"] - served.samples["start_ns"]
        seat.longest_s = max(seat.longest_s, float(services.max()) / 1e9) if len(services) else seat.longest_s
        return served

    def _warm_up(self, seat: Seat, scenario: Scenario, share_s: float) -> None:
        """Serve the plan's reserved rows (each length once), at most 3 s or this arm's fifth of the budget; learn what a batch costs."""
        plan = self.experiment.plans[scenario.name]
        measured = sum(lane.arm.role != "floor" for lane in self.experiment.lanes)
        limit_s = min(WARM_UP_S, WARM_UP_SHARE * share_s / (max(1, measured) * self._starts_per_scenario()))
        began = time.monotonic()
        with self._measuring():
            singles = self._serve(seat, plan, 0, min(plan.warm, 64), 1, max(0.2, limit_s / 4))
            rows = plan.warm // scenario.batch * scenario.batch
            batches = self._serve(seat, plan, 0, rows, scenario.batch, max(0.2, limit_s * 3 / 4))
        self.warm_up_s += time.monotonic() - began
        expected = plan.lengths[plan.warm :]
        seat.cost[scenario.name] = self.costs[seat.lane.arm.id, scenario.name] = budget.Cost(
            batch_s=_batch_s(batches.samples, plan, scenario.batch, expected), single_s=_batch_s(singles.samples, plan, 1, expected)
        )
        if seat.start == 0 and seat.worker.ready:
            ready = seat.worker.ready
            self.progress.say(
                f"{seat.lane.framework.name}: loaded in {ready.load_ns / 1e9:.2f} s, warmed up with {len(batches.samples)} rows of {scenario.name}"
            )

    def _check(self, seat: Seat) -> None:
        """Hard inputs, batch equals single, and the unique-versus-repeat test, before any time of this arm is recorded."""
        experiment = self.experiment
        hard, repeat = experiment.hard, experiment.repeat
        with self.stage("reference"):
            expected = self._reference(hard, 0, hard.rows)
        with self.stage("hard inputs"):
            guard_s = 60 + 10 * hard.rows * seat.longest_s
            batched = self._serve(seat, hard, 0, hard.rows, checks.HARD_BATCH, guard_s)
            single = self._serve(seat, hard, 0, min(hard.rows, checks.HARD_SINGLES), 1, guard_s)
        found = checks.hard_inputs(seat.lane.arm.precision, single.vectors, batched.vectors, expected)
        with self._measuring():
            self._serve(seat, repeat.plan, 0, repeat.plan.warm, 1, WARM_UP_S)
            pieces = [self._serve(seat, repeat.plan, first, checks.REPEAT_PIECE, 1, 30.0).samples for first in checks.repeat_pieces(repeat)]
        found += checks.unique_versus_repeat(pieces)
        self.folder.checks(seat.lane.arm.id, found)
        for check in found:
            if not check["held"]:
                self.progress.say(f"{seat.lane.framework.name}: {check['name']}: {check['detail']}")

    def _reference(self, plan: Plan, first: int, count: int) -> Vectors:
        artefact = self.experiment.reference
        return reference.ensure(artefact.folder, artefact.hash, plan.folder, plan.hash, first, count, self.experiment.pad_id)

    # --- a block ---------------------------------------------------------------------------------------------------------

    def _block(self, scenario: Scenario, block: int, pace: budget.Pace, plan: Plan, expected: Vectors) -> None:
        """Slices of all arms in random order, round by round, each round on rows that no process has served before."""
        started_at = now()
        slices: list[dict[str, Any]] = []
        frames: list[pd.DataFrame] = []
        for round_number in range(pace.rounds):
            order = list(self.seats)
            random.Random(f"{self.experiment.wish.seed} {scenario.name} {block} {round_number}").shuffle(order)
            first = plan.warm + (block * pace.rounds + round_number) * pace.rows
            for arm_id in order:
                seat = self.seats.get(arm_id)
                if seat is None:
                    continue
                with self._retire_on_failure(seat.lane, scenario), self._measuring():
                    served, error = self._slice(seat, scenario, plan, first, pace.rows)
                    slices.append({"arm_id": arm_id, "slice": round_number, "start": seat.start, "first": first, "count": pace.rows,
                                   "served": 0 if served is None else len(served.samples), "error": error,
                                   "wall_ns": 0 if served is None else served.wall_ns,
                                   "cpu_ns": 0 if served is None else served.cpu_ns})  # fmt: skip
                    if served is not None:
                        frames.append(_judged(seat.lane, served, round_number, plan, expected, plan.warm))
        resources: dict[str, Mapping[str, int]] = {}
        for arm_id, seat in list(self.seats.items()):
            with self._retire_on_failure(seat.lane, scenario):
                usage = seat.worker.usage()
                resources[arm_id] = {"peak_rss_bytes": usage.peak_rss_bytes, "rss_bytes": usage.rss_bytes, "threads": usage.threads}
        samples = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        facts = {"started_at": started_at, "ended_at": now(), "noisy": False, "note": None, "slices": slices, "resources": resources}
        if frames:
            self.folder.block(scenario.name, block, facts, samples)

    def _slice(self, seat: Seat, scenario: Scenario, plan: Plan, first: int, rows: int) -> tuple[Served | None, str | None]:
        """Thaw, two unrecorded requests, the slice, freeze."""
        cost = seat.cost[scenario.name]
        seconds = 30 + 10 * cost.batch_s * (-(-rows // scenario.batch))
        seat.worker.thaw()
        try:
            self._serve(seat, plan, 0, budget.THAW_ROWS, 1, seconds)
            return self._serve(seat, plan, first, rows, scenario.batch, seconds), None
        except SliceFailed as failure:
            seat.failed_slices += 1
            if seat.failed_slices >= MAX_FAILED_SLICES:
                raise WorkerFailed("CRASH", f"{seat.failed_slices} slices failed, the last with: {failure}") from None
            return None, str(failure)
        finally:
            seat.worker.freeze()

    # --- time ------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.measured_s += time.monotonic() - began


def read_out(out: Path, wall_ns: int = 0, cpu_ns: int = 0) -> Served:
    """Read what a worker wrote; anything else than the protocol's files is the worker's failure."""
    try:
        samples = pd.read_csv(out / "samples.csv", dtype="int64")
        about = files.read_json(out / "slice.json")
        vectors = np.fromfile(out / "vectors.bin", dtype="<f4").reshape(about["rows"], about["dim"])
        if list(samples.columns) != ["request", "due_ns", "start_ns", "end_ns"] or len(samples) != len(vectors):
            raise ValueError("samples.csv and vectors.bin do not fit")
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
            raise
        raise WorkerFailed("CRASH", f"what it wrote is not the protocol's: {error}") from None
    return Served(samples, vectors, wall_ns, cpu_ns)


def _judged(lane: Lane, served: Served, round_number: int, plan: Plan, expected: Vectors, offset: int) -> pd.DataFrame:
    """The samples of a slice with each request's agreement with the reference; null workers have none."""
    rows = served.samples["request"].to_numpy()
    frame = served.samples.assign(
        arm_id=lane.arm.id, slice=round_number, tokens=plan.lengths[rows] if plan.modality == "text" else 0, preprocess_ns=plan.preprocess_ns[rows], cosine=np.nan,
        max_abs_diff=np.nan,
    )  # fmt: skip
    if lane.arm.role != "floor":
        agreement = parity.compare(served.vectors, expected[rows - offset])
        frame["cosine"], frame["max_abs_diff"] = agreement.cosine, agreement.max_abs_diff
    return frame


def _batch_s(samples: pd.DataFrame, plan: Plan, batch: int, expected: npt.NDArray[Any]) -> float:
    """Expected seconds of a batch: warm-up rows hold every length once, so their times are scaled to the lengths to come."""
    if not len(samples):
        return 1.0
    services = samples.drop_duplicates("start_ns")
    seconds = (services["end_ns"] - services["start_ns"]).to_numpy() / 1e9
    rows = samples["request"].to_numpy()
    width = np.array([plan.lengths[chunk].max() for chunk in np.array_split(rows, len(seconds))], dtype=float)
    usable = len(expected) // batch * batch
    to_come = expected[:usable].reshape(-1, batch).max(axis=1).mean() if usable else expected.max()
    if len(set(width)) >= 8:
        slope, base = np.polyfit(width, seconds, 1)
        if slope > 0:
            return float(max(base + slope * to_come, seconds.min()))
    return float(seconds.mean() * to_come / width.mean())


def measure(experiment: Experiment, progress: Progress) -> RunFolder:
    """Measure an experiment, resuming an interrupted run of the very same one unless `fresh` was asked for."""
    with lock.hold(experiment.wish.model.name) as held:
        folder = None if experiment.wish.fresh else RunFolder.resumable(experiment)
        if folder:
            progress.say(f"resuming run {folder.run_id}: finished blocks are kept")
        else:
            folder = RunFolder.start(experiment)
        Runner(experiment, folder, held, progress).run()
        return folder
