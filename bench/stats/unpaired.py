"""Two runs against each other, arm by arm. Not paired: the runs lie apart in time, so that a machine that has changed since looks like an
arm that has. Every verdict here says so; the sound way is both versions as arms of one campaign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bench.runs.schema import QualityData, Result, RunArm, RunData
from bench.stats import parity
from bench.stats.arms import COMPARED, block_scores
from bench.stats.paired import EQUIVALENT, FASTER, MARGIN, SLOWER, UNRESOLVED
from bench.stats.quality import swap_matrix
from bench.stats.rows import cells_of, rows_of

#: Level of an interval, and the fewest blocks of a run that give a verdict.
ALPHA = 0.05
MIN_BLOCKS = 6
UNPAIRED = "unpaired"
SAME, AGREE, MOVED, UNKNOWN = "identical", "agree", "moved", "not kept"


@dataclass(frozen=True)
class Shift:
    """The ratio of B to A (> 1: B is better) over blocks that are not paired; NaN where it cannot be told."""

    ratio: float
    lo: float
    hi: float
    verdict: str
    note: str | None = None


@dataclass(frozen=True)
class Moved:
    """Whether an arm's vectors of the probe set are still the same: smallest cosine, largest |Δ|, and the top-10 overlap of an index that
    A built and B asks."""

    verdict: str
    min_cosine: float | None = None
    max_abs_diff: float | None = None
    overlap: float | None = None
    swap: str | None = None


@dataclass(frozen=True)
class Change:
    """One arm in one scenario, in run A and in run B."""

    arm: RunArm
    scenario: str
    quantity: str
    version_a: str | None
    version_b: str | None
    status_a: str | None
    status_b: str | None
    shift: Shift
    moved: Moved

    @property
    def regression(self) -> str | None:
        """What got worse from A to B; None where nothing did."""
        if self.status_a in COMPARED and self.status_b not in COMPARED:
            return f"was {self.status_a}, is {self.status_b or 'not there'}"
        if self.shift.verdict == SLOWER:
            return f"slower: {self.shift.ratio:.3f}× [{self.shift.lo:.3f}, {self.shift.hi:.3f}]"
        return "vectors moved" if self.moved.verdict == MOVED else None


def changes(a: RunData, b: RunData) -> list[Change]:
    """Every measured arm of run A in every scenario of it, held against the same arm of run B."""
    later = {arm.arm_id: arm for arm in b.arms}
    moved = {arm.arm_id: moved_of(arm, a.quality, b.quality) for arm in a.arms}
    cells_b, found = cells_of(b), []
    for scenario, cells in cells_of(a).items():
        rows = {row.arm_id: (cell, row) for cell, row in zip(cells, rows_of(a, cells), strict=True)}
        others = cells_b.get(scenario, [])
        rows_b = {row.arm_id: (cell, row) for cell, row in zip(others, rows_of(b, others), strict=True)}
        for arm_id, (cell, row) in rows.items():
            if row.role != "measured":
                continue
            other = rows_b.get(arm_id)
            quantity = "p50_ms" if cell.scenario.load == "open" else "requests_per_s"
            if other and {row.status, other[1].status} <= set(COMPARED) and cell.scenario.load != "slo":
                shift = unpaired_ratio(block_scores(cell, quantity), block_scores(other[0], quantity))
                if row.plan_hash != other[1].plan_hash:
                    shift = Shift(shift.ratio, shift.lo, shift.hi, UNRESOLVED, "the runs served different plans")
            else:
                shift = _nothing("not measured in both")
            version_b = _version(later.get(arm_id), other[1] if other else None)
            found.append(Change(cell.arm, scenario, quantity, row.framework_version, version_b, row.status,
                                other[1].status if other else None, shift, moved[arm_id]))  # fmt: skip
    return found


def _version(arm: RunArm | None, row: Result | None) -> str | None:
    return row.framework_version if arm and row else None


def moved_of(arm: RunArm, a: QualityData | None, b: QualityData | None) -> Moved:
    """Are an arm's vectors those of the earlier run? Judged by the gate of its precision; int8 and lower by what an index would find."""
    if a is None or b is None or arm.arm_id not in a.probes or arm.arm_id not in b.probes or a.set_hash != b.set_hash:
        return Moved(UNKNOWN)
    before, after = a.probes[arm.arm_id], b.probes[arm.arm_id]
    if before.shape != after.shape:
        return Moved(MOVED)
    if np.array_equal(before, after):
        return Moved(SAME, 1.0, 0.0, 1.0, "yes")
    agreement = parity.compare(after, before)
    cosine, diff = float(agreement.cosine.min()), float(agreement.max_abs_diff.max())
    swap = next(
        (row for row in swap_matrix({"a": before, "b": after}, a.queries, a.relevant) if (row.built_arm, row.asked_arm) == ("a", "b")), None
    )
    refused = parity.gate(arm.precision, cosine, diff) or (arm.precision not in parity.GATES and (swap is None or swap.verdict != "yes"))
    return Moved(MOVED if refused else AGREE, cosine, diff, swap.overlap if swap else None, swap.verdict if swap else None)


def unpaired_ratio(a: Sequence[float], b: Sequence[float], alpha: float = ALPHA) -> Shift:
    """B over A from their blocks: the Hodges–Lehmann shift of the logarithms, its interval from the exact rank-sum distribution.

    Equivalent, where the whole interval lies within ±MARGIN, comes before faster and slower. Fails safe as paired comparison does.
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if not len(x) or not len(y) or not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all() and (y > 0).all()):
        return _nothing("a block has no usable number")
    d = np.sort((np.log(y)[:, None] - np.log(x)[None, :]).ravel())
    place = _rank_sum_place(len(x), len(y), alpha)
    low, high = (float(d[place - 1]), float(d[-place])) if place >= 1 else (-math.inf, math.inf)
    ratio, lo, hi = math.exp(float(np.median(d))), math.exp(low), math.exp(high)
    if min(len(x), len(y)) < MIN_BLOCKS or place < 1:
        return Shift(ratio, lo, hi, UNRESOLVED, f"{min(len(x), len(y))} of {MIN_BLOCKS} blocks")
    if lo >= 1 / (1 + MARGIN) and hi <= 1 + MARGIN:
        return Shift(ratio, lo, hi, EQUIVALENT)
    verdict = SLOWER if hi < 1 else FASTER if lo > 1 else UNRESOLVED
    return Shift(ratio, lo, hi, verdict)


def _nothing(note: str) -> Shift:
    return Shift(math.nan, math.nan, math.nan, UNRESOLVED, note)


@lru_cache(maxsize=64)
def _rank_sum_place(n: int, m: int, alpha: float) -> int:
    """The largest k with P(U ≤ k − 1) ≤ α/2, U the Mann–Whitney statistic of n and m values under no difference; 0 where there is none."""
    ways: npt.NDArray[np.float64] = np.zeros((n + 1, n * m + 1))
    ways[0, 0] = 1.0
    # U is the sum, over the n values, of how many of the m lie below each: a partition of U into n parts, none above m.
    for part in range(m + 1):
        for used in range(1, n + 1):
            ways[used, part:] += ways[used - 1, : n * m + 1 - part]
    at_most = np.cumsum(ways[n]) / ways[n].sum()
    return int(np.searchsorted(at_most, alpha / 2, side="right"))
