"""Measures an experiment block by block: slices of equal rows of all arms, in seeded random order, one worker at work at a time.

Small models stay resident, idle workers frozen. Models of 1 GB and more, or too little memory: each arm of a block is a fresh process that
serves all its rows and ends (see MEASUREMENT, Order). A worker that crashes, hangs or is killed becomes a failure with its reason
and the others go on; nothing outlives this process (the workers die with it, and the machine's lock lists them for the next holder).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import psutil

from bench import budget, lock, parity, resources
from bench.catalog import Scenario
from bench.errors import BenchError
from bench.experiment import Experiment, Lane
from bench.plan import Plan
from bench.progress import Progress
from bench.runfolder import RunFolder, now
from bench.seats import WARM_UP_S, Seat, Seats, Served, Vectors

#: Warm-up takes at most this part of an arm's share of the budget.
WARM_UP_SHARE = 0.2
#: Each arm is started afresh at least this often in a run.
MIN_STARTS = 3
#: From here on a model's workers are not kept side by side.
RESIDENT_BYTES = 1_000_000_000
#: What a worker needs besides its weights, and how often it may hold them (packed copies); an estimate, on the safe side.
WORKER_BYTES, WEIGHT_COPIES = 600_000_000, 2.5
#: A slice without answers counts no CPU time; what else it used says nothing.
NOTHING_SPENT: dict[str, int | None] = {field.name: None for field in fields(resources.Meter)} | {"cpu_ns": 0}


@dataclass
class Record:
    """What a block has measured so far."""

    slices: list[dict[str, Any]] = field(default_factory=list)
    frames: list[pd.DataFrame] = field(default_factory=list)
    resources: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    peaks_reset: dict[str, bool] = field(default_factory=dict)


class Runner:
    """One run of one model."""

    def __init__(self, experiment: Experiment, folder: RunFolder, seats: Seats, progress: Progress) -> None:
        self.experiment, self.folder, self.seats, self.progress = experiment, folder, seats, progress
        self.resident = stays_resident(experiment)
        self.arms = {lane.arm.id: lane for lane in experiment.lanes}

    def run(self) -> None:
        """Measure every scenario, then mark the run as done."""
        if not self.resident:
            self.progress.say("one worker at a time: they would not all fit into memory, or their model is large")
        scenarios = self.experiment.wish.scenarios
        for position, scenario in enumerate(scenarios):
            self._scenario(scenario, self._left_s() / (len(scenarios) - position))
        if self.experiment.wish.requests is None:
            for scenario in scenarios:
                self._fill_up(scenario)
        self.folder.done({**self.seats.stage.seconds, "measuring": round(self.seats.measured_s, 3)})

    def _left_s(self) -> float:
        return self.experiment.wish.budget_s - self.seats.measured_s

    def _fill_up(self, scenario: Scenario) -> None:
        """What is left of the budget goes to scenarios short of K = 12 blocks, in their order."""
        pace, plan = self.folder.pace(scenario.name), self.experiment.plans[scenario.name]
        if pace is None:
            return
        done = self.folder.block_count(scenario.name)
        room = (plan.rows - plan.warm) // (pace.rounds * pace.rows)
        more = min(budget.BLOCKS - done, int(self._left_s() / pace.block_s), room - done)
        if more > 0:
            self.progress.say(f"{scenario.name}: {more} more blocks from what is left of the budget")
            self.folder.set_pace(scenario.name, replace(pace, blocks=done + more))
            self._scenario(scenario, self._left_s())

    def _scenario(self, scenario: Scenario, share_s: float) -> None:
        """All blocks of one scenario within `share_s` seconds of measuring."""
        plan, began_s = self.experiment.plans[scenario.name], self.seats.measured_s
        # An arm that failed in an earlier scenario gets another chance here.
        limit_s = self._warm_up_limit_s(share_s)
        self._ready_all(scenario, limit_s)
        alive = [arm_id for arm_id in self.arms if (arm_id, scenario.name) in self.seats.costs and not self._failed(arm_id, scenario)]
        pace = self.folder.pace(scenario.name) or self._pace(scenario, share_s, began_s, alive)
        if not alive or pace is None:
            return
        expected = self.seats.reference(plan, plan.warm, pace.rows_per_arm)
        with self.progress.scenario(scenario, pace) as advance:
            for block in range(pace.blocks):
                if self.folder.has_block(scenario.name, block):
                    advance()
                    continue
                late = self.seats.measured_s - began_s + pace.block_s > share_s * 1.1
                if late and block >= budget.MIN_BLOCKS and self.experiment.wish.requests is None:
                    self.progress.say(f"{scenario.name}: stopped after {block} of {pace.blocks} blocks, its share of the budget is used up")
                    break
                if self.resident and block and block % -(-pace.blocks // self._starts()) == 0:
                    self.seats.leave_all()
                    self._ready_all(scenario, limit_s)
                self._block(scenario, block, pace, plan, expected, limit_s)
                advance()

    def _pace(self, scenario: Scenario, share_s: float, began_s: float, alive: list[str]) -> budget.Pace | None:
        """The shape of the scenario; where three blocks do not fit, every arm's row says what would do."""
        if not alive:
            return None
        plan, wish = self.experiment.plans[scenario.name], self.experiment.wish
        costs = [self.seats.costs[arm_id, scenario.name] for arm_id in alive]
        # What is spent already, and the warm-ups of the starts still to come, are paid from the same share.
        warm_ups_s = len(alive) * self._warm_up_limit_s(share_s) * (self._starts() - 1)
        overhead_s = self.seats.measured_s - began_s + min(warm_ups_s, WARM_UP_SHARE * share_s)
        found = budget.pace(share_s - overhead_s, scenario.batch, plan.rows - plan.warm, costs, wish.requests)
        if isinstance(found, budget.TooSmall):
            needed_s = (found.needed_s + overhead_s) * len(wish.scenarios) * 1.2
            reason = f"3 blocks do not fit the budget: `--budget {needed_s:.0f}s` would do"
            for arm_id in alive:
                self.folder.failure(arm_id, scenario.name, "SKIPPED", reason)
            self.progress.say(f"{scenario.name}: skipped, {reason}")
            return None
        self.folder.set_pace(scenario.name, found)
        return found

    def _starts(self) -> int:
        """Process starts of each arm within a scenario, so that a run has at least MIN_STARTS."""
        return max(2, -(-MIN_STARTS // len(self.experiment.wish.scenarios)))

    def _warm_up_limit_s(self, share_s: float) -> float:
        measured = sum(lane.arm.role != "floor" for lane in self.experiment.lanes)
        starts = self._starts() if self.resident else budget.MIN_BLOCKS + 1
        return min(WARM_UP_S, WARM_UP_SHARE * share_s / (max(1, measured) * starts))

    def _failed(self, arm_id: str, scenario: Scenario) -> bool:
        return self.folder.has_failure(arm_id, scenario.name)

    def _ready_all(self, scenario: Scenario, limit_s: float) -> None:
        """Every arm warmed up and checked; frozen afterwards where workers stay, else ended."""
        for lane in self.experiment.lanes:
            if self._failed(lane.arm.id, scenario):
                continue
            if not self.resident and (lane.arm.id, scenario.name) in self.seats.costs:
                continue
            with self.seats.retire_on_failure(lane, scenario):
                seat = self.seats.ready(lane, scenario, limit_s)
                if self.resident:
                    seat.worker.freeze()
                else:
                    self.seats.leave(seat)

    # --- a block ---------------------------------------------------------------------------------------------------------

    def _block(self, scenario: Scenario, block: int, pace: budget.Pace, plan: Plan, expected: Vectors, limit_s: float) -> None:
        """Slices of all arms on rows that no process has served before."""
        started_at, record, machine_before = now(), Record(), resources.machine()
        first = plan.warm + block * pace.rounds * pace.rows
        alive = [lane for arm_id, lane in self.arms.items() if not self._failed(arm_id, scenario)]
        if self.resident:
            for number in range(pace.rounds):
                for lane in self._shuffled(alive, scenario, block, number):
                    if lane.arm.id in self.seats.taken:
                        with self.seats.retire_on_failure(lane, scenario), self.seats.measuring():
                            seat = self.seats.taken[lane.arm.id]
                            seat.worker.thaw()
                            self._slice(record, seat, scenario, number, plan, first + number * pace.rows, pace.rows, expected)
                            seat.worker.freeze()
        else:
            for lane in self._shuffled(alive, scenario, block, 0):
                with self.seats.retire_on_failure(lane, scenario):
                    seat = self.seats.ready(lane, scenario, limit_s)
                    with self.seats.measuring():
                        self._slice(record, seat, scenario, 0, plan, first, pace.rounds * pace.rows, expected)
                    self._usage(record, seat)
                    self.seats.leave(seat)
        for seat in list(self.seats.taken.values()):
            with self.seats.retire_on_failure(seat.lane, scenario):
                self._usage(record, seat)
        if record.frames:
            facts = {"started_at": started_at, "ended_at": now(), "noisy": False, "note": None, "resident": self.resident}
            samples = pd.concat(record.frames, ignore_index=True)
            used = {"slices": record.slices, "resources": record.resources, "machine": resources.machine().since(machine_before)}
            self.folder.block(scenario.name, block, {**facts, **used}, samples)

    def _shuffled(self, lanes: list[Lane], scenario: Scenario, block: int, number: int) -> list[Lane]:
        order = list(lanes)
        random.Random(f"{self.experiment.wish.seed} {scenario.name} {block} {number}").shuffle(order)
        return order

    def _slice(self, record: Record, seat: Seat, scenario: Scenario, number: int, plan: Plan, first: int, rows: int,
               expected: Vectors) -> None:  # fmt: skip
        """Serve a slice and judge every vector of it."""
        if seat.lane.arm.id not in record.peaks_reset:
            record.peaks_reset[seat.lane.arm.id] = seat.worker.reset_peak()
        served, error = self.seats.slice(seat, scenario, plan, first, rows)
        about = {"arm_id": seat.lane.arm.id, "slice": number, "start": seat.start, "first": first, "count": rows, "error": error}
        if served is None:
            record.slices.append({**about, "served": 0, "wall_ns": 0, **NOTHING_SPENT})
            return
        record.slices.append({**about, "served": len(served.samples), "wall_ns": served.wall_ns, **_spent(served)})
        record.frames.append(_judged(seat.lane, served, number, plan, expected))

    def _usage(self, record: Record, seat: Seat) -> None:
        """Memory at the end of the block: the peak is that of the block, where the kernel lets us begin a new one."""
        arm_id = seat.lane.arm.id
        record.resources[arm_id] = {**asdict(seat.worker.memory()), "start": seat.start, "peak_reset": record.peaks_reset.get(arm_id)}


def _spent(served: Served) -> dict[str, int | None]:
    """What the worker and the machine used over a slice, as block.json holds it."""
    return asdict(served.spent) if served.spent else NOTHING_SPENT


def _judged(lane: Lane, served: Served, number: int, plan: Plan, expected: Vectors) -> pd.DataFrame:
    """The samples of a slice with each request's agreement with the reference; null workers have none."""
    rows = served.samples["request"].to_numpy()
    frame = served.samples.assign(
        arm_id=lane.arm.id,
        slice=number,
        tokens=plan.lengths[rows] if plan.modality == "text" else 0,
        preprocess_ns=plan.preprocess_ns[rows],
        cosine=np.nan,
        max_abs_diff=np.nan,
    )
    if lane.arm.role != "floor":
        agreement = parity.compare(served.vectors, expected[rows - plan.warm])
        frame["cosine"], frame["max_abs_diff"] = agreement.cosine, agreement.max_abs_diff
    return frame


def worker_bytes(lane: Lane) -> int:
    """What a worker may need in memory: an estimate, on the safe side."""
    return int(WORKER_BYTES + WEIGHT_COPIES * lane.artefact.bytes) if lane.arm.role != "floor" else 100_000_000


def stays_resident(experiment: Experiment) -> bool:
    """May the workers of all arms stay in memory side by side?

    Raises:
        BenchError: not even one of them fits; the need is named before anything is loaded.
    """
    needs = {lane.name: worker_bytes(lane) for lane in experiment.lanes}
    available = psutil.virtual_memory().available
    for name, need in needs.items():
        if need > available:
            raise BenchError(
                f"{experiment.wish.model.name}: {name} needs about {need / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are free: "
                "end other programs, or leave that framework out with --framework"
            )
    return experiment.wish.model.bytes_fp32 < RESIDENT_BYTES and sum(needs.values()) < available


def measure(experiment: Experiment, held: lock.MachineLock, progress: Progress) -> RunFolder:
    """Measure an experiment, resuming an interrupted run of the very same one unless `fresh` was asked for."""
    folder = None if experiment.wish.fresh else RunFolder.resumable(experiment)
    if folder:
        progress.say(f"resuming run {folder.run_id}: finished blocks are kept")
    else:
        folder = RunFolder.start(experiment)
    seats = Seats(experiment, folder, held, progress)
    with seats.opened():
        Runner(experiment, folder, seats, progress).run()
    return folder
