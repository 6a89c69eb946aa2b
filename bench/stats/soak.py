"""Does memory grow? The slopes of a soak: private memory at the end of each block over time and over the input shapes seen so far."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats as scipy_stats

from bench.core.arrays import Floats
from bench.stats.cells import Cell
from bench.stats.load import Requests
from bench.stats.sample import CONFIDENCE
from bench.stats.tables import STATS_VERSION, Fit, finite

#: Fewer blocks of one process have no slope.
SLOPE_BLOCKS = 6
#: Time and shapes that go together more closely than this cannot be told apart.
TOO_ALIKE = 0.95
#: The largest autocorrelation of residuals that is reckoned with; memory that wanders more gives next to no evidence.
MOST_ALIKE = 0.9
S_PER_H = 3600.0
TERMS = (("memory_over_time", "bytes per hour"), ("memory_over_shapes", "bytes per new shape"))


@dataclass(frozen=True)
class Slope:
    """A slope with its interval; NaN with the reason where there is none."""

    value: float
    lo: float
    hi: float
    note: str | None = None


@dataclass(frozen=True)
class Held:
    """Private memory of a process at the end of a block."""

    block: int
    ended_s: float
    private_bytes: float


def soak_fits(cell: Cell) -> list[Fit]:
    """Both slopes of an arm in a scenario that keeps one process; nothing for other scenarios."""
    if cell.scenario.process != "kept":
        return []
    life = _longest_life(cell)
    hours = np.array([(held.ended_s - life[0].ended_s) / S_PER_H for held in life])
    shapes = shapes_seen(cell.requests, [held.block for held in life])
    both = slopes(hours, shapes, np.array([held.private_bytes for held in life]))
    return [
        Fit(
            cell.run.run_id, cell.scenario.name, cell.arm.arm_id, term, unit, len(life), finite(slope.value), finite(slope.lo),
            finite(slope.hi), slope.note, STATS_VERSION,
        ) for (term, unit), slope in zip(TERMS, both, strict=True)
    ]  # fmt: skip


def _longest_life(cell: Cell) -> list[Held]:
    """The memory of the arm's longest-lived process, block by block: a worker that had to be started again begins anew."""
    lives: dict[int | None, list[Held]] = {}
    for block in sorted(cell.blocks, key=lambda block: block.block):
        memory = block.memory.get(cell.arm.arm_id)
        if memory is None:
            continue
        private = memory.rss_anon_bytes if memory.rss_anon_bytes is not None else memory.rss_bytes
        if private is not None:
            lives.setdefault(memory.start, []).append(Held(block.block, block.ended_at.timestamp(), float(private)))
    return max(lives.values(), key=len, default=[])


def shapes_seen(requests: Requests, blocks: list[int]) -> Floats:
    """How many different input shapes (rows of the batch, tokens of its longest row) were served until the end of each block."""
    seen: set[tuple[int, int]] = set()
    counts = []
    for number in blocks:
        in_block = requests.block == number
        # The rows of a batch share their start.
        starts, place, sizes = np.unique(requests.start_ns[in_block], return_inverse=True, return_counts=True)
        longest = np.zeros(len(starts), dtype=np.int64)
        np.maximum.at(longest, place, requests.tokens[in_block])
        seen |= set(zip(sizes.tolist(), longest.tolist(), strict=True))
        counts.append(len(seen))
    return np.array(counts, dtype=float)


def slopes(time: Floats, shapes: Floats, held: Floats) -> tuple[Slope, Slope]:
    """Slopes of `held` over `time` and over `shapes` (all of one length, in order), each with the other held fixed: least squares.

    Memory keeps its past, so neighbouring residuals are alike: the error is widened by (1 + ρ)/(1 − ρ) and its degrees of freedom shrink
    accordingly, ρ being the lag-1 autocorrelation corrected for small samples, never below 0. Where no new shapes come, or they come as
    steadily as time goes by, only one slope can be told: the one over time.
    """
    n = len(held)
    if n < SLOPE_BLOCKS:
        none = Slope(math.nan, math.nan, math.nan, f"{n} of {SLOPE_BLOCKS} blocks of one process")
        return none, none
    varied = bool(np.ptp(shapes) > 0)
    apart = varied and abs(float(np.corrcoef(time, shapes)[0, 1])) < TOO_ALIKE
    design = np.column_stack([np.ones(n), time, shapes] if apart else [np.ones(n), time])
    fitted, *_ = np.linalg.lstsq(design, held, rcond=None)
    residual = held - design @ fitted
    rho = _autocorrelation(residual, design.shape[1])
    free = n - design.shape[1]
    inflated = float(residual @ residual) / free * (1 + rho) / (1 - rho)
    errors = np.sqrt(np.maximum(np.diag(np.linalg.pinv(design.T @ design)) * inflated, 0))
    half = float(scipy_stats.t.ppf(0.5 + CONFIDENCE / 2, max(1.0, n * (1 - rho) / (1 + rho) - design.shape[1]))) * errors
    _, *fits = [Slope(float(value), float(value - width), float(value + width)) for value, width in zip(fitted, half, strict=True)]
    if apart:
        return fits[0], fits[1]
    reason = "new shapes came as steadily as time went by" if varied else "no new shapes after the first block"
    return fits[0], Slope(math.nan, math.nan, math.nan, reason)


def _autocorrelation(residual: Floats, terms: int) -> float:
    """Lag-1 autocorrelation within [0, MOST_ALIKE]; its bias after a fit of so many terms, about −(terms + 4ρ)/n, is added back."""
    total = float(residual @ residual)
    if total <= 0:
        return 0.0
    raw = float(residual[1:] @ residual[:-1]) / total
    return min(max(raw + (terms + 4 * raw) / len(residual), 0.0), MOST_ALIKE)
