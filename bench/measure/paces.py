"""What of the budget each scenario gets, and the shape that follows: how many blocks, rounds and rows.

A scenario gets K = 12 blocks of one round before one behind it in the order gets any; what all of them do not need for that is shared out
equally. Where several scenarios are measured in turns, those in front of one may not have begun yet: what they will need is kept for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bench.catalog import Scenario
from bench.core.progress import Progress
from bench.measure import budget, noise_monitor, service_time
from bench.measure.blocks import Blocks
from bench.measure.budget import WARM_UP_SHARE
from bench.measure.seats import WARM_UP_S, Seats
from bench.plan import workload
from bench.plan.folder import Plan
from bench.prepare.spec import Experiment
from bench.runs.schema import Allocation
from bench.runs.writer import RunFolder

#: A scenario whose blocks take longer than expected is stopped when it has used this much of its share.
LATE = 1.1
#: The same where the share holds no more than K = 12 blocks of one round: these come before the next scenario.
LATE_LEAST = 1.5
#: The last scenario may use this much of what is left: its twelfth block is worth more than the second it is late.
OVER = 1.05
#: A budget that is named as enough is this many times what is expected.
ENOUGH = 1.25
#: A scenario that is expected to take this many times what is left of the budget is not even warmed up: expectations may be twice too high.
HOPELESS = 2.0
#: Each arm is started afresh at least this often in a run.
MIN_STARTS = 3


class Paces(Blocks):
    """Shares a budget out over the scenarios of an experiment.

    `waiting`: those that have no allocation yet, in their order; `turns`: those that are being measured in turns, else empty; `warmed`:
    names of those whose processes another one warms up, as long as they have a turn to come.
    """

    def __init__(self, experiment: Experiment, folder: RunFolder, seats: Seats, progress: Progress, resident: bool) -> None:
        super().__init__(experiment, folder, seats, progress, resident)
        self.place = {scenario.name: place for place, scenario in enumerate(experiment.spec.scenarios)}
        self.waiting = [scenario for scenario in experiment.spec.scenarios if scenario.name in experiment.plans]
        self.turns: list[Scenario] = []
        self.warmed: set[str] = set()

    # --- what is left ----------------------------------------------------------------------------------------------------

    def _left_s(self) -> float:
        """Seconds left of the budget; infinite where every scenario takes its own cost."""
        spec = self.experiment.spec
        return math.inf if spec.budget_s is None else spec.budget_s - spec.controls_s - self.seats.measured_s

    def _free_s(self, scenario: Scenario, limit_s: float) -> float:
        """Seconds left of the budget beside what those in front of a scenario are still to get."""
        return self._left_s() - self._kept_s(scenario, limit_s, behind=False)

    def _kept_s(self, scenario: Scenario, limit_s: float, behind: bool) -> float:
        """Seconds that others are still to get: those in front of a scenario, and those behind it where asked."""
        others = [one for one in (*self.turns, *self.waiting) if one.name != scenario.name and (behind or self._in_front(one, scenario))]
        return sum(self._to_come_s(one, limit_s) for one in others)

    def _in_front(self, one: Scenario, other: Scenario) -> bool:
        return self.place[one.name] < self.place[other.name]

    def _to_come_s(self, scenario: Scenario, limit_s: float, blocks: int | None = None) -> float:
        """What the blocks of a scenario that are not there yet will take, of those of its allocation (of `blocks` where given)."""
        allocation = self.folder.allocation(scenario.name)
        if allocation is None:
            return self._least_s(scenario, limit_s)
        return max(0, (blocks or allocation.blocks) - self.folder.block_count(scenario.name)) * self._block_s(scenario, allocation)

    def _block_s(self, scenario: Scenario, allocation: Allocation) -> float:
        """What a further block takes: as the finished ones did, their starts' warm-ups included."""
        spent, done = self.folder.scenario_s(scenario.name), self.folder.block_count(scenario.name)
        return max(allocation.block_s, spent / done) if done else allocation.block_s

    def _alone_s(self, scenario: Scenario, allocation: Allocation) -> float:
        """What a further block takes outside its turn: its processes are warmed up for it alone."""
        own = [cost for (_, name), cost in self.seats.costs.items() if name == scenario.name]
        warm_up_s = self._warm_ups_s(scenario, own, WARM_UP_S) if self._fresh(scenario) else 0.0
        return max(self._block_s(scenario, allocation), warm_up_s + allocation.block_s)

    def _least_s(self, scenario: Scenario, limit_s: float) -> float:
        """What K = 12 blocks of one round (a search: its trials) will cost, by what requests cost elsewhere.

        `limit_s`: the longest warm-up of an arm, which comes with every block in fresh processes.
        """
        plans, spec = self.experiment.plans, self.experiment.spec
        plan, batches = plans[scenario.name], {one.name: one.batch for one in spec.scenarios}
        expected = []
        for arm_id in self.arms:
            known = [
                service_time.Known(plans[name], batches[name], cost) for (arm, name), cost in self.seats.costs.items() if arm == arm_id
            ]
            served = self.folder.status_of(arm_id, scenario.name) in (None, "SKIPPED")
            if known and served and (scenario.load != "slo" or self._searches(arm_id)):
                expected.append(service_time.elsewhere(known, plan, scenario.batch))
        if not expected:
            return 0.0
        if scenario.load == "slo":
            return budget.TRIALS * budget.trial_s(scenario.piece or 0, expected)
        start_s = self._warm_ups_s(scenario, expected, limit_s) if self._warms_up_blocks(scenario) else 0.0
        return budget.least_s(budget.Shape.of(scenario), expected, plan.measured, start_s)

    def _warm_ups_s(self, scenario: Scenario, arms: Sequence[budget.ServiceTime], limit_s: float) -> float:
        """Seconds that the warm-ups of all arms will take, about."""
        return sum(service_time.warm_up_s(self.experiment.plans[scenario.name], scenario.batch, cost, limit_s) for cost in arms)

    def _share_s(self, scenario: Scenario, free_s: float, least_s: float, limit_s: float) -> float:
        """A scenario's share of what it and those behind it are free to take."""
        behind = [self._least_s(one, limit_s) for one in self.waiting if self._in_front(scenario, one)]
        return budget.share_s(free_s, least_s, behind)

    # --- shares ----------------------------------------------------------------------------------------------------------

    def _must_wait(self, scenario: Scenario, limit_s: float) -> bool:
        """Is there no room for K = 12 blocks of a scenario beside what those in front of it still need? The first of all never waits."""
        if self.experiment.spec.requests is not None or self.folder.allocation(scenario.name) is not None:
            return False
        in_front = any(self._in_front(one, scenario) for one in (*self.turns, *self.waiting))
        return in_front and self._free_s(scenario, limit_s) < self._least_s(scenario, limit_s)

    def _allocate(self, scenario: Scenario, began_s: float, warm_s: float, limit_s: float, alive: Sequence[str]) -> Allocation | None:
        """The shape of the scenario; where three blocks do not fit, every arm's row says what would do.

        `warm_s`: what the warm-up of all arms took. It comes again with every fresh start, and is paid from the same share: with every
        block where each runs in fresh processes (of those measured in turns the first pays it), else a few times.
        """
        plan, spec, shape = self.experiment.plans[scenario.name], self.experiment.spec, budget.Shape.of(scenario)
        own = [self.seats.costs[arm_id, scenario.name] for arm_id in alive]
        if spec.budget_s is None:
            work_s = budget.own_work_s(shape, own, warm_s if self._fresh(scenario) else 0.0, plan.measured)
            # `allocation` keeps a reserve of a share; where a scenario takes its own cost there is nothing to keep it from.
            found = budget.allocate(work_s / budget.ROUNDS_SHARE, shape, plan.measured, own, spec.requests)
        else:
            free_s = self._free_s(scenario, limit_s) + self.seats.measured_s - began_s
            start_s = warm_s if self._warms_up_blocks(scenario) else 0.0
            later_s = 0.0 if self._fresh(scenario) else warm_s * (self._starts() - 1)
            spent_s = self.seats.measured_s - began_s - start_s  # what is spent has warmed up the first block already
            least_s = budget.least_s(shape, own, plan.measured, start_s)
            least_s += spent_s + min(later_s, least_s * WARM_UP_SHARE / (1 - WARM_UP_SHARE))
            share_s = self._share_s(scenario, free_s, least_s, limit_s)
            overhead_s = spent_s + min(later_s, WARM_UP_SHARE * (share_s - spent_s))
            found = budget.allocate(share_s - overhead_s, shape, plan.measured, own, spec.requests, start_s)
            if isinstance(found, Allocation) and spec.requests is None:
                # Blocks may turn out cheaper than expected: up to K = 12 are begun as long as `_late` finds room for one more.
                found = replace(found, blocks=max(found.blocks, min(budget.BLOCKS, plan.measured // (found.rounds * found.rows))))
                if not self.turns:
                    found = replace(found, until_s=began_s + min(max(share_s * LATE, least_s * LATE_LEAST), free_s * OVER))
        if isinstance(found, budget.TooSmall):
            short = "the plan has too few rows" if plan.measured < budget.MIN_BLOCKS * max(shape.unit, shape.piece or 1) else None
            reason = short or f"3 blocks need {found.needed_s:.0f} s, which do not fit the budget{self._would_do(scenario, found.needed_s)}"
            for arm_id in alive:
                self.folder.write_failure(arm_id, scenario.name, "SKIPPED", reason)
            self.progress.say(f"{scenario.name}: skipped, {reason}")
            return None
        self.folder.write_allocation(scenario.name, found)
        return found

    def _no_room(self, scenario: Scenario) -> bool:
        """Is too little left even to warm up and see? What the scenario needs is estimated from what a request cost elsewhere."""
        if self.folder.allocation(scenario.name) is not None or self.experiment.spec.requests is not None:
            return False
        left_s, needed_s = self._left_s(), budget.MIN_BLOCKS / budget.BLOCKS * self._least_s(scenario, 0.0)
        if left_s > 0 and needed_s <= HOPELESS * left_s:
            return False
        said = "the budget is used up;" if left_s <= 0 else f"{left_s:.0f} s are left of the budget;"
        reason = f"{said} 3 blocks need about {needed_s:.0f} s{self._would_do(scenario, needed_s)}"
        for arm_id in self.arms:
            if not self._failed(arm_id, scenario):
                self.folder.write_failure(arm_id, scenario.name, "SKIPPED", reason)
        self.progress.say(f"{scenario.name}: skipped, {reason}")
        return True

    def _would_do(self, scenario: Scenario, needed_s: float) -> str:
        """A budget that has room: for what is spent, for what those in front of the scenario lack of their K = 12 blocks, and for it."""
        spec = self.experiment.spec
        if spec.budget_s is None:
            return ""
        in_front = [one for one in spec.scenarios if one.name in self.experiment.plans and self._in_front(one, scenario)]
        lacking_s = sum(self._to_come_s(one, WARM_UP_S, budget.BLOCKS) for one in in_front)
        enough_s = max(spec.budget_s, ENOUGH * (spec.controls_s + self.seats.measured_s + lacking_s + needed_s))
        return f": `--budget {enough_s:.0f}s` would do"

    def _late(self, scenario: Scenario, allocation: Allocation) -> bool:
        """Has the scenario used what it may? In turns: what those in front of it do not need."""
        if self.turns and self.experiment.spec.budget_s is not None and self.experiment.spec.requests is None:
            slack_s = (OVER - 1) * self.experiment.spec.budget_s
            return self._free_s(scenario, 0.0) + slack_s < allocation.block_s
        return allocation.until_s is not None and self.seats.measured_s + allocation.block_s > allocation.until_s

    def _may_redo(self, scenario: Scenario, allocation: Allocation, plan: Plan) -> bool:
        left_s = self._left_s() if allocation.until_s is None else allocation.until_s - self.seats.measured_s
        if self.turns:
            left_s -= self._kept_s(scenario, 0.0, behind=True)
        done, discards = self.folder.block_count(scenario.name), self.folder.discard_count(scenario.name)
        return noise_monitor.may_redo(replace(allocation, block_s=self._block_s(scenario, allocation)), done, discards, plan, left_s)

    # --- what a scenario is ----------------------------------------------------------------------------------------------

    def _searches(self, arm_id: str) -> bool:
        """A null worker answers at any rate: there is nothing to find."""
        return self.arms[arm_id].arm.role == "measured"

    def _fresh(self, scenario: Scenario) -> bool:
        """Does every block of the scenario run in new processes?"""
        return workload.is_fresh(scenario, self.experiment.spec.fresh_blocks)

    def _warms_up_blocks(self, scenario: Scenario) -> bool:
        """Does every block of the scenario begin with a warm-up of its own? Not where another one's has come before it in its turn."""
        return self._fresh(scenario) and scenario.name not in self.warmed

    def _starts(self) -> int:
        """Process starts of each arm within a scenario, so that a run has at least MIN_STARTS."""
        return max(2, -(-MIN_STARTS // len(self.experiment.spec.scenarios)))

    def _warm_up_limit_s(self, share_s: float, scenario: Scenario) -> float:
        """Seconds for one arm's warm-up. Where every scenario takes its own cost that follows from the warm-up, not the other way round."""
        if self.experiment.spec.budget_s is None:
            return WARM_UP_S
        measured = sum(prepared.arm.role != "floor" for prepared in self.experiment.prepared_arms)
        starts = self._starts() if self.resident else budget.MIN_BLOCKS + 1
        if self._fresh(scenario):
            starts = budget.BLOCKS
        return min(WARM_UP_S, WARM_UP_SHARE * share_s / (max(1, measured) * starts))
