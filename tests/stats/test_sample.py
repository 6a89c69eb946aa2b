"""Percentiles, effective samples and throughput of one arm, against hand-worked values and known distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import sample

VALUES = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=200)
SHARES = st.floats(0.001, 1.0)


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.05, 15), (0.30, 20), (0.40, 20), (0.50, 35), (0.9, 50), (0.99, 50), (1.0, 50)],
)
def test_nearest_rank_by_hand(p: float, expected: float) -> None:
    assert sample.percentile([35, 20, 15, 50, 40], p) == expected


def test_ranks_are_not_lifted_by_float_rounding() -> None:
    assert 100 * 0.07 > 7
    assert sample.rank(100, 0.07) == 7
    assert [sample.rank(1000, p) for p in (0.5, 0.9, 0.95, 0.99, 0.999)] == [500, 900, 950, 990, 999]
    assert sample.rank(1001, 0.99) == 991


def test_no_sample_has_no_percentile() -> None:
    assert math.isnan(sample.percentile([], 0.5))
    with pytest.raises(ValueError, match="0 < p"):
        sample.percentile([1.0], 0.0)


@given(VALUES, SHARES)
def test_a_percentile_is_a_value_with_enough_of_the_sample_at_or_below_it(values: list[float], p: float) -> None:
    found = sample.percentile(values, p)
    array = np.array(values)
    wanted = round(len(values) * p, 9)
    assert found in values
    assert np.count_nonzero(array <= found) >= wanted
    assert np.count_nonzero(array < found) < wanted


@given(VALUES, SHARES, SHARES)
def test_percentiles_grow_with_p(values: list[float], p: float, q: float) -> None:
    low, high = sorted((p, q))
    assert sample.percentile(values, low) <= sample.percentile(values, high)


@given(VALUES, SHARES, st.randoms(use_true_random=False))
def test_order_does_not_matter(values: list[float], p: float, random: object) -> None:
    shuffled = values.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sample.percentile(shuffled, p) == sample.percentile(values, p)


def test_independent_requests_count_in_full() -> None:
    values = np.random.default_rng(3).exponential(size=20_000)
    found = sample.effective(values > 1.0, np.repeat(np.arange(10), 2000))
    assert 0.75 * 20_000 < found.n_eff <= 20_000


def test_rows_of_one_batch_are_one_draw() -> None:
    batches = np.random.default_rng(4).exponential(size=600)
    units = np.repeat(np.arange(600), 32)
    found = sample.effective(np.repeat(batches, 32) > 1.0, np.repeat(np.arange(6), 3200), units)
    assert 400 < found.n_eff <= 600


def test_correlated_requests_count_less() -> None:
    """Each value repeated 10 times: the truth is a design effect of 10."""
    values = np.repeat(np.random.default_rng(5).exponential(size=2000), 10)
    found = sample.effective(values > 1.0, np.zeros(20_000, dtype=int))
    assert 1300 < found.n_eff < 2900


def test_effective_n_by_hand() -> None:
    """Four runs of 20, all exceedances in the first: share 1/4, residuals 15, −5, −5, −5, so the variance of the share is
    300/80² · 4/3 = 1/16 and n_eff = (1/4 · 3/4)/(1/16) = 3, with 3 degrees of freedom."""
    exceeds = np.repeat([True, False, False, False], 20)
    found = sample.effective(exceeds, np.repeat(np.arange(4), 20))
    assert found.n_eff == pytest.approx(3.0)
    assert found.df == 3


def test_exceedances_as_even_as_can_be_are_worth_every_request() -> None:
    """One in four, evenly: the batches do not differ at all; more than n requests nothing is worth."""
    found = sample.effective(np.tile([True, False, False, False], 20), np.repeat(np.arange(4), 20))
    assert (found.n_eff, found.df) == (80.0, 3)


def test_runs_that_differ_become_the_unit() -> None:
    """Twelve blocks at their own level: 12 draws, however many requests lie in each."""
    level = np.repeat(np.random.default_rng(6).normal(size=12), 500)
    values = level + np.random.default_rng(7).normal(0, 0.1, 6000)
    found = sample.effective(values > np.median(values), np.repeat(np.arange(12), 500))
    assert found.df == 11
    assert found.n_eff < 30


@pytest.mark.parametrize(("n", "printed"), [(19, "none"), (20, "p50"), (99, "p50"), (1100, "p50 p90 p95 p99")])
def test_what_may_be_printed(n: int, printed: str) -> None:
    """Values in bit-reversed order spread so evenly that the effective n is n."""
    values = np.array([int(f"{place:016b}"[::-1], 2) for place in range(n)], dtype=float)
    found = sample.profile(values, np.zeros(n, dtype=int))
    names = [name for (_, name), item in zip(sample.PERCENTILES, found, strict=True) if item.value is not None]
    assert " ".join(names) == printed.replace("none", "")


def test_few_draws_beyond_a_percentile_do_not_hide_how_they_cluster() -> None:
    """Every value stands 10 times in a row, 1 000 requests: p99 has too few beyond it, and takes the n_eff of p95."""
    values = np.repeat(np.random.default_rng(11).permutation(100).astype(float), 10)
    found = sample.profile(values, np.zeros(1000, dtype=int))
    assert found[3].n_eff == found[2].n_eff
    assert found[3].n_eff < 250
    assert found[3].value is None


def test_a_derived_sequence_is_judged_by_the_other_ones_n_eff_with_intervals_over_runs() -> None:
    values, runs = np.random.default_rng(12).exponential(size=4000), np.repeat(np.arange(8), 500)
    tails = [sample.Effective(n_eff, 0) for n_eff in (4000.0, 90.0, 4000.0, 4000.0, 4000.0)]
    found = sample.profile(values, runs, None, tails)
    assert [item.value is None for item in found] == [False, True, False, False, True]
    assert found[0].lo is not None
    assert found[0].hi is not None
    assert found[0].lo < sample.percentile(values, 0.5) < found[0].hi


def test_the_reason_names_the_samples_that_are_missing() -> None:
    few = [sample.Percentile(None, None, None, 12.0)] * 5
    assert sample.withheld(few) == "percentiles withheld: fewer than 20 requests"
    some = [sample.Percentile(1.0, None, None, 640.0)] * 3 + [sample.Percentile(None, None, None, 640.0)] * 2
    assert sample.withheld(some) == "withheld for too few effective samples: p99: 640 of 1000, p99.9: 640 of 10000"
    assert sample.withheld([sample.Percentile(1.0, None, None, 1e5)] * 5) is None


def test_order_interval_by_hand() -> None:
    """n = 100, p = 0.5, n_eff = 100, many degrees of freedom: ranks 50 ± 9.8, so x₍40₎ and x₍61₎."""
    ordered = np.arange(1.0, 101.0)
    assert sample.order_interval(ordered, 0.5, sample.Effective(100.0, 10_000)) == (40.0, 61.0)
    assert sample.order_interval(ordered, 0.99, sample.Effective(100.0, 10_000)) == (97.0, None)
    assert sample.order_interval(ordered, 0.5, sample.Effective(100.0, 0)) == (None, None)


def test_rate_by_hand() -> None:
    """Blocks of 10, 10, 10 rows in 1, 2, 1 s: 30 rows in 4 s; residuals 2.5, −5, 2.5; t₂ = 4.303."""
    found = sample.rate([10, 10, 10], [1, 2, 1])
    error = math.sqrt((2.5**2 + 5**2 + 2.5**2) * 3 / 2) / 30
    assert found.value == 7.5
    assert found.lo == pytest.approx(7.5 * math.exp(-4.302653 * error), rel=1e-6)
    assert found.hi == pytest.approx(7.5 * math.exp(4.302653 * error), rel=1e-6)


def test_a_rate_without_blocks_has_no_interval() -> None:
    assert math.isnan(sample.rate([], []).value)
    assert sample.rate([10], [2]).value == 5.0
    assert math.isnan(sample.rate([10], [2]).lo)
