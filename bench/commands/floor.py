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
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import pandas as pd
from rich.console import Console
from rich.table import Table

from bench import catalog
from bench.artefacts import export
from bench.catalog import Framework, Model
from bench.core import files, paths
from bench.core.errors import BenchError
from bench.corpus import resolve
from bench.machine import identity, lock
from bench.measure import seats
from bench.measure.progress import Progress
from bench.model import weights
from bench.plan import make
from bench.prepare import experiment, native
from bench.stats import leaderboard
from bench.workers import client
from bench.workers.client import Worker, WorkerFailed

NULL_ROWS, NULL_SLICES = 4000, 9
ROWS, SLICES = 24, 8
NULL_TARGET_US: Mapping[str, float] = {"python": 5.0, "rust": 1.0, "cpp": 1.0}
SERVICE_TARGET = 1.03


class Bare(Worker):
    """A process that answers `loop`: of `bench.workers.baseline_loop`, or a native worker."""

    def loop(self, plan_path: str, first: int, count: int) -> int:
        """Nanoseconds for `count` rows."""
        self._say(f"loop {plan_path} {first} {count}\n")
        return int(self.wait_line("looped", 300))

    def wait_line(self, wanted: str, timeout_s: float) -> str:
        """The rest of the line that begins with `wanted`."""
        word, rest = self._answer(timeout_s, "a bare loop")
        if word != wanted:
            raise WorkerFailed("CRASH", f"the bare loop said {word} {rest}"[:200])
        return rest


W = TypeVar("W", bound=Worker)


def run(model: Model, pairs: int) -> None:
    """Measure and print the floor; raises BenchError where nothing can run."""
    client.require_linux()
    known, progress, console = catalog.load(), Progress(), Console()
    source = weights.resolve(model, "auto")
    texts = resolve.resolve(None, 1)
    rows = make.ensure(model, source.folder, known.scenarios["closed-1"], texts, 1)
    nulls = Table("null worker", "µs per request", "target", "held", title="What a request costs that does no work", title_justify="left")
    services = Table("framework", "worker / bare", "interval", "n pairs", "target", "held",
                     title="Service time over the bare framework on the same tensors", title_justify="left")  # fmt: skip
    with lock.hold("the floor") as held, _scratch() as scratch:
        for framework in known.frameworks.values():
            if reason := experiment.missing(framework):
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


def null_cost_us(framework: Framework, model: Model, rows: make.Plan, scratch: Path, held: lock.MachineLock) -> float:
    """Median over slices of (last end − first start) / requests, in µs, one row at a time."""
    worker = _start_worker(framework, model, paths.ARTEFACTS / model.name, scratch, Worker)
    held.add(worker.pid)
    costs = []
    try:
        for number in range(NULL_SLICES):
            samples = _serve(worker, rows, 0, min(NULL_ROWS, rows.rows), scratch / f"{framework.name}-{number}")
            costs.append((samples["end_ns"].max() - samples["start_ns"].min()) / len(samples) / 1000)
    finally:
        worker.kill()
        held.remove(worker.pid)
    return float(statistics.median(costs))


def service_ratios(
    framework: Framework, model: Model, artefact: Path, rows: make.Plan, scratch: Path, held: lock.MachineLock, pair: int
) -> list[float]:
    """Log ratios, slice by slice, of the worker's mean service to the bare loop's time per row; a fresh process pair."""
    worker = _start_worker(framework, model, artefact, scratch, Worker)
    held.add(worker.pid)
    bare = None
    try:
        worker.freeze()
        bare = _start_bare(framework, model, artefact, scratch)
        held.add(bare.pid)
        plan_path = str(rows.folder.relative_to(paths.BUILD))
        bare.loop(plan_path, 0, rows.warm)
        bare.freeze()
        worker.thaw()
        _serve(worker, rows, 0, rows.warm, scratch / f"{worker.pid}-warm")
        worker.freeze()
        ratios = []
        for number in range(SLICES):
            first = rows.warm + (pair * SLICES + number) * ROWS
            # Who goes first alternates, so that neither always meets the rows warm.
            for who in ("worker", "bare") if number % 2 else ("bare", "worker"):
                if who == "bare":
                    bare.thaw()
                    bare.loop(plan_path, 0, 2)
                    bare_ns = bare.loop(plan_path, first, ROWS) / ROWS
                    bare.freeze()
                else:
                    worker.thaw()
                    _serve(worker, rows, 0, 2, scratch / f"{worker.pid}-{number}-thaw")
                    samples = _serve(worker, rows, first, ROWS, scratch / f"{worker.pid}-{number}")
                    worker_ns = float((samples["end_ns"] - samples["start_ns"]).mean())
                    worker.freeze()
            ratios.append(math.log(worker_ns / bare_ns))
        return ratios
    except WorkerFailed as failure:
        raise BenchError(f"{framework.name}: {failure}; see `invoke doctor`") from None
    finally:
        for started in (worker, bare):
            if started:
                started.kill()
                held.remove(started.pid)


def _start_worker(framework: Framework, model: Model, artefact: Path, scratch: Path, kind: type[W]) -> W:
    threads = identity.physical_cores()
    command, env = experiment.command_and_env(framework, 1, threads)
    flags = ["--model", str(artefact), "--precision", "fp32", "--sessions", "1", "--threads", str(threads), "--pad-id", str(model.pad_id)]
    if framework.role == "floor":
        flags += ["--set", f"dim={model.dim}"]
    worker = kind(command, flags, env, paths.BUILD, scratch / f"{framework.name}-{kind.__name__}.log")
    try:
        worker.wait_ready(120)
    except WorkerFailed as failure:
        raise BenchError(f"{framework.name}: {failure}; see `invoke doctor`") from None
    return worker


def _start_bare(framework: Framework, model: Model, artefact: Path, scratch: Path) -> Bare:
    """A bare loop: in Python a program of its own, in Rust and C++ the worker's `loop` order."""
    if framework.language != "python":
        return _start_worker(framework, model, artefact, scratch, Bare)
    threads = identity.physical_cores()
    command, env = experiment.command_and_env(framework, 1, threads)
    program = (command[0], "-m", "bench.workers.baseline_loop", framework.name, str(artefact), str(threads))
    bare = Bare(program, [], env, paths.BUILD, scratch / f"{framework.name}-bare.log")
    bare.wait_line("ready", 120)
    return bare


def _serve(worker: Worker, rows: make.Plan, first: int, count: int, out: Path) -> pd.DataFrame:
    worker.serve(str(rows.folder.relative_to(paths.BUILD)), first, count, 0, 1, 120, str(out.relative_to(paths.BUILD)), 300)
    return seats.read_out(out).samples


class _scratch:
    """A scratch folder for OUT folders, removed at the end."""

    def __enter__(self) -> Path:
        self.path = paths.SCRATCH / f"floor-{files.short_hash(time.time_ns())}"
        self.path.mkdir(parents=True)
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def _held(held: bool) -> str:
    return "yes" if held else "no"
