"""`invoke floor`: what the harness itself costs.

Two measurements in one run. The null workers show what a request costs that does no work: the time from the first start to the last end,
divided by the requests (not end − start, which would leave the loop out). Pairs of processes show how much longer a worker's service is
than the bare framework called in a plain loop on the same tensors; while one of a pair works the other is stopped.
"""

from __future__ import annotations

import math
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from bench.artefacts import export
from bench.catalog import Catalog, Framework, Model
from bench.core import files, paths
from bench.core.errors import BenchError
from bench.core.progress import Progress
from bench.corpus import resolve
from bench.machine import identity, lock
from bench.model import weights
from bench.model.weights import Source
from bench.plan import make
from bench.plan.folder import Plan
from bench.prepare import launch, native
from bench.stats import leaderboard
from bench.workers import client
from bench.workers.client import Launch, LineProcess, Order, Worker, WorkerFailed

#: Requests of one slice of a null worker, and its slices, of which the median counts.
NULL_ROWS, NULL_SLICES = 4000, 9
#: Rows of one slice of a process pair, and the slices of a pair.
ROWS, SLICES = 24, 8
#: At most so many µs for a request that does no work, by language; and at most so much longer than the bare framework.
NULL_TARGET_US: Mapping[str, float] = {"python": 5.0, "rust": 1.0, "cpp": 1.0}
SERVICE_TARGET = 1.03
#: Seconds in which a process must be ready.
START_S = 120.0


class BaselineLoop(LineProcess):
    """A process that answers `loop`: of `bench.workers.baseline_loop`, or a native worker."""

    def wait_ready(self) -> None:
        self._expect(self.answer(START_S, "its start"), "ready")

    def loop(self, plan: Plan, first: int, count: int) -> int:
        """Nanoseconds for `count` rows."""
        line = f"loop {plan.folder.relative_to(self.folder)} {first} {count}"
        return int(self._expect(self.ask(line, 300, "a bare loop"), "looped"))

    def _expect(self, answer: tuple[str, str], word: str) -> str:
        if answer[0] != word:
            raise WorkerFailed("CRASH", f"the bare loop said {' '.join(answer)}"[:200])
        return answer[1]


@dataclass(frozen=True)
class Bench:
    """What all frameworks are measured with: the model with its weights, the rows, a scratch folder, and the machine's lock."""

    model: Model
    source: Source
    rows: Plan
    scratch: Path
    held: lock.MachineLock


def measure_floor(catalogue: Catalog, model: Model, pairs: int) -> None:
    """`invoke floor`: measure every framework that can run, and print both tables."""
    client.require_linux()
    progress, console = Progress(), Console()
    source = weights.resolve(model, "auto")
    rows = make.scenario_plan(model, source.folder, catalogue.scenarios["closed-1"], resolve.resolve(None, 1), 1)
    nulls = Table("null worker", "µs per request", "target", "held", title="What a request costs that does no work", title_justify="left")
    services = Table("framework", "worker / bare", "interval", "n pairs", "target", "held",
                     title="Service time over the bare framework on the same tensors", title_justify="left")  # fmt: skip
    with lock.hold("the floor") as held, _scratch() as scratch:
        bench = Bench(model, source, rows, scratch, held)
        for framework in catalogue.frameworks.values():
            if reason := launch.missing(framework):
                progress.say(f"{framework.name}: SKIPPED: {reason}")
                continue
            if framework.build:
                native.ensure(framework)
            if framework.role == "floor":
                nulls.add_row(*_null_row(framework, bench))
            else:
                services.add_row(*_service_row(framework, bench, pairs, progress))
    console.print(nulls)
    console.print(services)


def _null_row(framework: Framework, bench: Bench) -> tuple[str, ...]:
    cost = null_cost_us(framework, bench.model, bench.rows, bench.scratch, bench.held)
    target = NULL_TARGET_US[framework.language]
    return framework.title, f"{cost:.2f}", f"≤ {target:g}", _held(cost <= target)


def _service_row(framework: Framework, bench: Bench, pairs: int, progress: Progress) -> tuple[str, ...]:
    artefact = export.ensure(bench.model, bench.source, framework.artefact)
    log_ratios = []
    for pair in range(pairs):
        progress.say(f"{framework.name}: pair {pair + 1} of {pairs}")
        log_ratios += service_ratios(framework, artefact.folder, bench, pair)
    ratio = leaderboard.paired_ratio([math.exp(log_ratio) for log_ratio in log_ratios], [1.0] * len(log_ratios))
    held = _held(ratio.ratio <= SERVICE_TARGET)
    return framework.title, f"{ratio.ratio:.3f}", f"{ratio.lo:.3f}–{ratio.hi:.3f}", f"{pairs} × {SLICES}", f"≤ {SERVICE_TARGET}", held


def null_cost_us(framework: Framework, model: Model, rows: Plan, scratch: Path, held: lock.MachineLock) -> float:
    """Median over slices of (last end − first start) / requests, in µs, one row at a time."""
    start = _launch(framework, model, paths.ARTEFACTS / model.name)
    costs = []
    with client.running(start, scratch / f"{framework.name}.log", held, START_S) as (worker, _):
        for _ in range(NULL_SLICES):
            samples = _serve(worker, rows, 0, min(NULL_ROWS, rows.rows), scratch)
            costs.append((samples["end_ns"].max() - samples["start_ns"].min()) / len(samples) / 1000)
    return float(statistics.median(costs))


def service_ratios(framework: Framework, artefact: Path, bench: Bench, pair: int) -> list[float]:
    """Log ratios, slice by slice, of the worker's mean service to the bare loop's time per row; a fresh process pair."""
    log, rows, scratch = bench.scratch / f"{framework.name}.log", bench.rows, bench.scratch
    try:
        with client.running(_launch(framework, bench.model, artefact), log, bench.held, START_S) as (worker, _):
            worker.freeze()
            bare = _baseline_loop(framework, bench.model, artefact, log.with_suffix(".bare.log"))
            bench.held.add(bare.pid)
            try:
                bare.wait_ready()
                bare.loop(rows, 0, rows.warm)
                bare.freeze()
                worker.thaw()
                _serve(worker, rows, 0, rows.warm, scratch)
                worker.freeze()
                firsts = [rows.warm + (pair * SLICES + number) * ROWS for number in range(SLICES)]
                # Who goes first alternates, so that neither always meets the rows warm.
                return [_log_ratio(worker, bare, rows, first, scratch, number % 2 == 1) for number, first in enumerate(firsts)]
            finally:
                bare.kill()
                bench.held.remove(bare.pid)
    except WorkerFailed as failure:
        raise BenchError(f"{framework.name}: {failure}; see `invoke doctor`") from None


def _log_ratio(worker: Worker, bare: BaselineLoop, rows: Plan, first: int, scratch: Path, worker_first: bool) -> float:
    """Log ratio of the worker's mean service to the bare loop's time per row, over ROWS rows."""
    worker_ns = bare_ns = math.nan
    for process in (worker, bare) if worker_first else (bare, worker):
        process.thaw()
        if process is bare:
            bare.loop(rows, 0, 2)
            bare_ns = bare.loop(rows, first, ROWS) / ROWS
        else:
            _serve(worker, rows, 0, 2, scratch)
            samples = _serve(worker, rows, first, ROWS, scratch)
            worker_ns = float((samples["end_ns"] - samples["start_ns"]).mean())
        process.freeze()
    return math.log(worker_ns / bare_ns)


def _launch(framework: Framework, model: Model, artefact: Path) -> Launch:
    threads = identity.physical_cores()
    command, env = launch.command_and_env(framework, 1, threads)
    settings = {"dim": str(model.dim)} if framework.role == "floor" else {}
    return Launch(command, env, artefact, model.pad_id, threads=threads, settings=settings)


def _baseline_loop(framework: Framework, model: Model, artefact: Path, log: Path) -> BaselineLoop:
    """A bare loop: in Python a program of its own, in Rust and C++ the worker's `loop` order."""
    start = _launch(framework, model, artefact)
    if framework.language != "python":
        return BaselineLoop(start.argv, start.env, log)
    program = (start.command[0], "-m", "bench.workers.baseline_loop", framework.name, str(artefact), str(start.threads))
    return BaselineLoop(program, start.env, log)


def _serve(worker: Worker, rows: Plan, first: int, count: int, scratch: Path) -> pd.DataFrame:
    return worker.serve(Order(rows.folder, first, count, 1, 120), scratch, 300).samples


@contextmanager
def _scratch() -> Iterator[Path]:
    """A scratch folder for OUT folders, removed at the end."""
    folder = paths.SCRATCH / f"floor-{files.short_hash(time.time_ns())}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _held(held: bool) -> str:
    return "yes" if held else "no"
