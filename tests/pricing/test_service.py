"""The service times behind a size: batches out of samples, and the curve through them."""

from __future__ import annotations

import numpy as np
import pytest

from bench.pricing.service import Batches, Singles, batches_of, fitted

BASE_S, TOKEN_S, TOKEN2_S = 0.004, 20e-6, 30e-9


def known_batches(noise: float = 0.0, sizes: tuple[int, ...] = (1, 4, 16, 32)) -> Batches:
    """60 batches of each size in 12 blocks, whose seconds follow a known curve."""
    draw = np.random.default_rng(1)
    rows = np.repeat(sizes, 60)
    width = draw.integers(8, 256, len(rows))
    padded = rows * width
    seconds = (BASE_S + TOKEN_S * padded + TOKEN2_S * padded * width) * np.exp(draw.normal(0, noise, len(rows)))
    return Batches(np.arange(len(rows)) % 12, rows, width, seconds)


def test_batches_by_hand() -> None:
    """Two blocks with the same clock: rows 0 and 1 were served together, 2 alone; in the other block 3 and 4 together."""
    batches = batches_of(
        block=np.array([0, 0, 0, 1, 1]),
        start_ns=np.array([0, 0, 5_000_000, 0, 0]),
        end_ns=np.array([4_000_000, 4_000_000, 6_000_000, 2_000_000, 2_000_000]),
        tokens=np.array([7, 9, 0, 3, 2]),
    )
    assert (batches.block.tolist(), batches.rows.tolist(), batches.width.tolist()) == ([0, 0, 1], [2, 1, 2], [9, 1, 3])
    assert batches.service_s.tolist() == pytest.approx([0.004, 0.001, 0.002])


def test_samples_may_come_in_any_order() -> None:
    start = np.array([5_000_000, 0, 5_000_000, 0])
    batches = batches_of(np.zeros(4, dtype=np.int64), start, start + 1_000_000, np.array([1, 2, 3, 4]))
    assert (batches.rows.tolist(), batches.width.tolist()) == ([2, 2], [4, 3])


def test_a_known_curve_is_found() -> None:
    curve = fitted(known_batches())
    assert curve is not None
    assert (curve.base_s, curve.per_token_s, curve.per_token2_s) == pytest.approx((BASE_S, TOKEN_S, TOKEN2_S), rel=1e-6)
    assert curve.seconds(4, 100) == pytest.approx(BASE_S + 400 * TOKEN_S + 40_000 * TOKEN2_S)
    assert curve.ratio == pytest.approx(1)


def test_noise_goes_into_the_ratios() -> None:
    curve = fitted(known_batches(noise=0.1))
    assert curve is not None
    assert curve.seconds(16, 128) == pytest.approx(BASE_S + 2048 * TOKEN_S + 2048 * 128 * TOKEN2_S, rel=0.05)
    assert float(np.log(curve.ratio).std()) == pytest.approx(0.1, rel=0.2)


def test_a_term_is_never_negative() -> None:
    """Seconds that fall with the tokens: the tokens cost nothing then, they do not pay."""
    batches = known_batches()
    curve = fitted(Batches(batches.block, batches.rows, batches.width, 1 / batches.service_s))
    assert curve is not None and min(curve.base_s, curve.per_token_s, curve.per_token2_s) >= 0


@pytest.mark.parametrize("sizes", [(1,), (1, 32)])
def test_few_sizes_give_no_curve(sizes: tuple[int, ...]) -> None:
    assert fitted(known_batches(sizes=sizes)) is None


def test_blocks_are_resampled_whole() -> None:
    block = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 6])
    singles = Singles(block, np.ones(21, dtype=np.int64), block / 10)
    resampled = singles.resampled(np.random.default_rng(2))
    counts = {int(number): int((resampled.block == number).sum()) for number in np.unique(resampled.block)}
    assert all(count % (number + 1) == 0 for number, count in counts.items())
    assert sum(count // (number + 1) for number, count in counts.items()) == 6
    assert resampled.service_s == pytest.approx(resampled.block / 10)
