"""The closed loop that is derived from a service sequence, held against one with real client threads."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.core import paths
from bench.plan import arrivals
from bench.stats.load import closed_loop
from bench.stats.sample import percentile
from bench.verify.claim import Found, Tick, silent
from bench.verify.live_bench import LOAD_S, LiveBench
from bench.workers.client import LineProcess, Worker, WorkerFailed

#: How far the real loop's median latency and rate may lie from the derived ones, as a ratio: handing a request from thread to thread
#: costs the real one what no derived one has.
WITHIN = 0.05
CLIENTS = 4


class Clients(LineProcess):
    """The process of `bench.verify.clients`."""

    def wait(self) -> None:
        if self.answer(LOAD_S, "its start")[0] != "ready":
            raise WorkerFailed("CRASH", "the client threads did not start")

    def run(self, plan: Path, first: int, count: int, clients: int, out: Path) -> npt.NDArray[np.int64]:
        """(count, 2): when each request was sent and answered, ns."""
        line = f"clients {plan.relative_to(self.folder)} {first} {count} {clients} {out.relative_to(self.folder)}"
        word, rest = self.ask(line, 300, "the clients")
        if (word, rest) != ("clients", str(count)):
            raise WorkerFailed("CRASH", f"the client threads said {word} {rest}"[:200])
        return np.loadtxt(out, delimiter=",", skiprows=1, dtype=np.int64, ndmin=2)


@dataclass(frozen=True)
class Loop:
    """Median latency of one closed loop, and answers per second by the median time between two answers: one hiccup of the machine in one
    of the loops must not pass for a difference between them."""

    p50_s: float
    per_s: float

    @classmethod
    def of(cls, latency_ns: npt.NDArray[np.float64], answered_ns: npt.NDArray[np.int64]) -> Loop:
        return cls(percentile(latency_ns, 0.5) / 1e9, 1e9 / percentile(np.diff(np.sort(answered_ns)), 0.5))


def compare(
    live_bench: LiveBench, derive_from: AbstractContextManager[Worker], clients_of: tuple[str, ...], env: Mapping[str, str],
    plan: Path, rows: int, rounds: int, tick: Tick = silent,
) -> Found:  # fmt: skip
    """The same rows, round by round: served back to back by a worker, and sent by CLIENTS real clients; the other one is frozen.

    Who goes first alternates. Judged are the medians over rounds of the ratios real / derived.
    """
    latency, rate = [], []
    with derive_from as worker, _clients(live_bench, clients_of, env) as real:
        live_bench.serve(worker, plan, rows, 0)
        worker.freeze()
        real.run(plan, 0, rows, CLIENTS, live_bench.file(0))
        real.freeze()
        for number in range(rounds):
            found = {}
            for who in ("derived", "real") if number % 2 else ("real", "derived"):
                process = worker if who == "derived" else real
                process.thaw()
                found[who] = _derived(live_bench, worker, plan, rows) if who == "derived" else _real(live_bench, real, plan, rows)
                process.freeze()
            latency.append(math.log(found["real"].p50_s / found["derived"].p50_s))
            rate.append(math.log(found["real"].per_s / found["derived"].per_s))
            tick((number + 1) / rounds)
    ratios = [math.exp(statistics.median(values)) for values in (latency, rate)]
    return Found(
        f"{CLIENTS} clients, real / derived: p50 {ratios[0]:.3f}×, rate {ratios[1]:.3f}× ({rounds} rounds of {rows})",
        all(abs(ratio - 1) <= WITHIN for ratio in ratios),
    )


def fixed_service(live_bench: LiveBench, ms: float = 4.0, rows: int = 40, rounds: int = 12, tick: Tick = silent) -> Found:
    """With a session whose service time is known."""
    plan = live_bench.plan(arrivals.constant(rows))
    return compare(
        live_bench, live_bench.fixed_service(ms), ("fixed-service", str(ms), "1"), {"PYTHONPATH": str(paths.ROOT)}, plan, rows, rounds, tick
    )  # fmt: skip


def _derived(live_bench: LiveBench, worker: Worker, plan: Path, rows: int) -> Loop:
    live_bench.serve(worker, plan, 2, 0)
    served = live_bench.serve(worker, plan, rows, 0)
    return Loop.of(closed_loop(served, CLIENTS).latency, served.end_ns)


def _real(live_bench: LiveBench, real: Clients, plan: Path, rows: int) -> Loop:
    out = live_bench.file(0)
    real.run(plan, 0, 2, CLIENTS, out)
    seen = real.run(plan, 0, rows, CLIENTS, out)
    # The first of each client found an empty queue, as the derived loop's first ones would.
    return Loop.of((seen[CLIENTS:, 1] - seen[CLIENTS:, 0]).astype(float), seen[:, 1])


@contextmanager
def _clients(live_bench: LiveBench, words: tuple[str, ...], env: Mapping[str, str]) -> Iterator[Clients]:
    """A started `bench.verify.clients`, ended at the end."""
    real = Clients((sys.executable, "-m", "bench.verify.clients", *words), env, live_bench.folder / "clients.log")
    live_bench.held.add(real.pid)
    try:
        real.wait()
        yield real
    finally:
        real.kill()
        live_bench.held.remove(real.pid)
