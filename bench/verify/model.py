"""Promises that want a real model (MiniLM): the cost of the harness in each language, plans that are equal everywhere, planted bugs, and
a closed loop of real clients around ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from bench import catalog
from bench.artefacts import export
from bench.catalog import Model
from bench.commands import floor
from bench.core import paths
from bench.core.errors import BenchError
from bench.corpus import resolve
from bench.machine.lock import MachineLock
from bench.model import weights
from bench.model.weights import Source
from bench.plan import make
from bench.plan.folder import Plan
from bench.prepare import launch
from bench.verify import derived, gate
from bench.verify.claim import Found, Tick
from bench.verify.live_bench import nulls, opened
from bench.workers.client import Launch

MODEL = "minilm"
SEED = 1
SCENARIO = "closed-1"
#: Rows and rounds of the closed loop with real clients: many short rounds, so that a busy neighbour spoils few of them.
ROWS, ROUNDS = 24, 30


@dataclass(frozen=True)
class Subject:
    """The model, where its weights are, and the artefacts that the promises read."""

    model: Model
    source: Source
    torch: export.Artefact
    onnx: export.Artefact


def subject() -> Subject:
    """MiniLM, exported where it is not yet.

    Raises:
        BenchError: it cannot be had or exported.
    """
    model = catalog.load().models[MODEL]
    source = weights.resolve(model, "auto")
    return Subject(model, source, export.ensure(model, source, "safetensors"), export.ensure(model, source, "onnx"))


def language_gap(held: MachineLock, tick: Tick) -> Found:
    """What a request costs that does no work, in the loop of each language, as `invoke floor` measures it."""
    about, (ready, absent) = subject(), nulls()
    rows = _plan(about)
    costs = {}
    with opened(held) as live_bench:
        for place, framework in enumerate(ready):
            costs[framework.language] = floor.null_cost_us(framework, about.model, rows, live_bench.folder, held)
            tick((place + 1) / len(ready))
    told = [f"{language} {cost:.2f} µs (≤ {floor.NULL_TARGET_US[language]:g})" for language, cost in costs.items()]
    if len(costs) > 1:
        told.append(f"{max(costs.values()) - min(costs.values()):.2f} µs apart")
    return Found(
        "; ".join([", ".join(told), *absent]), bool(costs) and all(cost <= floor.NULL_TARGET_US[name] for name, cost in costs.items())
    )


def plans(_: MachineLock, tick: Tick) -> Found:
    """The same plan made twice from nothing, in processes whose hash seed, locale and time zone differ."""
    hashes = []
    for place, env in enumerate(({"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC"},
                                 {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"})):  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="verify-") as build:
            command = [sys.executable, "-m", "bench.verify.model"]
            own = {**os.environ, **env, "BENCH_BUILD": build}
            done = subprocess.run(command, cwd=paths.ROOT, env=own, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"a plan could not be made: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        hashes.append(done.stdout.split())
        tick((place + 1) / 2)
    same = hashes[0] == hashes[1] and all(hashes[0])
    return Found(
        f"{len(hashes[0])} plans made twice: {'equal' if same else 'not equal'}, {' '.join(name[:12] for name in hashes[0])}", same
    )


def planted_in_model(_: MachineLock, tick: Tick) -> Found:
    """Bugs in the Embedder, on all hard inputs."""
    about = subject()
    hard = make.hard_plan(about.model, about.source.folder, SEED)
    return gate.run(about.torch.folder, hard.folder, about.model.pad_id, tick)


def real_clients(held: MachineLock, tick: Tick) -> Found:
    """Client threads around one session of ONNX Runtime in Python, against the closed loop that follows from its service sequence.

    One thread of the runtime: with as many as there are cores they would spin where the clients have to run, which is another question.
    """
    about, threads = subject(), 1
    framework = catalog.load().frameworks["onnx-python"]
    command, env = launch.command_and_env(framework, 1, threads)
    rows = _plan(about)

    with opened(held) as live_bench:
        worker = live_bench.worker(Launch(command, env, about.onnx.folder, about.model.pad_id, threads=threads))
        return derived.compare(
            live_bench, worker, ("onnx", str(about.onnx.folder), str(threads)), env,
            rows.folder, ROWS, ROUNDS, tick,
        )  # fmt: skip


def _plan(about: Subject) -> Plan:
    return make.scenario_plan(about.model, about.source.folder, catalog.load().scenarios[SCENARIO], resolve.resolve(None, SEED), SEED)


def main() -> None:
    """Print the hashes of the plan of SCENARIO and of the hard inputs, made in this process."""
    model = catalog.load().models[MODEL]
    source = weights.resolve(model, "auto")
    texts = resolve.resolve(None, SEED)
    made = make.scenario_plan(model, source.folder, catalog.load().scenarios[SCENARIO], texts, SEED)
    print(made.hash, make.hard_plan(model, source.folder, SEED).hash)


if __name__ == "__main__":
    main()
