"""Retrieval and similarity of an arm's vectors against fp32, paired over the queries, with bootstrap intervals; and swapped indexes.

The numbers of single queries and pairs come from a run folder (bench/measure/quality.py); here they become ratios, intervals and a verdict.
The unit is the query: an arm and the fp32 reference answer the same ones, so a resample draws queries and keeps both answers together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats as scipy_stats

from bench.core.arrays import Floats, Ints, Vectors
from bench.runs.schema import PROVEN, REFERENCE, RunData
from bench.stats.parity import GATES
from bench.stats.tables import Quality, Result, Swap, finite

TOP = 10
#: An arm whose lower end lies below this share of fp32 is shown, not ranked.
KEPT = 0.99
CONFIDENCE = 0.95
RESAMPLES, RANK_RESAMPLES = 2000, 400
SEED = 20261121
#: A space has collapsed when less than this share of fp32's spread (1 − mean cosine of two different inputs) is left.
COLLAPSED = 0.1
NDCG, OVERLAP, SPEARMAN = "nDCG@10", "top-10 overlap", "Spearman"
ALL = "all"
NEEDS_WEIGHTS = "quality needs real weights"


@dataclass(frozen=True)
class Kept:
    """A value, that of the reference on the same items, and the share of it that is kept, with its interval; NaN where that is 0."""

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
    ndcgs = np.zeros(len(scores))
    discount = 1 / np.log2(np.arange(2, k + 2))
    for row, documents in enumerate(relevant):
        is_relevant = np.zeros(scores.shape[1], dtype=bool)
        is_relevant[list(documents)] = True
        order = np.lexsort((is_relevant, -scores[row]))[:k]
        gain = float((is_relevant[order] * discount[: len(order)]).sum())
        ndcgs[row] = gain / discount[: min(k, len(documents))].sum() if documents else 0.0
    return ndcgs


def overlap(a: Ints, b: Ints) -> Floats:
    """Share of each row's items that both have; (rows, k) each."""
    return np.array([len(set(x) & set(y)) / max(1, len(x)) for x, y in zip(a.tolist(), b.tolist(), strict=True)])


def mean_kept(value: Floats, reference: Floats, confidence: float = CONFIDENCE) -> Kept:
    """The ratio of two means over the same items, with its percentile-bootstrap interval over the items."""
    n = len(value)
    if n == 0 or reference.sum() <= 0 or not (np.isfinite(value).all() and np.isfinite(reference).all()):
        return Kept(_mean(value), _mean(reference), math.nan, math.nan, math.nan)
    weights = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    below = weights @ reference
    ratios = (weights @ value)[below > 0] / below[below > 0]
    return Kept(_mean(value), _mean(reference), float(value.sum() / reference.sum()), *_interval(ratios, confidence))


def spearman_kept(value: Floats, reference: Floats, gold: Floats, confidence: float = CONFIDENCE) -> Kept:
    """Spearman's rank correlation with the gold scores, over that of the reference."""
    own, expected = _spearman(value, gold), _spearman(reference, gold)
    if not (math.isfinite(own) and math.isfinite(expected)) or expected <= 0:
        return Kept(own, expected, math.nan, math.nan, math.nan)
    draws = np.random.default_rng(SEED).integers(0, len(gold), size=(RANK_RESAMPLES, len(gold)))
    ratios = np.array([_spearman(value[draw], gold[draw]) / _spearman(reference[draw], gold[draw]) for draw in draws])
    return Kept(own, expected, own / expected, *_interval(ratios[np.isfinite(ratios)], confidence))


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
    """Why a whole space of vectors (rows, dim) is broken: NaN or infinity in it, or collapsed. None where it is not."""
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
class RunQuality:
    """The rows of `qualities` of a run, and by arm why its whole space is broken."""

    rows: Sequence[Quality]
    broken: Mapping[str, str]


def run_quality(run: RunData) -> RunQuality:
    return RunQuality(qualities(run), broken_spaces(run))


def qualities(run: RunData) -> list[Quality]:
    """Per arm and measure the ratio to fp32, for each set and for all of them together; a broken space is named in each of its rows."""
    if run.quality is None:
        return []
    rows = [row for arm_id, items in run.quality.items.groupby("arm_id", sort=True) for row in _arm_qualities(str(arm_id), items)]
    broken = broken_spaces(run)
    return [replace(row, held=False, note=broken[row.arm_id]) if row.arm_id in broken else row for row in rows]


def _arm_qualities(arm_id: str, items: pd.DataFrame) -> Iterator[Quality]:
    """The rows of one arm: nDCG and overlap of all retrieval sets together and of each, then Spearman of each similarity set."""
    retrieval = items[items["measure"] == "retrieval"]
    sets = [(str(name), part) for name, part in retrieval.groupby("set", sort=True)]
    for name, part in [(ALL, retrieval), *sets] if len(retrieval) else []:
        yield _quality(arm_id, NDCG, name, len(part), mean_kept(_column(part, "value"), _column(part, "reference")))
        shared = _column(part, "overlap")
        yield _quality(arm_id, OVERLAP, name, len(part), mean_kept(shared, np.ones_like(shared)))
    for pairs_set, pairs in items[items["measure"] == "sts"].groupby("set", sort=True):
        spearman = spearman_kept(_column(pairs, "value"), _column(pairs, "reference"), _column(pairs, "gold"))
        yield _quality(arm_id, SPEARMAN, str(pairs_set), len(pairs), spearman)


def broken_spaces(run: RunData) -> dict[str, str]:
    """By arm why the whole space of its probe vectors is broken; arms whose space is not are left out."""
    probes = dict(run.quality.probes) if run.quality else {}
    expected = probes.pop(REFERENCE, None)
    if expected is None:
        return {}
    notes = {arm_id: broken_space(vectors, expected) for arm_id, vectors in probes.items() if vectors.shape == expected.shape}
    return {arm_id: note for arm_id, note in notes.items() if note}


def with_quality(run: RunData, vectors: RunQuality, row: Result) -> Result:
    """The quality columns of a row, and where the quality forbids it a rank, the reason.

    Precisions with a gate (fp32, bf16) are proven by their vectors, and refused only where quality was measured and is lost. Lower
    ones have quality as their only proof: without it they are shown, not ranked.
    """
    if row.role != "measured":
        return row
    of_arm = [quality for quality in vectors.rows if quality.arm_id == row.arm_id]
    overall = {quality.measure: quality for quality in of_arm if quality.quality_set == ALL}
    if NDCG in overall:
        ndcg, sets = overall[NDCG], sorted({quality.quality_set for quality in of_arm if quality.measure == NDCG} - {ALL})
        row = replace(
            row,
            quality=ndcg.kept,
            quality_lo=ndcg.kept_lo,
            quality_hi=ndcg.kept_hi,
            top10_overlap=overall[OVERLAP].value,
            quality_metric=f"{NDCG} kept, {ndcg.n} queries ({', '.join(sets)})",
        )
    if row.status not in PROVEN:
        return row
    note = vectors.broken.get(row.arm_id) or why_refused(of_arm)
    if note is None and row.precision not in GATES and not of_arm:
        failed = run.quality.failed.get(row.arm_id) if run.quality else None
        note = NEEDS_WEIGHTS if run.weights == "synthetic" else f"quality {failed or 'was not measured'}"
    return replace(row, rank_note=row.rank_note or note)


def _column(part: pd.DataFrame, name: str) -> Floats:
    return np.asarray(part[name].to_numpy(dtype=float))


def _quality(arm_id: str, measure: str, name: str, n: int, kept: Kept) -> Quality:
    judged = measure == SPEARMAN or (measure == NDCG and name == ALL)
    held = None if not judged else math.isfinite(kept.lo) and kept.lo >= KEPT
    value, reference, share, lo, hi = (finite(number) for number in (kept.value, kept.reference, kept.kept, kept.lo, kept.hi))
    return Quality(arm_id, measure, name, n, value, reference, share, lo, hi, held, None)


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

    Overlap and nDCG are those of (index B, queries Q) against (index B, queries B), the state before the swap.

    Args:
        vectors: per arm (queries + documents, dim), the queries first.
        relevant: per query the documents that answer it.
    """
    swaps: list[Swap] = []
    usable = {arm: block.astype(np.float64) for arm, block in vectors.items() if np.isfinite(block).all()}
    for built, builder in usable.items():
        index = builder[queries:]
        before = builder[:queries] @ index.T
        top_before, ndcg_before = top(before), ndcg(before, relevant)
        for asked, asker in usable.items():
            if asker.shape != builder.shape:
                continue
            scores = asker[:queries] @ index.T
            shared = overlap(top(scores), top_before)
            overlap_kept, ndcg_kept = mean_kept(shared, np.ones_like(shared)), mean_kept(ndcg(scores, relevant), ndcg_before)
            swaps.append(
                Swap(
                    built_arm=built,
                    asked_arm=asked,
                    queries=queries,
                    overlap=finite(overlap_kept.kept) or 0.0,
                    overlap_lo=finite(overlap_kept.lo),
                    ndcg=finite(ndcg_kept.value),
                    ndcg_kept=finite(ndcg_kept.kept),
                    ndcg_kept_lo=finite(ndcg_kept.lo),
                    verdict=_swap_verdict(overlap_kept, ndcg_kept),
                )
            )
    return swaps


def _swap_verdict(overlap_kept: Kept, ndcg_kept: Kept) -> str:
    """yes: the same documents come back. nearly: others do that are as good. re-index: neither is shown."""
    if overlap_kept.lo >= KEPT:
        return "yes"
    return "nearly" if math.isfinite(ndcg_kept.lo) and ndcg_kept.lo >= KEPT else "re-index"
