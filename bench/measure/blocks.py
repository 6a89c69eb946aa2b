"""The blocks of a run, one after another: every arm made ready, the block measured, put aside where it was noisy, else kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.catalog import Scenario
from bench.correctness.expected import Expected, ReferenceVectors
from bench.measure.allocator import Allocator, spare_first
from bench.measure.block import BlockMeasurer, BlockOrder, BlockRecord
from bench.measure.failures import Failures
from bench.measure.ledger import Ledger
from bench.measure.readiness import Readiness
from bench.measure.worker_pool import WorkerPool
from bench.plan.folder import Plan
from bench.prepare.spec import Experiment
from bench.runs.schema import Allocation
from bench.runs.writer import RunFolder


@dataclass
class Turn:
    """A scenario that is being measured.

    Attributes:
        limit_s: the longest warm-up of an arm.
        expected: reference vectors of the rows of its allocation, computed before its first block.
    """

    scenario: Scenario
    plan: Plan
    allocation: Allocation
    limit_s: float
    expected: Expected | None = None


@dataclass
class Blocks:
    """Measures blocks and keeps them.

    Attributes:
        measurer: measures one block.
        reference: the vectors to which those of a block are held.
        resident: the workers of all arms stay in memory.
    """

    experiment: Experiment
    folder: RunFolder
    ledger: Ledger
    allocator: Allocator
    pool: WorkerPool
    readiness: Readiness
    failures: Failures
    measurer: BlockMeasurer
    reference: ReferenceVectors
    say: Callable[[str], None]
    resident: bool

    def make_all_ready(self, scenario: Scenario, limit_s: float) -> None:
        """Warm up and admit every arm; workers are frozen afterwards where they stay in memory, else ended."""
        for prepared in self.pool.in_starting_order(self.experiment.prepared_arms):
            arm_id = prepared.arm.id
            warmed_up = not self.resident and (arm_id, scenario.name) in self.readiness.service_times
            if warmed_up or not self.ledger.serves(arm_id, scenario.name):
                continue
            with self.failures.contained(prepared, scenario.name):
                slot = self.readiness.ready(prepared, scenario, limit_s)
                if self.resident:
                    slot.worker.freeze()
                else:
                    self.pool.end(slot)

    def measure(self, turn: Turn, block: int) -> None:
        """Measure a block, and once more where it was noisy and there is room for that."""
        scenario, allocation, entry = turn.scenario, turn.allocation, self.ledger[turn.scenario.name]
        if turn.expected is None:
            turn.expected = self._expected(turn.plan, turn.plan.warm, allocation.rows_per_arm)
        if block not in entry.discards:
            first = turn.plan.warm + block * allocation.rounds * allocation.rows
            record = self._block(turn, block, first, turn.expected)
            if record and record.block.noisy and self.allocator.may_redo(scenario, allocation):
                self._discard(record)
            elif record:
                self._keep(record)
        if block in entry.discards and block not in entry.blocks:
            first = spare_first(allocation, turn.plan, len(entry.discards))
            if self.allocator.load.is_fresh(scenario):
                self.pool.end_all()
            record = self._block(turn, block, first, self._expected(turn.plan, first, allocation.rounds * allocation.rows))
            if record:
                self._keep(record)

    def _block(self, turn: Turn, block: int, first: int, expected: Expected) -> BlockRecord | None:
        """A block of rows that no process has served, by every arm that has not failed in the scenario."""
        scenario, allocation = turn.scenario, turn.allocation
        if self.resident:
            self.make_all_ready(scenario, turn.limit_s)
        rates = {arm_id: scenario.rate_per_s for arm_id in self.allocator.load.roles if self.ledger.serves(arm_id, scenario.name)}
        return self.measurer.measure_block(
            BlockOrder(scenario, block, turn.plan, first, allocation.rounds, allocation.rows, expected, rates, turn.limit_s)
        )

    def _expected(self, plan: Plan, first: int, count: int) -> Expected:
        """Reference vectors of `count` rows; none where only null workers run, whose vectors are not compared."""
        compared = any(prepared.arm.role != "floor" for prepared in self.experiment.prepared_arms)
        return Expected(first, self.reference.of(plan, first, count) if compared else np.zeros((0, 0), dtype=np.float32))

    def _keep(self, record: BlockRecord) -> None:
        """Write a finished block and enter it into the ledger."""
        block = record.block
        self.folder.write_block(block, record.samples, record.discards)
        self.ledger.add_block(block.scenario, block.block, block.seconds)

    def _discard(self, record: BlockRecord) -> None:
        """Put a noisy block aside, to be measured again."""
        block = record.block
        self.folder.write_discard(block, record.samples)
        self.ledger[block.scenario].discards.add(block.block)
        self.say(f"{block.scenario}: block {block.block} is measured again: {block.note}")

    def measure_trial(self, scenario: Scenario, rows: int, block: int, rates: Mapping[str, float], limit_s: float) -> None:
        """One piece of every arm that is still searching, each at its own rate."""
        plan = self.experiment.plans[scenario.name]
        first = plan.warm + block * rows
        expected = self._expected(plan, first, rows)
        self.make_all_ready(scenario, limit_s)
        serving = {arm_id: rate for arm_id, rate in rates.items() if self.ledger.serves(arm_id, scenario.name)}
        record = self.measurer.measure_block(BlockOrder(scenario, block, plan, first, 1, rows, expected, serving, limit_s))
        if record:
            self._keep(record)
