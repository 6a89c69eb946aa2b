"""The search for the largest Poisson rate at which an arm answers in time: the rate to try next, and the result so far.

Rates lie on one ladder for all arms and models, ten rungs to a factor of ten (1, 1.26, 1.58, 2, …). A rate holds a limit when the Wilson
upper bound of the share of latencies above it is at most 1 − q. A trial is an open-loop piece that was really served; a queue simulated
with the service times seen so far only says where to try first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.core.arrays import Floats
from bench.stats.load import meets_slo, wilson

STEPS_PER_DECADE = 10
LOWEST, HIGHEST = -30, 50  # rungs: 0.001/s … 100 000/s
#: A rate that neither surely holds nor surely breaks a limit gets one more piece.
MAX_PIECES = 2
#: Requests of the simulated queue.
SIMULATED = 2000


def rate_of(rung: int) -> float:
    """Arrivals per second of a rung of the ladder, to four significant digits."""
    return float(f"{10 ** (rung / STEPS_PER_DECADE):.4g}")


def rung_of(rate_per_s: float) -> int:
    """The rung nearest to a rate."""
    return round(STEPS_PER_DECADE * math.log10(rate_per_s))


@dataclass(frozen=True)
class Sustained:
    """The result of a search for one limit.

    Attributes:
        rate_per_s: the largest rate that holds the limit; None where none is known.
        fails_per_s: the smallest rate tried above it that does not hold it.
        settled: the two are neighbours on the ladder, or no rate can hold the limit.
        note: why it is not settled, or why no rate can.
    """

    limit_ms: float
    rate_per_s: float | None
    fails_per_s: float | None
    settled: bool
    note: str | None = None


@dataclass
class Rung:
    """The pieces that were served at one rate: the latencies of each in ns, and whether the backlog of one still grew at its end."""

    latencies: list[Floats] = field(default_factory=list)
    overrun: bool = False

    def holds(self, limit_ns: float, q: float) -> bool | None:
        """Does the rate hold the limit? None: one more piece may tell."""
        latency = np.concatenate(self.latencies)
        if self.overrun:
            return False
        if meets_slo(latency, limit_ns, q):
            return True
        surely_not = wilson(int(np.count_nonzero(latency > limit_ns)), len(latency))[0] > 1 - q
        return False if surely_not or len(self.latencies) >= MAX_PIECES else None


class ArmSearch:
    """One arm's search for all limits at once: a trial at one rate tells about every limit."""

    def __init__(self, limits_ms: Sequence[float], q: float, service_s: float) -> None:
        """
        Args:
            service_s: seconds of one request, as far as known: the first trial is at half that load.
        """
        self.limits_ms, self.q = tuple(limits_ms), q
        self.first = min(HIGHEST, max(LOWEST, rung_of(0.5 / service_s)))
        self.rungs: dict[int, Rung] = {}
        self.services: list[Floats] = []

    def record(self, rate_per_s: float, latency_ns: Floats, service_ns: Floats, overrun: bool = False) -> None:
        """Enter a piece that was served. `overrun`: its backlog still grew at its end, so that it holds no limit, short as it was."""
        rung = self.rungs.setdefault(rung_of(rate_per_s), Rung())
        rung.latencies.append(np.asarray(latency_ns, dtype=float))
        rung.overrun |= overrun
        self.services.append(np.asarray(service_ns, dtype=float))

    def next_rate(self) -> float | None:
        """The rate to try next; None when every limit is settled."""
        if not self.rungs:
            return rate_of(self.first)
        for limit in sorted(self.limits_ms, reverse=True):
            rung = self._next_rung(limit)
            if rung is not None:
                return rate_of(rung)
        return None

    def results(self) -> list[Sustained]:
        """The result so far for each limit."""
        return [self._result(limit) for limit in self.limits_ms]

    def _bounds(self, limit: float) -> tuple[int | None, int | None, int | None]:
        """(largest rung that holds, smallest above it that does not, a rung that wants one more piece)."""
        judged = {number: rung.holds(limit * 1e6, self.q) for number, rung in self.rungs.items()}
        low = max((rung for rung, holds in judged.items() if holds), default=None)
        high = min((rung for rung, holds in judged.items() if holds is False and (low is None or rung > low)), default=None)
        between = [rung for rung, holds in judged.items()
                   if holds is None and (low is None or rung > low) and (high is None or rung < high)]  # fmt: skip
        return low, high, max(between, default=None)

    def _hopeless(self, limit: float) -> bool:
        """Do services alone, without any queue, take longer than the limit so often that no rate can hold it?"""
        return float(np.mean(np.concatenate(self.services) > limit * 1e6)) > (1 - self.q) / 2

    def _next_rung(self, limit: float) -> int | None:
        low, high, again = self._bounds(limit)
        if low is None and self._hopeless(limit):
            return None
        if again is not None:
            return again
        guess = self._guess(limit)
        if low is None:
            assert high is not None
            return max(LOWEST, min(high - 1, guess)) if high > LOWEST else None
        if high is None:
            return min(HIGHEST, max(low + 1, guess)) if low < HIGHEST else None
        if high - low == 1:
            return None
        return guess if low < guess < high else (low + high) // 2

    def _guess(self, limit: float) -> int:
        """The largest rung at which a simulated queue with the services seen so far would hold the limit."""
        random = np.random.default_rng(1)
        service = random.choice(np.concatenate(self.services), SIMULATED)
        gap = random.exponential(1e9, SIMULATED)
        best = LOWEST
        for rung in range(LOWEST, HIGHEST + 1):
            if np.mean(_latencies(gap / rate_of(rung), service) > limit * 1e6) > (1 - self.q) / 2:
                break
            best = rung
        return best

    def _result(self, limit: float) -> Sustained:
        if not self.rungs:
            return Sustained(limit, None, None, False, "not tried")
        low, high, again = self._bounds(limit)
        rate, fails = (None if rung is None else rate_of(rung) for rung in (low, high))
        if low is None and self._hopeless(limit):
            share = float(np.mean(np.concatenate(self.services) > limit * 1e6))
            return Sustained(limit, None, fails, True, f"no rate: {share:.1%} of the services alone take longer than {limit:g} ms")
        ended = low == HIGHEST or (low is None and high == LOWEST)
        settled = again is None and (ended or (low is not None and high is not None and high - low == 1))
        return Sustained(limit, rate, fails, settled, None if settled else "the search was not finished")


def _latencies(gap_ns: Floats, service_ns: Floats) -> Floats:
    """Latencies of a queue with one session (Lindley's recursion as a running maximum). ns."""
    due, done = np.cumsum(gap_ns), np.cumsum(service_ns)
    return np.asarray(np.maximum.accumulate(due - (done - service_ns)) + done - due, dtype=float)
