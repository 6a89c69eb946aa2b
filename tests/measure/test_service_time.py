"""What warm-up says of the requests to come: a handful of short rows must not be scaled up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.measure import service_time
from bench.measure.budget import ServiceTime
from bench.plan.folder import Plan

#: Lengths of the warm rows, the commonest first, then of 100 measured rows with a mean of 64.
WARM, MEASURED = [12, 13, 11, 15, 60, 40, 300, 20], [32, 96] * 50
BASE_S, TOKEN_S = 0.1, 0.003


def plan() -> Plan:
    lengths = np.array(WARM + MEASURED)
    zeros = np.zeros(len(lengths), dtype=np.int64)
    return Plan(Path("p"), "p", "h", len(lengths), len(WARM), "text", lengths, zeros, zeros, zeros)


def served(rows: list[int], batch: int = 1) -> pd.DataFrame:
    """Rows of the plan, each batch as long as its longest row says: 0.1 s and 3 ms a token."""
    parts = []
    for at in range(0, len(rows), batch):
        chunk = rows[at : at + batch]
        took_s = BASE_S + TOKEN_S * max(plan().lengths[chunk])
        parts.append(pd.DataFrame({"request": chunk, "start_ns": at * 10**9, "end_ns": at * 10**9 + round(took_s * 1e9)}))
    return pd.concat(parts, ignore_index=True)


def test_the_mean_width_is_that_of_the_longest_row_of_a_batch() -> None:
    assert service_time.mean_width(plan(), 1) == pytest.approx(64)
    assert service_time.mean_width(plan(), 2) == pytest.approx(96)


def test_many_lengths_lie_on_a_line() -> None:
    assert service_time.batch_s(served(list(range(8))), plan(), 64.0) == pytest.approx(BASE_S + TOKEN_S * 64, rel=1e-6)


def test_a_few_short_rows_say_nothing() -> None:
    assert service_time.batch_s(served([0, 1]), plan(), 64.0) is None
    assert service_time.batch_s(pd.DataFrame({"request": [], "start_ns": [], "end_ns": []}), plan(), 64.0) is None


def test_a_few_rows_like_those_to_come_are_enough() -> None:
    assert service_time.batch_s(served([4]), plan(), 64.0) == pytest.approx((BASE_S + TOKEN_S * 60) * 64 / 60, rel=1e-6)


def test_the_typical_batch_is_the_nearest_one() -> None:
    assert service_time.typical_first(plan(), 1, 64.0) == 4
    assert plan().lengths[service_time.typical_first(plan(), 2, 55.0) :][:2].max() == 60


def test_extrapolated_goes_by_the_nearest_batch_and_by_the_tokens() -> None:
    """Measured batches of two are as wide as their longer row: 96 tokens, single ones 64."""
    known = [service_time.Observed(plan(), 1, ServiceTime(0.2, 0.2)), service_time.Observed(plan(), 2, ServiceTime(0.3, 0.2))]
    assert service_time.extrapolated(known, plan(), 2) == ServiceTime(pytest.approx(0.3), pytest.approx(0.2))
    assert service_time.extrapolated(known, plan(), 32) == ServiceTime(pytest.approx(0.3 * 16 * 96 / 96), pytest.approx(0.2))
    twice = replace(plan(), lengths=2 * plan().lengths)
    assert service_time.extrapolated(known[:1], twice, 1) == ServiceTime(pytest.approx(0.4), pytest.approx(0.4))
