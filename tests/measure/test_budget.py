"""The budget: whole batches, equal rows, never more than the share or the plan holds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure import budget
from bench.measure.budget import (
    BLOCKS,
    MAX_ROUNDS,
    MIN_ROWS,
    ServiceTime,
    Shape,
    TooSmall,
    allocate,
    full_rows,
    round_s,
)
from bench.runs.schema import Allocation
from bench.runs.writer import RunFolder
from bench.stats.rows import MIN_BLOCKS
from tests.support.runs import empty_block

COSTS = st.lists(st.floats(1e-6, 2.0).map(lambda s: ServiceTime(s, s / 2)), min_size=1, max_size=12)
ONE = Shape()
BATCHES = st.sampled_from([1, 4, 8, 32])


@given(st.floats(1, 5000), BATCHES, st.integers(400, 20000), COSTS)
def test_a_pace_fits_its_share_and_its_plan(share_s: float, batch: int, rows: int, costs: list[ServiceTime]) -> None:
    shape = Shape(batch, batch)
    found = allocate(share_s, shape, rows, costs)
    if isinstance(found, TooSmall):
        assert found.needed_s > share_s
        return
    assert MIN_BLOCKS <= found.blocks <= BLOCKS and 1 <= found.rounds <= MAX_ROUNDS
    assert found.rows % batch == 0 and found.rows >= min(MIN_ROWS, batch)
    assert found.rows_per_arm <= rows
    assert found.blocks * found.block_s <= share_s * 1.001
    assert found.block_s == pytest.approx(found.rounds * round_s(shape, found.rows, costs))


@given(st.integers(1, 5000), BATCHES, COSTS)
def test_requests_are_served_in_full(requests: int, batch: int, costs: list[ServiceTime]) -> None:
    found = allocate(1, Shape(batch, batch), 8000, costs, requests)
    assert isinstance(found, Allocation)
    assert found.rows_per_arm >= min(requests, 8000 // 2) and found.rows_per_arm <= 8000
    assert found.blocks >= MIN_BLOCKS and found.rows % batch == 0


def test_twelve_blocks_come_before_more_rounds() -> None:
    cost = [ServiceTime(0.010, 0.010)] * 6
    one_round = round_s(ONE, full_rows(ONE, cost, 8000), cost)
    few, many = allocate(one_round * 12.5, ONE, 8000, cost), allocate(one_round * 12 * 5.5, ONE, 8000, cost)
    assert isinstance(few, Allocation) and (few.blocks, few.rounds) == (12, 1)
    assert isinstance(many, Allocation) and (many.blocks, many.rounds) == (12, 4), "a reserve is kept, or the twelfth block may not come"


def test_a_slice_is_a_quarter_second_or_twenty_requests_of_the_slowest_arm() -> None:
    assert full_rows(ONE, [ServiceTime(0.001, 0.001), ServiceTime(0.005, 0.005)], 8000) == 50
    assert full_rows(ONE, [ServiceTime(0.1, 0.1)], 8000) == 20
    assert full_rows(Shape(32, 32), [ServiceTime(0.4, 0.01)], 8000) == 32


def test_slices_shrink_before_a_scenario_is_given_up() -> None:
    cost = [ServiceTime(1.0, 1.0)]
    shrunk = allocate(60, ONE, 8000, cost)
    assert isinstance(shrunk, Allocation) and shrunk.blocks == MIN_BLOCKS and MIN_ROWS <= shrunk.rows < 20
    assert isinstance(allocate(10, ONE, 8000, cost), TooSmall)


RATES = st.floats(0.05, 500)


@given(st.floats(1, 20000), RATES, st.integers(20, 400), COSTS)
def test_a_piece_is_never_shortened_and_its_blocks_fit(share_s: float, rate: float, piece: int, costs: list[ServiceTime]) -> None:
    shape = Shape(1, 1, piece, rate)
    found = allocate(share_s, shape, 8000, costs)
    if isinstance(found, TooSmall):
        assert found.needed_s > share_s
        return
    assert (found.rounds, found.rows) == (1, piece) and MIN_BLOCKS <= found.blocks <= BLOCKS
    assert found.blocks * found.block_s <= share_s * 1.001


@given(RATES, st.integers(20, 400), st.floats(1e-4, 100))
def test_an_arm_that_does_not_keep_up_costs_no_more_than_its_guard(rate: float, piece: int, service_s: float) -> None:
    cost = ServiceTime(service_s, service_s)
    shape = Shape(1, 1, piece, rate)
    spent = budget.arm_s(shape, piece, cost) - budget.THAW_ROWS * service_s - budget.SLICE_OVERHEAD_S
    assert spent >= piece / rate, "the last request comes only then"
    assert spent <= budget.guard_s(piece, rate, cost) + service_s * 1.001
    if service_s * rate < 0.9:
        assert spent == pytest.approx(piece / rate + service_s)


@given(st.floats(0, 60), st.sampled_from([ONE, Shape(32, 32), Shape(1, 6), Shape(1, 1, 160, 20.0), Shape(32, 32, 256)]), COSTS)
def test_a_scenarios_own_cost_is_twelve_blocks(warm_up_s: float, shape: Shape, costs: list[ServiceTime]) -> None:
    found = allocate(budget.own_work_s(shape, costs, warm_up_s, 8000) / budget.ROUNDS_SHARE, shape, 8000, costs)
    assert isinstance(found, Allocation) and found.blocks == BLOCKS
    if shape.piece is None and found.rounds < MAX_ROUNDS and 8000 // (found.rows * BLOCKS) > found.rounds:
        # Warming up takes at most its share of a block in new processes.
        assert warm_up_s <= budget.WARM_UP_SHARE * (warm_up_s + found.block_s) * 1.001


def test_lengths_come_equally_often() -> None:
    found = allocate(60, Shape(1, 6), 4000, [ServiceTime(0.02, 0.02)])
    assert isinstance(found, Allocation) and found.rows % 6 == 0


@given(st.lists(st.tuples(st.floats(0.5, 200), st.floats(0.0, 0.1)), min_size=12, max_size=12), st.floats(30, 4000))
def test_a_suite_of_twelve_stays_within_its_budget(blocks: list[tuple[float, float]], budget_s: float) -> None:
    """The shares of a run on a fake clock: scenario after scenario, each block up to 10 % longer than was thought."""
    clock, done = 0.0, []
    for place, (block_s, excess) in enumerate(blocks):
        later = [BLOCKS * block_s for block_s, _ in blocks[place + 1 :]]
        share = budget.share_s(budget_s - clock, BLOCKS * block_s, later)
        count = min(BLOCKS, int(share // block_s))
        served = 0
        while count >= MIN_BLOCKS and served < count:
            if served >= MIN_BLOCKS and clock + block_s > budget_s:
                break
            clock += block_s * (1 + excess)
            served += 1
        done.append(served)
    assert clock <= budget_s * 1.1
    first_short = next((place for place, served in enumerate(done) if served < BLOCKS), None)
    if first_short is not None and first_short:
        assert done[:first_short] == [BLOCKS] * first_short, "K = 12 before the next begins"


def test_an_undecided_scenario_is_looked_at_three_times() -> None:
    assert [budget.next_look(blocks) for blocks in (3, 11, 12, 17, 24, 47, 48)] == [None, None, 24, 24, 48, 48, None]


def test_a_resumed_run_goes_on_counting(tmp_path: Path) -> None:
    """What the finished blocks say of the budget is paid; a block that was not finished is not there."""
    folder = RunFolder(tmp_path)
    assert folder.measured_s() == 0.0
    for scenario, block, paid_s in (("closed-1", 0, 4.5), ("closed-1", 1, 9.25), ("offline-32", 0, 14.0)):
        folder.write_block(empty_block(scenario, block, paid_s, seconds=3.0 + block), pd.DataFrame({"arm_id": []}))
    assert folder.measured_s() == 14.0
    assert [block.seconds for block in folder.blocks("closed-1")] == [3, 4]
