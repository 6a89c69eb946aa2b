"""The budget: whole batches, equal rows, never more than the share or the plan holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.budget import BLOCKS, MAX_ROUNDS, MIN_BLOCKS, MIN_ROWS, Cost, Pace, TooSmall, full_rows, pace, round_s

COSTS = st.lists(st.floats(1e-6, 2.0).map(lambda s: Cost(s, s / 2)), min_size=1, max_size=12)
BATCHES = st.sampled_from([1, 4, 8, 32])


@given(st.floats(1, 5000), BATCHES, st.integers(400, 20000), COSTS)
def test_a_pace_fits_its_share_and_its_plan(share_s: float, batch: int, rows: int, costs: list[Cost]) -> None:
    found = pace(share_s, batch, rows, costs)
    if isinstance(found, TooSmall):
        assert found.needed_s > share_s
        return
    assert MIN_BLOCKS <= found.blocks <= BLOCKS and 1 <= found.rounds <= MAX_ROUNDS
    assert found.rows % batch == 0 and found.rows >= min(MIN_ROWS, batch)
    assert found.rows_per_arm <= rows
    assert found.blocks * found.block_s <= share_s * 1.001
    assert found.block_s == pytest.approx(found.rounds * round_s(found.rows, batch, costs))


@given(st.integers(1, 5000), BATCHES, COSTS)
def test_requests_are_served_in_full(requests: int, batch: int, costs: list[Cost]) -> None:
    found = pace(1, batch, 8000, costs, requests)
    assert isinstance(found, Pace)
    assert found.rows_per_arm >= min(requests, 8000 // 2) and found.rows_per_arm <= 8000
    assert found.blocks >= MIN_BLOCKS and found.rows % batch == 0


def test_twelve_blocks_come_before_more_rounds() -> None:
    cost = [Cost(0.010, 0.010)] * 6
    one_round = round_s(full_rows(1, cost), 1, cost)
    few, many = pace(one_round * 12.5, 1, 8000, cost), pace(one_round * 12 * 5.5, 1, 8000, cost)
    assert isinstance(few, Pace) and (few.blocks, few.rounds) == (12, 1)
    assert isinstance(many, Pace) and (many.blocks, many.rounds) == (12, 5)


def test_a_slice_is_a_quarter_second_or_twenty_requests_of_the_slowest_arm() -> None:
    assert full_rows(1, [Cost(0.001, 0.001), Cost(0.005, 0.005)]) == 50
    assert full_rows(1, [Cost(0.1, 0.1)]) == 20
    assert full_rows(32, [Cost(0.4, 0.01)]) == 32


def test_slices_shrink_before_a_scenario_is_given_up() -> None:
    cost = [Cost(1.0, 1.0)]
    shrunk = pace(60, 1, 8000, cost)
    assert isinstance(shrunk, Pace) and shrunk.blocks == MIN_BLOCKS and MIN_ROWS <= shrunk.rows < 20
    assert isinstance(pace(10, 1, 8000, cost), TooSmall)
