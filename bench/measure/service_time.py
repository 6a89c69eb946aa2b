"""What a batch of a scenario will cost an arm, by what its warm-up served. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.measure.budget import ServiceTime
from bench.plan.folder import Plan

#: From this many widths on, times are laid on a straight line.
MIN_WIDTHS = 8
#: A mean width this near to the one to come is scaled to it.
NEAR = 0.25
#: Warm-up serves this many rows one by one, then batches of every length; each for this many seconds at least.
WARM_UP_SINGLES, LEAST_WARM_UP_S = 64, 0.2


def width_to_come(plan: Plan, batch: int) -> float:
    """The mean over the measured batches of their longest row, in tokens: what a batch is padded to."""
    lengths = plan.lengths[plan.warm :]
    usable = len(lengths) // batch * batch
    return float(lengths[:usable].reshape(-1, batch).max(axis=1).mean() if usable else lengths.max())


def typical_first(plan: Plan, batch: int, width: float) -> int:
    """The first row of the warm-up batch whose longest row is nearest to `width`."""
    firsts = range(0, plan.warm - batch + 1)
    return min(firsts, key=lambda first: abs(float(plan.lengths[first : first + batch].max()) - width))


def batch_s(samples: pd.DataFrame, plan: Plan, wanted: float) -> float | None:
    """Expected seconds of a batch of `wanted` width; None where the batches of warm-up are too few, and too unlike it, to tell.

    Warm-up rows hold every length once: their times are laid on a straight line. A call that mostly reads weights takes no shorter for
    few tokens, so a handful of short rows must not be scaled up.
    """
    services = samples.drop_duplicates("start_ns")
    if not len(services):
        return None
    seconds = (services["end_ns"] - services["start_ns"]).to_numpy() / 1e9
    chunks = np.array_split(samples["request"].to_numpy(), len(seconds))
    width = np.array([plan.lengths[chunk].max() for chunk in chunks], dtype=float)
    if len(set(width)) >= MIN_WIDTHS:
        slope, base = np.polyfit(width, seconds, 1)
        if slope > 0:
            return float(max(base + slope * wanted, seconds.min()))
    if abs(width.mean() / wanted - 1) <= NEAR:
        return float(seconds.mean() * wanted / width.mean())
    return None


@dataclass(frozen=True)
class Known:
    """What an arm's batches of a plan cost in a scenario that it was warmed up for."""

    plan: Plan
    batch: int
    cost: ServiceTime


def elsewhere(known: Sequence[Known], plan: Plan, batch: int) -> ServiceTime:
    """What batches of another plan will cost, about: by the scenario with the nearest batch, and in proportion to the tokens."""
    nearest = min(known, key=lambda one: abs(math.log(one.batch / batch)))

    def more(batch: int, known_batch: int) -> float:
        return batch * width_to_come(plan, batch) / (known_batch * width_to_come(nearest.plan, known_batch))

    return ServiceTime(nearest.cost.batch_s * more(batch, nearest.batch), nearest.cost.single_s * more(1, 1))


def warm_up_limits_s(limit_s: float) -> tuple[float, float]:
    """How much of a warm-up of `limit_s` the single requests may take, and how much the batches."""
    return max(LEAST_WARM_UP_S, limit_s / 4), max(LEAST_WARM_UP_S, limit_s * 3 / 4)


def warm_up_s(plan: Plan, batch: int, cost: ServiceTime, limit_s: float) -> float:
    """Seconds that one arm's warm-up will take, about."""
    singles_s, batches_s = warm_up_limits_s(limit_s)
    return min(singles_s, min(plan.warm, WARM_UP_SINGLES) * cost.single_s) + min(batches_s, plan.warm / batch * cost.batch_s)
