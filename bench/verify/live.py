"""Promises about clocks and loads, held against real worker processes: the null workers of all languages, and one whose service time
is known beforehand."""

from __future__ import annotations

import mmap
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.catalog import Framework
from bench.core.errors import BenchError
from bench.plan import arrivals
from bench.stats.load import Little, Served, as_measured, closed_loop, late_sends, little, open_windows, unsustainable
from bench.stats.sample import percentile
from bench.verify.claim import Found, Tick, percent, silent
from bench.verify.live_bench import LiveBench, nulls
from bench.workers.client import Worker

#: MEASUREMENT's bounds: a stall's p99 to its prediction, Little's law, and what a window's rate may differ from the capacity.
STALL_WITHIN, LITTLE_WITHIN, WINDOW_WITHIN = 0.10, 0.02, 0.03
#: Share of a stall that may show in the p99 of one client back to back.
CLOSED_SHARE = 0.02
#: A median late send beyond this is a loop that sleeps through the due time.
LATE_MEDIAN_NS = 100_000
SEED = 11


@dataclass(frozen=True)
class Stall:
    """One stall of `stall_s` in an open loop of `rows` rows at `rate_per_s`."""

    stall_s: float = 0.5
    rows: int = 2500
    rate_per_s: float = 500.0
    at_s: float = 1.0

    def predicted_s(self, served: Served) -> float:
        """S − 0.01 (1 − ρ) T + service, with ρ, T and the service as they were (the stalled one apart)."""
        services_s = (served.end_ns - served.start_ns) / 1e9
        window_s = float(np.ptp(served.due_ns)) / 1e9
        rho = self.rate_per_s * float(services_s[services_s < self.stall_s].mean())
        return self.stall_s - 0.01 * (1 - rho) * window_s + float(np.median(services_s))


@dataclass(frozen=True)
class StallFound:
    """The p99 of the open loop over its prediction, and what of the stall shows in one client's p99 back to back, as a share of it."""

    open_ratio: float
    closed_share: float
    longest_share: float
    overrun: bool

    @property
    def wrong(self) -> list[str]:
        """What is not as it must be: in the open loop the stall is where it was predicted and is no overload; back to back it happened, and
        p99 does not show it."""
        conditions = {
            "p99 is elsewhere": abs(self.open_ratio - 1) > STALL_WITHIN,
            "taken for an overload": self.overrun,
            "no stall back to back": self.longest_share < 1,
            "one client's p99 shows it": self.closed_share > CLOSED_SHARE,
        }
        return [name for name, broken in conditions.items() if broken]

    @property
    def held(self) -> bool:
        return not self.wrong


def stall(live_bench: LiveBench, tick: Tick = silent) -> Found:
    """A stall in each language's loop at ρ ≈ 0, and in one with service 2 ms at ρ = 0.5."""
    ready, absent = nulls()
    told, held = [], True
    quiet, busy = Stall(), Stall(rows=1250, rate_per_s=250.0)
    for place, framework in enumerate([*ready, None]):
        found = stalled(live_bench, framework, busy if framework is None else quiet)
        name = "2 ms at ρ 0.5" if framework is None else framework.language
        told.append(
            f"{name} {found.open_ratio:.3f}× (one client: {percent(found.closed_share)})" + "".join(f" [{wrong}]" for wrong in found.wrong)
        )
        held = held and found.held
        tick((place + 1) / (len(ready) + 1))
    return Found("; ".join(["p99 over its prediction: " + ", ".join(told), *absent]), held)


def stalled(live_bench: LiveBench, framework: Framework | None, wanted: Stall) -> StallFound:
    """One stall in an open loop, and one in a closed loop of one client, each in a fresh process (a stall comes once in its life)."""
    plan = live_bench.plan(arrivals.poisson(wanted.rows, SEED))
    with _started(live_bench, framework, f"stall={wanted.at_s:g}:{wanted.stall_s:g}") as worker:
        served = live_bench.serve(worker, plan, wanted.rows, wanted.rate_per_s)
    # Not the very first request: a derived closed loop drops that one.
    with _started(live_bench, framework, f"stall=0.0001:{wanted.stall_s:g}") as worker:
        alone = closed_loop(live_bench.serve(worker, plan, wanted.rows, 0), 1).latency / 1e9
    p99_s = percentile(as_measured(served).latency, 0.99) / 1e9
    return StallFound(
        open_ratio=p99_s / wanted.predicted_s(served),
        closed_share=(percentile(alone, 0.99) - percentile(alone, 0.5)) / wanted.stall_s,
        longest_share=float(alone.max()) / wanted.stall_s,
        overrun=unsustainable(served.due_ns, served.start_ns, served.end_ns),
    )


def window(live_bench: LiveBench, tick: Tick = silent) -> Found:
    """Half as much again as a worker can do: the rate is what was answered inside the window, and the backlog is seen to grow."""
    service_ms, rows = 5.0, 600
    rate = 1.5 * 1000 / service_ms
    with live_bench.fixed_service(service_ms) as worker:
        served = live_bench.serve(worker, live_bench.plan(arrivals.poisson(rows, SEED)), rows, rate)
    tick(1.0)
    capacity = rows / float(np.ptp(np.append(served.start_ns[:1], served.end_ns[-1:]))) * 1e9
    counted = open_windows(served)
    inside, offered = float(counted.rows.sum() / counted.seconds.sum()), rows / float(np.ptp(served.due_ns)) * 1e9
    grows = unsustainable(served.due_ns, served.start_ns, served.end_ns)
    return Found(
        f"{inside / capacity:.3f}× the capacity, {offered / capacity:.2f}× was offered; backlog {'seen' if grows else 'not seen'} to grow",
        abs(inside / capacity - 1) <= WINDOW_WITHIN and grows,
    )


def littles_law(live_bench: LiveBench, rows: int = 600, tick: Tick = silent) -> Found:
    """L is watched from outside while the worker serves: arrivals by the plan, answers by a counter in shared memory."""
    service_ms, rho = 8.0, 0.6
    seen = live_bench.file(8)
    rate = rho * 1000 / service_ms
    plan = live_bench.plan(arrivals.poisson(rows, SEED))
    with live_bench.fixed_service(service_ms, seen=str(seen)) as worker, _watched(seen) as looks:
        served = live_bench.serve(worker, plan, rows, rate)
    tick(1.0)
    found = watched_little(served, np.array(looks.at_ns), np.array(looks.answered) - looks.answered[0])
    by_times = little(served.due_ns, served.end_ns)
    return Found(
        f"L {found.in_system:.3f} watched, λW {found.rate_per_s * found.latency_s:.3f}: {percent(found.error, 2)} apart "
        f"({rows} requests, {len(looks.at_ns)} looks; from the samples alone {percent(by_times.error, 2)})",
        found.error < LITTLE_WITHIN,
    )


def watched_little(served: Served, at_ns: npt.NDArray[np.int64], answered: npt.NDArray[np.int64]) -> Little:
    """Little's law with L from looks at the number of answers; each look stands for half the time to its neighbours.

    Args:
        served: an open-loop piece.
        at_ns: when each look was taken, increasing.
        answered: rows answered by then.
    """
    due = np.sort(served.due_ns)
    inside = (at_ns >= due[0]) & (at_ns <= due[-1])
    at, count = at_ns[inside], answered[inside]
    edges = np.concatenate([[due[0]], (at[1:] + at[:-1]) // 2, [due[-1]]])
    in_system = np.searchsorted(due, at, side="right") - count
    seconds = float(due[-1] - due[0]) / 1e9
    latency_s = float(as_measured(served).latency.mean()) / 1e9
    return Little(float(np.sum(in_system * np.diff(edges))) / (due[-1] - due[0]), len(due) / seconds, latency_s)


def late(live_bench: LiveBench, rows: int = 1000, tick: Tick = silent) -> Found:
    """How late each language's loop takes a request that is due while it is free."""
    ready, absent = nulls()
    plan, told, held = live_bench.plan(arrivals.poisson(rows, SEED)), [], bool(ready)
    for place, framework in enumerate(ready):
        with live_bench.null(framework) as worker:
            live_bench.serve(worker, plan, 100, 500.0)
            served = live_bench.serve(worker, plan, rows, 500.0)
        delays = late_sends(served.due_ns, served.start_ns, served.end_ns)
        p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
        told.append(f"{framework.language} p50 {p50 / 1000:.1f} µs, p99 {p99 / 1000:.1f} µs")
        held = held and p50 <= LATE_MEDIAN_NS
        tick((place + 1) / len(ready))
    return Found("; ".join(told + absent), held)


@contextmanager
def _started(live_bench: LiveBench, framework: Framework | None, fault: str) -> Iterator[Worker]:
    """A null worker, or the one of 2 ms, with a fault."""
    with live_bench.fixed_service(2.0, fault) if framework is None else live_bench.null(framework, fault) as worker:
        yield worker


@dataclass
class _Looks:
    at_ns: list[int]
    answered: list[int]


@contextmanager
def _watched(file: Path, every_s: float = 0.001) -> Iterator[_Looks]:
    """Look at the count in `file` all the time, in a thread of its own."""
    looks, over = _Looks([], []), threading.Event()
    with file.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 8, access=mmap.ACCESS_READ)

    def watch() -> None:
        while not over.is_set():
            looks.answered.append(struct.unpack("<q", mapped[:8])[0])
            looks.at_ns.append(time.monotonic_ns())
            time.sleep(every_s)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield looks
    finally:
        over.set()
        thread.join()
    if not looks.at_ns:
        raise BenchError("nobody looked at the counter: the machine was too busy; try again")
