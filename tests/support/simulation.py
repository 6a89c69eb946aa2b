"""A run on a simulated clock: the real measuring code, with workers that let time pass and write down their orders.

Two fakes: the Clock of the whole process, and the Worker that serves by it. Everything between them (pool, warm-up, admission, blocks,
allocation, run folder) is the product's own.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from bench import catalog
from bench.artefacts.export import Artefact
from bench.catalog import DEFAULT, Arm, Scenario
from bench.core import files, paths
from bench.core.progress import Progress
from bench.correctness import check_cache, reference
from bench.machine import counters, page_cache, probe
from bench.machine.lock import MachineLock
from bench.measure import quality
from bench.measure.run import Run, Undecided
from bench.plan import workload
from bench.plan.folder import Plan, RepeatPlan
from bench.prepare import footprint, preflight
from bench.prepare.spec import Experiment, PreparedArm, RunSpec
from bench.runs import codec
from bench.runs.writer import RunFolder
from bench.workers.client import Order, Ready, Served, SliceFailed, WorkerFailed

KNOWN = catalog.load()
MODEL = KNOWN.models["minilm"]
DIM = MODEL.dim
LOAD_S, NOTHING = 0.5, counters.Meter(0, None, None, 0, 0, None, None, None)


class Clock:
    """Seconds that pass only when somebody says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def passes(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass(frozen=True)
class Service:
    """A simulated arm.

    Attributes:
        call_s: seconds of a call; `token_s`: of each token of a padded batch besides.
        warm_up_factor: calls on a plan's reserved rows take this many times as long.
        fails: numbers of the orders (over the arm's whole life) that fail; `dies`: in which its process ends.
    """

    call_s: float = 0.002
    token_s: float = 0.0001
    load_s: float = LOAD_S
    warm_up_factor: float = 1.0
    fails: tuple[int, ...] = ()
    dies: tuple[int, ...] = ()


@dataclass
class Machine:
    """All simulated workers of a run.

    Attributes:
        noisy: numbers of the probe's samples that are twice as slow.
        stop_at_s: the first order after this many seconds interrupts the run.
        log: a line for every start, order, end and probe sample, with its time.
        orders: how many each arm has had.
    """

    services: Mapping[str, Service]
    noisy: Sequence[int] = ()
    stop_at_s: float = float("inf")
    clock: Clock = field(default_factory=Clock)
    log: list[str] = field(default_factory=list)
    orders: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    pids: int = 100

    def worker(self, launch: Any, log: Path, folder: Path | None = None) -> Worker:
        self.pids += 1
        return Worker(self, launch.command[0], self.pids)


class Worker:
    """A worker that serves in no time but on the simulated clock."""

    def __init__(self, machine: Machine, name: str, pid: int) -> None:
        self.machine, self.name, self.pid, self.spawn_ns = machine, name, pid, 1
        self.service = machine.services[name]
        self.asleep = False

    def _say(self, what: str) -> None:
        self.machine.log.append(f"{self.machine.clock.now_s - 1000:.3f} {self.name}#{self.pid} {what}")

    def wait_ready(self, timeout_s: float) -> Ready:
        self._say("start")
        self.machine.clock.passes(self.service.load_s)
        return Ready(1, 1, 1, DIM, {"precision": "fp32"})

    def serve(self, order: Order, scratch: Path, timeout_s: float) -> Served:
        assert not self.asleep, "a frozen worker serves nothing"
        number = self.machine.orders[self.name] = self.machine.orders.get(self.name, 0) + 1
        rate = f" at {order.rate_per_s:.6g}/s" if order.rate_per_s else ""
        self._say(f"{order.plan.name} {order.first}+{order.rows} by {order.batch}{rate} guard {order.guard_s:.3f}")
        if self.machine.clock.now_s - 1000 > self.machine.stop_at_s:
            raise KeyboardInterrupt
        if number in self.service.dies:
            raise WorkerFailed("CRASH", "planted death")
        if number in self.service.fails:
            raise SliceFailed("planted failure")
        lengths, factor = PLANS[order.plan.name].lengths, 1.0
        if order.first < PLANS[order.plan.name].warm:
            factor = self.service.warm_up_factor
        rows, start, end, now, gap = [], [], [], 0.0, 1 / order.rate_per_s if order.rate_per_s else 0.0
        due: list[float] = []
        row = order.first
        while row < order.first + order.rows and now < order.guard_s:
            arrives = (row - order.first + 1) * gap
            now = max(now, arrives)
            if now > order.guard_s:
                break
            size = order.batch
            if order.rate_per_s:
                size = min(size, max(1, int(now / gap) - (row - order.first)))
            size = min(size, order.first + order.rows - row)
            took = factor * (self.service.call_s + self.service.token_s * size * int(lengths[row : row + size].max()))
            for place in range(size):
                rows.append(row + place)
                due.append((row + place - order.first + 1) * gap if gap else now)
                start.append(now)
                end.append(now + took)
            now += took
            row += size
        self.machine.clock.passes(now)
        began = self.machine.clock.now_s - now
        frame = pd.DataFrame(
            {
                "request": np.array(rows, dtype=np.int64),
                "due_ns": ((np.array(due) + began) * 1e9).astype(np.int64),
                "start_ns": ((np.array(start) + began) * 1e9).astype(np.int64),
                "end_ns": ((np.array(end) + began) * 1e9).astype(np.int64),
            }
        )
        return Served(frame, np.full((len(rows), DIM), DIM**-0.5, dtype=np.float32), int(now * 1e9), NOTHING)

    def freeze(self) -> None:
        self.asleep = True

    def thaw(self) -> None:
        self.asleep = False

    def quit(self, timeout_s: float = 10) -> None:
        self._say("quit")

    def kill(self) -> None: ...

    def reset_peak(self) -> bool:
        return True

    def memory(self) -> counters.Memory:
        return counters.Memory(1, 1, None, None, None, None, None, 1)

    def meter(self) -> counters.Meter:
        return NOTHING


class Lock:
    """The machine's lock, which nobody else wants."""

    def add(self, pid: int) -> None: ...

    def remove(self, pid: int) -> None: ...


PLANS: dict[str, Plan] = {}


def plan(name: str, rows: int, warm: int = 64, lengths: Sequence[int] = (8, 16, 24, 32, 12, 20, 40, 9, 17)) -> Plan:
    tokens = np.resize(np.array(lengths, dtype=np.int64), rows)
    zeros = np.zeros(rows, dtype=np.int64)
    PLANS[name] = Plan(paths.BUILD / "plans" / name, name, f"hash of {name}", rows, warm, "text", tokens, zeros, zeros, tokens)
    return PLANS[name]


def experiment(
    scenarios: Sequence[Scenario],
    services: Mapping[str, Service],
    budget_s: float | None,
    floors: Sequence[str] = (),
    **spec: Any,
) -> Experiment:
    """An experiment of simulated arms, one for each of `services`; those in `floors` are null workers."""
    artefact = Artefact(Path("nowhere"), "onnx", "fp32", "hash", 1)
    framework = KNOWN.frameworks["onnx-python"]
    arms = [
        PreparedArm(
            Arm(name, "python", "minilm", "wheel", "fp32", "default", 1, 1, "floor" if name in floors else "measured"),
            framework,
            DEFAULT,
            (name,),
            {},
            artefact,
            {},
        )
        for name in services
    ]
    known: dict[str, Any] = {
        "model": MODEL, "frameworks": (framework,), "scenarios": tuple(scenarios), "precisions": ("fp32",), "budget_s": budget_s,
        "weights": "wheel", "command": "invoke bench", "suite": "", "whole_catalog": False, "campaign_id": "c", **spec,
    }  # fmt: skip
    plans = {scenario.name: plan(scenario.name, scenario.rows) for scenario in scenarios}
    repeat = RepeatPlan(plan("repeat", 64 + 256, lengths=(16,)), 64, 64 + 128, 128)
    source: Any = None
    return Experiment(
        spec=RunSpec(**known), source=source, corpus_id="none", prepared_arms=tuple(arms), unavailable=(), plans=plans,
        hard=plan("hard", 256, 0), repeat=repeat, reference=artefact, identity=("simulated",), stages={},
    )  # fmt: skip


def scenarios(*names: str) -> list[Scenario]:
    """Scenarios of the catalogue, fitted to MiniLM."""
    return [workload.fitted(KNOWN.scenarios[name], MODEL) for name in names]


def measure(folder: Path, experiment: Experiment, machine: Machine, resident: bool = True, undecided: Undecided | None = None) -> RunFolder:
    """Measure an experiment, or go on with it, in `folder`; the machine's log gets the lines said too. Interrupted, it says so."""
    said, run_folder = io.StringIO(), RunFolder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        _nothing_real(patch, machine, resident)
        progress, held = Progress(Console(file=said, width=200)), cast(MachineLock, Lock())
        try:
            Run(experiment, run_folder, held, progress, undecided, cast(Any, machine.worker)).measure()
        except KeyboardInterrupt:
            machine.log.append("interrupted")
    machine.log += said.getvalue().splitlines()
    return run_folder


def _nothing_real(patch: pytest.MonkeyPatch, machine: Machine, resident: bool) -> None:
    """Time is simulated time; vectors agree with the reference; nothing of this machine is looked at."""
    clock = machine.clock
    patch.setattr(time, "monotonic", lambda: clock.now_s)
    patch.setattr(time, "monotonic_ns", lambda: int(clock.now_s * 1e9))
    patch.setattr(codec, "now", lambda: datetime.fromtimestamp(1.8e9 + clock.now_s, UTC))
    patch.setattr(files, "sync", lambda path: None)
    patch.setattr(preflight, "stays_resident", lambda experiment: resident)
    patch.setattr(reference, "ensure", lambda *words: np.full((words[5], DIM), DIM**-0.5, dtype=np.float32))
    patch.setattr(check_cache, "key", lambda *_: None)
    patch.setattr(quality, "measure", lambda *_: None)
    patch.setattr(footprint, "artefact_files", lambda _: [])
    patch.setattr(footprint, "start_files", lambda _: [])
    patch.setattr(page_cache, "is_warm", lambda _: True)
    patch.setattr(page_cache, "evict", lambda _: None)
    patch.setattr(probe, "Probe", lambda cores: Probe(machine))
    patch.setattr(probe, "calibrate", lambda _: probe.Calibration((1.0,), (1.0,)))
    patch.setattr(probe, "remember", lambda *_: probe.Calibration((1.0,), (1.0,)))


class Probe:
    """A probe that is noisy when the machine says so."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def sample(self) -> probe.Sample:
        self.machine.samples += 1
        self.machine.log.append(f"{self.machine.clock.now_s - 1000:.3f} probe")
        self.machine.clock.passes(0.01)
        seconds = 2.0 if self.machine.samples in self.machine.noisy else 1.0
        return probe.Sample(seconds, seconds, 1.0, 1.0)
