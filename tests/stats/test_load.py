"""The served clock and the closed loop against a simulation with real clients; open-loop promises against known queues."""

from __future__ import annotations

import heapq
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from bench.stats import load


def served(start: npt.ArrayLike, end: npt.ArrayLike, stretch: npt.ArrayLike | None = None) -> load.Requests:
    start, end = np.asarray(start, dtype=np.int64), np.asarray(end, dtype=np.int64)
    n = len(start)
    stretch = np.zeros(n, dtype=np.int64) if stretch is None else np.asarray(stretch, dtype=np.int64)
    zeros = np.zeros(n)
    return load.Requests(stretch, stretch, np.arange(n), np.ones(n, dtype=np.int64), start, start, end, zeros, zeros, zeros)


def test_frozen_gaps_leave_the_served_clock() -> None:
    """Two slices of 30 and 20 ns with 1000 ns of freeze between: the second begins where the first ended."""
    start, end = load.served_clock(served([100, 110, 1130, 1140], [110, 130, 1140, 1150], [0, 0, 1, 1]))
    assert list(start) == [0, 10, 30, 40]
    assert list(end) == [10, 30, 40, 50]


def test_closed_loop_by_hand() -> None:
    """Services 10, 20, 10, 10: with 2 clients request 2 was due at answer 0 (10) and answered at 40; request 3 at 30, answered at 50."""
    found = load.closed_loop(served([100, 110, 1130, 1140], [110, 130, 1140, 1150], [0, 0, 1, 1]), 2)
    assert list(found.latency) == [30, 20]
    assert list(found.service) == [10, 10]
    assert list(found.wait) == [20, 10]
    assert list(found.place) == [2, 3]


def test_with_one_client_latency_is_service() -> None:
    ns = np.random.default_rng(1).integers(1000, 9000, 50)
    end = np.cumsum(ns)
    found = load.closed_loop(served(end - ns, end), 1)
    assert list(found.latency) == list(ns[1:])
    assert not found.wait.any()


def test_more_clients_than_requests_leave_nothing() -> None:
    assert len(load.closed_loop(served([0, 10], [10, 20]), 5).latency) == 0


def simulate(services: list[int], clients: int, sessions: int) -> tuple[list[int], list[int], list[int]]:
    """A closed loop for real: each client sends, waits for its answer and sends again; sessions take requests in order of arrival."""
    queue = [(0, client) for client in range(clients)]
    free = [0] * sessions
    coming: list[tuple[int, int]] = []
    due, start, end = [], [], []
    for service in services:
        while coming and (not queue or coming[0][0] <= max(min(free), queue[0][0])):
            queue.append(heapq.heappop(coming))
        arrived, client = queue.pop(0)
        session = free.index(min(free))
        begin = max(free[session], arrived)
        free[session] = begin + service
        heapq.heappush(coming, (begin + service, client))
        due.append(arrived)
        start.append(begin)
        end.append(begin + service)
    return due, start, end


@pytest.mark.parametrize(("clients", "sessions"), [(1, 1), (4, 1), (16, 1), (2, 2), (4, 2), (16, 3)])
def test_the_derived_closed_loop_is_the_real_one(clients: int, sessions: int) -> None:
    services = [int(value) for value in np.random.default_rng(clients).lognormal(15, 0.5, 400)]
    due, start, end = simulate(services, clients, sessions)
    derived = load.closed_loop(served(start, end), clients)
    real = (np.array(end) - np.array(due))[clients:]
    assert list(derived.latency) == list(real)


def test_dynamic_batches_of_waiting_clients() -> None:
    """Batches of 2 in 10 ns each: with 2 clients everybody waits one batch, with 4 clients two."""
    start, end = np.repeat([0, 10, 20, 30], 2), np.repeat([10, 20, 30, 40], 2)
    assert set(load.closed_loop(served(start, end), 2).latency) == {10}
    assert set(load.closed_loop(served(start, end), 4).latency) == {20}


def test_stretches_by_hand() -> None:
    found = load.stretches(served([0, 10, 1000], [10, 30, 1040], [0, 0, 1]))
    assert list(found.rows) == [2, 1]
    assert found.seconds == pytest.approx([30e-9, 40e-9])
    assert len(load.stretches(served([], [])).rows) == 0


def queue(rng: np.random.Generator, n: int, rho: float, service_ns: int = 10_000_000) -> tuple[npt.NDArray[np.int64], ...]:
    """An M/D/1 queue: due, start, end in ns."""
    due = np.cumsum(rng.exponential(service_ns / rho, n)).astype(np.int64)
    offset = np.arange(n) * service_ns
    end = np.maximum.accumulate(due - offset) + offset + service_ns
    return due, end - service_ns, end


@pytest.mark.parametrize("rho", [0.3, 0.7, 0.9])
def test_littles_law_holds_for_an_honest_queue(rho: float) -> None:
    due, _, end = queue(np.random.default_rng(2), 2000, rho)
    assert load.little(due, end).error < 0.02


def test_littles_law_shows_clocks_that_lie() -> None:
    due, start, end = queue(np.random.default_rng(2), 2000, 0.7)
    assert load.little(due, end).error < 0.02 < load.Little(load.little(due, end).in_system, 70.0, float((end - start).mean()) / 1e9).error


@pytest.mark.parametrize(("rho", "grows"), [(0.5, False), (0.9, False), (1.1, True), (1.5, True), (3.0, True)])
def test_a_backlog_that_grows_is_seen(rho: float, grows: bool) -> None:
    verdicts = [load.unsustainable(*queue(np.random.default_rng(seed), 1500, rho)) for seed in range(100)]
    assert np.mean(verdicts) >= 0.95 if grows else np.mean(verdicts) <= 0.05


@pytest.mark.parametrize("at", [0.1, 0.5, 0.8, 0.9])
def test_a_stall_is_no_overload(at: float) -> None:
    """One second is lost at some moment of a quiet queue: it drains, wherever it was."""
    n, service = 3000, 10_000_000
    due = np.cumsum(np.random.default_rng(9).exponential(service / 0.5, n)).astype(np.int64)
    took = np.full(n, service)
    took[int(at * n)] += 1_000_000_000
    done = np.cumsum(took)
    end = np.maximum.accumulate(due - np.append(0, done[:-1])) + done
    assert not load.unsustainable(due, end - took, end)


def test_only_what_is_answered_inside_the_window_counts() -> None:
    """Due at 0, 5 and 9 ns, answered at 4, 9 and 14: two answers in a window of 9 ns."""
    found = load.open_windows(replace(served([0, 5, 9], [4, 9, 14]), due_ns=np.array([0, 5, 9])))
    assert (list(found.rows), list(found.tokens), list(found.seconds)) == ([2.0], [2.0], [9e-9])


def test_wilson_by_hand() -> None:
    """1 of 100: the published interval is 0.18 % … 5.45 %."""
    assert load.wilson(1, 100) == pytest.approx((0.001767, 0.054486), abs=2e-6)
    assert load.wilson(0, 0) == (0.0, 1.0)


def test_an_slo_needs_enough_requests_to_be_sure() -> None:
    quick = np.full(1000, 5.0)
    assert load.meets_slo(quick, 10.0)
    assert not load.meets_slo(quick[:100], 10.0)
    assert not load.meets_slo(np.append(quick, np.full(15, 50.0)), 10.0)


def test_late_sends() -> None:
    assert list(load.late_sends(np.array([0, 10, 12]), np.array([1, 10, 25]), np.array([5, 20, 30]))) == [1, 0, 5]
