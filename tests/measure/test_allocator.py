"""The allocator on its own: a ledger, a clock and service times, and no run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.catalog import Scenario, parse_seconds
from bench.measure.allocator import WARM_UP_S, Allocator, Load, Refused
from bench.measure.budget import BLOCKS
from bench.measure.clock import BudgetClock
from bench.measure.ledger import Ledger
from bench.measure.service_time import ServiceTime
from bench.plan.folder import Plan
from bench.runs.schema import Allocation
from bench.stats.rows import MIN_BLOCKS

ARMS = ("a", "b", "c")


def plan(scenario: Scenario) -> Plan:
    lengths, zeros = np.full(scenario.rows, 16), np.zeros(scenario.rows, dtype=np.int64)
    return Plan(Path(scenario.name), scenario.name, scenario.name, scenario.rows, 64, "text", lengths, zeros, zeros, zeros)


def suite(count: int) -> list[Scenario]:
    """Closed loops, batches, open loops and bulk pieces by turns."""
    kinds: list[dict[str, object]] = [
        {"load": "closed"}, {"load": "offline", "batch": 8}, {"load": "open", "rate_per_s": 50.0, "piece": 60},
        {"load": "offline", "batch": 8, "piece": 64},
    ]  # fmt: skip
    return [Scenario(name=f"s{k:02d}", title="x", rows=8192, **kinds[k % len(kinds)]) for k in range(count)]  # type: ignore[arg-type]


@dataclass
class Simulation:
    """Scenario after scenario, each arm in need of `request_s` a request, with blocks `drift` times as long as expected."""

    scenarios: Sequence[Scenario]
    budget_s: float | None
    request_s: float
    drift: float = 1.0
    warm_up_s: float = 0.05
    fresh: bool = False

    def __post_init__(self) -> None:
        self.clock = BudgetClock(self.budget_s)
        self.ledger = Ledger(scenario.name for scenario in self.scenarios)
        self.service_times: dict[tuple[str, str], ServiceTime] = {}
        plans = {scenario.name: plan(scenario) for scenario in self.scenarios}
        self.load = Load(self.scenarios, plans, dict.fromkeys(ARMS, "measured"), self.fresh, None, resident=True)
        self.allocator = Allocator(self.load, self.ledger, self.clock, self.service_times)
        self.refused: dict[str, str] = {}

    def run(self) -> list[int]:
        """Finished blocks of each scenario."""
        while waiting := list(self.allocator.waiting):
            for place, scenario in enumerate(waiting):
                limit_s = self.allocator.warm_up_limit_s(self.clock.left_s / (len(waiting) - place), scenario)
                if not self.allocator.must_wait(scenario, limit_s):
                    self.allocator.waiting.remove(scenario)
                    self._measure(scenario, limit_s)
        return [len(self.ledger[scenario.name].blocks) for scenario in self.scenarios]

    def _measure(self, scenario: Scenario, limit_s: float) -> None:
        if refusal := self.allocator.hopeless(scenario):
            self.refused[scenario.name] = refusal.reason
            return
        began_s, warm_s = self.clock.measured_s, self._warm_up(limit_s)
        service = ServiceTime(self.request_s * scenario.batch, self.request_s)
        self.service_times.update(dict.fromkeys(((arm, scenario.name) for arm in ARMS), service))
        allocation = self.allocator.allocate(scenario, began_s, warm_s, limit_s, ARMS)
        if isinstance(allocation, Refused):
            self.refused[scenario.name] = allocation.reason
            return
        self.ledger[scenario.name].allocation = allocation
        self._blocks(scenario, allocation, warm_s)

    def _warm_up(self, limit_s: float) -> float:
        warm_s = len(ARMS) * min(limit_s, self.warm_up_s)
        self.clock.measured_s += warm_s
        return warm_s

    def _blocks(self, scenario: Scenario, allocation: Allocation, warm_s: float) -> None:
        for block in range(allocation.blocks):
            if block >= MIN_BLOCKS and self.allocator.is_late(scenario, allocation):
                return
            # the expected length of a block in new processes holds their warm-up, which the first block has had already
            own_warm_up = self.load.is_fresh(scenario) and self.budget_s is not None
            seconds = self.drift * (allocation.block_s - (warm_s if own_warm_up and block == 0 else 0.0))
            self.clock.measured_s += seconds
            self.ledger.add_block(scenario.name, block, seconds)


RUNS = st.builds(
    Simulation,
    scenarios=st.integers(1, 12).map(suite),
    budget_s=st.floats(20, 2000),
    request_s=st.floats(0.001, 0.3),
    drift=st.floats(0.4, 1.3),
    warm_up_s=st.floats(0.01, 2.0),
    fresh=st.booleans(),
)


@given(RUNS)
@settings(deadline=None)
def test_a_budget_is_kept(simulation: Simulation) -> None:
    """Within a tenth; a scenario that has begun finishes its third block, since fewer give no row."""
    simulation.run()
    begun = [entry for scenario in simulation.scenarios if (entry := simulation.ledger[scenario.name]).blocks]
    longest_s = max((entry.block_s for entry in begun), default=0.0)
    assert simulation.budget_s is not None
    assert simulation.clock.measured_s <= 1.1 * simulation.budget_s + MIN_BLOCKS * longest_s


@given(RUNS)
@settings(deadline=None)
def test_blocks_are_none_or_at_least_three_and_none_has_a_reason(simulation: Simulation) -> None:
    blocks = simulation.run()
    for scenario, count in zip(simulation.scenarios, blocks, strict=True):
        assert count == 0 or count >= MIN_BLOCKS
        assert (scenario.name in simulation.refused) == (count == 0)
    assert all("3 blocks need" in reason and "--budget" in reason for reason in simulation.refused.values())


@given(st.floats(30, 1000), st.floats(0.005, 0.2), st.booleans())
@settings(deadline=None)
def test_twelve_blocks_come_before_the_next_scenario(budget_s: float, request_s: float, fresh: bool) -> None:
    """Of scenarios that cost the same the budget ends in one: those in front of it are whole, those behind it have nothing."""
    alike = [replace(suite(1)[0], name=f"s{place}") for place in range(12)]
    blocks = Simulation(alike, budget_s, request_s, fresh=fresh).run()
    assert sum(0 < count < BLOCKS for count in blocks) <= 1 and blocks == sorted(blocks, reverse=True)


def test_a_budget_is_used() -> None:
    assert Simulation(suite(12), 600.0, 0.01).run() == [BLOCKS] * 12


def test_what_later_scenarios_need_is_kept_for_them() -> None:
    """Two cheap scenarios before one whose pieces take most of the budget: an equal share for each would leave it short."""
    dear = Scenario(name="dear", title="x", rows=8192, load="open", rate_per_s=20.0, piece=160)
    assert Simulation([*suite(2), dear], 340.0, 0.005).run() == [BLOCKS] * 3, "12 × 3 arms × 8 s of 340 s are the last one's"


def test_what_is_far_beyond_the_budget_is_not_warmed_up_to_see() -> None:
    """Three blocks of `dear` are 3 × 3 arms × 8 s of arrivals, for which 30 s have no room."""
    dear = Scenario(name="dear", title="x", rows=8192, load="open", rate_per_s=20.0, piece=160)
    simulation = Simulation([*suite(1), dear], 30.0, 0.02)
    assert simulation.run() == [BLOCKS, 0] and ("a", "dear") not in simulation.service_times
    assert "s are left of the budget; 3 blocks need about" in simulation.refused["dear"]


@given(st.integers(0, 11), st.floats(0.005, 0.1))
@settings(deadline=None, max_examples=30)
def test_the_budget_that_a_refusal_names_is_enough(place: int, request_s: float) -> None:
    small = Simulation(suite(12), 60.0, request_s)
    small.run()
    name = f"s{place:02d}"
    if name in small.refused:
        enough_s = parse_seconds(small.refused[name].partition("--budget ")[2].partition("`")[0])
        again = Simulation(suite(12), enough_s, request_s)
        assert again.run()[place] >= MIN_BLOCKS


@given(st.floats(0.001, 0.2), st.floats(0.01, 2.0))
@settings(deadline=None)
def test_without_a_budget_every_scenario_takes_its_twelve_blocks(request_s: float, warm_up_s: float) -> None:
    simulation = Simulation(suite(4), None, request_s, warm_up_s=min(warm_up_s, WARM_UP_S), fresh=True)
    assert simulation.run() == [BLOCKS] * 4 and not simulation.refused


def test_controls_are_paid_from_the_budget() -> None:
    clock = BudgetClock(100.0, paid_s=40.0, measured_s=10.0)
    assert clock.left_s == 50.0 and BudgetClock(None, paid_s=40.0).left_s == float("inf")


def test_a_noisy_block_is_measured_again_only_where_there_is_room() -> None:
    """Twelve blocks of 2 × 20 rows behind 64 for warm-up: 544 rows hold them, 584 one block more."""

    def may_redo(rows: int, budget_s: float, done: int = 0, discards: int = 0) -> bool:
        scenario = Scenario(name="s", title="x", load="closed", rows=rows)
        simulation = Simulation([scenario], budget_s, 0.01)
        entry = simulation.ledger["s"]
        entry.allocation, entry.discards = allocation, set(range(discards))
        for block in range(done):
            simulation.ledger.add_block("s", block, 1.0)
        return simulation.allocator.may_redo(scenario, allocation)

    allocation = Allocation(blocks=BLOCKS, rounds=2, rows=20, block_s=1.0)
    assert not may_redo(564, 100.0) and may_redo(584, 12.0)
    assert not may_redo(584, 11.9), "the other eleven and this one must fit the time that is left"
    assert may_redo(584, 1.0, done=11)
    assert not may_redo(584, 100.0, discards=1), "no rows for a second one"
    assert [may_redo(6400, 100.0, discards=before) for before in range(4)] == [True, True, True, False]
