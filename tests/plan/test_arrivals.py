"""Arrival gaps: mean, sign, distribution and repeatability; traces and their errors."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bench.core import random
from bench.core.errors import BenchError
from bench.plan import arrivals as schedule

SEEDS = st.integers(min_value=0, max_value=2**63)


def text_hash(gaps: schedule.Gaps) -> str:
    return hashlib.sha256("\n".join(f"{gap:.9f}" for gap in gaps).encode()).hexdigest()[:16]


@given(seed=SEEDS, n=st.integers(min_value=0, max_value=300), shape=st.sampled_from([0.1, 0.25, 1.0, 3.5]))
@settings(max_examples=40, deadline=None)
def test_gaps_are_positive_repeatable_and_do_not_depend_on_how_many_follow(seed: int, n: int, shape: float) -> None:
    for made, again, fewer in [
        (schedule.poisson(n, seed), schedule.poisson(n, seed), schedule.poisson(n // 2, seed)),
        (schedule.gamma(n, seed, shape), schedule.gamma(n, seed, shape), schedule.gamma(n // 2, seed, shape)),
    ]:
        assert made.dtype == np.float64
        assert len(made) == n
        assert np.isfinite(made).all()
        assert (made > 0).all()
        np.testing.assert_array_equal(made, again)
        np.testing.assert_array_equal(made[: n // 2], fewer)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_poisson_gaps_are_exponential(seed: int) -> None:
    gaps = schedule.poisson(20_000, seed)
    assert stats.kstest(gaps, "expon").pvalue > 0.001
    assert gaps.mean() == pytest.approx(1, abs=4 / math.sqrt(20_000))
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 4 / math.sqrt(20_000)


@pytest.mark.parametrize("shape", [0.25, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_gamma_gaps_have_their_distribution(shape: float, seed: int) -> None:
    gaps = schedule.gamma(20_000, seed, shape)
    assert stats.kstest(gaps, stats.gamma(shape, scale=1 / shape).cdf).pvalue > 0.001
    assert gaps.mean() == pytest.approx(1, abs=4 / math.sqrt(20_000 * shape))


def test_seeds_and_streams_differ() -> None:
    assert not np.array_equal(schedule.poisson(10, 1), schedule.poisson(10, 2))
    assert not np.array_equal(random.bits("a", 1, 10), random.bits("b", 1, 10))


def test_gaps_are_the_same_on_every_machine() -> None:
    """Committed hashes of the text that a plan stores: another CPU, NumPy or C library must give the same."""
    assert text_hash(schedule.constant(3)) == hashlib.sha256(b"1.000000000\n1.000000000\n1.000000000").hexdigest()[:16]
    assert text_hash(schedule.poisson(10_000, 1)) == "f98585df2f3ab3f2"
    assert text_hash(schedule.gamma(10_000, 1)) == "c8774714116c3c72"


def test_own_logarithm_and_exponential_agree_with_the_library() -> None:
    x = np.concatenate([random.uniform("test", 1, 20_000), [2.0**-53, 0.5, math.sqrt(0.5), 1 - 2.0**-53, 1.0, 2.0, 1e300, 1e-300]])
    np.testing.assert_allclose(random.log(x), np.log(x), rtol=4e-16, atol=2e-16)
    y = -700 * random.uniform("test", 2, 20_000)
    np.testing.assert_allclose(random.exp(y), np.exp(y), rtol=1e-15)


@pytest.mark.parametrize("shape", [0.0, -1.0, math.nan, math.inf])
def test_gamma_refuses_a_bad_shape(shape: float) -> None:
    with pytest.raises(BenchError, match="positive number"):
        schedule.gamma(3, 1, shape)


@given(st.lists(st.integers(min_value=0, max_value=10**6), min_size=1, max_size=50), st.floats(min_value=0, max_value=1e6))
def test_a_trace_is_scaled_and_keeps_its_order(steps: list[int], start: float) -> None:
    arrivals = [start + float(total) for total in np.cumsum([0, *steps])]
    if arrivals[-1] == arrivals[0]:
        with pytest.raises(BenchError, match="differ"):
            schedule.trace(arrivals)
        return
    gaps = schedule.trace(arrivals)
    assert len(gaps) == len(steps)
    assert gaps.mean() == pytest.approx(1)
    total = sum(steps)
    np.testing.assert_allclose(gaps, np.array(steps) * len(steps) / total, rtol=1e-6, atol=1e-6)


def test_a_trace_from_a_file_is_repeated_to_the_wanted_length(tmp_path: Path) -> None:
    file = tmp_path / "arrivals.csv"
    file.write_text("arrival_s,user\n10.0,a\n11.0,b\n\n14.0,c\n")
    np.testing.assert_allclose(schedule.trace(file), [0.5, 1.5])
    np.testing.assert_allclose(schedule.trace(str(file), n=5), [0.5, 1.5, 0.5, 1.5, 0.5])


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ("t\n1\n2\nthree\n", ":4: 'three' is not a number"),
        ("t\n1\nnan\n", ":3: 'nan' is not a finite"),
        ("1\n3\n2\n", ":3: arrival 2 is earlier"),
        ("t\nu\n1\n2\n", ":2: 'u' is not a number"),
        ("t\n1\n", "holds 1 arrivals"),
        ("", "holds 0 arrivals"),
        ("5\n5\n5\n", "at one time"),
    ],
)
def test_a_bad_trace_names_file_and_line(tmp_path: Path, content: str, where: str) -> None:
    file = tmp_path / "arrivals.csv"
    file.write_text(content)
    with pytest.raises(BenchError) as caught:
        schedule.trace(file)
    assert str(caught.value).startswith(str(file))
    assert where in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_trace_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="No such file"):
        schedule.trace(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(BenchError, match="not UTF-8"):
        schedule.trace(tmp_path / "binary.csv")
