"""The statistics held to the promises of the methodology, on synthetic experiments whose truth is known. Every seed is fixed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from bench import stats_load, stats_paired
from bench.stats_sample import effective, order_interval, percentile, rank

NOISE = 0.04
Floats = npt.NDArray[np.float64]


def blocks(rng: np.random.Generator, arms: int, count: int) -> Floats:
    """Quantities of `arms` equal arms in `count` blocks: a drift that all feel, and each arm's own noise, with a rare bad block."""
    shared = np.cumsum(rng.normal(0, 0.05, count))
    own = rng.normal(0, NOISE, (arms, count)) - (rng.random((arms, count)) < 0.02) * rng.exponential(0.3, (arms, count))
    return np.exp(shared + own)


def upper(hits: int, n: int) -> float:
    """The upper Clopper–Pearson bound (95 %, two-sided) of a share."""
    return float(scipy_stats.binomtest(hits, n).proportion_ci(method="exact").high)


def test_two_identical_programs_are_seldom_called_different() -> None:
    """2 000 experiments, each stopped at the first look (12, 24, 48 blocks) that gives a verdict."""
    wrong = 0
    for seed in range(2000):
        a, b = blocks(np.random.default_rng([1, seed]), 2, max(stats_paired.LOOKS))
        verdicts = [stats_paired.paired_ratio(a[:look], b[:look]).verdict for look in stats_paired.LOOKS]
        first = next((verdict for verdict in verdicts if verdict != "unresolved"), "unresolved")
        wrong += first in ("faster", "slower")
    assert upper(wrong, 2000) <= 0.07, f"{wrong} of 2000"


def test_a_five_percent_slower_arm_is_found() -> None:
    found = 0
    for seed in range(400):
        a, b = np.exp(np.random.default_rng([2, seed]).normal(0, NOISE, (2, 24)))
        found += stats_paired.paired_ratio(a / 1.05, b).verdict == "slower"
    assert found / 400 >= 0.90, f"{found} of 400"


def test_six_twins_form_one_group() -> None:
    one = 0
    for seed in range(300):
        arms = dict(zip("abcdef", blocks(np.random.default_rng([3, seed]), 6, 24), strict=True))
        pairs = {pair: stats_paired.paired_ratio(arms[pair[0]], arms[pair[1]]) for pair in itertools.combinations(arms, 2)}
        standing = stats_paired.standings({arm: float(q.mean()) for arm, q in arms.items()}, stats_paired.judge_family(pairs))
        one += {(s.tie_group, s.rank_lo, s.rank_hi) for s in standing.values()} == {(1, 1, 6)}
    assert one / 300 >= 0.95, f"{one} of 300"


def test_pooled_requests_would_have_lied() -> None:
    """Why the block is the unit: a Mann–Whitney test on the requests of the same equal arms is wrong far more often."""
    wrong = 0
    for seed in range(100):
        rng = np.random.default_rng([4, seed])
        levels = blocks(rng, 2, 12)
        a, b = (np.exp(rng.normal(0, 0.05, (12, 100))) * level[:, None] for level in levels)
        wrong += scipy_stats.mannwhitneyu(a.ravel(), b.ravel()).pvalue < 0.05
    assert wrong > 30


def queue(rng: np.random.Generator, rho: float, runs: int, n: int) -> Floats:
    """Latencies of an M/M/1 queue in steady state, service 1; at ρ = 0 the services alone. Shape (runs, n)."""
    service = rng.exponential(1.0, (runs, n))
    if rho == 0:
        return service
    step = np.zeros((runs, n))
    step[:, 1:] = np.cumsum(service[:, :-1] - rng.exponential(1 / rho, (runs, n - 1)), axis=1)
    waiting = np.where(rng.random((runs, 1)) < rho, rng.exponential(1 / (1 - rho), (runs, 1)), 0.0)
    return step - np.minimum(np.minimum.accumulate(step, axis=1), -waiting) + service


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.7])
def test_percentile_intervals_cover_the_truth(rho: float) -> None:
    """10 runs of 20 000 requests; the latency of the queue is exponential with mean 1/(1 − ρ)."""
    truth, runs, hits = math.log(100) / (1 - rho), np.repeat(np.arange(10), 20_000), 0
    for seed in range(300):
        values = queue(np.random.default_rng([5, seed]), rho, 10, 20_000).ravel()
        ordered = np.sort(values)
        lo, hi = order_interval(ordered, 0.99, effective(values > ordered[rank(len(values), 0.99) - 1], runs))
        assert lo is not None
        assert hi is not None
        hits += lo <= truth <= hi
    assert 0.93 <= hits / 300 <= 0.97, f"{hits} of 300"


@pytest.mark.parametrize("rho", [0.3, 0.5, 0.7])
def test_a_stall_reaches_the_open_loops_p99_and_not_the_closed_loops(rho: float) -> None:
    """One stall of S s in a window of T s: everybody who comes during it waits, so p99 = S − 0.01(1 − ρ)T + service."""
    service, stall, window = 0.01, 20.0, 600.0
    n = int(window * rho / service)
    rng = np.random.default_rng(6)
    due = np.cumsum(rng.exponential(service / rho, n))
    took = np.full(n, service)
    took[n // 3] += stall
    done = np.cumsum(took)
    end = np.maximum.accumulate(due - np.append(0.0, done[:-1])) + done
    assert percentile(end - due, 0.99) == pytest.approx(stall - 0.01 * (1 - rho) * window + service, rel=0.10)
    # The same services back to back, one client: one slow request of n.
    ns = np.round(np.cumsum(took) * 1e9).astype(np.int64)
    zeros = np.zeros(n)
    start = np.append(0, ns[:-1])
    served = stats_load.Served(zeros.astype(int), zeros.astype(int), np.arange(n), zeros.astype(int), start, start, ns, zeros, zeros, zeros)
    assert percentile(stats_load.closed_loop(served, 1).latency, 0.99) == pytest.approx(service * 1e9, rel=1e-3)
