"""How many machines serve arrivals at a rate within a latency limit, by simulation of the fleet with stored service times.

Dividing the rate by the throughput of a saturated machine, as FMBench does, leaves no room for a queue: random arrivals then miss the limit
by a multiple. Here N is the smallest number of machines whose simulated latency percentile keeps the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.core.arrays import Floats
from bench.pricing import simulate
from bench.pricing.service import BatchCurve, Singles
from bench.pricing.simulate import Balancing, Fleet
from bench.stats.sample import percentile

#: Requests of a simulation, of which the first WARM_UP share is left out while the queues fill.
REQUESTS, WARM_UP = 200_000, 0.1
#: Resamplings of the measured blocks behind a risk, and requests of each.
RESAMPLES, RESAMPLE_REQUESTS = 20, 50_000
#: Requests that are simulated as pieces of an open loop.
PIECE_REQUESTS = 40_000
#: More machines than this are not simulated.
MOST_MACHINES = 500
#: Batches of full size whose mean seconds give the capacity of a machine.
CAPACITY_BATCHES = 500
SEED = 1


@dataclass(frozen=True, eq=False)
class Calibration:
    """What is known of one arm on one machine: requests served alone, and the curve of batches where batches were measured."""

    singles: Singles
    curve: BatchCurve | None

    def resampled(self, rng: np.random.Generator) -> Calibration:
        """As it might have been measured at another hour: blocks drawn with replacement."""
        return Calibration(self.singles.resampled(rng), self.curve.resampled(rng) if self.curve else None)


@dataclass(frozen=True)
class Demand:
    """Poisson arrivals at a rate, of which the share `q` is to be answered within `limit_s`."""

    rate_per_s: float
    limit_s: float
    q: float = 0.99


@dataclass(frozen=True)
class Prediction:
    """The simulated latency of a fleet under a demand. `utilisation`: the offered load of a machine; from 1 on no queue ends."""

    machines: int
    percentile_s: float
    share_over: float
    utilisation: float


@dataclass(frozen=True)
class Size:
    """The smallest fleet that keeps the limit.

    Attributes:
        cap: requests that a machine takes together at most.
        at: the prediction for it, `one_less` for one machine less (None where that is none).
        naive: the prediction for the number that division gives.
        missed: in how many of RESAMPLES resamplings of the measured blocks it misses the limit.
    """

    balancing: Balancing
    cap: int
    at: Prediction
    one_less: Prediction | None
    naive: Prediction
    missed: int

    @property
    def machines(self) -> int:
        return self.at.machines


@dataclass(frozen=True)
class Refused:
    """Why no number of machines can be named."""

    reason: str


def naive_machines(rate_per_s: float, capacity_per_s: float) -> int:
    """FMBench's division: ⌈requests per minute / transactions per minute of a saturated machine⌉."""
    return math.ceil(round(rate_per_s / capacity_per_s, 9))


def capacity_per_s(calibration: Calibration, cap: int) -> float:
    """Requests a second of a machine that always has `cap` of them waiting."""
    if cap == 1:
        return 1 / float(calibration.singles.service_s.mean())
    curve = _curve(calibration)
    rng = np.random.default_rng(SEED)
    widths = rng.choice(calibration.singles.tokens, (CAPACITY_BATCHES, cap)).max(axis=1)
    seconds = np.array([curve.seconds(cap, int(width)) for width in widths]) * rng.choice(curve.ratio, CAPACITY_BATCHES)
    return cap / float(seconds.mean())


def latencies_s(
    calibration: Calibration, rate_per_s: float, fleet: Fleet, requests: int, rng: np.random.Generator, arrival_s: Floats | None = None
) -> Floats:
    """Simulated latencies (requests,) in the order of arrival: Poisson arrivals, unless they are given."""
    if arrival_s is None:
        arrival_s = np.cumsum(rng.exponential(1 / rate_per_s, requests))
    if fleet.cap == 1:
        return simulate.one_at_a_time(arrival_s, rng.choice(calibration.singles.service_s, requests), fleet, rng)
    curve = _curve(calibration)
    tokens = rng.choice(calibration.singles.tokens, requests).tolist()
    ratio = rng.choice(curve.ratio, requests).tolist()
    return simulate.in_batches(
        arrival_s,
        lambda batch: ratio[batch[0]] * curve.seconds(len(batch), max([tokens[request] for request in batch])),
        fleet,
        rng,
    )


def predicted(calibration: Calibration, demand: Demand, fleet: Fleet, requests: int = REQUESTS, seed: int = SEED) -> Prediction:
    """The latency of a fleet under a demand, in steady state."""
    utilisation = demand.rate_per_s / fleet.machines / capacity_per_s(calibration, fleet.cap)
    if utilisation >= 1:
        return Prediction(fleet.machines, math.inf, 1.0, utilisation)
    latency_s = latencies_s(calibration, demand.rate_per_s, fleet, requests, np.random.default_rng(seed))[int(WARM_UP * requests) :]
    over = float(np.mean(latency_s > demand.limit_s))
    return Prediction(fleet.machines, percentile(latency_s, demand.q), over, utilisation)


def predicted_pieces(calibration: Calibration, rate_per_s: float, cap: int, piece: int, discard: float, q: float) -> float:
    """Seconds of the percentile of an open loop on one machine as a run measures it: pieces from an empty queue, their first part left out.

    Args:
        piece: requests of a piece.
        discard: the share of it that is left out.
    """
    rng, fleet = np.random.default_rng(SEED), Fleet(1, "random", cap)
    pieces = [latencies_s(calibration, rate_per_s, fleet, piece, rng)[round(discard * piece) :] for _ in range(PIECE_REQUESTS // piece)]
    return percentile(np.concatenate(pieces), q)


def size(calibration: Calibration, demand: Demand, balancing: Balancing, cap: int) -> Size | Refused:
    """The smallest fleet whose predicted percentile keeps the limit."""
    if demand.rate_per_s <= 0 or demand.limit_s <= 0:
        raise ValueError(f"{demand}: wants a rate and a limit above 0")
    if cap > 1 and calibration.curve is None:
        return Refused("batches of several sizes were not measured")
    over = float(np.mean(calibration.singles.service_s > demand.limit_s))
    if over > 1 - demand.q:
        return Refused(f"no number of machines: {over:.1%} of the services alone take longer than {1000 * demand.limit_s:g} ms")
    naive = naive_machines(demand.rate_per_s, capacity_per_s(calibration, cap))
    if naive > MOST_MACHINES:
        return Refused(f"{naive} machines and more: fleets of up to {MOST_MACHINES} are simulated; split the load")
    predictions: dict[int, Prediction] = {}

    def keeps(machines: int) -> bool:
        predictions[machines] = predicted(calibration, demand, Fleet(machines, balancing, cap))
        return predictions[machines].percentile_s <= demand.limit_s

    machines = _smallest(keeps, naive)
    if machines is None:
        return Refused(f"not even {MOST_MACHINES} machines keep {1000 * demand.limit_s:g} ms")
    for shown in {naive, machines - 1} - predictions.keys() - {0}:
        keeps(shown)
    missed = _missed(calibration, demand, Fleet(machines, balancing, cap))
    return Size(balancing, cap, predictions[machines], predictions.get(machines - 1), predictions[naive], missed)


def _smallest(keeps: Callable[[int], bool], first: int) -> int | None:
    """The smallest number of machines, at least `first`, that keeps the limit; None above MOST_MACHINES. Steps double, then halve."""
    low, high, step = first - 1, first, 1
    while not keeps(high):
        if high == MOST_MACHINES:
            return None
        low, high, step = high, min(high + step, MOST_MACHINES), 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high


def _missed(calibration: Calibration, demand: Demand, fleet: Fleet) -> int:
    """In how many resamplings of the measured blocks the fleet misses the limit."""
    rng = np.random.default_rng(SEED)
    predictions = [predicted(calibration.resampled(rng), demand, fleet, RESAMPLE_REQUESTS, seed) for seed in range(RESAMPLES)]
    return sum(prediction.percentile_s > demand.limit_s for prediction in predictions)


def _curve(calibration: Calibration) -> BatchCurve:
    if calibration.curve is None:
        raise ValueError("batches were not measured")
    return calibration.curve
