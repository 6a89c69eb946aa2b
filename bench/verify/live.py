"""Claims about clocks and loads, measured on real worker processes: the null workers of all languages, and the worker with a fixed
service time."""

from __future__ import annotations

import mmap
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.catalog import Framework
from bench.core.errors import BenchError
from bench.plan import arrivals
from bench.stats.load import Little, Requests, as_measured, closed_loop, late_sends, little, open_windows, unsustainable
from bench.stats.sample import percentile
from bench.verify.claim import Outcome, Tick, percent, silent
from bench.verify.live_bench import LiveBench, null_workers
from bench.workers.client import Worker

#: Largest relative differences of a stall's p99 to its prediction, of L to λW, and of a window's rate to the capacity
#: (site_src/pages/methodology.md.j2#proof).
STALL_WITHIN, LITTLE_WITHIN, WINDOW_WITHIN = 0.10, 0.02, 0.03
#: Share of a stall that may show in the p99 of one client back to back.
CLOSED_SHARE = 0.02
#: A median late send beyond this is a loop that sleeps through the due time.
LATE_MEDIAN_NS = 100_000
#: Seed of the arrivals.
SEED = 11


@dataclass(frozen=True)
class Stall:
    """One stall of `stall_s` in an open loop of `rows` rows at `rate_per_s`."""

    stall_s: float = 0.5
    rows: int = 2500
    rate_per_s: float = 500.0
    at_s: float = 1.0

    def predicted_s(self, served: Requests) -> float:
        """S − 0.01 (1 − ρ) T + service, with ρ, T and the service as they were (the stalled one apart)."""
        services_s = (served.end_ns - served.start_ns) / 1e9
        window_s = float(np.ptp(served.due_ns)) / 1e9
        rho = self.rate_per_s * float(services_s[services_s < self.stall_s].mean())
        return self.stall_s - 0.01 * (1 - rho) * window_s + float(np.median(services_s))


@dataclass(frozen=True)
class StallEffect:
    """What a stall did to the latencies.

    Attributes:
        open_ratio: p99 of the open loop, over its prediction.
        closed_share: p99 − p50 of one client back to back, as a share of the stall.
        longest_share: that client's longest latency, as a share of the stall.
        overrun: the open loop was judged unsustainable.
    """

    open_ratio: float
    closed_share: float
    longest_share: float
    overrun: bool

    @property
    def faults(self) -> list[str]:
        """Where the effect is not the expected one; none where the claim holds.

        Expected is: in the open loop the stall shows in p99 as predicted, and is not an overload; back to back it happened, and p99
        does not show it.
        """
        conditions = {
            "p99 is elsewhere": abs(self.open_ratio - 1) > STALL_WITHIN,
            "taken for an overload": self.overrun,
            "no stall back to back": self.longest_share < 1,
            "one client's p99 shows it": self.closed_share > CLOSED_SHARE,
        }
        return [name for name, broken in conditions.items() if broken]

    @property
    def held(self) -> bool:
        return not self.faults


def stall(live_bench: LiveBench, tick: Tick = silent) -> Outcome:
    """A stall in each language's loop at ρ ≈ 0, and in a loop with a service of 2 ms at ρ = 0.5."""
    ready, absent = null_workers(live_bench.catalogue)
    texts, held = [], True
    quiet, busy = Stall(), Stall(rows=1250, rate_per_s=250.0)
    for place, framework in enumerate([*ready, None]):
        effect = measure_stall(live_bench, framework, busy if framework is None else quiet)
        name = "2 ms at ρ 0.5" if framework is None else framework.language
        faults = "".join(f" [{fault}]" for fault in effect.faults)
        texts.append(f"{name} {effect.open_ratio:.3f}× (one client: {percent(effect.closed_share)}){faults}")
        held = held and effect.held
        tick((place + 1) / (len(ready) + 1))
    return Outcome("; ".join(["p99 over its prediction: " + ", ".join(texts), *absent]), held)


def measure_stall(live_bench: LiveBench, framework: Framework | None, stall: Stall) -> StallEffect:
    """The stall in an open loop, and in a closed loop of one client, each in a fresh process (a stall comes once in a process).

    `framework`: a null worker's; None is the worker with a fixed service of 2 ms.
    """
    plan = live_bench.plan(arrivals.poisson(stall.rows, SEED))
    with _stalling_worker(live_bench, framework, f"stall={stall.at_s:g}:{stall.stall_s:g}") as worker:
        served = live_bench.serve(worker, plan, stall.rows, stall.rate_per_s)
    # Not the very first request: a derived closed loop drops that one.
    with _stalling_worker(live_bench, framework, f"stall=0.0001:{stall.stall_s:g}") as worker:
        closed_s = closed_loop(live_bench.serve(worker, plan, stall.rows, 0), 1).latency / 1e9
    p99_s = percentile(as_measured(served).latency, 0.99) / 1e9
    return StallEffect(
        open_ratio=p99_s / stall.predicted_s(served),
        closed_share=(percentile(closed_s, 0.99) - percentile(closed_s, 0.5)) / stall.stall_s,
        longest_share=float(closed_s.max()) / stall.stall_s,
        overrun=unsustainable(served.due_ns, served.start_ns, served.end_ns),
    )


def overload(live_bench: LiveBench, tick: Tick = silent) -> Outcome:
    """Arrivals at 1.5 times the capacity: the rate counts what was answered inside the window, and the backlog is seen to grow."""
    service_ms, rows = 5.0, 600
    rate = 1.5 * 1000 / service_ms
    with live_bench.fixed_service(service_ms) as worker:
        served = live_bench.serve(worker, live_bench.plan(arrivals.poisson(rows, SEED)), rows, rate)
    tick(1.0)
    capacity = rows / float(np.ptp(np.append(served.start_ns[:1], served.end_ns[-1:]))) * 1e9
    windows = open_windows(served)
    inside, offered = float(windows.rows.sum() / windows.seconds.sum()), rows / float(np.ptp(served.due_ns)) * 1e9
    grows = unsustainable(served.due_ns, served.start_ns, served.end_ns)
    return Outcome(
        f"{inside / capacity:.3f}× the capacity, {offered / capacity:.2f}× was offered; backlog {'seen' if grows else 'not seen'} to grow",
        abs(inside / capacity - 1) <= WINDOW_WITHIN and grows,
    )


def littles_law(live_bench: LiveBench, rows: int = 600, tick: Tick = silent) -> Outcome:
    """L is read from outside while the worker serves: arrivals from the plan, answers from a counter in shared memory."""
    service_ms, rho = 8.0, 0.6
    counter = live_bench.file(8)
    rate = rho * 1000 / service_ms
    plan = live_bench.plan(arrivals.poisson(rows, SEED))
    with live_bench.fixed_service(service_ms, counter=str(counter)) as worker, _sampled(counter) as readings:
        served = live_bench.serve(worker, plan, rows, rate)
    tick(1.0)
    law = little_from_readings(served, np.array(readings.at_ns), np.array(readings.answered) - readings.answered[0])
    by_samples = little(served.due_ns, served.end_ns)
    return Outcome(
        f"L {law.in_system:.3f} watched, λW {law.rate_per_s * law.latency_s:.3f}: {percent(law.error, 2)} apart "
        f"({rows} requests, {len(readings.at_ns)} looks; from the samples alone {percent(by_samples.error, 2)})",
        law.error < LITTLE_WITHIN,
    )


def little_from_readings(served: Requests, at_ns: npt.NDArray[np.int64], answered: npt.NDArray[np.int64]) -> Little:
    """Little's law with L from readings of the number of answers; each reading stands for half the time to its neighbours.

    Args:
        served: an open-loop piece.
        at_ns: when each reading was taken, increasing.
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


def late_send(live_bench: LiveBench, rows: int = 1000, tick: Tick = silent) -> Outcome:
    """How late each language's loop takes a request that is due while its session is free."""
    ready, absent = null_workers(live_bench.catalogue)
    plan, texts, held = live_bench.plan(arrivals.poisson(rows, SEED)), [], bool(ready)
    for place, framework in enumerate(ready):
        with live_bench.null(framework) as worker:
            live_bench.serve(worker, plan, 100, 500.0)
            served = live_bench.serve(worker, plan, rows, 500.0)
        delays = late_sends(served.due_ns, served.start_ns, served.end_ns)
        p50, p99 = percentile(delays, 0.5), percentile(delays, 0.99)
        texts.append(f"{framework.language} p50 {p50 / 1000:.1f} µs, p99 {p99 / 1000:.1f} µs")
        held = held and p50 <= LATE_MEDIAN_NS
        tick((place + 1) / len(ready))
    return Outcome("; ".join(texts + absent), held)


@contextmanager
def _stalling_worker(live_bench: LiveBench, framework: Framework | None, fault: str) -> Iterator[Worker]:
    """A null worker, or the one with a fixed service of 2 ms, with a planted stall."""
    with live_bench.fixed_service(2.0, fault) if framework is None else live_bench.null(framework, fault) as worker:
        yield worker


@dataclass
class _Readings:
    """Readings of a counter: when (ns), and its value."""

    at_ns: list[int] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)


@contextmanager
def _sampled(counter: Path, every_s: float = 0.001) -> Iterator[_Readings]:
    """Read the counter (8 bytes, mapped) every `every_s` seconds, in a thread of its own, until the block is left."""
    readings, over = _Readings(), threading.Event()
    with counter.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)

    def read() -> None:
        while not over.is_set():
            readings.answered.append(struct.unpack("<q", mapped[:8])[0])
            readings.at_ns.append(time.monotonic_ns())
            time.sleep(every_s)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield readings
    finally:
        over.set()
        thread.join()
    if not readings.at_ns:
        raise BenchError("the counter was not read once: the machine was too busy; try again")
