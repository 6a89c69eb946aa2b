"""The facts that open a run's record: the content of run.json and machine.json (bench/RUNS.md), and the arms that cannot run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.artefacts import recipes
from bench.catalog import Scenario
from bench.core import files, git, redact
from bench.machine import identity, record
from bench.prepare import footprint
from bench.prepare.launch import binary_hash
from bench.prepare.spec import Experiment, PreparedArm, UnavailableArm
from bench.runs import codec
from bench.runs.schema import Failure


def new_run_id(experiment: Experiment) -> str:
    """The id of a run that begins now: time, model and four hex digits."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return f"{stamp}-{experiment.spec.model.name}-{files.short_hash(experiment.hash, time.time_ns())[:4]}"


def run(experiment: Experiment, run_id: str) -> dict[str, Any]:
    """The content of run.json, of a run that begins now."""
    spec, (commit, dirty) = experiment.spec, git.state()
    place = {framework.name: place for place, framework in enumerate(spec.frameworks)}
    arms = [_prepared(prepared, experiment.pad_id) for prepared in experiment.prepared_arms]
    arms += [_unavailable(unavailable) for unavailable in experiment.unavailable]
    return {
        "run_id": run_id,
        "campaign_id": spec.campaign_id,
        "experiment_hash": experiment.hash,
        "boot_id": identity.boot_id(),
        "measured_at": codec.timestamp(codec.now()),
        "command": redact.command(spec.command),
        "model": spec.model.name,
        "model_title": spec.model.title,
        "model_bytes": spec.model.bytes_fp32,
        "dim": spec.model.dim,
        "weights": experiment.source.kind,
        "revision": experiment.source.revision,
        "source_sha256": dict(experiment.source.files),
        "seed": spec.seed,
        "corpus": experiment.corpus_id,
        "budget_s": spec.budget_s,
        "requests": spec.requests,
        "code_commit": commit,
        "code_dirty": dirty,
        "complete": spec.whole_catalog,
        "suite": spec.suite,
        "controls_run_id": spec.controls_run_id,
        "arms": sorted(arms, key=lambda arm: place[arm["framework"]]),
        "scenarios": [_scenario(experiment, scenario) for scenario in spec.scenarios],
    }


def machine(experiment: Experiment) -> Mapping[str, Any]:
    """The content of machine.json."""
    return record.describe(
        {prepared.framework.name: prepared.version for prepared in experiment.prepared_arms},
        {prepared.framework.name: binary_hash(prepared) for prepared in experiment.prepared_arms},
    )


def failures(experiment: Experiment) -> list[Failure]:
    """Every arm that cannot run here, with the reason, in all scenarios."""
    return [Failure(unavailable.arm.id, "*", unavailable.status, unavailable.reason) for unavailable in experiment.unavailable]


def _prepared(prepared: PreparedArm, pad_id: int) -> dict[str, Any]:
    return {
        **asdict(prepared.arm),
        "arm_id": prepared.arm.id,
        "artefact": prepared.artefact.folder.name,
        "artefact_hash": prepared.artefact.hash,
        "command": prepared.launch(pad_id).argv,
        "env": dict(prepared.env),
        "knobs": dict(prepared.variant.settings),
        "note": prepared.variant.note,
        "headline": prepared.variant.headline,
        "footprint": asdict(footprint.of(prepared)),
        "fault": prepared.fault,
        "precision_note": _precision_note(prepared),
        "compile_s": prepared.artefact.compile_s,
    }


def _precision_note(prepared: PreparedArm) -> str | None:
    """What is special about this precision on this machine: no instructions for it, an artefact that was made otherwise."""
    notes = (recipes.slow_path(prepared.arm.precision, identity.cpu_flags()), prepared.artefact.note)
    return "; ".join(filter(None, notes)) or None


def _unavailable(unavailable: UnavailableArm) -> dict[str, Any]:
    return {
        **asdict(unavailable.arm),
        "arm_id": unavailable.arm.id,
        "artefact": None,
        "artefact_hash": None,
        "knobs": dict(unavailable.variant.settings),
        "note": unavailable.variant.note,
        "headline": unavailable.variant.headline,
    }


def _scenario(experiment: Experiment, scenario: Scenario) -> dict[str, Any]:
    """A scenario as it was fitted to the model; without a plan where it means nothing for it. Of a trace's path only its name is kept."""
    plan = experiment.plans.get(scenario.name)
    return {
        **asdict(scenario),
        "trace": scenario.trace and Path(scenario.trace).name,
        "plan": plan.name if plan else None,
        "plan_hash": plan.hash if plan else None,
    }
