"""One block of a run: slices of equal rows of all arms, in seeded random order, one worker at work at a time, every vector judged.

Which blocks there are, and when, is the runner's choice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.catalog import Scenario
from bench.core.progress import Progress
from bench.machine import counters
from bench.measure import noise_monitor
from bench.measure.seats import Seat, Seats, Vectors
from bench.plan.folder import Plan
from bench.prepare.spec import Experiment, PreparedArm
from bench.runs import codec
from bench.runs.schema import Allocation, ArmMemory, Block, MachineUse, Slice
from bench.runs.writer import RunFolder
from bench.stats import parity
from bench.workers.client import Served, WorkerFailed


@dataclass(frozen=True, eq=False)
class Expected:
    """Reference vectors (n, dim) of the plan's rows from `first` on."""

    first: int
    vectors: Vectors

    def of(self, rows: npt.NDArray[np.int64]) -> Vectors:
        return self.vectors[rows - self.first]


@dataclass
class Record:
    """What a block has measured so far."""

    slices: list[Slice] = field(default_factory=list)
    frames: list[pd.DataFrame] = field(default_factory=list)
    discards: list[pd.DataFrame] = field(default_factory=list)
    memory: dict[str, ArmMemory] = field(default_factory=dict)
    peaks_reset: dict[str, bool] = field(default_factory=dict)


class Blocks:
    """Measures single blocks of an experiment and writes them to its run folder. `resident`: the workers of all arms stay in memory."""

    watch: noise_monitor.Watch

    def __init__(self, experiment: Experiment, folder: RunFolder, seats: Seats, progress: Progress, resident: bool) -> None:
        self.experiment, self.folder, self.seats, self.progress, self.resident = experiment, folder, seats, progress, resident
        self.arms = {prepared.arm.id: prepared for prepared in experiment.prepared_arms}

    def _failed(self, arm_id: str, scenario: Scenario) -> bool:
        return self.folder.has_failure(arm_id, scenario.name)

    def _ready_all(self, scenario: Scenario, limit_s: float) -> None:
        """Every arm warmed up and checked; frozen afterwards where workers stay, else ended."""
        for prepared in self.seats.starts.order(self.experiment.prepared_arms):
            if self._failed(prepared.arm.id, scenario):
                continue
            if not self.resident and (prepared.arm.id, scenario.name) in self.seats.costs:
                continue
            with self.seats.retire_on_failure(prepared, scenario):
                seat = self.seats.ready(prepared, scenario, limit_s)
                if self.resident:
                    seat.worker.freeze()
                else:
                    self.seats.leave(seat)

    def _expected(self, plan: Plan, first: int, count: int) -> Expected:
        """Reference vectors of `count` rows; none where only null workers run, whose vectors are not compared."""
        compared = any(prepared.arm.role != "floor" for prepared in self.experiment.prepared_arms)
        return Expected(first, self.seats.reference(plan, first, count) if compared else np.zeros((0, 0), dtype=np.float32))

    def _block(
        self, scenario: Scenario, block: int, allocation: Allocation, plan: Plan, expected: Expected, limit_s: float,
        rates: Mapping[str, float] | None = None, once_more: bool = False, may_redo: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        """Slices of all arms on rows that no process has served before; with `rates` only of those arms, each at its own rate.

        A noisy block is put aside where it `may_redo`, to be measured `once_more`: then the rows are the first of `expected`.
        """
        started_at, record, machine_before = codec.now(), Record(), counters.machine()
        first = expected.first if once_more else plan.warm + block * allocation.rounds * allocation.rows
        alive = [
            prepared for arm_id, prepared in self.arms.items() if not self._failed(arm_id, scenario) and (rates is None or arm_id in rates)
        ]
        at = dict.fromkeys(self.arms, scenario.rate_per_s) | dict(rates or {})
        if self.resident:
            for number in range(allocation.rounds):
                self.watch.look()
                for prepared in self._shuffled(alive, scenario, block, number):
                    if prepared.arm.id in self.seats.taken:
                        with self.seats.retire_on_failure(prepared, scenario), self.seats.measuring():
                            seat = self.seats.taken[prepared.arm.id]
                            seat.worker.thaw()
                            begin = first + number * allocation.rows
                            self._slice(record, seat, scenario, number, plan, begin, allocation.rows, expected, at[prepared.arm.id])
                            seat.worker.freeze()
        else:
            for prepared in self._shuffled(alive, scenario, block, 0):
                self.watch.look()
                with self.seats.retire_on_failure(prepared, scenario):
                    seat = self.seats.ready(prepared, scenario, limit_s)
                    with self.seats.measuring():
                        self._slice(
                            record, seat, scenario, 0, plan, first, allocation.rounds * allocation.rows, expected, at[prepared.arm.id]
                        )
                    self._usage(record, seat)
                    self.seats.leave(seat)
        for seat in list(self.seats.taken.values()):
            with self.seats.retire_on_failure(seat.prepared, scenario):
                self._usage(record, seat)
        finding = self.watch.finding(scenario.name)
        if record.frames:
            samples = pd.concat(record.frames, ignore_index=True)
            discards = pd.concat(record.discards, ignore_index=True) if record.discards else None
            measured = Block(
                scenario=scenario.name,
                block=block,
                started_at=started_at,
                ended_at=codec.now(),
                note=finding.note,
                slices=tuple(record.slices),
                memory=record.memory,
                probe=finding.probe,
                machine=MachineUse(**counters.machine().since(machine_before)),
                resident=self.resident,
                measured_s=round(self.seats.measured_s, 3),
                discard=scenario.discard,
            )
            if finding.note and may_redo():
                self.folder.write_discard(measured, samples)
                self.progress.say(f"{scenario.name}: block {block} is measured again: {finding.note}")
                return
            self.folder.write_block(measured, samples, discards)

    def _shuffled(self, prepared_arms: list[PreparedArm], scenario: Scenario, block: int, number: int) -> list[PreparedArm]:
        order = list(prepared_arms)
        random.Random(f"{self.experiment.spec.seed} {scenario.name} {block} {number}").shuffle(order)
        return order

    def _slice(self, record: Record, seat: Seat, scenario: Scenario, number: int, plan: Plan, first: int, rows: int,
               expected: Expected, rate_per_s: float | None) -> None:  # fmt: skip
        """Serve a slice and judge every vector of it."""
        if seat.prepared.arm.id not in record.peaks_reset:
            record.peaks_reset[seat.prepared.arm.id] = seat.worker.reset_peak()
        served, error = self.seats.slice(seat, scenario, plan, first, rows, rate_per_s)
        record.slices.append(
            Slice(
                arm_id=seat.prepared.arm.id,
                slice=number,
                start=seat.start,
                first=first,
                count=rows,
                served=len(served.samples) if served else 0,
                wall_ns=served.wall_ns if served else 0,
                error=error,
                rate_per_s=rate_per_s,
                **_used(served),
            )
        )
        if served is None:
            return
        frame = _judged(seat.prepared, served, number, plan, expected)
        early = frame["request"] < first + round(scenario.discard * rows)
        record.frames.append(frame[~early])
        if early.any():
            record.discards.append(frame[early])
            self._judge_discard(seat.prepared, frame[early])

    def _judge_discard(self, prepared: PreparedArm, early: pd.DataFrame) -> None:
        """What is not timed is checked all the same."""
        if prepared.arm.role != "floor":
            reason = parity.gate(prepared.arm.precision, float(early["cosine"].min()), float(early["max_abs_diff"].max()))
            if reason:
                raise WorkerFailed("PARITY_FAIL", reason)

    def _usage(self, record: Record, seat: Seat) -> None:
        """Memory at the end of the block: the peak is that of the block, where the kernel lets us begin a new one."""
        arm_id = seat.prepared.arm.id
        memory = asdict(seat.worker.memory())
        record.memory[arm_id] = ArmMemory(**memory, start=seat.start, peak_reset=record.peaks_reset.get(arm_id))


def _used(served: Served | None) -> dict[str, int | None]:
    """Counters of the worker and the machine over a slice. One without answers counts no CPU time, and its other counters say nothing."""
    return asdict(served.usage) if served else {"cpu_ns": 0}


def _judged(prepared: PreparedArm, served: Served, number: int, plan: Plan, expected: Expected) -> pd.DataFrame:
    """The samples of a slice with each request's agreement with the reference; null workers have none."""
    rows = served.samples["request"].to_numpy()
    frame = served.samples.assign(
        arm_id=prepared.arm.id,
        slice=number,
        tokens=plan.lengths[rows] if plan.modality == "text" else 0,
        preprocess_ns=plan.preprocess_ns[rows],
        cosine=np.nan,
        max_abs_diff=np.nan,
    )
    if prepared.arm.role != "floor":
        agreement = parity.compare(served.vectors, expected.of(rows))
        frame["cosine"], frame["max_abs_diff"] = agreement.cosine, agreement.max_abs_diff
    return frame
