"""Requests through a fleet of machines, event by event: when each is answered.

A machine serves in order of arrival, one batch at a time. When it is free it takes all requests that wait, at most `cap` of them; it never
waits for a batch to fill. That is the rule of the worker's loop (bench/WORKER.md, `serve` with a rate). Where a request goes is
decided when it arrives: to a machine at random, or to the one with the fewest requests outstanding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Literal

import numpy as np

from bench.core.arrays import Floats, Ints

Balancing = Literal["random", "least-outstanding"]
#: Seconds that a batch of these requests (by their number in order of arrival) takes.
BatchSeconds = Callable[[Sequence[int]], float]


@dataclass(frozen=True)
class Fleet:
    """Machines behind a balancer. `cap`: requests that a machine takes together at most."""

    machines: int
    balancing: Balancing
    cap: int = 1


def one_at_a_time(arrival_s: Floats, service_s: Floats, fleet: Fleet, rng: np.random.Generator) -> Floats:
    """Latencies (n,) in seconds of requests that are served alone; `arrival_s` ascends, `service_s` is each request's own."""
    if fleet.balancing == "random":
        return _random_queues(arrival_s, service_s, rng.integers(fleet.machines, size=len(arrival_s)))
    done_s = _least_outstanding(arrival_s.tolist(), service_s.tolist(), fleet.machines)
    return np.asarray(done_s) - arrival_s


def in_batches(arrival_s: Floats, batch_s: BatchSeconds, fleet: Fleet, rng: np.random.Generator) -> Floats:
    """Latencies (n,) in seconds of requests that are served in batches of what waits; `arrival_s` ascends."""
    machine_of = rng.integers(fleet.machines, size=len(arrival_s)).tolist() if fleet.balancing == "random" else None
    return np.asarray(_batches(arrival_s.tolist(), batch_s, fleet, machine_of)) - arrival_s


def _random_queues(arrival_s: Floats, service_s: Floats, machine: Ints) -> Floats:
    """Each machine's queue by itself: Lindley's recursion, done = max(arrival, done before) + service, as a running maximum."""
    order = np.argsort(machine, kind="stable")
    latency_s = np.empty_like(arrival_s)
    for own in np.split(order, np.flatnonzero(np.diff(machine[order])) + 1):
        worked_s = np.cumsum(service_s[own])
        latency_s[own] = np.maximum.accumulate(arrival_s[own] - worked_s + service_s[own]) + worked_s - arrival_s[own]
    return latency_s


def _least_outstanding(arrival_s: list[float], service_s: list[float], machines: int) -> list[float]:
    """When each request is answered. A request's end is known when it arrives, so the only events are ends, in a heap."""
    outstanding, free_s = [0] * machines, [0.0] * machines
    idle = list(range(machines))
    ends: list[tuple[float, int]] = []
    done_s = []
    for arrival, service in zip(arrival_s, service_s, strict=True):
        while ends and ends[0][0] <= arrival:
            machine = heappop(ends)[1]
            outstanding[machine] -= 1
            if not outstanding[machine]:
                idle.append(machine)
        if idle:
            machine = idle.pop()
            end = arrival + service
        else:
            machine = outstanding.index(min(outstanding))
            end = free_s[machine] + service
        free_s[machine] = end
        outstanding[machine] += 1
        heappush(ends, (end, machine))
        done_s.append(end)
    return done_s


def _batches(arrival_s: list[float], batch_s: BatchSeconds, fleet: Fleet, machine_of: list[int] | None) -> list[float]:
    """When each request is answered; `machine_of` says where it goes, None: to the machine with the fewest outstanding."""
    waiting: list[deque[int]] = [deque() for _ in range(fleet.machines)]
    at_work: list[Sequence[int]] = [()] * fleet.machines
    outstanding = [0] * fleet.machines
    ends: list[tuple[float, int]] = []
    done_s = [0.0] * len(arrival_s)

    def begin(machine: int, batch: Sequence[int], now: float) -> None:
        at_work[machine] = batch
        end = now + batch_s(batch)
        for request in batch:
            done_s[request] = end
        heappush(ends, (end, machine))

    def finish_next() -> None:
        end, machine = heappop(ends)
        outstanding[machine] -= len(at_work[machine])
        at_work[machine] = ()
        if queue := waiting[machine]:
            begin(machine, [queue.popleft() for _ in range(min(len(queue), fleet.cap))], end)

    for request, arrival in enumerate(arrival_s):
        while ends and ends[0][0] <= arrival:
            finish_next()
        machine = outstanding.index(min(outstanding)) if machine_of is None else machine_of[request]
        outstanding[machine] += 1
        if at_work[machine]:
            waiting[machine].append(request)
        else:
            begin(machine, (request,), arrival)
    while ends:
        finish_next()
    return done_s
