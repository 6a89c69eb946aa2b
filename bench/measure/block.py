"""One block of a run: slices of equal rows of all arms, in seeded random order, one worker running at a time, every vector judged."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd

from bench.catalog import Scenario
from bench.correctness.expected import Expected
from bench.machine import counters
from bench.measure import budget
from bench.measure.clock import BudgetClock
from bench.measure.failures import Failures
from bench.measure.noise_monitor import NoiseMonitor
from bench.measure.readiness import Readiness
from bench.measure.worker_pool import WorkerPool, WorkerSlot
from bench.plan.folder import Plan
from bench.prepare.spec import PreparedArm
from bench.runs import codec
from bench.runs.schema import ArmMemory, Block, MachineUse, Slice
from bench.stats import parity
from bench.workers.client import Served, SliceFailed, WorkerFailed

#: A worker that fails this many slices is not asked again in its scenario.
MAX_FAILED_SLICES = 3


@dataclass(frozen=True, eq=False)
class BlockOrder:
    """A block to be measured: of each arm `rounds` slices of `rows` rows from `first` on, which no process has served.

    Attributes:
        rates: arrivals per second by arm id, None for back to back; arms that are not in it do not serve.
        limit_s: the longest warm-up of an arm, where it has to be started.
    """

    scenario: Scenario
    block: int
    plan: Plan
    first: int
    rounds: int
    rows: int
    expected: Expected
    rates: Mapping[str, float | None]
    limit_s: float


@dataclass(frozen=True, eq=False)
class BlockRecord:
    """A measured block.

    Attributes:
        samples: a row per recorded request, judged.
        discards: the first parts of open-loop pieces, judged and used by no statistic; None where nothing is kept apart.
    """

    block: Block
    samples: pd.DataFrame
    discards: pd.DataFrame | None


@dataclass
class _Measured:
    """What a block has measured so far. `peaks_reset`: by arm id, whether the kernel let its high-water mark begin anew."""

    slices: list[Slice] = field(default_factory=list)
    samples: list[pd.DataFrame] = field(default_factory=list)
    discards: list[pd.DataFrame] = field(default_factory=list)
    memory: dict[str, ArmMemory] = field(default_factory=dict)
    peaks_reset: dict[str, bool] = field(default_factory=dict)


class BlockMeasurer:
    """Measures blocks. `resident`: the workers of all arms stay in memory and are resumed in turn; else each is started and ended."""

    def __init__(
        self,
        arms: Sequence[PreparedArm],
        pool: WorkerPool,
        readiness: Readiness,
        clock: BudgetClock,
        monitor: NoiseMonitor,
        failures: Failures,
        seed: int,
        resident: bool,
    ) -> None:
        self.arms, self.pool, self.readiness = arms, pool, readiness
        self.clock, self.monitor, self.failures, self.seed, self.resident = clock, monitor, failures, seed, resident

    def measure_block(self, order: BlockOrder) -> BlockRecord | None:
        """The record of a block; None where no arm has served a request."""
        started_at, machine_before, measured = codec.now(), counters.machine(), _Measured()
        arms = [prepared for prepared in self.arms if prepared.arm.id in order.rates]
        if self.resident:
            self._by_rounds(order, arms, measured)
        else:
            self._by_arms(order, arms, measured)
        for slot in list(self.pool.slots.values()):
            with self.failures.contained(slot.prepared, order.scenario.name):
                self._add_memory(slot, measured)
        noise = self.monitor.judge(order.scenario.name)
        if not measured.samples:
            return None
        block = Block(
            scenario=order.scenario.name,
            block=order.block,
            started_at=started_at,
            ended_at=codec.now(),
            note=noise.note,
            slices=tuple(measured.slices),
            memory=measured.memory,
            probe=noise.probe,
            machine=MachineUse(**counters.machine().since(machine_before)),
            resident=self.resident,
            measured_s=round(self.clock.measured_s, 3),
            discard=order.scenario.discard,
        )
        discards = pd.concat(measured.discards, ignore_index=True) if measured.discards else None
        return BlockRecord(block, pd.concat(measured.samples, ignore_index=True), discards)

    def _by_rounds(self, order: BlockOrder, arms: Sequence[PreparedArm], measured: _Measured) -> None:
        """A slice of every arm per round; workers are frozen between their slices."""
        for number in range(order.rounds):
            self.monitor.sample()
            for prepared in self._shuffled(arms, order, number):
                if slot := self.pool.slots.get(prepared.arm.id):
                    with self.failures.contained(prepared, order.scenario.name), self.clock.measuring():
                        slot.worker.thaw()
                        self._slice(order, slot, number, order.first + number * order.rows, order.rows, measured)
                        slot.worker.freeze()

    def _by_arms(self, order: BlockOrder, arms: Sequence[PreparedArm], measured: _Measured) -> None:
        """All rows of an arm in one slice of a new process."""
        for prepared in self._shuffled(arms, order, 0):
            self.monitor.sample()
            with self.failures.contained(prepared, order.scenario.name):
                slot = self.readiness.ready(prepared, order.scenario, order.limit_s)
                with self.clock.measuring():
                    self._slice(order, slot, 0, order.first, order.rounds * order.rows, measured)
                self._add_memory(slot, measured)
                self.pool.end(slot)

    def _shuffled(self, arms: Sequence[PreparedArm], order: BlockOrder, number: int) -> list[PreparedArm]:
        shuffled = list(arms)
        random.Random(f"{self.seed} {order.scenario.name} {order.block} {number}").shuffle(shuffled)
        return shuffled

    def _slice(self, order: BlockOrder, slot: WorkerSlot, number: int, first: int, rows: int, measured: _Measured) -> None:
        """Have a running worker serve a slice, and judge every vector of it."""
        arm = slot.prepared.arm
        if arm.id not in measured.peaks_reset:
            measured.peaks_reset[arm.id] = slot.worker.reset_peak()
        served, error = self._serve(order, slot, first, rows)
        measured.slices.append(
            Slice(
                arm_id=arm.id,
                slice=number,
                start=slot.start,
                first=first,
                count=rows,
                served=len(served.samples) if served else 0,
                wall_ns=served.wall_ns if served else 0,
                error=error,
                rate_per_s=order.rates[arm.id],
                **_usage(served),
            )
        )
        if served is None:
            return
        samples = _judged(slot.prepared, served, number, order.plan, order.expected)
        early = samples["request"] < first + round(order.scenario.discard * rows)
        measured.samples.append(samples[~early])
        if early.any():
            measured.discards.append(samples[early])
            _judge_discard(slot.prepared, samples[early])

    def _serve(self, order: BlockOrder, slot: WorkerSlot, first: int, rows: int) -> tuple[Served | None, str | None]:
        """Two unrecorded requests after the thaw, then the slice: what was served, or why it failed.

        An open-loop piece whose arm does not keep up is cut off, so that it costs no more than its guard.
        """
        service, batch = self.readiness.service_times[slot.prepared.arm.id, order.scenario.name], order.scenario.batch
        rate_per_s = order.rates[slot.prepared.arm.id]
        guard_s = 30 + 10 * service.batch_s * (-(-rows // batch))
        try:
            slot.unrecorded(order.plan, budget.THAW_ROWS, 1, guard_s)
            if rate_per_s is None:
                return slot.serve(order.plan, first, rows, batch, guard_s), None
            return slot.serve(order.plan, first, rows, batch, budget.guard_s(rows, rate_per_s, service), rate_per_s), None
        except SliceFailed as failure:
            slot.failed_slices += 1
            if slot.failed_slices >= MAX_FAILED_SLICES:
                raise WorkerFailed("CRASH", f"{slot.failed_slices} slices failed, the last with: {failure}") from None
            return None, str(failure)

    @staticmethod
    def _add_memory(slot: WorkerSlot, measured: _Measured) -> None:
        """Memory at the end of the block: the peak is that of the block, where the kernel lets a new one begin."""
        arm_id, memory = slot.prepared.arm.id, asdict(slot.worker.memory())
        measured.memory[arm_id] = ArmMemory(**memory, start=slot.start, peak_reset=measured.peaks_reset.get(arm_id))


def _usage(served: Served | None) -> dict[str, int | None]:
    """Counters of the worker and the machine over a slice. One without answers counts no CPU time, and its other counters say nothing."""
    return asdict(served.usage) if served else {"cpu_ns": 0}


def _judged(prepared: PreparedArm, served: Served, number: int, plan: Plan, expected: Expected) -> pd.DataFrame:
    """The samples of a slice with each request's agreement with the reference; null workers have none."""
    rows = served.samples["request"].to_numpy()
    samples = served.samples.assign(
        arm_id=prepared.arm.id,
        slice=number,
        tokens=plan.lengths[rows] if plan.modality == "text" else 0,
        preprocess_ns=plan.preprocess_ns[rows],
        cosine=np.nan,
        max_abs_diff=np.nan,
    )
    if prepared.arm.role != "floor":
        agreement = parity.compare(served.vectors, expected.of(rows))
        samples["cosine"], samples["max_abs_diff"] = agreement.cosine, agreement.max_abs_diff
    return samples


def _judge_discard(prepared: PreparedArm, discards: pd.DataFrame) -> None:
    """Requests that no statistic uses are held to the gate all the same.

    Raises:
        WorkerFailed: their vectors are wrong.
    """
    if prepared.arm.role != "floor":
        reason = parity.gate(prepared.arm.precision, float(discards["cosine"].min()), float(discards["max_abs_diff"].max()))
        if reason:
            raise WorkerFailed("PARITY_FAIL", reason)
