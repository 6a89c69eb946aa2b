"""A wrong worker is caught: none of these may show a time, and the honest one beside them must."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.verify import gate
from bench.verify.mutant_catalogue import BROKEN, WRONG
from tests.support.real_runs import FaultyRun


@pytest.fixture(scope="module")
def rows(faulty_run: FaultyRun) -> dict[str, dict[str, Any]]:
    """The mutants' rows of the leaderboard, measured beside an honest worker, by bug."""
    return faulty_run.rows()


@pytest.mark.alone
def test_the_honest_worker_passes(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["none"]["status"] == "OK" and rows["none"]["p50_ms"] > 0 and rows["none"]["min_cosine"] >= 1 - 1e-7


@pytest.mark.alone
@pytest.mark.parametrize("bug", WRONG)
def test_a_wrong_worker_shows_no_time(rows: dict[str, dict[str, Any]], bug: str) -> None:
    row = rows[bug]
    assert (row["status"], row["ranked"]) == ("PARITY_FAIL", False)
    assert row["reason"]
    for column in ("p50_ms", "p99_ms", "mean_ms", "requests_per_s", "ratio_to_best"):
        assert row[column] is None, f"{column} of a wrong worker is shown"


@pytest.mark.alone
def test_only_the_repeat_test_sees_a_cache(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["cached"]["min_cosine"] >= 1 - 1e-7
    assert "cached" in rows["cached"]["reason"]


@pytest.mark.alone
def test_only_the_clock_sees_work_that_is_put_off(rows: dict[str, dict[str, Any]]) -> None:
    """Its vectors are right; on a wild machine the interval over tokens may be too wide, and the time accounted for decides."""
    assert rows["length_skipping"]["min_cosine"] >= 1 - 1e-7
    assert rows["length_skipping"]["reason"].startswith(("latency over tokens", "time accounted for"))


@pytest.mark.alone
@pytest.mark.parametrize(("bug", "reason"), BROKEN.items())
def test_a_broken_worker_is_a_row_with_its_reason(rows: dict[str, dict[str, Any]], bug: str, reason: str) -> None:
    assert rows[bug]["status"] == "CRASH" and reason in rows[bug]["reason"] and rows[bug]["p50_ms"] is None


@pytest.mark.slow
def test_bugs_in_the_model_itself_are_caught(artefact: Path) -> None:
    """tanh for erf GELU, a wrong LayerNorm eps, no normalisation, truncation and wrong pooling, planted into the Embedder."""
    rng = np.random.default_rng(3)
    inputs = [rng.integers(1000, 29000, length) for length in (2, 5, 9, 17, 40, 64, 129, 256) * 2]
    judged = list(gate.judge_bugs(artefact, inputs, 0))
    found = gate.outcome_of(judged)
    assert found.held, found.measured
    assert sum(bug.naive_passes for bug in judged if bug.bug != gate.HONEST) >= 3
