"""Two runs against each other, arm by arm, without pairs of blocks.

The runs lie apart in time, so that a machine that has changed since looks like an arm that has. Every verdict here says so; the sound way
is both versions as arms of one campaign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from bench.core.arrays import Floats
from bench.runs.schema import PROVEN, QualityData, RunArm, RunData
from bench.stats import parity
from bench.stats.arms import block_scores
from bench.stats.cells import Cell, cells_of
from bench.stats.paired import EQUIVALENT, FASTER, MARGIN, SLOWER, UNRESOLVED
from bench.stats.quality import swap_matrix
from bench.stats.rows import rows_of
from bench.stats.tables import Result

#: Level of an interval, and the fewest blocks of a run that give a verdict.
ALPHA = 0.05
VERDICT_BLOCKS = 6
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
    """Whether an arm's vectors of the probe set are the same in both runs.

    Attributes:
        overlap: share of the ten best that an index built in run A still returns to the queries of run B.
        swap: the verdict on that (see `quality.swap_matrix`).
    """

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
        if self.status_a in PROVEN and self.status_b not in PROVEN:
            return f"was {self.status_a}, is {self.status_b or 'not there'}"
        if self.shift.verdict == SLOWER:
            return f"slower: {self.shift.ratio:.3f}× [{self.shift.lo:.3f}, {self.shift.hi:.3f}]"
        return "vectors moved" if self.moved.verdict == MOVED else None


def changes(a: RunData, b: RunData) -> list[Change]:
    """Every measured arm of run A in every scenario of it, held against the same arm of run B."""
    moved = {arm.arm_id: moved_of(arm, a.quality, b.quality) for arm in a.arms}
    earlier, later = _rows(a), _rows(b)
    return [
        _change(cell, row, later.get((row.scenario, row.arm_id)), moved[row.arm_id])
        for cell, row in earlier.values()
        if row.role == "measured"
    ]


def _rows(run: RunData) -> dict[tuple[str, str], tuple[Cell, Result]]:
    """The cells of a run with their rows, by scenario and arm."""
    return {
        (row.scenario, row.arm_id): (cell, row) for cells in cells_of(run).values() for cell, row in zip(cells, rows_of(cells), strict=True)
    }


def _change(cell: Cell, row: Result, later: tuple[Cell, Result] | None, moved: Moved) -> Change:
    """One cell of run A against that of run B, where there is one."""
    cell_b, row_b = later or (None, None)
    quantity = "p50_ms" if cell.scenario.load == "open" else "requests_per_s"
    if cell_b is None or row_b is None or not {row.status, row_b.status} <= set(PROVEN) or cell.scenario.load == "slo":
        shift = _no_shift("not measured in both")
    else:
        shift = unpaired_ratio(block_scores(cell, quantity), block_scores(cell_b, quantity))
        if row.plan_hash != row_b.plan_hash:
            shift = replace(shift, verdict=UNRESOLVED, note="the runs served different plans")
    return Change(
        arm=cell.arm,
        scenario=row.scenario,
        quantity=quantity,
        version_a=row.framework_version,
        version_b=row_b.framework_version if row_b else None,
        status_a=row.status,
        status_b=row_b.status if row_b else None,
        shift=shift,
        moved=moved,
    )


def moved_of(arm: RunArm, a: QualityData | None, b: QualityData | None) -> Moved:
    """Are an arm's vectors those of the earlier run? By the gate of its precision; int8 and lower by what an index returns."""
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

    Equivalent, where the whole interval lies within ±MARGIN, comes before faster and slower. NaN or too few blocks give "unresolved".
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if not len(x) or not len(y) or not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all() and (y > 0).all()):
        return _no_shift("a block has no usable number")
    d = np.sort((np.log(y)[:, None] - np.log(x)[None, :]).ravel())
    place = _rank_sum_place(len(x), len(y), alpha)
    low, high = (float(d[place - 1]), float(d[-place])) if place >= 1 else (-math.inf, math.inf)
    ratio, lo, hi = math.exp(float(np.median(d))), math.exp(low), math.exp(high)
    if min(len(x), len(y)) < VERDICT_BLOCKS or place < 1:
        return Shift(ratio, lo, hi, UNRESOLVED, f"{min(len(x), len(y))} of {VERDICT_BLOCKS} blocks")
    if lo >= 1 / (1 + MARGIN) and hi <= 1 + MARGIN:
        return Shift(ratio, lo, hi, EQUIVALENT)
    verdict = SLOWER if hi < 1 else FASTER if lo > 1 else UNRESOLVED
    return Shift(ratio, lo, hi, verdict)


def _no_shift(note: str) -> Shift:
    return Shift(math.nan, math.nan, math.nan, UNRESOLVED, note)


@lru_cache(maxsize=64)
def _rank_sum_place(n: int, m: int, alpha: float) -> int:
    """The largest k with P(U ≤ k − 1) ≤ α/2, U the Mann–Whitney statistic of n and m values under no difference; 0 where there is none."""
    ways: Floats = np.zeros((n + 1, n * m + 1))
    ways[0, 0] = 1.0
    # U is the sum, over the n values, of how many of the m lie below each: a partition of U into n parts, none above m.
    for part in range(m + 1):
        for used in range(1, n + 1):
            ways[used, part:] += ways[used - 1, : n * m + 1 - part]
    at_most = np.cumsum(ways[n]) / ways[n].sum()
    return int(np.searchsorted(at_most, alpha / 2, side="right"))
