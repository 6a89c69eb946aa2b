"""The search for the largest rate within a limit, on fakes whose capacity is known; nothing here waits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.core.arrays import Floats
from bench.stats.load import unsustainable
from bench.stats.slo import HIGHEST, LOWEST, ArmSearch, rate_of, rung_of

LIMITS = (10.0, 25.0, 50.0, 100.0, 250.0, 1000.0)
N = 400


def serve(rate_per_s: float, service_ns: Floats, seed: int) -> tuple[Floats, Floats, bool]:
    """A Poisson piece through one session: latencies, services, and whether its backlog still grew."""
    due = np.cumsum(np.random.default_rng(seed).exponential(1e9 / rate_per_s, len(service_ns)))
    done = np.cumsum(service_ns)
    end = np.maximum.accumulate(due - (done - service_ns)) + done
    start = end - service_ns
    return end - due, service_ns, unsustainable(due.astype(np.int64), start.astype(np.int64), end.astype(np.int64))


def searched(service_s: float, limits: tuple[float, ...] = LIMITS, spread: float = 0.0) -> tuple[ArmSearch, int]:
    """Run a search to its end against a worker of that service time (ln-normal with `spread`); how many pieces it took."""
    search, pieces = ArmSearch(limits, 0.99, service_s), 0
    while (rate := search.next_rate()) is not None:
        pieces += 1
        assert pieces < 60, "does not end"
        service = service_s * 1e9 * np.exp(np.random.default_rng(pieces).normal(0, spread, N) if spread else np.zeros(N))
        search.record(rate, *serve(rate, service, 1000 + pieces))
    return search, pieces


def exact_rate(service_s: float, limit_s: float) -> float:
    """The largest rate at which a share of 0.5 % of an M/D/1 queue's latencies lies above the limit: by a long simulation."""
    random = np.random.default_rng(7)
    gap, best = random.exponential(1.0, 200_000), 0.0
    due = np.cumsum(gap)
    done = np.cumsum(np.full(len(gap), service_s))
    for rate in np.geomspace(0.01 / service_s, 0.99 / service_s, 60):
        latency = np.maximum.accumulate(due / rate - (done - service_s)) + done - due / rate
        if np.mean(latency > limit_s) <= 0.005:
            best = float(rate)
    return best


def test_the_ladder_is_one_for_all() -> None:
    assert [rate_of(rung) for rung in (-10, 0, 1, 10)] == [0.1, 1.0, 1.259, 10.0]
    assert all(rung_of(rate_of(rung)) == rung for rung in range(LOWEST, HIGHEST + 1))


def test_a_worker_of_known_capacity() -> None:
    """5 ms a request: the found rate lies within three steps of what a long simulation of the queue allows (pieces are short)."""
    search, pieces = searched(0.005)
    for found in search.results():
        assert found.settled and found.rate_per_s is not None and found.fails_per_s is not None
        assert rung_of(found.fails_per_s) - rung_of(found.rate_per_s) == 1
        assert abs(rung_of(found.rate_per_s) - rung_of(exact_rate(0.005, found.limit_ms / 1e3))) <= 3, found
    rates = [found.rate_per_s for found in search.results()]
    assert rates == sorted(rates, key=lambda rate: rate or 0), "a longer limit never holds a smaller rate"
    assert pieces <= 30


def test_below_one_request_a_second() -> None:
    search, _ = searched(3.0, (5000.0, 20000.0))
    for found in search.results():
        assert found.settled and found.rate_per_s is not None
        assert 0 < found.rate_per_s < 1 / 3.0
        assert abs(rung_of(found.rate_per_s) - rung_of(exact_rate(3.0, found.limit_ms / 1e3))) <= 3


def test_a_limit_below_the_service_itself_is_given_up_at_once() -> None:
    search, pieces = searched(0.2, (10.0, 100.0))
    assert pieces == 1
    assert [(found.rate_per_s, found.settled) for found in search.results()] == [(None, True), (None, True)]
    assert "100.0% of the services alone take longer than 10 ms" in str(search.results()[0].note)


def test_an_overrun_holds_nothing_however_short_it_was() -> None:
    search = ArmSearch((1000.0,), 0.99, 0.01)
    search.record(50.1, np.full(N, 1e6), np.full(N, 1e6), overrun=True)
    assert search.results()[0].rate_per_s is None and not search.results()[0].settled
    assert search.next_rate() is not None


def test_a_rate_between_gets_one_more_piece() -> None:
    """4 of 400 too late: the interval of the share reaches from 0.4 % to 2.5 %. With 400 more in time it is 1.3 % at most: no."""
    search = ArmSearch((100.0,), 0.99, 0.01)
    latency = np.full(N, 50e6)
    latency[:4] = 200e6
    rate = rate_of(search.first)
    search.record(rate, latency, np.full(N, 10e6))
    assert search.next_rate() == rate
    search.record(rate, np.full(N, 50e6), np.full(N, 10e6))
    assert search.next_rate() != rate


@pytest.mark.parametrize("service_s", [0.0004, 0.02, 1.5])
def test_the_first_trial_is_at_half_load(service_s: float) -> None:
    rate = ArmSearch((100.0,), 0.99, service_s).next_rate()
    assert rate is not None and math.isclose(rate * service_s, 0.5, rel_tol=0.13)


def test_an_unfinished_search_says_so() -> None:
    search = ArmSearch((100.0,), 0.99, 0.005)
    assert (search.results()[0].settled, search.results()[0].note) == (False, "not tried")
    search.record(100.0, np.full(N, 6e6), np.full(N, 5e6))
    found = search.results()[0]
    assert (found.rate_per_s, found.settled, found.note) == (100.0, False, "the search was not finished")
