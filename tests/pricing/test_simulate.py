"""The simulated fleet: by hand, against queues whose law is known, and properties that hold for any load."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.pricing import simulate
from bench.pricing.simulate import Balancing, Fleet, Floats

BALANCING: tuple[Balancing, ...] = ("random", "least-outstanding")


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def alone(arrival: list[float], service: list[float], fleet: Fleet) -> list[float]:
    latencies: list[float] = simulate.one_at_a_time(np.array(arrival), np.array(service), fleet, rng()).round(9).tolist()
    return latencies


# --- by hand -----------------------------------------------------------------------------------------------------------------


def test_one_machine_by_hand() -> None:
    """At 0, 1, 2 and 10 with 3 s each: done at 3, 6, 9 and 13."""
    for balancing in BALANCING:
        assert alone([0, 1, 2, 10], [3, 3, 3, 3], Fleet(1, balancing)) == [3, 5, 7, 3]


def test_two_machines_with_the_fewest_outstanding_by_hand() -> None:
    """At 0 one for 10 s; at 1 one for 1 s goes to the other machine, as do those at 2.5 and 3, since it has fewer outstanding."""
    assert alone([0.0, 1.0, 2.5, 3.0], [10.0, 1.0, 1.0, 1.0], Fleet(2, "least-outstanding"))[:3] == [10.0, 1.0, 1.0]
    assert alone([0.0, 1.0, 2.5, 4.0], [10.0, 1.0, 1.0, 1.0], Fleet(2, "least-outstanding")) == [10.0, 1.0, 1.0, 1.0]


def test_an_idle_machine_is_never_passed_over() -> None:
    assert alone([0, 0.5, 1, 1.5], [10, 10, 10, 10], Fleet(4, "least-outstanding")) == [10] * 4


def test_batches_by_hand() -> None:
    """At 0 one alone until 2; at 1, 1.5 and 1.8 three wait, of which the machine takes two together (2 + 2 s), then one (2 s more)."""
    batches: list[list[int]] = []

    def batch_s(requests: Sequence[int]) -> float:
        batches.append(list(requests))
        return 2.0

    latency = simulate.in_batches(np.array([0.0, 1.0, 1.5, 1.8]), batch_s, Fleet(1, "random", 2), rng())
    assert batches == [[0], [1, 2], [3]]
    assert latency.tolist() == pytest.approx([2.0, 3.0, 2.5, 4.2])


def test_a_batch_never_waits_to_be_filled() -> None:
    latency = simulate.in_batches(np.array([0.0, 10.0]), lambda batch: 1.0, Fleet(1, "least-outstanding", 32), rng())
    assert latency.tolist() == [1.0, 1.0]


# --- against known laws ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.3, 0.7])
def test_one_server_with_exponential_services(rho: float) -> None:
    """M/M/1: the latency is exponential with mean 1 / (1 − ρ)."""
    draw, n = rng(3), 400_000
    latency = simulate.one_at_a_time(np.cumsum(draw.exponential(1 / rho, n)), draw.exponential(1, n), Fleet(1, "random"), draw)
    assert latency.mean() == pytest.approx(1 / (1 - rho), rel=0.05)
    assert np.quantile(latency, 0.99) == pytest.approx(-math.log(0.01) / (1 - rho), rel=0.08)


def test_the_mean_wait_of_any_service() -> None:
    """Pollaczek–Khinchine: the mean wait is ρ (1 + c²) / (2 (1 − ρ)) services. Lognormal, c² = 0.5, ρ = 0.6."""
    draw, n, c2, rho = rng(4), 400_000, 0.5, 0.6
    service = draw.lognormal(-0.5 * math.log(1 + c2), math.sqrt(math.log(1 + c2)), n)
    latency = simulate.one_at_a_time(np.cumsum(draw.exponential(1 / rho, n)), service, Fleet(1, "random"), draw)
    assert (latency - service).mean() == pytest.approx(rho * (1 + c2) / (2 * (1 - rho)), rel=0.05)


def test_random_balancing_is_as_many_servers_of_a_share_of_the_load() -> None:
    draw, n, machines, rho = rng(5), 400_000, 6, 0.6
    arrival = np.cumsum(draw.exponential(1 / (rho * machines), n))
    latency = simulate.one_at_a_time(arrival, draw.exponential(1, n), Fleet(machines, "random"), draw)
    assert latency.mean() == pytest.approx(1 / (1 - rho), rel=0.05)


def test_the_fewest_outstanding_lie_between_one_queue_for_all_and_random() -> None:
    """Two exponential servers at ρ = 0.8: one queue for both has a mean of 1 / (1 − ρ²) = 2.78, random queues 5."""
    draw, n, rho = rng(6), 400_000, 0.8
    arrival = np.cumsum(draw.exponential(1 / (2 * rho), n))
    latency = simulate.one_at_a_time(arrival, draw.exponential(1, n), Fleet(2, "least-outstanding"), draw)
    assert 1 / (1 - rho**2) < latency.mean() < 0.75 / (1 - rho)


# --- properties --------------------------------------------------------------------------------------------------------------


@st.composite
def loads(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Ascending arrivals and services of up to 60 requests."""
    gaps = draw(st.lists(st.floats(0, 10, allow_subnormal=False), min_size=1, max_size=60))
    services = draw(st.lists(st.floats(0.001, 10, allow_subnormal=False), min_size=len(gaps), max_size=len(gaps)))
    return np.cumsum(gaps), np.array(services)


@given(loads(), st.integers(1, 5), st.sampled_from(BALANCING))
def test_services_are_whole_and_machines_are_never_overbooked(load: tuple[Floats, Floats], machines: int, balancing: Balancing) -> None:
    arrival, service = load
    latency = simulate.one_at_a_time(arrival, service, Fleet(machines, balancing), rng())
    done, start = arrival + latency, arrival + latency - service
    assert (latency >= service - 1e-9).all()
    for moment in start:
        assert np.count_nonzero((start <= moment + 1e-9) & (done > moment + 1e-6)) <= machines


@given(loads(), st.integers(1, 5))
def test_batches_of_one_are_one_at_a_time(load: tuple[Floats, Floats], machines: int) -> None:
    arrival, service = load
    fleet, seconds = Fleet(machines, "random"), service.tolist()
    expected = simulate.one_at_a_time(arrival, service, fleet, rng())
    assert simulate.in_batches(arrival, lambda batch: seconds[batch[0]], fleet, rng()) == pytest.approx(expected, abs=1e-9)


@given(loads(), st.integers(1, 4), st.integers(1, 8), st.sampled_from(BALANCING))
def test_every_request_is_in_one_batch_and_none_is_too_large(
    load: tuple[Floats, Floats], machines: int, cap: int, balancing: Balancing
) -> None:
    arrival, _ = load
    served: list[int] = []

    def batch_s(requests: Sequence[int]) -> float:
        assert 1 <= len(requests) <= cap and list(requests) == sorted(requests)
        served.extend(requests)
        return 0.5 + 0.1 * len(requests)

    latency = simulate.in_batches(arrival, batch_s, Fleet(machines, balancing, cap), rng())
    assert sorted(served) == list(range(len(arrival)))
    assert (latency >= 0.6 - 1e-9).all()


@settings(max_examples=30)
@given(loads(), st.sampled_from([0.25, 0.5, 8.0, 64.0]), st.sampled_from(BALANCING))
def test_a_clock_of_another_unit_changes_nothing(load: tuple[Floats, Floats], unit: float, balancing: Balancing) -> None:
    arrival, service = load
    fleet = Fleet(3, balancing)
    latency = simulate.one_at_a_time(arrival, service, fleet, rng())
    assert simulate.one_at_a_time(unit * arrival, unit * service, fleet, rng()) == pytest.approx(unit * latency, rel=1e-9, abs=1e-9)


@given(loads())
def test_a_machine_for_each_request_leaves_nobody_waiting(load: tuple[Floats, Floats]) -> None:
    arrival, service = load
    latency = simulate.one_at_a_time(arrival, service, Fleet(len(arrival), "least-outstanding"), rng())
    assert latency == pytest.approx(service, abs=1e-9)
