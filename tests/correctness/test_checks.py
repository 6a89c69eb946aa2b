"""The unique-versus-repeat test: what it serves fits the time that an arm has for it, and can still find a cache."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bench.correctness import checks
from bench.plan.folder import Plan, RepeatPlan

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
