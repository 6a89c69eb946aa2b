"""What will be measured: the wish of a command and the catalogue → ready arms, artefacts and plans.

Nothing is measured here. An arm that cannot run becomes a reason, and the others go on.
"""

from __future__ import annotations

import importlib.metadata
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench import build, corpus, export, files, machine, paths, plan, weights
from bench.catalog import Arm, Framework, Model, Scenario
from bench.errors import BenchError
from bench.process import WorkerFailed, state_version

#: The shape of run folders and plans; a change makes old unfinished runs not resumable.
FORMAT = 1
CURE_PYTHON = "pip install -e ."


@dataclass(frozen=True)
class Wish:
    """A `bench` command for one model, parsed."""

    model: Model
    frameworks: tuple[Framework, ...]
    scenarios: tuple[Scenario, ...]
    precision: str
    budget_s: float
    weights: Literal["auto", "hub", "wheel", "synthetic"]
    command: str
    suite: str
    whole_catalog: bool
    campaign_id: str
    requests: int | None = None
    corpus: str | None = None
    seed: int = 1
    fresh: bool = False


@dataclass(frozen=True)
class Lane:
    """An arm that can run: how to start its worker, and on what."""

    arm: Arm
    framework: Framework
    command: tuple[str, ...]
    env: Mapping[str, str]
    artefact: export.Artefact
    version: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)

    def flags(self, pad_id: int) -> list[str]:
        """The worker's command line."""
        arm = self.arm
        knobs = [word for key, value in self.settings.items() for word in ("--set", f"{key}={value}")]
        return [
            "--model", str(self.artefact.folder), "--precision", arm.precision, "--sessions", str(arm.sessions),
            "--threads", str(arm.threads), "--pad-id", str(pad_id), *knobs,
        ]  # fmt: skip


@dataclass(frozen=True)
class Broken:
    """An arm that cannot run here, and why."""

    arm: Arm
    status: str
    reason: str


@dataclass(frozen=True)
class Experiment:
    """Everything the runner needs. `stages` holds the seconds each stage of the preparation took."""

    wish: Wish
    source: weights.Source
    corpus_id: str
    lanes: tuple[Lane, ...]
    broken: tuple[Broken, ...]
    plans: Mapping[str, plan.Plan]
    hard: plan.Plan
    repeat: plan.RepeatPlan
    reference: export.Artefact
    hash: str
    stages: Mapping[str, float]

    @property
    def pad_id(self) -> int:
        return self.wish.model.pad_id


class Stopwatch:
    """Seconds per named stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0) + time.monotonic() - began, 3)


def missing(framework: Framework) -> str | None:
    """Why a framework cannot run here, with the one command that cures it; None where nothing is missing."""
    for library in framework.libraries:
        try:
            importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            return f"{library} is not installed: {CURE_PYTHON}"
    return build.missing(framework) if framework.build else None


def command_and_env(framework: Framework, sessions: int, threads: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """The worker's command and environment with their templates filled in."""
    values: dict[str, str] = {"python": sys.executable, "native": str(paths.BINARIES), "threads": str(threads), "sessions": str(sessions)}
    if any("{onnxruntime_library}" in value for value in framework.env.values()):
        values["onnxruntime_library"] = str(build.onnxruntime_library())
    env = {key: value.format_map(values) for key, value in framework.env.items()}
    command = tuple(part.format_map(values) for part in framework.command)
    if framework.language == "python":
        # The package is found from an editable install; a worker started in the build folder must find it too.
        env.setdefault("PYTHONPATH", str(paths.ROOT))
    return command, env


def arm_of(framework: Framework, model: Model, weights_kind: str, precision: str, threads: int) -> Arm:
    """The default arm of a framework: one session over all cores."""
    return Arm(framework.name, framework.language, model.name, weights_kind, precision, "default", 1, threads, framework.role)


def prepare(wish: Wish, say: Callable[[str], None]) -> Experiment:
    """Build, export and plan what `wish` asks for.

    Raises:
        BenchError: no weights, no corpus, no disk: something that stops every arm.
    """
    watch = Stopwatch()
    model = wish.model
    with watch("weights"):
        source = weights.resolve(model, wish.weights)
    if source.kind == "synthetic":
        say(f"{model.title}: synthetic weights; speed is the same work, meaning is not")
    with watch("export"):
        reference = export.ensure(model, source, "safetensors", "fp32")
    lanes: list[Lane] = []
    broken: list[Broken] = []
    for framework in wish.frameworks:
        arm = arm_of(framework, model, source.kind, wish.precision, machine.physical_cores())
        try:
            lanes.append(_lane(arm, framework, model, source, watch))
        except _NotReady as reason:
            broken.append(Broken(arm, reason.status, str(reason)))
    with watch("plan"):
        texts = corpus.resolve(wish.corpus, wish.seed)
        plans: dict[str, plan.Plan] = {}
        for scenario in wish.scenarios:
            # A finite corpus is shared out among the scenarios: no text is served twice in a process.
            taken = sum(made.rows for made in plans.values())
            plans[scenario.name] = plan.ensure(model, source.folder, scenario, texts, wish.seed, taken=taken)
        hard = plan.hard_plan(model, source.folder, wish.seed)
        repeat = plan.repeat_plan(plans[wish.scenarios[0].name], model, source.folder, wish.seed)
    identity = files.short_hash(
        FORMAT, model.name, source.kind, wish.budget_s, wish.requests, wish.seed, [p.hash for p in plans.values()],
        [(lane.arm.id, lane.artefact.hash, lane.version, _binary_hash(lane)) for lane in lanes], [b.arm.id for b in broken],
        [scenario.name for scenario in wish.scenarios], machine.machine_id(),
    )  # fmt: skip
    return Experiment(wish, source, texts.id, tuple(lanes), tuple(broken), plans, hard, repeat, reference, identity, watch.seconds)


class _NotReady(Exception):
    """An arm that cannot run here: its status, and the reason with the cure."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _lane(arm: Arm, framework: Framework, model: Model, source: weights.Source, watch: Stopwatch) -> Lane:
    """Build, export and start once: an arm that states its version is ready."""
    if arm.precision not in framework.precisions:
        raise _NotReady("NOT_APPLICABLE", f"{framework.title} is not run in {arm.precision} here yet")
    if reason := missing(framework):
        raise _NotReady("SKIPPED", reason)
    try:
        if framework.build:
            with watch("build"):
                build.ensure(framework)
        with watch("export"):
            artefact = export.ensure(model, source, framework.artefact, arm.precision)
        with watch("versions"):
            command, env = command_and_env(framework, arm.sessions, arm.threads)
            version = state_version(command, env)
    except BenchError as error:
        raise _NotReady("SKIPPED", str(error)) from None
    except WorkerFailed as failure:
        status = "SKIPPED" if failure.status == "ENV_INVALID" else failure.status
        raise _NotReady(status, f"does not state its version: {failure}") from None
    return Lane(arm, framework, command, env, artefact, version, _knobs_for(framework, model))


def _knobs_for(framework: Framework, model: Model) -> dict[str, str]:
    """Knobs that follow from the model: only the null workers must be told how long a vector is."""
    return {"dim": str(model.dim)} if framework.role == "floor" else {}


def _binary_hash(lane: Lane) -> str:
    """The hash of what runs: the binary, or the worker's Python files."""
    if lane.framework.build:
        return files.sha256(Path(lane.command[0]))
    bench = paths.ROOT / "bench"
    code = [bench / "worker.py", bench / "embedder.py", *sorted((bench / "workers").glob("*.py"))]
    return files.short_hash([files.sha256(file) for file in code])
