"""Which part of the budget each scenario gets, and the allocation that follows: how many blocks, rounds and rows.

A scenario gets K = 12 blocks of one round before a later one of the order gets any; what all of them do not need for that is shared out
equally. Where scenarios are measured in turns, an earlier one may not have begun yet: what it will need is kept for it.

Everything here is a question to a ledger, a clock and the service times known so far. Nothing is served, and nothing written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.catalog import Scenario
from bench.core.formatting import budget_of, duration
from bench.measure import budget, service_time
from bench.measure.budget import BLOCKS, WARM_UP_SHARE, Shape, TooSmall
from bench.measure.clock import BudgetClock
from bench.measure.ledger import Ledger
from bench.measure.service_time import ServiceTime
from bench.plan import workload
from bench.plan.folder import Plan
from bench.runs.schema import Allocation
from bench.stats.rows import MIN_BLOCKS

#: The longest warm-up of an arm, in seconds.
WARM_UP_S = 3.0
#: A scenario whose blocks take longer than expected is stopped when it has used this much of its share.
LATE = 1.1
#: The same where the share holds no more than K = 12 blocks of one round: these come before the next scenario.
LATE_LEAST = 1.5
#: Allowed overrun of the rest of the budget by the last scenario: its twelfth block (no verdict without it) matters more than the end.
OVER = 1.05
#: A budget that is named as enough is this many times the expected need.
ENOUGH = 1.25
#: A scenario that is expected to take this many times the rest of the budget is not even warmed up; expectations may be twice too high.
HOPELESS = 2.0
#: Each arm is started afresh at least this often in a run.
MIN_STARTS = 3
#: At most this part of a scenario's blocks is measured again: on a machine that is never quiet that would help nobody.
AGAIN_SHARE = 0.25


@dataclass(frozen=True)
class Load:
    """The scenarios of a run as the allocator needs them.

    Attributes:
        scenarios: in the order in which a budget is filled.
        plans: by scenario; a scenario without one is not served.
        roles: of all arms that can run, by arm id: `measured`, `floor` (null workers) or that of a control.
        fresh_blocks: the suite wants new processes for every block.
        requests: rows per arm in place of a budget.
        resident: the workers of all arms stay in memory.
    """

    scenarios: Sequence[Scenario]
    plans: Mapping[str, Plan]
    roles: Mapping[str, str]
    fresh_blocks: bool
    requests: int | None
    resident: bool

    def searches(self, arm_id: str) -> bool:
        """Does the arm take part in a search for a rate? A null worker answers at any."""
        return self.roles[arm_id] == "measured"

    def is_fresh(self, scenario: Scenario) -> bool:
        """Does every block of the scenario run in new processes?"""
        return workload.is_fresh(scenario, self.fresh_blocks)


@dataclass(frozen=True)
class Refused:
    """A scenario that gets nothing, and why."""

    reason: str


class Allocator:
    """Shares a budget out over the scenarios of a run.

    Attributes:
        waiting: scenarios that have no allocation yet, in their order.
        turns: scenarios that are being measured in turns, else empty.
        warmed: names of scenarios in turns whose processes another one has warmed up before.
    """

    def __init__(self, load: Load, ledger: Ledger, clock: BudgetClock, service_times: Mapping[tuple[str, str], ServiceTime]) -> None:
        """
        Args:
            service_times: by (arm id, scenario), of those that were warmed up.
        """
        self.load, self.ledger, self.clock, self.service_times = load, ledger, clock, service_times
        self.waiting = [scenario for scenario in load.scenarios if scenario.name in load.plans]
        self.turns: list[Scenario] = []
        self.warmed: set[str] = set()
        self._place = {scenario.name: place for place, scenario in enumerate(load.scenarios)}

    # --- what is left ----------------------------------------------------------------------------------------------------

    def free_s(self, scenario: Scenario, limit_s: float) -> float:
        """Seconds left of the budget beside what earlier scenarios are still to get."""
        earlier = [other for other in self._unfinished(scenario) if self._is_before(other, scenario)]
        return self.clock.left_s - sum(self._to_come_s(other, limit_s) for other in earlier)

    def _unfinished(self, scenario: Scenario) -> list[Scenario]:
        return [other for other in (*self.turns, *self.waiting) if other.name != scenario.name]

    def _is_before(self, scenario: Scenario, other: Scenario) -> bool:
        return self._place[scenario.name] < self._place[other.name]

    def _to_come_s(self, scenario: Scenario, limit_s: float, blocks: int | None = None) -> float:
        """Expected seconds of the blocks that a scenario lacks of its allocation (of `blocks` where given)."""
        entry = self.ledger[scenario.name]
        return self.least_s(scenario, limit_s) if entry.allocation is None else entry.to_come(blocks) * entry.block_s

    def least_s(self, scenario: Scenario, limit_s: float) -> float:
        """Expected seconds of K = 12 blocks of one round (of a search: its trials), by what requests took in other scenarios.

        Args:
            limit_s: the longest warm-up of an arm, which comes with every block in fresh processes.
        """
        services = self._expected_services(scenario)
        plan = self.load.plans[scenario.name]
        if not services:
            return 0.0
        if scenario.load == "slo":
            return budget.TRIALS * budget.trial_s(scenario.piece or 0, services)
        start_s = self._warm_ups_s(scenario, services, limit_s) if self._warms_up_blocks(scenario) else 0.0
        return budget.least_s(Shape.of(scenario), services, plan.measured, start_s)

    def _expected_services(self, scenario: Scenario) -> list[ServiceTime]:
        """The service time to expect of each arm that was warmed up for another scenario and has not failed in this one."""
        batches = {other.name: other.batch for other in self.load.scenarios}
        services = []
        for arm_id in self.load.roles:
            observed = [
                service_time.Observed(self.load.plans[name], batches[name], service)
                for (arm, name), service in self.service_times.items()
                if arm == arm_id
            ]
            serves = self.ledger.status(arm_id, scenario.name) in (None, "SKIPPED")
            if observed and serves and (scenario.load != "slo" or self.load.searches(arm_id)):
                services.append(service_time.extrapolated(observed, self.load.plans[scenario.name], scenario.batch))
        return services

    def _warm_ups_s(self, scenario: Scenario, services: Sequence[ServiceTime], limit_s: float) -> float:
        """Expected seconds of the warm-ups of all arms."""
        plan = self.load.plans[scenario.name]
        return sum(service_time.warm_up_s(plan.warm, scenario.batch, service, limit_s) for service in services)

    def _warms_up_blocks(self, scenario: Scenario) -> bool:
        """Does every block of the scenario begin with a warm-up of its own? Not where another one of its turn has had it."""
        return self.load.is_fresh(scenario) and scenario.name not in self.warmed

    def _share_s(self, scenario: Scenario, free_s: float, least_s: float, limit_s: float) -> float:
        """A scenario's share of what it and later ones are free to take."""
        later = [self.least_s(other, limit_s) for other in self.waiting if self._is_before(scenario, other)]
        return budget.share_s(free_s, least_s, later)

    # --- an allocation ---------------------------------------------------------------------------------------------------

    def must_wait(self, scenario: Scenario, limit_s: float) -> bool:
        """Is there no room for K = 12 blocks of a scenario beside what earlier ones still need? The first of all never waits."""
        if self.load.requests is not None or self.ledger[scenario.name].allocation is not None:
            return False
        earlier = any(self._is_before(other, scenario) for other in self._unfinished(scenario))
        return earlier and self.free_s(scenario, limit_s) < self.least_s(scenario, limit_s)

    def hopeless(self, scenario: Scenario) -> Refused | None:
        """Is too little left even to warm up? The need is extrapolated from what requests took in other scenarios."""
        if self.ledger[scenario.name].allocation is not None or self.load.requests is not None:
            return None
        left_s, needed_s = self.clock.left_s, MIN_BLOCKS / BLOCKS * self.least_s(scenario, 0.0)
        if left_s > 0 and needed_s <= HOPELESS * left_s:
            return None
        left = "the budget is used up;" if left_s <= 0 else f"{duration(left_s)} are left of the budget;"
        return Refused(f"{left} 3 blocks need about {duration(needed_s)}{self.would_do(scenario, needed_s)}")

    def allocate(self, scenario: Scenario, began_s: float, warm_s: float, limit_s: float, arms: Sequence[str]) -> Allocation | Refused:
        """The allocation of a scenario that was just warmed up.

        Args:
            began_s: where measuring stood before that.
            warm_s: seconds of the warm-up of all arms. It comes again with every fresh start and is paid from the same share: with every
                block where each runs in fresh processes (of those measured in turns the first pays it), else a few times.
            arms: ids of the arms that will serve.
        """
        plan, shape = self.load.plans[scenario.name], Shape.of(scenario)
        services = [self.service_times[arm_id, scenario.name] for arm_id in arms]
        if self.clock.budget_s is None:
            allocation = self._own_cost(scenario, shape, services, warm_s)
        else:
            allocation = self._of_budget(scenario, shape, services, began_s, warm_s, limit_s)
        if isinstance(allocation, TooSmall):
            needed_s = allocation.needed_s
            if plan.measured < MIN_BLOCKS * max(shape.unit, shape.piece or 1):
                return Refused("the plan has too few rows")
            return Refused(f"3 blocks need {duration(needed_s)}, which do not fit the budget{self.would_do(scenario, needed_s)}")
        return allocation

    def _own_cost(self, scenario: Scenario, shape: Shape, services: Sequence[ServiceTime], warm_s: float) -> Allocation | TooSmall:
        """Without a budget a scenario takes what its K = 12 blocks cost. (`budget.allocate` keeps a reserve of a share; there is nothing to
        keep it from.)"""
        rows = self.load.plans[scenario.name].measured
        work_s = budget.own_work_s(shape, services, warm_s if self.load.is_fresh(scenario) else 0.0, rows)
        return budget.allocate(work_s / budget.ROUNDS_SHARE, shape, rows, services, self.load.requests)

    def _of_budget(
        self, scenario: Scenario, shape: Shape, services: Sequence[ServiceTime], began_s: float, warm_s: float, limit_s: float
    ) -> Allocation | TooSmall:
        """The scenario's share of the budget as blocks, rounds and rows."""
        rows, clock = self.load.plans[scenario.name].measured, self.clock
        free_s = self.free_s(scenario, limit_s) + clock.measured_s - began_s
        start_s = warm_s if self._warms_up_blocks(scenario) else 0.0
        later_s = 0.0 if self.load.is_fresh(scenario) else warm_s * (self.starts() - 1)
        spent_s = clock.measured_s - began_s - start_s  # what is spent has warmed up the first block already
        least_s = budget.least_s(shape, services, rows, start_s)
        least_s += spent_s + min(later_s, least_s * WARM_UP_SHARE / (1 - WARM_UP_SHARE))
        share_s = self._share_s(scenario, free_s, least_s, limit_s)
        overhead_s = spent_s + min(later_s, WARM_UP_SHARE * (share_s - spent_s))
        allocation = budget.allocate(share_s - overhead_s, shape, rows, services, self.load.requests, start_s)
        if isinstance(allocation, TooSmall) or self.load.requests is not None:
            return allocation
        # Blocks may turn out cheaper than expected: up to K = 12 are begun as long as `is_late` finds room for one more.
        allocation = replace(allocation, blocks=max(allocation.blocks, min(BLOCKS, rows // (allocation.rounds * allocation.rows))))
        return allocation if self.turns else replace(allocation, until_s=began_s + self._until_s(share_s, least_s, free_s))

    @staticmethod
    def _until_s(share_s: float, least_s: float, free_s: float) -> float:
        """Seconds after its beginning at which a scenario is stopped."""
        return min(max(share_s * LATE, least_s * LATE_LEAST), free_s * OVER)

    def search_until_s(self, scenario: Scenario, began_s: float, limit_s: float) -> float:
        """Where measuring stands when a search has used its share."""
        share_s = self._share_s(scenario, self.free_s(scenario, limit_s), self.least_s(scenario, limit_s), limit_s)
        return began_s + LATE * share_s

    def would_do(self, scenario: Scenario, needed_s: float) -> str:
        """Names a budget that has room: for what is spent, for the K = 12 blocks that earlier scenarios lack, and for this one."""
        if self.clock.budget_s is None:
            return ""
        earlier = [other for other in self.load.scenarios if other.name in self.load.plans and self._is_before(other, scenario)]
        lacking_s = sum(self._to_come_s(other, WARM_UP_S, BLOCKS) for other in earlier)
        enough_s = max(self.clock.budget_s, ENOUGH * (self.clock.paid_s + self.clock.measured_s + lacking_s + needed_s))
        return f": {budget_of(enough_s)} would do"

    # --- while it is measured --------------------------------------------------------------------------------------------

    def is_late(self, scenario: Scenario, allocation: Allocation) -> bool:
        """Has the scenario used what it may? Of those in turns each may use what earlier ones do not need."""
        if self.turns and self.clock.budget_s is not None and self.load.requests is None:
            slack_s = (OVER - 1) * self.clock.budget_s
            return self.free_s(scenario, 0.0) + slack_s < allocation.block_s
        return allocation.until_s is not None and self.clock.measured_s + allocation.block_s > allocation.until_s

    def may_redo(self, scenario: Scenario, allocation: Allocation) -> bool:
        """Is there room to measure a noisy block again, beside the blocks that are still to come?"""
        entry, plan = self.ledger[scenario.name], self.load.plans[scenario.name]
        left_s = self.clock.left_s if allocation.until_s is None else allocation.until_s - self.clock.measured_s
        if self.turns:
            left_s -= sum(self._to_come_s(other, 0.0) for other in self._unfinished(scenario))
        discards = len(entry.discards)
        return (
            discards < max(1, int(AGAIN_SHARE * allocation.blocks))
            and left_s >= (allocation.blocks - len(entry.blocks)) * entry.block_s
            and spare_first(allocation, plan, discards + 1) >= plan.warm + allocation.rows_per_arm
        )

    def more_blocks(self, scenario: Scenario) -> int:
        """How many blocks more of a scenario short of K = 12 the rest of the budget has room for."""
        entry, plan = self.ledger[scenario.name], self.load.plans[scenario.name]
        if entry.allocation is None or scenario.load == "slo":
            return 0
        done = len(entry.blocks)
        room = plan.measured // (entry.allocation.rounds * entry.allocation.rows) - len(entry.discards)
        return min(BLOCKS - done, int(self.clock.left_s / self._alone_s(scenario, entry.allocation)), room - done)

    def next_look(self, scenario: Scenario) -> int | None:
        """The number of blocks (24, then 48) to which an undecided scenario goes on; None where these do not all fit the budget."""
        entry, plan = self.ledger[scenario.name], self.load.plans[scenario.name]
        done, allocation = len(entry.blocks), entry.allocation
        look = budget.next_look(done)
        if look is None or allocation is None:
            return None
        fits = (look - done) * self._alone_s(scenario, allocation) <= self.clock.left_s
        rows = (look + len(entry.discards)) * allocation.rounds * allocation.rows
        return look if fits and plan.measured >= rows else None

    def _alone_s(self, scenario: Scenario, allocation: Allocation) -> float:
        """Expected seconds of a further block outside its turn: its processes are warmed up for it alone."""
        services = [service for (_, name), service in self.service_times.items() if name == scenario.name]
        warm_up_s = self._warm_ups_s(scenario, services, WARM_UP_S) if self.load.is_fresh(scenario) else 0.0
        return max(self.ledger[scenario.name].block_s, warm_up_s + allocation.block_s)

    # --- starts and warm-ups ---------------------------------------------------------------------------------------------

    def starts(self) -> int:
        """Process starts of each arm within a scenario."""
        return starts_in_each(len(self.load.scenarios))

    def warm_up_limit_s(self, share_s: float, scenario: Scenario) -> float:
        """Seconds for one arm's warm-up. Without a budget the cost follows from the warm-up, not the other way round."""
        if self.clock.budget_s is None:
            return WARM_UP_S
        starts = self.starts() if self.load.resident else MIN_BLOCKS + 1
        if self.load.is_fresh(scenario):
            starts = BLOCKS
        arms = sum(role != "floor" for role in self.load.roles.values())
        return min(WARM_UP_S, WARM_UP_SHARE * share_s / (max(1, arms) * starts))


def starts_in_each(scenarios: int) -> int:
    """Process starts of each arm within each of so many scenarios, so that a run has at least MIN_STARTS."""
    return max(2, -(-MIN_STARTS // scenarios))


def spare_first(allocation: Allocation, plan: Plan, number: int) -> int:
    """The first row of the `number`-th block (from 1) that is measured again: from the end of the plan, in whole blocks."""
    size = allocation.rounds * allocation.rows
    return plan.warm + (plan.measured // size - number) * size
