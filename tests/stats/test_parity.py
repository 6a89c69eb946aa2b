"""The gate lets honest rounding through and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from bench.stats import parity

RNG = np.random.default_rng(7)


def unit(rows: int = 64, dim: int = 384) -> np.ndarray:
    vectors = RNG.standard_normal((rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def verdict(vectors: np.ndarray, reference: np.ndarray, precision: str = "fp32") -> str | None:
    agreement = parity.compare(vectors, reference)
    return parity.gate(precision, agreement.cosine.min(), agreement.max_abs_diff.max())


def test_equal_vectors_agree_exactly() -> None:
    reference = unit()
    agreement = parity.compare(reference, reference)
    assert np.all(np.abs(1 - agreement.cosine) < 1e-15) and np.all(agreement.max_abs_diff == 0)


def test_float32_rounding_passes() -> None:
    reference = unit()
    noisy = reference + RNG.normal(0, 1e-7, reference.shape).astype(np.float32)
    assert verdict(noisy, reference) is None


@pytest.mark.parametrize("row", [0, 63])
def test_the_worst_row_decides(row: int) -> None:
    reference = unit()
    wrong = reference.copy()
    wrong[row] = reference[(row + 1) % 64]
    assert verdict(wrong, reference) is not None


def test_missing_normalisation_is_caught_although_the_cosine_is_one() -> None:
    reference = unit()
    assert "max |Δ|" in str(verdict(reference * 3, reference))
    assert parity.compare(reference * 3, reference).norm_error.max() == pytest.approx(2, rel=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_infinity_are_caught(value: float) -> None:
    wrong = unit()
    wrong[3, 3] = value
    assert verdict(wrong, unit()) == "vectors hold NaN or infinity"


def test_a_zero_vector_is_caught() -> None:
    wrong = unit()
    wrong[3] = 0
    assert verdict(wrong, unit()) is not None


def test_half_precision_has_a_wider_gate() -> None:
    reference = unit()
    rounded = reference.astype(np.float16).astype(np.float32)
    assert verdict(rounded, reference) is not None
    assert verdict(rounded, reference, "bf16") is None
