"""Which blocks are called noisy, from what the probe took beside them."""

from __future__ import annotations

import pytest

from bench.runs import noise
from bench.runs.noise import Seconds

CALM = Seconds(fma_s=0.010, copy_s=0.003)


@pytest.mark.parametrize(
    ("fma_ms", "copy_ms", "wanted"),
    [
        ([10] * 12, [3] * 12, {}),
        ([11.9] * 12, [3.3] * 12, {}),  # all alike, and not more than drift does
        ([*[10] * 11, 10.2], [3] * 12, {}),  # 2 % is less than 3 %, however steady the others are
        ([*[10] * 11, 10.4], [3] * 12, {11: "multiply-adds took 1.04 × what they took in the other blocks (more than 1.03 ×)"}),
        ([9.5, 10, 10.5] * 4, [3] * 12, {}),  # their own spread
        ([*[9.5, 10, 10.5] * 4, 12], [3] * 13, {12: "multiply-adds took 1.20 ×"}),
        ([5, *[10] * 11], [3] * 12, {}),  # faster is no neighbour
        ([10] * 12, [*[3] * 11, 3.2], {11: "copies took 1.07 × what they took in the other blocks"}),
        ([13] * 12, [3] * 12, dict.fromkeys(range(12), "multiply-adds took 1.30 × what they take on this machine (more than 1.25 ×)")),
        ([10] * 6 + [10.9] * 6, [3] * 12, {}),  # half of them: a drift that all arms feel
        ([10], [3], {}),
        ([26], [3], {0: "multiply-adds took 2.60 × what they take on this machine"}),
    ],
)  # fmt: skip
def test_what_is_noise(fma_ms: list[float], copy_ms: list[float], wanted: dict[int, str]) -> None:
    found = noise.notes([Seconds(fma / 1e3, copy / 1e3) for fma, copy in zip(fma_ms, copy_ms, strict=True)], CALM)
    assert {place for place, note in enumerate(found) if note} == set(wanted)
    assert all(said in str(found[place]) for place, said in wanted.items())


def test_a_block_is_judged_by_the_median_of_its_looks() -> None:
    assert noise.median([0.010, 0.010, 0.030], [0.003, 0.004, 0.005]) == Seconds(0.010, 0.004)
