"""Checks that the work was done: the repeat test fits its time and finds a cache; time rises with the tokens and is accounted for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.correctness import checks
from bench.plan.folder import Plan, RepeatPlan
from bench.runs.schema import Check

MS = 1_000_000


def plan(count: int = 128) -> RepeatPlan:
    return RepeatPlan(plan=Plan.__new__(Plan), unique_first=64, repeated_first=64 + count, count=count)


@pytest.mark.parametrize(
    ("request_s", "limit_s", "rows", "pairs"),
    [
        (0.003, 2.25, 8, 12),  # 750 requests: the whole test
        (0.050, 2.25, 1, 12),  # 45 requests: pieces of 45 // 24
        (0.100, 1.00, 1, 7),  # 10 requests: the fewest pairs that can exclude 1
        (2.000, 0.50, 1, 7),  # not even one fits: the test is never left out
    ],
)
def test_the_repeat_test_shrinks_with_the_time_it_has(request_s: float, limit_s: float, rows: int, pairs: int) -> None:
    asked = checks.repeat_pieces(plan(), request_s, limit_s)
    assert (asked.rows, len(asked.firsts)) == (rows, 2 * pairs)
    unique, repeated = asked.firsts[0::2], asked.firsts[1::2]
    assert unique == tuple(64 + rows * k for k in range(pairs))
    assert repeated == tuple(first + 128 for first in unique)


def test_pieces_stay_within_a_small_plan() -> None:
    asked = checks.repeat_pieces(plan(count=10), 0.001, 10.0)
    assert asked.firsts[-1] + asked.rows <= 64 + 10 + 10


@pytest.mark.parametrize("pairs", [checks.MIN_REPEAT_PAIRS, checks.REPEAT_PAIRS])
def test_a_cache_is_found_with_the_fewest_pairs_and_noise_alone_is_not_one(pairs: int) -> None:
    noise = np.random.default_rng(7).normal(1.0, 0.02, size=2 * pairs)

    def pieces(repeated_ms: float) -> list[pd.DataFrame]:
        return [pd.DataFrame({"start_ns": [0], "end_ns": [int(ms * factor * MS)]})
                for (ms, factor) in zip([5.0, repeated_ms] * pairs, noise, strict=True)]  # fmt: skip

    assert checks.unique_versus_repeat(pieces(0.5))[0].held is False
    assert checks.unique_versus_repeat(pieces(5.0))[0].held is True


# --- time and tokens ----------------------------------------------------------------------------------------------------------------

LENGTHS = np.array([3, 250, 9, 130, 17, 60, 5, 256] * 8)


def samples(service_ms: Any) -> pd.DataFrame:
    ns = np.round(np.asarray(service_ms) * 1e6).astype(np.int64)
    start = np.cumsum(ns) - ns
    return pd.DataFrame({"request": np.arange(len(ns)), "start_ns": start, "end_ns": start + ns})


def over_tokens(service_ms: Any, lengths: Any = LENGTHS) -> Check:
    return checks.latency_over_tokens(samples(service_ms), np.asarray(lengths))[0]


def noise(seed: int, size: int = len(LENGTHS)) -> Any:
    return np.exp(np.random.default_rng(seed).normal(0, 0.3, size))


@pytest.mark.parametrize("seed", range(20))
def test_an_honest_worker_takes_longer_for_more_tokens(seed: int) -> None:
    """Also one with a large fixed cost, on a machine as noisy as they come."""
    found = over_tokens((3 + 0.05 * LENGTHS) * noise(seed))
    assert found.held and found.lo > 1


@pytest.mark.parametrize("seed", range(20))
def test_time_that_does_not_rise_with_the_tokens_is_caught(seed: int) -> None:
    found = over_tokens(4.0 * np.exp(np.random.default_rng(seed).normal(0, 0.03, len(LENGTHS))))
    assert found.held is False
    assert "not done in the time" in found.detail and found.hi < checks.LENGTH_GATE


def test_a_ratio_by_hand() -> None:
    """The shortest quarter has 3 and 5 tokens, the longest 250 and 256: 2 ms against 8 ms."""
    found = over_tokens(np.where(LENGTHS > 200, 8.0, 2.0))
    assert found.value == pytest.approx(4.0)
    assert found.detail.startswith("253 tokens take 4.00× the time of 4 ")


def test_noise_alone_condemns_nobody() -> None:
    """A few requests on a wild machine: the interval reaches over the gate."""
    wild = 10 * np.exp(np.random.default_rng(5).normal(0, 2.0, 24))
    assert over_tokens(wild, LENGTHS[:24]).held


def test_calls_that_are_all_fixed_cost_judge_nothing() -> None:
    assert over_tokens(np.full(len(LENGTHS), 0.2)).held is None


@pytest.mark.parametrize("lengths", [[64] * 64, [30, 40] * 32, LENGTHS[:16]])
def test_lengths_that_do_not_differ_judge_nothing(lengths: Any) -> None:
    found = over_tokens(np.full(len(lengths), 2.0), lengths)
    assert (found.held, found.value) == (None, None)


def accounted(spans: list[tuple[int, int]], wall_ms: int) -> Check:
    start, end = zip(*spans, strict=True)
    frame = pd.DataFrame({"request": range(len(spans)), "start_ns": start, "end_ns": end}) * [1, 10**6, 10**6]
    return checks.time_accounted(frame, wall_ms * 10**6)[0]


def test_time_within_requests_by_hand() -> None:
    """Three requests of 10 ms in 40; overlapping sessions and the rows of a batch count once."""
    found = accounted([(0, 10), (12, 22), (25, 35)], 40)
    assert found.value == 0.75 and found.held and found.detail.startswith("75.0% of the time")
    assert accounted([(0, 20), (5, 10), (15, 30), (15, 30)], 40).value == 0.75


def test_work_that_is_put_off_is_caught() -> None:
    found = accounted([(0, 1), (40, 41), (80, 81)], 120)
    assert found.held is False and found.value == 0.025
    tiny = accounted([(k, k) for k in range(50)], 40)
    assert tiny.held, "less than 1 ms a request: a worker that has next to nothing to do"
