"""What will be measured: the spec of a command and the catalogue → ready arms, artefacts and plans.

Nothing is measured here. An arm that cannot run becomes a reason, and the others go on.
"""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from bench.artefacts import export
from bench.catalog import DEFAULT, Arm, ControlRole, Framework, Model, Scenario, Variant, arms, control_arms
from bench.catalog.arms import ArmRequest, Layout
from bench.catalog.frameworks import Library
from bench.core import content_hash, files, paths
from bench.core.errors import BenchError, NotApplicable
from bench.corpus import resolve
from bench.machine import identity as machine
from bench.model import weights
from bench.plan import make, workload
from bench.prepare import environments, native
from bench.workers.client import WorkerFailed, state_version

#: The shape of run folders and plans; a change makes old unfinished runs not resumable.
FORMAT = 1
CURE_PYTHON = "pip install -e ."


@dataclass(frozen=True)
class RunSpec:
    """A `bench` command for one model, parsed."""

    model: Model
    frameworks: tuple[Framework, ...]
    scenarios: tuple[Scenario, ...]
    precisions: tuple[str, ...]
    budget_s: float | None
    weights: Literal["auto", "hub", "wheel", "synthetic"]
    command: str
    suite: str
    whole_catalog: bool
    campaign_id: str
    variants: tuple[str, ...] = ("default",)
    layouts: tuple[Layout, ...] = ()
    requests: int | None = None
    corpus: str | None = None
    seed: int = 1
    fresh: bool = False
    quality_set: str | None = None
    #: Every block in new processes.
    fresh_blocks: bool = False
    #: Control arms made from every measured arm; the run whose controls vouch for this one, and what of the budget they have used.
    roles: tuple[ControlRole, ...] = ()
    controls_run_id: str | None = None
    controls_s: float = 0.0


@dataclass(frozen=True)
class PreparedArm:
    """An arm that can run: how to start its worker, and on what. Only a control arm may have a `fault`."""

    arm: Arm
    framework: Framework
    variant: Variant
    command: tuple[str, ...]
    env: Mapping[str, str]
    artefact: export.Artefact
    version: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)
    fault: str | None = None

    def __post_init__(self) -> None:
        if self.fault is not None and self.arm.role not in get_args(ControlRole):
            raise ValueError(f"{self.name}: a {self.arm.role} arm never has a fault")

    @property
    def name(self) -> str:
        """For people: the framework, with what sets this arm apart from its default."""
        return named(self.arm)

    def flags(self, pad_id: int) -> list[str]:
        """The worker's command line."""
        arm = self.arm
        knobs = [word for key, value in self.settings.items() for word in ("--set", f"{key}={value}")]
        fault = ["--fault", self.fault] if self.fault else []
        return [
            "--model", str(self.artefact.folder), "--precision", arm.precision, "--sessions", str(arm.sessions),
            "--threads", str(arm.threads), "--pad-id", str(pad_id), *knobs, *fault,
        ]  # fmt: skip


@dataclass(frozen=True)
class UnavailableArm:
    """An arm that cannot run here, and why."""

    arm: Arm
    variant: Variant
    status: str
    reason: str


@dataclass(frozen=True)
class Experiment:
    """Everything the runner needs. `stages` holds the seconds each stage of the preparation took; `not_applicable` the scenarios that mean
    nothing for the model, and why: they have no plan. `identity` is all that makes a run another one, but for its budget."""

    spec: RunSpec
    source: weights.Source
    corpus_id: str
    prepared_arms: tuple[PreparedArm, ...]
    unavailable: tuple[UnavailableArm, ...]
    plans: Mapping[str, make.Plan]
    hard: make.Plan
    repeat: make.RepeatPlan
    reference: export.Artefact
    identity: tuple[Any, ...]
    stages: Mapping[str, float]
    not_applicable: Mapping[str, str] = field(default_factory=dict)

    @property
    def pad_id(self) -> int:
        return self.spec.model.pad_id

    @property
    def hash(self) -> str:
        """Two runs of one hash are the same experiment."""
        return self.hash_within(self.spec.budget_s)

    def hash_within(self, budget_s: float | None) -> str:
        """The hash that this experiment has, or would have, within a budget."""
        return files.short_hash(*self.identity, budget_s)


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
    for library in framework.libraries if framework.release is None else ():
        try:
            importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            return f"{library} is not installed: {CURE_PYTHON}"
    return native.missing(framework) if framework.build else None


def named(arm: Arm) -> str:
    """`onnx-python`, `onnx-python int8 dynamic`, `pytorch 2x1`: an arm for people."""
    words = [arm.framework]
    words += [arm.precision] if arm.precision != "fp32" else []
    words += [arm.variant] if arm.variant != "default" else []
    words += [f"{arm.sessions}x{arm.threads}"] if arm.sessions > 1 else []
    return " ".join(words)


def command_and_env(
    framework: Framework, sessions: int, threads: int, variant: Variant = DEFAULT
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The worker's command and environment with their templates filled in; those of the variant's knobs, then its own, come last."""
    values: dict[str, str] = {
        "python": str(environments.python(framework)), "native": str(paths.BINARIES), "threads": str(threads), "sessions": str(sessions),
    }  # fmt: skip
    templates = dict(framework.env)
    for key, value in variant.settings.items():
        knob = framework.knobs[key]
        templates |= knob.env.get(value, {})
        if value in knob.libraries:
            values["library"] = _shared_library(knob.libraries[value])
    templates |= variant.env
    if any("{onnxruntime_library}" in value for value in templates.values()):
        library = environments.shared_library(framework) if framework.release else native.onnxruntime_library()
        values["onnxruntime_library"] = str(library)
    env = {key: value.format_map(values) for key, value in templates.items()}
    command = tuple(part.format_map(values) for part in program_of(framework, variant))
    if framework.language == "python":
        # The package is found from an editable install; a worker started in the build folder must find it too.
        env.setdefault("PYTHONPATH", str(paths.ROOT))
    return command, env


def program_of(framework: Framework, variant: Variant) -> tuple[str, ...]:
    """The command template of a variant: its own, or that of one of its knobs, or the framework's."""
    chosen = [framework.knobs[key].command.get(value) for key, value in variant.settings.items()]
    return variant.command or next(filter(None, chosen), framework.command)


def recipe_of(framework: Framework, variant: Variant) -> str:
    """How the artefact of a variant is converted: by its own recipe, or that of one of its knobs; empty for the plain one."""
    chosen = [framework.knobs[key].recipe.get(value) for key, value in variant.settings.items()]
    return variant.recipe or next(filter(None, chosen), "")


def _shared_library(library: Library) -> str:
    """The file name by which the loader finds it.

    Raises:
        NotApplicable: it is not installed; the package that has it is named.
    """
    found = ctypes.util.find_library(library.name)
    if found is None:
        raise NotApplicable(f"lib{library.name} is not installed: apt-get install {library.package}")
    return found


def arm_of(request: ArmRequest, model: Model, weights_kind: str) -> Arm:
    """The arm that a request is, for one model and its weights."""
    framework, layout = request.framework, request.layout
    return Arm(framework.name, framework.language, model.name, weights_kind, request.precision, request.variant.name, layout.sessions,
               layout.threads, framework.role)  # fmt: skip


def arm_requests(spec: RunSpec) -> list[ArmRequest]:
    """All arms that a spec asks for on this machine, and why some are not there."""
    return arms.choose(spec.frameworks, spec.precisions, spec.variants, spec.layouts, machine.physical_cores())


def prepare(spec: RunSpec, say: Callable[[str], None]) -> Experiment:
    """Build, export and plan what `spec` asks for.

    Raises:
        BenchError: no weights, no corpus, no disk: something that stops every arm.
    """
    watch = Stopwatch()
    model = spec.model
    with watch("weights"):
        source = weights.resolve(model, spec.weights)
    if source.kind == "synthetic":
        say(f"{model.title}: synthetic weights; speed is the same work, meaning is not")
    with watch("export"):
        reference = export.ensure(model, source, "safetensors", "fp32")
    prepared_arms: list[PreparedArm] = []
    unavailable: list[UnavailableArm] = []
    for request in arm_requests(spec):
        arm = arm_of(request, model, source.kind)
        try:
            prepared_arms.append(_prepared(arm, request, model, source, watch))
        except _NotReady as reason:
            unavailable.append(UnavailableArm(arm, request.variant, reason.status, str(reason)))
    prepared_arms += [
        replace(prepared, arm=control.arm, fault=control.fault)
        for prepared in prepared_arms if prepared.arm.role == "measured" for control in control_arms.controls_of(prepared.arm, spec.roles)
    ]  # fmt: skip
    with watch("plan"):
        texts = resolve.resolve(spec.corpus, spec.seed)
        plans: dict[str, make.Plan] = {}
        not_applicable = {scenario.name: why for scenario in spec.scenarios if (why := workload.why_not(scenario, model))}
        if len(not_applicable) == len(spec.scenarios):
            raise BenchError(
                f"{model.title}: {'; '.join(f'{name}: {why}' for name, why in not_applicable.items())}: choose other scenarios"
            )
        for scenario in spec.scenarios:
            if scenario.name in not_applicable:
                continue
            # A finite corpus is shared out among the scenarios: no text is served twice in a process.
            taken = sum(made.rows for made in plans.values())
            plans[scenario.name] = make.ensure(model, source.folder, scenario, texts, spec.seed, taken=taken)
        hard = make.hard_plan(model, source.folder, spec.seed)
        repeat = make.repeat_plan(next(iter(plans.values())), model, source.folder, spec.seed)
    identity = (
        FORMAT, model.name, source.kind, spec.requests, spec.seed, [p.hash for p in plans.values()],
        [(prepared.arm.id, prepared.artefact.hash, prepared.version, binary_hash(prepared), prepared.command, prepared.env, prepared.settings, prepared.fault)
         for prepared in prepared_arms],
        [b.arm.id for b in unavailable], [asdict(scenario) for scenario in spec.scenarios], spec.fresh_blocks, machine.machine_id(),
    )  # fmt: skip
    made = plans, hard, repeat, reference, identity, watch.seconds, not_applicable
    return Experiment(spec, source, texts.id, tuple(prepared_arms), tuple(unavailable), *made)


class _NotReady(Exception):
    """An arm that cannot run here: its status, and the reason with the cure."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _prepared(arm: Arm, request: ArmRequest, model: Model, source: weights.Source, watch: Stopwatch) -> PreparedArm:
    """Build, export and start once: an arm that states its version is ready."""
    framework, variant = request.framework, request.variant
    if request.reason:
        raise _NotReady("NOT_APPLICABLE", request.reason)
    if reason := missing(framework):
        raise _NotReady("SKIPPED", reason)
    try:
        if framework.build:
            with watch("build"):
                native.ensure(framework, program_of(framework, variant))
        with watch("export"):
            # Without a recipe the runtime itself converts the fp32 artefact at load.
            recipe = recipe_of(framework, variant)
            artefact = export.ensure(model, source, framework.artefact, arm.precision if recipe else "fp32", recipe)
        with watch("versions"):
            command, env = command_and_env(framework, arm.sessions, arm.threads, variant)
            version = state_version(command, env)
    except NotApplicable as reason:
        raise _NotReady("NOT_APPLICABLE", str(reason)) from None
    except BenchError as error:
        raise _NotReady("SKIPPED", str(error)) from None
    except WorkerFailed as failure:
        status = "SKIPPED" if failure.status == "ENV_INVALID" else failure.status
        raise _NotReady(status, f"does not state its version: {failure}") from None
    return PreparedArm(arm, framework, variant, command, env, artefact, version, _settings(framework, variant, model))


def _settings(framework: Framework, variant: Variant, model: Model) -> dict[str, str]:
    """What the worker is told through `--set`. Of itself only the null workers' length of a vector follows from the model."""
    if framework.role == "floor":
        return {"dim": str(model.dim)}
    return {key: value for key, value in variant.settings.items() if not framework.knobs[key].by_parent}


def binary_hash(prepared: PreparedArm) -> str:
    """The hash of what runs: the binary, or the code of the worker's module."""
    if prepared.framework.build:
        return files.sha256(Path(prepared.command[0]))
    ours = [part for part in prepared.command if part.startswith("bench.")]
    return files.short_hash(content_hash.of_code(*(ours or ["bench.worker"])))
