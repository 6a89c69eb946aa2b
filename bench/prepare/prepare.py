"""A parsed command and the catalogue → ready arms, artefacts and plans.

Nothing is measured here. An arm that cannot run becomes a reason, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

from bench.artefacts import export
from bench.catalog import Arm, Framework, Model, Variant, arms, control_arms
from bench.catalog.arms import ArmRequest
from bench.core.errors import BenchError, NotApplicable
from bench.core.stopwatch import Stopwatch
from bench.corpus import resolve
from bench.machine import identity
from bench.model import weights
from bench.plan import make, workload
from bench.plan.folder import Plan
from bench.prepare import native
from bench.prepare.launch import binary_hash, command_and_env, missing, program_of, recipe_of
from bench.prepare.spec import Experiment, PreparedArm, RunSpec, UnavailableArm
from bench.workers.client import WorkerFailed, state_version

#: The shape of run folders and plans; a change makes old unfinished runs not resumable.
FORMAT = 1


def arm_of(request: ArmRequest, model: Model, weights_kind: str) -> Arm:
    """The arm that a request is, for one model and its weights."""
    framework, layout = request.framework, request.layout
    return Arm(framework.name, framework.language, model.name, weights_kind, request.precision, request.variant.name, layout.sessions,
               layout.threads, framework.role)  # fmt: skip


def arm_requests(spec: RunSpec) -> list[ArmRequest]:
    """All arms that a spec asks for on this machine, and why some are not there."""
    return arms.choose(spec.frameworks, spec.precisions, spec.variants, spec.layouts, identity.physical_cores())


def prepare(spec: RunSpec, say: Callable[[str], None]) -> Experiment:
    """Build, export and plan what `spec` asks for.

    Raises:
        BenchError: no weights, no corpus, no disk: something that stops every arm.
    """
    phase, model = Stopwatch(), spec.model
    with phase("weights"):
        source = weights.resolve(model, spec.weights)
    if source.kind == "synthetic":
        say(f"{model.title}: synthetic weights; speed is the same work, meaning is not")
    with phase("export"):
        reference = export.ensure(model, source, "safetensors", "fp32")
    measured: list[PreparedArm] = []
    unavailable: list[UnavailableArm] = []
    for request in arm_requests(spec):
        arm = arm_of(request, model, source.kind)
        try:
            measured.append(_prepared(arm, request, model, source, phase))
        except _NotReady as reason:
            unavailable.append(UnavailableArm(arm, request.variant, reason.status, str(reason)))
    prepared_arms = [*measured, *(control for prepared in measured for control in _controls(prepared, spec))]
    not_applicable = {scenario.name: why for scenario in spec.scenarios if (why := workload.why_not(scenario, model))}
    if len(not_applicable) == len(spec.scenarios):
        reasons = "; ".join(f"{name}: {why}" for name, why in not_applicable.items())
        raise BenchError(f"{model.title}: {reasons}: choose other scenarios")
    with phase("plan"):
        texts = resolve.resolve(spec.corpus, spec.seed)
        plans: dict[str, Plan] = {}
        for scenario in spec.scenarios:
            if scenario.name not in not_applicable:
                # A finite corpus is shared out among the scenarios: no text is served twice in a process.
                skip = sum(plan.rows for plan in plans.values())
                plans[scenario.name] = make.scenario_plan(model, source.folder, scenario, texts, spec.seed, skip=skip)
        hard = make.hard_plan(model, source.folder, spec.seed)
        repeat = make.repeat_plan(next(iter(plans.values())), model, source.folder, spec.seed)
    return Experiment(
        spec=spec,
        source=source,
        corpus_id=texts.id,
        prepared_arms=tuple(prepared_arms),
        unavailable=tuple(unavailable),
        plans=plans,
        hard=hard,
        repeat=repeat,
        reference=reference,
        identity=(
            FORMAT,
            *(model.name, source.kind, spec.requests, spec.seed, [plan.hash for plan in plans.values()]),
            [_identity(prepared) for prepared in prepared_arms],
            [arm.arm.id for arm in unavailable],
            *([asdict(scenario) for scenario in spec.scenarios], spec.fresh_blocks, identity.machine_id()),
        ),
        stages=phase.seconds,
        not_applicable=not_applicable,
    )


def _controls(prepared: PreparedArm, spec: RunSpec) -> list[PreparedArm]:
    """The control arms that a command wants beside a measured one: the same worker, some of them with a planted fault."""
    if prepared.arm.role != "measured":
        return []
    return [replace(prepared, arm=control.arm, fault=control.fault) for control in control_arms.controls_of(prepared.arm, spec.roles)]


def _identity(prepared: PreparedArm) -> tuple[object, ...]:
    """All that makes an arm another one."""
    return (
        *(prepared.arm.id, prepared.artefact.hash, prepared.version, binary_hash(prepared)),
        *(prepared.command, prepared.env, prepared.settings, prepared.fault),
    )


class _NotReady(Exception):
    """An arm that cannot run here: its status, and the reason with the cure."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _prepared(arm: Arm, request: ArmRequest, model: Model, source: weights.Source, phase: Stopwatch) -> PreparedArm:
    """Build, export and start once: an arm that states its version is ready."""
    framework, variant = request.framework, request.variant
    if request.reason:
        raise _NotReady("NOT_APPLICABLE", request.reason)
    if reason := missing(framework):
        raise _NotReady("SKIPPED", reason)
    try:
        if framework.build:
            with phase("build"):
                native.ensure(framework, program_of(framework, variant))
        with phase("export"):
            # Without a recipe the runtime itself converts the fp32 artefact at load.
            recipe = recipe_of(framework, variant)
            artefact = export.ensure(model, source, framework.artefact, arm.precision if recipe else "fp32", recipe)
        with phase("versions"):
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
