"""`invoke floor`: what the harness itself costs.

Two questions, both answered side by side in one run. What does a request cost that does no work (the null workers; the whole time
from the first start to the last end over the requests, not end − start)? And how much longer is a worker's service than the bare
framework called in a plain loop on the same tensors? The pairs are two processes; while one works the other is frozen.
"""

from __future__ import annotations

import math
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from bench import catalog
from bench.artefacts import export
from bench.catalog import Framework, Model
from bench.core import files, paths
from bench.core.errors import BenchError
from bench.core.progress import Progress
from bench.corpus import resolve
from bench.machine import identity, lock
from bench.model import weights
from bench.plan import make
from bench.plan.folder import Plan
from bench.prepare import launch, native
from bench.stats import leaderboard
from bench.workers import client
from bench.workers.client import Launch, LineProcess, Order, Worker, WorkerFailed

NULL_ROWS, NULL_SLICES = 4000, 9
ROWS, SLICES = 24, 8
NULL_TARGET_US: Mapping[str, float] = {"python": 5.0, "rust": 1.0, "cpp": 1.0}
SERVICE_TARGET = 1.03
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


def run(model: Model, pairs: int) -> None:
    """Measure and print the floor; raises BenchError where nothing can run."""
    client.require_linux()
    known, progress, console = catalog.load(), Progress(), Console()
    source = weights.resolve(model, "auto")
    texts = resolve.resolve(None, 1)
    rows = make.scenario_plan(model, source.folder, known.scenarios["closed-1"], texts, 1)
    nulls = Table("null worker", "µs per request", "target", "held", title="What a request costs that does no work", title_justify="left")
    services = Table("framework", "worker / bare", "interval", "n pairs", "target", "held",
                     title="Service time over the bare framework on the same tensors", title_justify="left")  # fmt: skip
    with lock.hold("the floor") as held, _scratch() as scratch:
        for framework in known.frameworks.values():
            if reason := launch.missing(framework):
                progress.say(f"{framework.name}: SKIPPED: {reason}")
                continue
            if framework.build:
                native.ensure(framework)
            if framework.role == "floor":
                cost = null_cost_us(framework, model, rows, scratch, held)
                target = NULL_TARGET_US[framework.language]
                nulls.add_row(framework.title, f"{cost:.2f}", f"≤ {target:g}", _held(cost <= target))
            else:
                artefact = export.ensure(model, source, framework.artefact)
                ratios = []
                for pair in range(pairs):
                    progress.say(f"{framework.name}: pair {pair + 1} of {pairs}")
                    ratios += service_ratios(framework, model, artefact.folder, rows, scratch, held, pair)
                found = leaderboard.paired_ratio([math.exp(ratio) for ratio in ratios], [1.0] * len(ratios))
                services.add_row(framework.title, f"{found.ratio:.3f}", f"{found.lo:.3f}–{found.hi:.3f}", f"{pairs} × {SLICES}",
                                 f"≤ {SERVICE_TARGET}", _held(found.ratio <= SERVICE_TARGET))  # fmt: skip
    console.print(nulls)
    console.print(services)


def null_cost_us(framework: Framework, model: Model, rows: Plan, scratch: Path, held: lock.MachineLock) -> float:
    """Median over slices of (last end − first start) / requests, in µs, one row at a time."""
    start = _launch(framework, model, paths.ARTEFACTS / model.name)
    costs = []
    with client.running(start, scratch / f"{framework.name}.log", held, START_S) as (worker, _):
        for _ in range(NULL_SLICES):
            samples = _serve(worker, rows, 0, min(NULL_ROWS, rows.rows), scratch)
            costs.append((samples["end_ns"].max() - samples["start_ns"].min()) / len(samples) / 1000)
    return float(statistics.median(costs))


def service_ratios(
    framework: Framework, model: Model, artefact: Path, rows: Plan, scratch: Path, held: lock.MachineLock, pair: int
) -> list[float]:
    """Log ratios, slice by slice, of the worker's mean service to the bare loop's time per row; a fresh process pair."""
    log = scratch / f"{framework.name}.log"
    try:
        with client.running(_launch(framework, model, artefact), log, held, START_S) as (worker, _):
            worker.freeze()
            bare = _baseline_loop(framework, model, artefact, log.with_suffix(".bare.log"))
            held.add(bare.pid)
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
                held.remove(bare.pid)
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
