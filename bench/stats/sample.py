"""One arm's numbers: percentiles that the sample can carry, their intervals, and throughput.

Requests of one run of a machine are not independent: a slow second slows them all. So an interval counts *effective* samples. The
design effect is read from the data: requests are cut into batches of neighbours, and the spread of the batches' exceedance counts
over a percentile is held against the spread that independent requests would show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats

from bench.core.arrays import Bools, Floats, Ints

#: A percentile is printed when BEYOND effective samples lie beyond it; p50 from MEDIAN_MIN requests. Clustering is judged by
#: STABLE draws or more.
BEYOND = 10
MEDIAN_MIN = 20
STABLE = 20
CONFIDENCE = 0.95
#: Batches for the design effect: about BATCHES in all, none shorter than BATCH_MIN requests.
BATCHES, BATCH_MIN = 200, 20
#: The runs themselves are the clusters where they differ more than their batches explain (F test at this level).
RUNS_DIFFER = 0.01
#: (p, name) of the percentiles of a leaderboard row.
PERCENTILES = ((0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99.9"))


@dataclass(frozen=True)
class Effective:
    """The effective number of samples at one percentile, and the degrees of freedom of that estimate."""

    n_eff: float
    df: int


@dataclass(frozen=True)
class Percentile:
    """A percentile that may be printed, its order-statistic interval (None: beyond the sample), and the n_eff behind it."""

    value: float | None
    lo: float | None
    hi: float | None
    n_eff: float


@dataclass(frozen=True)
class Rate:
    """Rows per second with its interval over blocks; NaN bounds below two blocks."""

    value: float
    lo: float
    hi: float


def percentile(values: npt.ArrayLike, p: float) -> float:
    """The nearest-rank percentile x₍⌈np⌉₎ of a sample: always one of its values. NaN for an empty sample.

    Args:
        values: any order, any unit.
        p: in (0, 1].
    """
    ordered = np.sort(np.asarray(values, dtype=float), axis=None)
    return float(ordered[rank(len(ordered), p) - 1]) if len(ordered) else math.nan


def rank(n: int, p: float) -> int:
    """⌈np⌉, from 1 to n. A product that only float rounding lifts over a whole number (100 × 0.07) is that number."""
    if not 0 < p <= 1:
        raise ValueError(f"p = {p}: wants 0 < p ≤ 1")
    return min(max(math.ceil(round(n * p, 9)), 1), max(n, 1))


def effective(exceeds: Bools, runs: npt.NDArray[np.generic], units: npt.NDArray[np.generic] | None = None) -> Effective:
    """The number of independent samples that tell as much about a percentile as these exceedances.

    Args:
        exceeds: per request, in the order served: is it beyond the percentile?
        runs: per request the run (block) it lies in; batches never straddle runs.
        units: per request the service batch it was part of (requests of one batch share their fate); None: each its own.
    """
    n = len(exceeds)
    if n == 0:
        return Effective(0.0, 0)
    # From requests to units: rows that were served together are one draw.
    unit = _changes(runs) if units is None else _changes(runs, units)
    singles = units is None
    first = np.arange(n) if singles else np.flatnonzero(unit)
    size = np.ones(n) if singles else np.diff(np.append(first, n)).astype(float)
    beyond = exceeds.astype(float) if singles else np.add.reduceat(exceeds.astype(float), first)
    run = np.cumsum(_changes(runs[first])) - 1
    share = beyond.sum() / n
    if share in (0.0, 1.0):
        return Effective(float(len(first)), max(len(first) - 1, 0))
    batch = _batches(run)
    fine_var, fine_df = _cluster_variance(beyond, size, batch, share)
    variance, df = fine_var, fine_df
    runs_in_all = int(run[-1]) + 1
    if runs_in_all > 1 and batch[-1] > run[-1] and _runs_differ(beyond, size, batch, run, share):
        coarse_var, coarse_df = _cluster_variance(beyond, size, run, share)
        if coarse_var > fine_var:
            variance, df = coarse_var, coarse_df
    n_eff = share * (1 - share) / variance if variance > 0 else float(len(first))
    return Effective(float(min(n_eff, len(first))), df)


def profile(
    values: Floats, runs: npt.NDArray[np.generic], units: npt.NDArray[np.generic] | None = None, tails: Sequence[Effective] = ()
) -> list[Percentile]:
    """All of PERCENTILES with their intervals; `value` is None where the sample is too small to print it.

    Fewer than STABLE draws beyond a percentile cannot tell how they cluster: such a percentile takes the n_eff of the one before it.

    Args:
        values: the sample in the order served, any unit.
        runs, units: as in `effective`.
        tails: per percentile the n_eff that decides what is printed, where it is not the sample's own (a derived closed loop is a
            function of its service sequence, and has that one's). Its intervals are then over blocks: the runs are the batches.
    """
    n = len(values)
    if n == 0:
        return [Percentile(None, None, None, 0.0)] * len(PERCENTILES)
    ordered = np.sort(values)
    draws = _changes(runs) | (np.ones(n, dtype=bool) if units is None else _changes(units))
    percentiles: list[Percentile] = []
    effect = Effective(0.0, 0)
    for place, (p, _) in enumerate(PERCENTILES):
        value = float(ordered[rank(n, p) - 1])
        exceeds = values > value
        if place == 0 or np.count_nonzero(exceeds & draws) >= STABLE:
            effect = _over_runs(exceeds, runs) if tails else effective(exceeds, runs, units)
        judge = tails[place] if tails else effect
        enough = n >= MEDIAN_MIN if p == 0.5 else judge.n_eff * (1 - p) >= BEYOND - 1e-9
        lo, hi = order_interval(ordered, p, effect) if enough else (None, None)
        percentiles.append(Percentile(value if enough else None, lo, hi, judge.n_eff))
    return percentiles


def order_interval(ordered: Floats, p: float, effect: Effective, confidence: float = CONFIDENCE) -> tuple[float | None, float | None]:
    """The order-statistic interval n(p ± t·√(p(1−p)/n_eff)) of a sorted sample; a bound beyond the sample is None."""
    n = len(ordered)
    if effect.df < 1 or effect.n_eff <= 0:
        return None, None
    half = _t(confidence, effect.df) * math.sqrt(p * (1 - p) / effect.n_eff)
    low, high = math.floor(n * (p - half)), math.ceil(n * (p + half)) + 1
    return (float(ordered[low - 1]) if low >= 1 else None, float(ordered[high - 1]) if high <= n else None)


def withheld(percentiles: Sequence[Percentile]) -> str | None:
    """Why percentiles of a row (in the order of PERCENTILES) are blank, in one line; None where all are printed."""
    blank = [(name, p, of_row.n_eff) for (p, name), of_row in zip(PERCENTILES, percentiles, strict=True) if of_row.value is None]
    if not blank:
        return None
    if blank[0][0] == "p50":
        return f"percentiles withheld: fewer than {MEDIAN_MIN} requests"
    parts = [f"{name}: {n_eff:.0f} of {BEYOND / (1 - p):.0f}" for name, p, n_eff in blank]
    return "withheld for too few effective samples: " + ", ".join(parts)


def rate(rows: npt.ArrayLike, seconds: npt.ArrayLike, confidence: float = CONFIDENCE) -> Rate:
    """Σ rows / Σ seconds over blocks, with a t interval from the spread of the blocks (ratio estimator, on the log scale)."""
    count, time = np.asarray(rows, dtype=float), np.asarray(seconds, dtype=float)
    blocks = len(count)
    if blocks == 0 or time.sum() <= 0:
        return Rate(math.nan, math.nan, math.nan)
    value = float(count.sum() / time.sum())
    if blocks < 2 or value <= 0:
        return Rate(value, math.nan, math.nan)
    residual = count - value * time
    error = math.sqrt(float(np.sum(residual**2)) * blocks / (blocks - 1)) / float(count.sum())
    half = _t(confidence, blocks - 1) * error
    return Rate(value, value * math.exp(-half), value * math.exp(half))


def _t(confidence: float, df: int) -> float:
    return float(scipy_stats.t.ppf(0.5 + confidence / 2, df))


def _changes(*keys: npt.NDArray[np.generic]) -> Bools:
    """True where any key differs from the row before, and at row 0."""
    changed = np.zeros(len(keys[0]), dtype=bool)
    changed[:1] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return changed


def _batches(run: Ints) -> Ints:
    """Number each unit's batch: neighbours inside a run, batches of a run as equal as can be."""
    first = np.flatnonzero(_changes(run))
    length = np.diff(np.append(first, len(run)))
    per_run = np.clip(length // BATCH_MIN, 1, max(1, math.ceil(BATCHES / len(first))))
    place = np.arange(len(run)) - np.repeat(first, length)
    inside = place * np.repeat(per_run, length) // np.repeat(length, length)
    offset = np.cumsum(per_run) - per_run
    return np.asarray(inside + np.repeat(offset, length), dtype=np.int64)


def _cluster_variance(beyond: Floats, size: Floats, cluster: Ints, share: float) -> tuple[float, int]:
    """The variance of the exceedance share with clusters as the unit (linearised ratio), and its degrees of freedom."""
    residual = np.bincount(cluster, beyond) - share * np.bincount(cluster, size)
    count = len(residual)
    if count < 2:
        return math.inf, 0
    return float(np.sum(residual**2)) / float(size.sum()) ** 2 * count / (count - 1), count - 1


def _over_runs(exceeds: Bools, runs: npt.NDArray[np.generic]) -> Effective:
    """`effective` with the runs themselves as batches."""
    n, share = len(exceeds), float(exceeds.mean())
    run = np.cumsum(_changes(runs)) - 1
    variance, df = _cluster_variance(exceeds.astype(float), np.ones(n), np.asarray(run, dtype=np.int64), share)
    if share in (0.0, 1.0) or variance <= 0:
        return Effective(float(n), df)
    return Effective(min(share * (1 - share) / variance, float(n)), df)


def _runs_differ(beyond: Floats, size: Floats, batch: Ints, run: Ints, share: float) -> bool:
    """Do the runs' shares differ more than their batches explain? One-way analysis of variance over batches."""
    residual = np.bincount(batch, beyond) - share * np.bincount(batch, size)
    of_run = run[np.flatnonzero(_changes(batch))]
    count = np.bincount(of_run)
    mean = np.bincount(of_run, residual) / count
    between_df, within_df = len(count) - 1, len(residual) - len(count)
    if within_df < 1:
        return False
    between = float(np.sum(count * mean**2)) / between_df
    within = float(np.sum((residual - mean[of_run]) ** 2)) / within_df
    if within <= 0:
        return between > 0
    return bool(between / within > scipy_stats.f.ppf(1 - RUNS_DIFFER, between_df, within_df))
