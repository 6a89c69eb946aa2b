"""Which arm is better: paired comparison block by block, families, rank intervals and tie groups.

The block is the unit of analysis, never the request: two identical programs differ "significantly" in 42 % of experiments when
requests are pooled. Everything here fails safe: an exception, a NaN or too few blocks gives "unresolved".
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy import stats as scipy_stats

from bench.core.arrays import Floats

#: The numbers K of blocks after which a verdict is looked for; ALPHA at each look keeps 5 % over the three. Pocock's constant is for
#: evenly spaced looks: a normal test at these would err in 5.3 %. The exact signed-rank test cannot reach it (0.0210, 0.0211, 0.0215),
#: which comes to 5.1 %, and less since the t test has to agree: `invoke verify` simulates it.
LOOKS = (12, 24, 48)
ALPHA = 0.0221
#: Ratios inside 1/(1 + MARGIN) … 1 + MARGIN are equivalent.
MARGIN = 0.02

FASTER, SLOWER, EQUIVALENT, UNRESOLVED = "faster", "slower", "equivalent", "unresolved"
Pair = tuple[str, str]


@dataclass(frozen=True)
class PairedRatio:
    """A ratio of A to B over blocks (> 1: A is better), with its interval and the verdict on A; NaN where it cannot be told.

    Attributes:
        p, p_t: of no difference, by Wilcoxon's test and by the paired t test.
        p_beyond: of a difference beyond MARGIN.
        p_holm: `p` adjusted for its family.
    """

    blocks: int
    ratio: float
    lo: float
    hi: float
    p: float
    p_t: float
    p_beyond: float
    p_holm: float
    verdict: str
    note: str | None = None


@dataclass(frozen=True)
class Rank:
    """An arm's place in its family: rank interval, tie group from 1, and its ratio to the best (A is this arm)."""

    rank_lo: int
    rank_hi: int
    tie_group: int
    ratio: float
    lo: float
    hi: float


def paired_ratio(a: ArrayLike, b: ArrayLike, alpha: float = ALPHA, looks: Sequence[int] = LOOKS) -> PairedRatio:
    """Compare A with B, block by block: `a[i]` and `b[i]` are the same quantity (more is better) in block i.

    The ratio is the Hodges–Lehmann estimate of d = ln(a/b), its interval Wilcoxon's of level 1 − α; the p-values are exact
    Wilcoxon signed-rank ones. A verdict needs the first of `looks` blocks, and the paired t test to agree.
    """
    try:
        x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
        if x.shape != y.shape or x.ndim != 1:
            raise ValueError(f"{x.shape} against {y.shape}")
        if len(x) == 0:
            return _unresolved(0, "no common block")
        if not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all() and (y > 0).all()):
            return _unresolved(len(x), "a block has no usable number")
        d = np.log(x) - np.log(y)
        estimate, (low, high) = hodges_lehmann(d), wilcoxon_interval(d, alpha)
        ratio, lo, hi = (math.exp(value) for value in (estimate, low, high))
        p, p_t, p_beyond = _p_wilcoxon(d), _p_t(d), _p_beyond(d)
    except (ArithmeticError, ValueError, TypeError, IndexError) as error:
        return _unresolved(0, f"could not be computed: {error}")
    paired = PairedRatio(len(d), ratio, lo, hi, p, p_t, p_beyond, p, UNRESOLVED)
    if len(d) < looks[0]:
        return replace(paired, note=f"{len(d)} of {looks[0]} blocks")
    return judge(paired, p, p_beyond, alpha)


def judge(paired: PairedRatio, p_holm: float, p_beyond_holm: float, alpha: float = ALPHA) -> PairedRatio:
    """The verdict under p-values that were adjusted for the family. Equivalent comes first: inside the margin no arm is faster."""
    adjusted = replace(paired, p_holm=p_holm)
    if not all(math.isfinite(value) for value in (paired.ratio, paired.lo, paired.hi, p_holm, p_beyond_holm, paired.p_t)):
        return replace(adjusted, verdict=UNRESOLVED, note=paired.note or "could not be computed")
    if p_beyond_holm <= alpha:
        return replace(adjusted, verdict=EQUIVALENT)
    if p_holm <= alpha and paired.p_t > alpha:
        return replace(adjusted, verdict=UNRESOLVED, note="the paired t test does not agree")
    if p_holm <= alpha and paired.ratio != 1:
        return replace(adjusted, verdict=FASTER if paired.ratio > 1 else SLOWER)
    return replace(adjusted, verdict=UNRESOLVED)


def judge_family(pairs: Mapping[Pair, PairedRatio], alpha: float = ALPHA, looks: Sequence[int] = LOOKS) -> dict[Pair, PairedRatio]:
    """The verdicts of all pairs of one family under Holm's adjustment. Pairs without enough blocks count in it all the same."""
    p_holm = holm([paired.p for paired in pairs.values()])
    p_beyond = holm([paired.p_beyond for paired in pairs.values()])
    judged = {}
    for (pair, paired), p, beyond in zip(pairs.items(), p_holm, p_beyond, strict=True):
        enough = paired.blocks >= looks[0]
        judged[pair] = judge(paired, p, beyond, alpha) if enough else replace(paired, p_holm=p)
    return judged


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given; a NaN counts as 1 and stays NaN."""
    p = np.asarray(p_values, dtype=float)
    usable = np.where(np.isfinite(p), p, 1.0)
    order = np.argsort(usable, kind="stable")
    stepped = np.maximum.accumulate(usable[order] * np.arange(len(p), 0, -1)) if len(p) else usable
    adjusted = np.empty_like(usable)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) if math.isfinite(raw) else math.nan for value, raw in zip(adjusted, p, strict=True)]


def walsh(d: Floats) -> Floats:
    """The sorted Walsh averages (d_i + d_j)/2, i ≤ j."""
    i, j = np.triu_indices(len(d))
    return np.sort((d[i] + d[j]) / 2)


def hodges_lehmann(d: Floats) -> float:
    """The Hodges–Lehmann estimate: the median of the Walsh averages."""
    return float(np.median(walsh(d)))


def wilcoxon_interval(d: Floats, alpha: float) -> tuple[float, float]:
    """The interval of the Wilcoxon signed-rank test, of level ≥ 1 − α; infinite where there are too few blocks for that level."""
    averages = walsh(d)
    count = _walsh_rank(len(d), alpha)
    if count < 1:
        return -math.inf, math.inf
    return float(averages[count - 1]), float(averages[-count])


def _walsh_rank(n: int, alpha: float) -> int:
    """The largest k with P(T⁺ ≤ k − 1) ≤ α/2 under no difference, from the exact distribution of the signed-rank sum."""
    return int(np.searchsorted(_at_most(tuple(range(2, 2 * n + 1, 2)))[::2], alpha / 2, side="right"))


@lru_cache(maxsize=256)
def _at_most(doubled_ranks: tuple[int, ...]) -> Floats:
    """P(2T⁺ ≤ s) for s = 0, 1, … where each rank is positive with probability ½. Ranks are doubled, since midranks of ties are halves."""
    chance = np.zeros(sum(doubled_ranks) + 1)
    chance[0] = 1.0
    for rank in doubled_ranks:
        chance[rank:] += chance[: len(chance) - rank].copy()
        chance /= 2
    return np.cumsum(chance)


def wilcoxon(d: Floats) -> tuple[float, float]:
    """Exact one-sided p-values of the signed-rank test: (d tends to be positive, d tends to be negative).

    Zeros are dropped, ties have midranks and the exact distribution that goes with them. scipy's test does ties only by permuting
    (seconds where ours takes microseconds) or by a normal approximation; without ties both give the same numbers.
    """
    moved = d[d != 0]
    ranks = np.round(2 * scipy_stats.rankdata(np.abs(moved))).astype(int)
    below = _at_most(tuple(sorted(ranks.tolist())))
    positive = int(ranks[moved > 0].sum())
    # The distribution is symmetric: P(T⁺ ≥ s) = P(T⁺ ≤ total − s).
    return min(float(below[ranks.sum() - positive]), 1.0), min(float(below[positive]), 1.0)


def _p_wilcoxon(d: Floats, shift: float = 0.0) -> float:
    """Two-sided."""
    return min(1.0, 2 * min(wilcoxon(d - shift)))


def _p_t(d: Floats) -> float:
    """Two-sided p of the paired t test: as scipy's `ttest_1samp`, in a tenth of its time."""
    if len(d) < 2:
        return math.nan
    spread = float(d.std(ddof=1))
    # Blocks that agree to the last digit: no difference at all, or one without any doubt.
    if spread <= 1e-12 * max(1.0, abs(float(d.mean()))):
        return 1.0 if abs(float(d.mean())) <= 1e-12 else 0.0
    t = float(d.mean()) / (spread / math.sqrt(len(d)))
    return float(2 * special.stdtr(len(d) - 1, -abs(t)))


def _p_beyond(d: Floats) -> float:
    """TOST: the larger p of "not above −margin" and "not below +margin"."""
    margin = math.log1p(MARGIN)
    return max(wilcoxon(d + margin)[0], wilcoxon(d - margin)[1])


def _unresolved(blocks: int, note: str) -> PairedRatio:
    nan = math.nan
    return PairedRatio(blocks, nan, nan, nan, nan, nan, nan, nan, UNRESOLVED, note)


def flip(paired: PairedRatio) -> PairedRatio:
    """The same comparison as the ratio of B to A."""
    verdict = {FASTER: SLOWER, SLOWER: FASTER}.get(paired.verdict, paired.verdict)
    lo, hi = (1 / bound if bound > 0 else math.inf for bound in (paired.hi, paired.lo))
    return replace(paired, ratio=1 / paired.ratio, lo=lo, hi=hi, verdict=verdict)


def ranks(scores: Mapping[str, float], pairs: Mapping[Pair, PairedRatio]) -> dict[str, Rank]:
    """Rank intervals, tie groups and ratios to the best, for the arms of one family.

    lo = 1 + #(significantly better), hi = F − #(significantly worse). The leader of a tie group is the best-scoring arm that is in
    no group yet; the group is the leader and all arms without a group that it is not shown to beat.

    Args:
        scores: per arm its quantity over the whole run, more is better.
        pairs: the judged comparisons, either way round; a missing one is unresolved.
    """

    def seen_from(a: str, b: str) -> PairedRatio:
        if (a, b) in pairs:
            return pairs[a, b]
        return flip(pairs[b, a]) if (b, a) in pairs else _unresolved(0, "not compared")

    order = sorted(scores, key=lambda arm: (-scores[arm] if math.isfinite(scores[arm]) else math.inf, arm))
    beats = {arm: {other for other in order if other != arm and seen_from(arm, other).verdict == FASTER} for arm in order}
    groups = _tie_groups(order, beats)
    ranked = {}
    for arm in order:
        to_best = seen_from(arm, order[0]) if arm != order[0] else None
        ranked[arm] = Rank(
            rank_lo=1 + sum(arm in beats[other] for other in order),
            rank_hi=len(order) - len(beats[arm]),
            tie_group=groups[arm],
            ratio=1.0 if to_best is None else to_best.ratio,
            lo=1.0 if to_best is None else to_best.lo,
            hi=1.0 if to_best is None else to_best.hi,
        )
    return ranked


def _tie_groups(order: Sequence[str], beats: Mapping[str, Collection[str]]) -> dict[str, int]:
    groups: dict[str, int] = {}
    left = list(order)
    while left:
        leader = left[0]
        tied = [arm for arm in left if arm not in beats[leader]]
        number = len(set(groups.values())) + 1
        groups |= dict.fromkeys(tied, number)
        left = [arm for arm in left if arm not in groups]
    return groups
