"""Warm-up: a process serves the reserved rows of a plan, unrecorded. The service time of the arm in the scenario is learnt by it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bench.catalog import Scenario
from bench.measure import service_time
from bench.measure.clock import BudgetClock
from bench.measure.service_time import ServiceTime
from bench.measure.worker_pool import WorkerSlot
from bench.plan.folder import Plan


class WarmUp:
    """Warms processes up, and keeps the service time of every arm in every scenario by (arm id, scenario)."""

    def __init__(self, plans: Mapping[str, Plan], clock: BudgetClock) -> None:
        self.plans, self.clock = plans, clock
        self.service_times: dict[tuple[str, str], ServiceTime] = {}

    def serve(self, slot: WorkerSlot, scenario: Scenario, limit_s: float) -> None:
        """Make a running process ready for a scenario within `limit_s`, paid from the budget.

        A process that has served batches of this size needs only the lengths that are new to it.
        """
        plan = self.plans[scenario.name]
        if scenario.batch in slot.batches and (slot.prepared.arm.id, scenario.name) in self.service_times:
            with self.clock.measuring():
                self._new_lengths(slot, plan)
        else:
            with self.clock.warming_up():
                self._all_lengths(slot, plan, scenario, limit_s)
            slot.batches.add(scenario.batch)
        slot.warm.add(scenario.name)

    def _all_lengths(self, slot: WorkerSlot, plan: Plan, scenario: Scenario, limit_s: float) -> None:
        """Serve the reserved rows one by one, then in batches (every length once), and learn the service time."""
        singles_s, batches_s = service_time.warm_up_limits_s(limit_s)
        singles = slot.unrecorded(plan, min(plan.warm, service_time.WARM_UP_SINGLES), 1, singles_s)
        batches = slot.unrecorded(plan, plan.warm // scenario.batch * scenario.batch, scenario.batch, batches_s)
        service = ServiceTime(self._batch_s(slot, plan, batches, scenario.batch), self._batch_s(slot, plan, singles, 1))
        self.service_times[slot.prepared.arm.id, scenario.name] = service
        slot.lengths.update(plan.lengths[: max(len(singles), len(batches))].tolist())

    @staticmethod
    def _new_lengths(slot: WorkerSlot, plan: Plan) -> None:
        """Serve the reserved rows of lengths that the process has not served."""
        for row in range(plan.warm):
            if plan.lengths[row] not in slot.lengths:
                slot.serve(plan, row, 1, 1, slot.patience_s)
                slot.lengths.add(int(plan.lengths[row]))

    @staticmethod
    def _batch_s(slot: WorkerSlot, plan: Plan, samples: pd.DataFrame, batch: int) -> float:
        """Expected seconds of a batch of measured rows; one typical batch more is served where warm-up's say too little."""
        width = service_time.mean_width(plan, batch)
        seconds = service_time.batch_s(samples, plan, width)
        if seconds is None:
            first = service_time.typical_first(plan, batch, width)
            typical = slot.serve(plan, first, batch, batch, slot.patience_s).samples
            served_width = plan.lengths[first : first + batch].max()
            seconds = float((typical["end_ns"] - typical["start_ns"]).max()) / 1e9 * width / served_width
        return seconds
