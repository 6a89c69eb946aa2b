"""What a precision costs: retrieval and similarity against fp32, paired over the queries, with bootstrap intervals.

Per-query numbers come from `quality.py`; here they become ratios, intervals and a verdict. The unit is the query: an arm and the fp32
reference answer the same ones, so a resample draws queries and keeps both answers together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats as scipy_stats

from bench.runs.schema import REFERENCE, Quality, Result, RunData, Swap
from bench.stats.parity import GATES

TOP = 10
#: An arm whose lower end lies below this share of fp32 is shown, not ranked.
KEPT = 0.99
CONFIDENCE = 0.95
RESAMPLES, RANK_RESAMPLES = 2000, 400
SEED = 20261121
#: Texts are this much more alike than under fp32 (share of the spread 1 − mean cosine that is left): the space has collapsed.
COLLAPSED = 0.1
NDCG, OVERLAP, SPEARMAN = "nDCG@10", "top-10 overlap", "Spearman"
ALL = "all"
NEEDS_WEIGHTS = "quality needs real weights"

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ratio:
    """A mean over the mean of the reference on the same items, with its interval; NaN where the reference is 0."""

    value: float
    reference: float
    kept: float
    lo: float
    hi: float


def top(scores: Floats, k: int = TOP) -> Ints:
    """The columns of the k best scores of each row, best first; equal scores in the order of the columns. (rows, ≤ k)"""
    return np.asarray(np.argsort(-scores, axis=1, kind="stable")[:, :k], dtype=np.int64)


def ndcg(scores: Floats, relevant: Sequence[frozenset[int]], k: int = TOP) -> Floats:
    """nDCG@k of each query (row) whose relevant documents (columns) are all worth the same.

    Among equal scores the relevant ones come last: a space in which all vectors are alike finds nothing.
    """
    found = np.zeros(len(scores))
    discount = 1 / np.log2(np.arange(2, k + 2))
    for row, wanted in enumerate(relevant):
        is_wanted = np.zeros(scores.shape[1], dtype=bool)
        is_wanted[list(wanted)] = True
        order = np.lexsort((is_wanted, -scores[row]))[:k]
        gain = float((is_wanted[order] * discount[: len(order)]).sum())
        found[row] = gain / discount[: min(k, len(wanted))].sum() if wanted else 0.0
    return found


def overlap(a: Ints, b: Ints) -> Floats:
    """Share of each row's items that both have; (rows, k) each."""
    return np.array([len(set(x) & set(y)) / max(1, len(x)) for x, y in zip(a.tolist(), b.tolist(), strict=True)])


def kept(value: Floats, reference: Floats, confidence: float = CONFIDENCE) -> Ratio:
    """The ratio of two means over the same items, with its percentile-bootstrap interval over the items."""
    n = len(value)
    if n == 0 or reference.sum() <= 0 or not (np.isfinite(value).all() and np.isfinite(reference).all()):
        return Ratio(_mean(value), _mean(reference), math.nan, math.nan, math.nan)
    weights = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    below = weights @ reference
    ratios = (weights @ value)[below > 0] / below[below > 0]
    return Ratio(_mean(value), _mean(reference), float(value.sum() / reference.sum()), *_interval(ratios, confidence))


def spearman_kept(value: Floats, reference: Floats, gold: Floats, confidence: float = CONFIDENCE) -> Ratio:
    """Spearman's rank correlation with the gold scores, over that of the reference."""
    mine, theirs = _spearman(value, gold), _spearman(reference, gold)
    if not (math.isfinite(mine) and math.isfinite(theirs)) or theirs <= 0:
        return Ratio(mine, theirs, math.nan, math.nan, math.nan)
    draws = np.random.default_rng(SEED).integers(0, len(gold), size=(RANK_RESAMPLES, len(gold)))
    ratios = np.array([_spearman(value[draw], gold[draw]) / _spearman(reference[draw], gold[draw]) for draw in draws])
    return Ratio(mine, theirs, mine / theirs, *_interval(ratios[np.isfinite(ratios)], confidence))


def _spearman(a: Floats, b: Floats) -> float:
    if len(a) < 2 or not np.isfinite(a).all() or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(scipy_stats.spearmanr(a, b).statistic)


def _interval(ratios: Floats, confidence: float) -> tuple[float, float]:
    if not len(ratios):
        return math.nan, math.nan
    lo, hi = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(lo), float(hi)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def broken_space(vectors: Vectors, reference: Vectors) -> str | None:
    """What is wrong with a whole space of vectors (rows, dim): NaN, or texts that have become alike. None where nothing is."""
    if not np.isfinite(vectors).all():
        return f"broken space: {int((~np.isfinite(vectors)).any(axis=1).sum())} of {len(vectors)} vectors hold NaN or infinity"
    spread, expected = _spread(vectors), _spread(reference)
    if spread < COLLAPSED * expected:
        return f"collapsed space: the mean cosine of two different inputs is {1 - spread:.3f}, of fp32 {1 - expected:.3f}"
    return None


def _spread(vectors: Vectors) -> float:
    """1 − the mean cosine of two different rows."""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True).clip(1e-30)
    n = len(unit)
    return float(1 - (np.square(unit.sum(axis=0)).sum() - n) / (n * (n - 1))) if n > 1 else 0.0


@dataclass(frozen=True)
class Worth:
    """What is known of the vectors of a run's arms: the rows of `qualities`, and what is wrong with whole spaces."""

    rows: Sequence[Quality]
    broken: Mapping[str, str]


def worth_of(run: RunData) -> Worth:
    return Worth(qualities(run), broken_spaces(run))


def qualities(run: RunData) -> list[Quality]:
    """Per arm and measure the ratio to fp32, for each set and for all of them together; a broken space is named in each of its rows."""
    if run.quality is None:
        return []
    found: list[Quality] = []
    for arm_id, mine in run.quality.items.groupby("arm_id", sort=True):
        retrieval = mine[mine["measure"] == "retrieval"]
        groups = [(str(name), part) for name, part in retrieval.groupby("set", sort=True)]
        if len(retrieval):
            groups.insert(0, (ALL, retrieval))
        for name, part in groups:
            ratio = kept(_column(part, "value"), _column(part, "reference"))
            found.append(_quality(str(arm_id), NDCG, name, len(part), ratio))
            shared = _column(part, "overlap")
            found.append(_quality(str(arm_id), OVERLAP, name, len(part), kept(shared, np.ones_like(shared))))
        pairs = [(str(name), part) for name, part in mine[mine["measure"] == "sts"].groupby("set", sort=True)]
        for name, part in pairs:
            ratio = spearman_kept(_column(part, "value"), _column(part, "reference"), _column(part, "gold"))
            found.append(_quality(str(arm_id), SPEARMAN, name, len(part), ratio))
    broken = broken_spaces(run)
    return [replace(row, held=False, note=broken[row.arm_id]) if row.arm_id in broken else row for row in found]


def broken_spaces(run: RunData) -> dict[str, str]:
    """Per arm what is wrong with the whole space of its probe vectors; arms with nothing wrong are left out."""
    probes = dict(run.quality.probes) if run.quality else {}
    expected = probes.pop(REFERENCE, None)
    if expected is None:
        return {}
    found = {arm_id: broken_space(vectors, expected) for arm_id, vectors in probes.items() if vectors.shape == expected.shape}
    return {arm_id: note for arm_id, note in found.items() if note}


def with_quality(run: RunData, worth: Worth, row: Result) -> Result:
    """A row with what its arm's vectors are worth, and with the reason why that forbids it a rank.

    Precisions with a gate (fp32, bf16) are proven by their vectors, and refused only where quality was measured and is lost. Lower
    ones have quality as their only proof: without it they are shown, not ranked.
    """
    if row.role != "measured":
        return row
    mine = [quality for quality in worth.rows if quality.arm_id == row.arm_id]
    by_measure = {quality.measure: quality for quality in mine if quality.quality_set == ALL}
    if NDCG in by_measure:
        main, sets = by_measure[NDCG], sorted({quality.quality_set for quality in mine if quality.measure == NDCG} - {ALL})
        row = replace(
            row, quality=main.kept, quality_lo=main.kept_lo, quality_hi=main.kept_hi, top10_overlap=by_measure[OVERLAP].value,
            quality_metric=f"nDCG@10 kept, {main.n} queries ({', '.join(sets)})",
        )  # fmt: skip
    if row.status not in ("OK", "PARTIAL"):
        return row
    note = worth.broken.get(row.arm_id) or why_refused(mine)
    if note is None and row.precision not in GATES and not mine:
        failed = run.quality.failed.get(row.arm_id) if run.quality else None
        note = NEEDS_WEIGHTS if run.weights == "synthetic" else f"quality {failed or 'was not measured'}"
    return replace(row, rank_note=row.rank_note or note)


def _column(part: pd.DataFrame, name: str) -> Floats:
    return np.asarray(part[name].to_numpy(dtype=float))


def _quality(arm_id: str, measure: str, name: str, n: int, ratio: Ratio) -> Quality:
    judged = measure == SPEARMAN or (measure == NDCG and name == ALL)
    held = None if not judged else math.isfinite(ratio.lo) and ratio.lo >= KEPT
    value, reference, share, lo, hi = (_finite(x) for x in (ratio.value, ratio.reference, ratio.kept, ratio.lo, ratio.hi))
    return Quality(arm_id, measure, name, n, value, reference, share, lo, hi, held, None)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def why_refused(rows: Sequence[Quality]) -> str | None:
    """Why one arm may not be ranked, from its rows; None where it may."""
    for row in rows:
        if row.note:
            return row.note
    for row in rows:
        if row.held is False:
            share = "nothing" if row.kept is None else f"{row.kept:.1%} [{row.kept_lo or 0:.1%}, {row.kept_hi or 0:.1%}]"
            return f"quality: keeps {share} of fp32's {row.measure} ({row.n} {'pairs' if row.measure == SPEARMAN else 'queries'})"
    return None


def swaps(run: RunData) -> list[Swap]:
    """Every pair of arms of a run, and the fp32 reference among them, on its probe set."""
    return swap_matrix(run.quality.probes, run.quality.queries, run.quality.relevant) if run.quality else []


def swap_matrix(vectors: Mapping[str, Vectors], queries: int, relevant: Sequence[frozenset[int]]) -> list[Swap]:
    """May an index that arm B built be asked by arm Q? Every pair of arms, on one probe set.

    Overlap and nDCG are those of (index B, queries Q) against (index B, queries B), which is what stands before the swap.

    Args:
        vectors: per arm (queries + documents, dim), the queries first.
        relevant: per query the documents that answer it.
    """
    found: list[Swap] = []
    usable = {arm: block.astype(np.float64) for arm, block in vectors.items() if np.isfinite(block).all()}
    for built, theirs in usable.items():
        index = theirs[queries:]
        own = theirs[:queries] @ index.T
        own_top, own_ndcg = top(own), ndcg(own, relevant)
        for asked, mine in usable.items():
            if mine.shape != theirs.shape:
                continue
            scores = mine[:queries] @ index.T
            shared = overlap(top(scores), own_top)
            same, good = kept(shared, np.ones_like(shared)), kept(ndcg(scores, relevant), own_ndcg)
            found.append(Swap(
                built, asked, queries, _finite(same.kept) or 0.0, _finite(same.lo), _finite(good.value), _finite(good.kept),
                _finite(good.lo), _verdict(same, good),
            ))  # fmt: skip
    return found


def _verdict(same: Ratio, good: Ratio) -> str:
    """yes: the same documents come back. nearly: others do, as good ones. re-index: neither is shown."""
    if same.lo >= KEPT:
        return "yes"
    return "nearly" if math.isfinite(good.lo) and good.lo >= KEPT else "re-index"
