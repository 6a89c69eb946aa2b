"""The closed loop that is derived from a service sequence, compared with one of real client threads."""

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
from bench.verify.claim import Outcome, Tick, silent
from bench.verify.live_bench import LOAD_S, LiveBench
from bench.workers.client import LineProcess, Worker, WorkerFailed

#: How far the real loop's median latency and rate may lie from the derived ones, as a ratio: a real loop also hands each request from
#: thread to thread.
WITHIN = 0.05
CLIENTS = 4


class ClientProcess(LineProcess):
    """The process of `bench.verify.clients`."""

    def wait_ready(self) -> None:
        if self.answer(LOAD_S, "its start")[0] != "ready":
            raise WorkerFailed("CRASH", "the client threads did not start")

    def send(self, plan: Path, first: int, count: int, clients: int, out: Path) -> npt.NDArray[np.int64]:
        """Send `count` rows of a plan by `clients` clients; (count, 2): when each request was sent and answered, ns."""
        line = f"clients {plan.relative_to(self.folder)} {first} {count} {clients} {out.relative_to(self.folder)}"
        word, rest = self.ask(line, 300, "the clients")
        if (word, rest) != ("clients", str(count)):
            raise WorkerFailed("CRASH", f"the client threads said {word} {rest}"[:200])
        return np.loadtxt(out, delimiter=",", skiprows=1, dtype=np.int64, ndmin=2)


@dataclass(frozen=True)
class Loop:
    """Median latency of a closed loop, and answers per second by the median time between two answers.

    Medians, so that one hiccup of the machine in one of the loops does not pass for a difference between them.
    """

    p50_s: float
    per_s: float

    @classmethod
    def of(cls, latency_ns: npt.NDArray[np.float64], answered_ns: npt.NDArray[np.int64]) -> Loop:
        return cls(percentile(latency_ns, 0.5) / 1e9, 1e9 / percentile(np.diff(np.sort(answered_ns)), 0.5))


def compare_loops(
    live_bench: LiveBench, start_worker: AbstractContextManager[Worker], clients_words: tuple[str, ...], env: Mapping[str, str],
    plan: Path, rows: int, rounds: int, tick: Tick = silent,
) -> Outcome:  # fmt: skip
    """Round by round the same rows, served back to back by a worker, and sent by CLIENTS real clients.

    The process that is not at work is stopped, and who goes first alternates. The medians over the rounds of the ratios real / derived
    must lie within WITHIN of 1.
    """
    latency, rate = [], []
    with start_worker as worker, _clients(live_bench, clients_words, env) as clients:
        live_bench.serve(worker, plan, rows, 0)
        worker.freeze()
        clients.send(plan, 0, rows, CLIENTS, live_bench.file(0))
        clients.freeze()
        for number in range(rounds):
            loops = {}
            for kind in ("derived", "real") if number % 2 else ("real", "derived"):
                derives = kind == "derived"
                loops[kind] = _derived_loop(live_bench, worker, plan, rows) if derives else _real_loop(live_bench, clients, plan, rows)
            latency.append(math.log(loops["real"].p50_s / loops["derived"].p50_s))
            rate.append(math.log(loops["real"].per_s / loops["derived"].per_s))
            tick((number + 1) / rounds)
    ratios = [math.exp(statistics.median(logs)) for logs in (latency, rate)]
    return Outcome(
        f"{CLIENTS} clients, real / derived: p50 {ratios[0]:.3f}×, rate {ratios[1]:.3f}× ({rounds} rounds of {rows})",
        all(abs(ratio - 1) <= WITHIN for ratio in ratios),
    )


def fixed_service(live_bench: LiveBench, ms: float = 4.0, rows: int = 40, rounds: int = 12, tick: Tick = silent) -> Outcome:
    """Both loops around a session that takes `ms` milliseconds."""
    plan, words, env = live_bench.plan(arrivals.constant(rows)), ("fixed-service", str(ms), "1"), {"PYTHONPATH": str(paths.ROOT)}
    return compare_loops(live_bench, live_bench.fixed_service(ms), words, env, plan, rows, rounds, tick)


def _derived_loop(live_bench: LiveBench, worker: Worker, plan: Path, rows: int) -> Loop:
    with _awake(worker):
        live_bench.serve(worker, plan, 2, 0)
        served = live_bench.serve(worker, plan, rows, 0)
    return Loop.of(closed_loop(served, CLIENTS).latency, served.end_ns)


def _real_loop(live_bench: LiveBench, clients: ClientProcess, plan: Path, rows: int) -> Loop:
    out = live_bench.file(0)
    with _awake(clients):
        clients.send(plan, 0, 2, CLIENTS, out)
        times_ns = clients.send(plan, 0, rows, CLIENTS, out)
    # The first request of each client meets an empty queue, as the first ones of the derived loop, which are dropped, would.
    return Loop.of((times_ns[CLIENTS:, 1] - times_ns[CLIENTS:, 0]).astype(float), times_ns[:, 1])


@contextmanager
def _awake(process: LineProcess) -> Iterator[None]:
    """A stopped process goes on, and is stopped again on leaving."""
    process.thaw()
    yield
    process.freeze()


@contextmanager
def _clients(live_bench: LiveBench, words: tuple[str, ...], env: Mapping[str, str]) -> Iterator[ClientProcess]:
    """A `bench.verify.clients` that is ready, ended at the end."""
    clients = ClientProcess((sys.executable, "-m", "bench.verify.clients", *words), env, live_bench.folder / "clients.log")
    live_bench.machine_lock.add(clients.pid)
    try:
        clients.wait_ready()
        yield clients
    finally:
        clients.kill()
        live_bench.machine_lock.remove(clients.pid)
