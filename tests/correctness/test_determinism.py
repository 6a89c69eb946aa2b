"""The same rows give the same vectors in every process of an arm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.correctness.determinism import RunToRun
from bench.runs.schema import Check


def unit(seed: int, rows: int = 8) -> Any:
    vectors = np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def see(known: RunToRun, start: int, vectors: Any, plan: str = "plan") -> Check | None:
    return known.see("arm", "fp32", start, plan, vectors)


def test_equal_vectors_in_two_processes() -> None:
    known, vectors = RunToRun(), unit(1)
    assert see(known, 0, vectors) is None
    assert see(known, 0, unit(2)) is None, "the same process again tells nothing"
    found = see(known, 1, vectors[:5])
    assert found and (found.held, found.n, found.value) == (True, 5, 0.0)
    assert found.detail == "5 rows in 2 processes: bit-equal"


def test_a_difference_is_told_and_the_worst_one_stays() -> None:
    known, vectors = RunToRun(), unit(1)
    see(known, 0, vectors)
    nudged = vectors.copy()
    nudged[3, 2] += np.float32(3e-7)
    found = see(known, 1, nudged)
    assert found and found.held and found.detail.startswith("8 rows in 2 processes: max |Δ| 3.")
    found = see(known, 2, vectors)
    assert found and found.value == pytest.approx(3e-7, rel=0.1) and "16 rows in 3 processes" in found.detail


def test_other_vectors_in_another_process_do_not_hold() -> None:
    known = RunToRun()
    see(known, 0, unit(1))
    found = see(known, 1, unit(2))
    assert found and found.held is False and "gate" in found.detail
    again = see(known, 2, unit(1), "another plan")
    assert again is None, "the first to serve that plan"


def test_zero_of_another_sign_is_not_bit_equal() -> None:
    known, vectors = RunToRun(), unit(1)
    vectors[0, 0] = 0.0
    see(known, 0, vectors)
    other = vectors.copy()
    other[0, 0] = -0.0
    found = see(known, 1, other)
    assert found and found.detail.endswith("max |Δ| 0.0e+00")
