"""Claims that need a real model (MiniLM): the cost of the harness in each language, plans that are equal everywhere, planted bugs, and a
closed loop of real clients around ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from bench import catalog
from bench.artefacts import export
from bench.catalog import Catalog, Model
from bench.commands import floor
from bench.core import paths
from bench.core.errors import BenchError
from bench.corpus import resolve
from bench.model import weights
from bench.model.weights import Source
from bench.plan import make
from bench.plan.folder import Plan
from bench.prepare import launch
from bench.verify import derived, gate
from bench.verify.claim import Conditions, Outcome
from bench.verify.live_bench import null_workers, opened
from bench.workers.client import Launch

MODEL = "minilm"
SEED = 1
SCENARIO = "closed-1"
#: Rows and rounds of the closed loop with real clients: many short rounds, so that a busy neighbour spoils few of them.
ROWS, ROUNDS = 24, 30


@dataclass(frozen=True)
class Subject:
    """The model, where its weights are, and its artefacts for PyTorch and ONNX Runtime."""

    model: Model
    source: Source
    torch: export.Artefact
    onnx: export.Artefact


def subject(catalogue: Catalog) -> Subject:
    """MiniLM, exported where it is not yet.

    Raises:
        BenchError: its weights are not there, or its export fails.
    """
    model = catalogue.models[MODEL]
    source = weights.resolve(model, "auto")
    return Subject(model, source, export.ensure(model, source, "safetensors"), export.ensure(model, source, "onnx"))


def language_gap(conditions: Conditions) -> Outcome:
    """The cost of a request that does no work, in the loop of each language, as `invoke floor` measures it."""
    minilm, (ready, absent) = subject(conditions.catalogue), null_workers(conditions.catalogue)
    rows = _plan(conditions.catalogue, minilm.model, minilm.source)
    costs_us = {}
    with opened(conditions.machine_lock, conditions.catalogue) as live_bench:
        for place, framework in enumerate(ready):
            cost_us = floor.null_cost_us(framework, minilm.model, rows, live_bench.folder, conditions.machine_lock)
            costs_us[framework.language] = cost_us
            conditions.tick((place + 1) / len(ready))
    texts = [f"{language} {cost_us:.2f} µs (≤ {floor.NULL_TARGET_US[language]:g})" for language, cost_us in costs_us.items()]
    if len(costs_us) > 1:
        texts.append(f"{max(costs_us.values()) - min(costs_us.values()):.2f} µs apart")
    held = bool(costs_us) and all(cost_us <= floor.NULL_TARGET_US[language] for language, cost_us in costs_us.items())
    return Outcome("; ".join([", ".join(texts), *absent]), held)


def plans(conditions: Conditions) -> Outcome:
    """The same plans made twice from nothing, in processes whose hash seed, locale and time zone differ."""
    environments = ({"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC"}, {"PYTHONHASHSEED": "2", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"})
    hashes = []
    for place, environment in enumerate(environments):
        with tempfile.TemporaryDirectory(prefix="verify-") as build:
            command = [sys.executable, "-m", "bench.verify.model"]
            env = {**os.environ, **environment, "BENCH_BUILD": build}
            done = subprocess.run(command, cwd=paths.ROOT, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"a plan could not be made: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        hashes.append(done.stdout.split())
        conditions.tick((place + 1) / len(environments))
    equal = hashes[0] == hashes[1] and all(hashes[0])
    shown = " ".join(plan_hash[:12] for plan_hash in hashes[0])
    return Outcome(f"{len(hashes[0])} plans made twice: {'equal' if equal else 'not equal'}, {shown}", equal)


def planted_bugs(conditions: Conditions) -> Outcome:
    """Bugs planted into the reference model, judged on the hard inputs."""
    minilm = subject(conditions.catalogue)
    hard = make.hard_plan(minilm.model, minilm.source.folder, SEED)
    return gate.judge_in_process(minilm.torch.folder, hard.folder, minilm.model.pad_id, conditions.tick)


def real_clients(conditions: Conditions) -> Outcome:
    """Client threads around one session of ONNX Runtime in Python, against the closed loop that follows from its service sequence.

    The runtime has one thread: with as many as there are cores they would spin where the clients have to run, which is another question.
    """
    minilm, threads = subject(conditions.catalogue), 1
    command, env = launch.command_and_env(conditions.catalogue.frameworks["onnx-python"], 1, threads)
    rows = _plan(conditions.catalogue, minilm.model, minilm.source)
    with opened(conditions.machine_lock, conditions.catalogue) as live_bench:
        worker = live_bench.worker(Launch(command, env, minilm.onnx.folder, minilm.model.pad_id, threads=threads))
        words = ("onnx", str(minilm.onnx.folder), str(threads))
        return derived.compare_loops(live_bench, worker, words, env, rows.folder, ROWS, ROUNDS, conditions.tick)


def _plan(catalogue: Catalog, model: Model, source: Source) -> Plan:
    return make.scenario_plan(model, source.folder, catalogue.scenarios[SCENARIO], resolve.resolve(None, SEED), SEED)


def main() -> None:
    """Print the hashes of the plan of SCENARIO and of the hard inputs, made in this process."""
    catalogue = catalog.load()
    model = catalogue.models[MODEL]
    source = weights.resolve(model, "auto")
    print(_plan(catalogue, model, source).hash, make.hard_plan(model, source.folder, SEED).hash)


if __name__ == "__main__":
    main()
