"""What a request and a batch of a scenario take an arm, as its warm-up shows. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.plan.folder import Plan

#: Batches of at least this many widths are fitted by a straight line.
MIN_WIDTHS = 8
#: Fewer are scaled, where their mean width is within this part of the wanted one.
NEAR = 0.25
#: Warm-up serves this many rows one by one, then batches of every length; each of the two for this many seconds at least.
WARM_UP_SINGLES, LEAST_WARM_UP_S = 64, 0.2


@dataclass(frozen=True)
class ServiceTime:
    """Expected seconds of one arm for a batch of a scenario, and for one request alone."""

    batch_s: float
    single_s: float


@dataclass(frozen=True)
class Observed:
    """The service time of an arm in a scenario for which it was warmed up."""

    plan: Plan
    batch: int
    service: ServiceTime


def mean_width(plan: Plan, batch: int) -> float:
    """The mean over the measured batches of their longest row, in tokens: the width to which they are padded."""
    lengths = plan.lengths[plan.warm :]
    usable = len(lengths) // batch * batch
    return float(lengths[:usable].reshape(-1, batch).max(axis=1).mean() if usable else lengths.max())


def typical_first(plan: Plan, batch: int, width: float) -> int:
    """The first row of the warm-up batch whose longest row is nearest to `width`."""
    firsts = range(0, plan.warm - batch + 1)
    return min(firsts, key=lambda first: abs(float(plan.lengths[first : first + batch].max()) - width))


def batch_s(samples: pd.DataFrame, plan: Plan, width: float) -> float | None:
    """Expected seconds of a batch of `width` tokens; None where warm-up's batches are too few, and too unlike it, to tell.

    Warm-up rows hold every length once: their times are fitted by a straight line over the width. (Scaling a handful of short rows would
    mislead: a call that mostly reads weights takes no shorter for few tokens.)

    Args:
        samples: what warm-up served: request, start_ns, end_ns; the rows of a batch share start_ns.
    """
    batches = samples.drop_duplicates("start_ns")
    if not len(batches):
        return None
    seconds = (batches["end_ns"] - batches["start_ns"]).to_numpy() / 1e9
    chunks = np.array_split(samples["request"].to_numpy(), len(seconds))
    widths = np.array([plan.lengths[chunk].max() for chunk in chunks], dtype=float)
    if len(set(widths)) >= MIN_WIDTHS:
        slope, base = np.polyfit(widths, seconds, 1)
        if slope > 0:
            return float(max(base + slope * width, seconds.min()))
    if abs(widths.mean() / width - 1) <= NEAR:
        return float(seconds.mean() * width / widths.mean())
    return None


def extrapolated(observed: Sequence[Observed], plan: Plan, batch: int) -> ServiceTime:
    """The service time to expect of another plan: that of the scenario with the nearest batch, in proportion to the tokens."""
    nearest = min(observed, key=lambda other: abs(math.log(other.batch / batch)))

    def ratio(batch: int, observed_batch: int) -> float:
        return batch * mean_width(plan, batch) / (observed_batch * mean_width(nearest.plan, observed_batch))

    service = nearest.service
    return ServiceTime(service.batch_s * ratio(batch, nearest.batch), service.single_s * ratio(1, 1))


def warm_up_limits_s(limit_s: float) -> tuple[float, float]:
    """How much of a warm-up of `limit_s` the single requests may take, and how much the batches."""
    return max(LEAST_WARM_UP_S, limit_s / 4), max(LEAST_WARM_UP_S, limit_s * 3 / 4)


def warm_up_s(warm_rows: int, batch: int, service: ServiceTime, limit_s: float) -> float:
    """Expected seconds of one arm's warm-up on the first `warm_rows` rows of a plan."""
    singles_s, batches_s = warm_up_limits_s(limit_s)
    return min(singles_s, min(warm_rows, WARM_UP_SINGLES) * service.single_s) + min(batches_s, warm_rows / batch * service.batch_s)
