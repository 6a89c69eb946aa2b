"""Pairs, families, ranks: hand-worked values, and what happens when there is nothing to go by."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.stats import paired

RATIOS = st.lists(st.floats(0.2, 5.0), min_size=12, max_size=30)


def test_hodges_lehmann_by_hand() -> None:
    """Walsh averages of 1, 2, 6: 1, 1.5, 2, 3.5, 4, 6; their median is 2.75."""
    assert list(paired.walsh(np.array([1.0, 2.0, 6.0]))) == [1.0, 1.5, 2.0, 3.5, 4.0, 6.0]
    assert paired.hodges_lehmann(np.array([1.0, 2.0, 6.0])) == 2.75


@pytest.mark.parametrize(("n", "critical"), [(6, 0), (7, 2), (8, 3), (10, 8), (12, 13), (20, 52)])
def test_the_interval_uses_the_tables_critical_values(n: int, critical: int) -> None:
    """Published two-sided 5 % critical values of the signed-rank sum; the interval takes the (critical + 1)th Walsh average."""
    d = np.random.default_rng(n).normal(size=n)
    averages = paired.walsh(d)
    assert paired.wilcoxon_interval(d, 0.05) == (averages[critical], averages[-critical - 1])


def test_too_few_blocks_for_the_level_give_an_infinite_interval() -> None:
    assert paired.wilcoxon_interval(np.array([0.1, 0.2, 0.3]), 0.0221) == (-math.inf, math.inf)


def test_the_interval_holds_exactly_the_shifts_that_the_test_does_not_reject() -> None:
    d = np.random.default_rng(8).normal(0.05, 0.04, 14)
    low, high = paired.wilcoxon_interval(d, paired.ALPHA)
    for shift, inside in [(low - 1e-6, False), (low + 1e-6, True), (high - 1e-6, True), (high + 1e-6, False)]:
        assert (paired._p_wilcoxon(d, shift) > paired.ALPHA) is inside


@pytest.mark.parametrize("n", [5, 12, 24, 48])
def test_the_signed_rank_test_is_scipys(n: int) -> None:
    d = np.random.default_rng(n).normal(0.03, 0.1, n)
    above, below = (float(scipy_stats.wilcoxon(d, alternative=side, method="exact").pvalue) for side in ("greater", "less"))
    assert paired.wilcoxon(d) == pytest.approx((above, below), rel=1e-9)


def test_the_signed_rank_test_with_ties_by_hand() -> None:
    """|d| = 1, 1, 1: midrank 2 each; all positive has one chance of eight, T⁺ ≥ 4 has four."""
    assert paired.wilcoxon(np.array([1.0, 1.0, 1.0])) == (0.125, 1.0)
    assert paired.wilcoxon(np.array([1.0, 1.0, -1.0])) == (0.5, 0.875)
    assert paired.wilcoxon(np.array([0.0, 0.0])) == (1.0, 1.0)


@pytest.mark.parametrize("n", [2, 12, 24, 48])
def test_the_paired_t_test_is_scipys(n: int) -> None:
    d = np.random.default_rng(n).normal(0.03, 0.1, n)
    assert paired._p_t(d) == pytest.approx(float(scipy_stats.ttest_1samp(d, 0.0).pvalue), rel=1e-9)


def test_the_t_test_of_blocks_that_agree_to_the_last_digit() -> None:
    """No spread: no difference at all, or one without any doubt; one block says nothing."""
    assert paired._p_t(np.zeros(12)) == 1.0
    assert paired._p_t(np.full(12, 0.05)) == 0.0
    assert math.isnan(paired._p_t(np.array([0.05])))


@pytest.mark.parametrize(("blocks", "level"), [(12, 0.0209961), (24, 0.0211271), (48, 0.0215219)])
def test_the_level_that_the_signed_rank_test_reaches_at_each_look(blocks: int, level: float) -> None:
    """The largest attainable two-sided p below 0.0221, from the exact distribution; the next one lies above it."""
    chance = paired._at_most(tuple(range(2, 2 * blocks + 1, 2)))[::2]
    critical = paired._walsh_rank(blocks, paired.ALPHA)
    assert 2 * chance[critical - 1] == pytest.approx(level, abs=1e-7)
    assert 2 * chance[critical] > paired.ALPHA


def test_three_looks_keep_five_percent() -> None:
    """The chance that a normal test errs at any of three looks, its statistic correlated as √(12/24), √(24/48), √(12/48)."""

    def errs(levels: tuple[float, float, float], blocks: tuple[int, int, int]) -> float:
        z = [float(scipy_stats.norm.isf(level / 2)) for level in levels]
        share = np.array(blocks, dtype=float)
        correlation = np.sqrt(np.minimum.outer(share, share) / np.maximum.outer(share, share))
        inside = scipy_stats.multivariate_normal(cov=correlation).cdf(z, lower_limit=[-bound for bound in z])
        return 1 - float(inside)

    assert errs((paired.ALPHA,) * 3, (1, 2, 3)) == pytest.approx(0.0501, abs=2e-4)
    assert errs((paired.ALPHA,) * 3, paired.LOOKS) == pytest.approx(0.0530, abs=2e-4)
    assert errs((0.0209961, 0.0211271, 0.0215219), paired.LOOKS) == pytest.approx(0.0508, abs=3e-4)


def test_holm_by_hand() -> None:
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired.holm([0.5, 0.9]) == [1.0, 1.0]
    assert paired.holm([]) == []
    adjusted = paired.holm([0.01, math.nan])
    assert adjusted[0] == 0.02
    assert math.isnan(adjusted[1])


def test_equivalence_by_hand() -> None:
    """Twelve equal blocks lie inside the margin in one of 4 096 sign patterns. With one block at +5 % (beyond +2 % by more than the others
    are below it) the ranks are eleven times 6 and one 12: 1 + 11 + C(11, 2) + 1 = 68 patterns have a sum of at most 12."""
    assert paired._p_beyond(np.zeros(12)) == 1 / 4096
    assert paired._p_beyond(np.append(np.zeros(11), math.log(1.05))) == pytest.approx(68 / 4096, rel=1e-12)
    assert paired._p_beyond(np.full(12, math.log(1.03))) == 1.0


@pytest.mark.parametrize(
    ("ratio", "spread", "blocks", "verdict"),
    [(1.05, 0.01, 12, "faster"), (0.95, 0.01, 12, "slower"), (1.001, 0.005, 12, "equivalent"), (1.02, 0.05, 12, "unresolved"),
     (1.5, 0.01, 11, "unresolved"), (1.0, 0.0, 12, "equivalent"), (1.05, 0.0, 12, "faster")],
)  # fmt: skip
def test_verdicts(ratio: float, spread: float, blocks: int, verdict: str) -> None:
    d = math.log(ratio) + spread * np.linspace(-1, 1, blocks)
    found = paired.paired_ratio(np.exp(d), np.ones(blocks))
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(ratio, rel=1e-6)
    assert found.lo <= found.ratio <= found.hi


@pytest.mark.parametrize(
    ("a", "b"),
    [([], []), ([1.0], [1.0]), ([1.0, math.nan] * 6, [1.0, 1.0] * 6), ([1.0, math.inf] * 6, [1.0, 1.0] * 6), ([0.0] * 12, [1.0] * 12),
     ([-1.0] * 12, [1.0] * 12), ([1.0] * 12, [1.0] * 11), ("what", [1.0] * 12), ([None] * 12, [1.0] * 12)],
)  # fmt: skip
def test_what_cannot_be_compared_is_unresolved(a: object, b: object) -> None:
    found = paired.paired_ratio(a, b)  # type: ignore[arg-type]
    assert found.verdict == "unresolved"
    assert found.note


def test_fifteen_pairs_can_pass_holm_at_twelve_blocks_and_not_at_ten() -> None:
    smallest = {blocks: 2 / 2**blocks * 15 for blocks in (10, 12)}
    assert smallest[12] < paired.ALPHA < smallest[10]
    d = np.linspace(0.2, 0.3, 12)
    family = {(f"a{i}", "b"): paired.paired_ratio(np.exp(d), np.ones(12)) for i in range(15)}
    assert {found.verdict for found in paired.judge_family(family).values()} == {"faster"}


def test_more_than_forty_five_pairs_never_pass_at_twelve_blocks() -> None:
    d = np.linspace(0.2, 0.3, 12)
    family = {(f"a{i}", "b"): paired.paired_ratio(np.exp(d), np.ones(12)) for i in range(46)}
    assert {found.verdict for found in paired.judge_family(family).values()} == {"unresolved"}


def test_the_paired_t_test_must_agree() -> None:
    """Eleven small gains and one that outweighs the rest turn the mean round: nobody is called faster."""
    d = np.append(np.full(20, 0.03) + np.linspace(0, 0.001, 20), -3.0)
    found = paired.paired_ratio(np.exp(d), np.ones(21))
    assert found.p <= paired.ALPHA
    assert (found.verdict, found.note) == ("unresolved", "the paired t test does not agree")


@given(RATIOS)
def test_seen_from_the_other_side_it_is_the_same(ratios: list[float]) -> None:
    ones = np.ones(len(ratios))
    there, back = paired.paired_ratio(ratios, ones), paired.paired_ratio(ones, ratios)
    turned = paired.flip(there)
    assert back.verdict == turned.verdict
    assert (back.ratio, back.lo, back.hi) == pytest.approx((turned.ratio, turned.lo, turned.hi), rel=1e-9)


def _pairs(better: dict[str, str]) -> dict[tuple[str, str], paired.PairedRatio]:
    """Every pair of the arms a…; `better[a]` names those that a beats."""
    arms = sorted(better)
    found = {}
    for a, b in itertools.combinations(arms, 2):
        verdict = "faster" if b in better[a] else "slower" if a in better[b] else "unresolved"
        found[a, b] = paired.PairedRatio(12, 1.1, 1.0, 1.2, 0.0, 0.0, 1.0, 0.0, verdict)
    return found


def test_rank_intervals_and_groups_by_hand() -> None:
    """a beats c and d; b beats d; the rest is open: a is 1–2, b 1–3, c 2–4, d 3–4."""
    standing = paired.ranks({"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, _pairs({"a": "cd", "b": "d", "c": "", "d": ""}))
    assert {arm: (s.rank_lo, s.rank_hi) for arm, s in standing.items()} == {"a": (1, 2), "b": (1, 3), "c": (2, 4), "d": (3, 4)}
    assert {arm: s.tie_group for arm, s in standing.items()} == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_whoever_the_leader_is_not_shown_to_beat_shares_its_group() -> None:
    standing = paired.ranks({"a": 3.0, "b": 2.0, "c": 1.0}, _pairs({"a": "b", "b": "", "c": ""}))
    assert {arm: s.tie_group for arm, s in standing.items()} == {"a": 1, "b": 2, "c": 1}


def test_nothing_known_is_one_group_of_all() -> None:
    standing = paired.ranks({"a": 3.0, "b": math.nan, "c": 1.0}, {})
    assert {(s.rank_lo, s.rank_hi, s.tie_group) for s in standing.values()} == {(1, 3, 1)}
    assert list(standing) == ["a", "c", "b"]


def test_the_best_has_ratio_one_and_the_others_theirs() -> None:
    pairs = {("slow", "fast"): paired.paired_ratio(np.linspace(0.5, 0.52, 12), np.ones(12))}
    standing = paired.ranks({"slow": 1.0, "fast": 2.0}, pairs)
    assert standing["fast"].ratio == standing["fast"].lo == 1.0
    assert standing["slow"].ratio == pytest.approx(0.51, abs=0.001)
    assert (standing["slow"].rank_lo, standing["slow"].rank_hi) == (2, 2)
