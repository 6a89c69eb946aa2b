"""The main job: for each model prepare, measure, append, and print what was found."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from bench import catalog
from bench.catalog import Model, arms, tuned_settings
from bench.commands import dry_run
from bench.core import paths
from bench.core.errors import BenchError
from bench.core.progress import Progress
from bench.machine import identity, lock
from bench.measure import run as runner
from bench.measure.runfolder import RunFolder
from bench.model import weights
from bench.plan import workload
from bench.prepare import launch, preflight, prepare
from bench.prepare.spec import RunSpec
from bench.report import tables
from bench.store import controls, database
from bench.workers import client


def run_specs(options: Mapping[str, Any]) -> list[RunSpec]:
    """The options of `invoke bench` → one spec per model.

    Raises:
        BenchError: an unknown name or an unusable value.
    """
    known = tuned_settings.merged(catalog.load(Path(options["catalog"]) if options["catalog"] else None))
    models = known.pick_models(options["model"])
    named = known.suites.get(options["scenario"] or "quick")
    frameworks = known.pick_frameworks(options["framework"] or (named.framework if named else None))
    scenarios = known.pick_scenarios(options["scenario"])
    suite = options["scenario"] if options["scenario"] in known.suites else ("quick" if not options["scenario"] else "")
    precisions = arms.parse_precisions(options["precision"], frameworks)
    names = arms.parse_variants(options["variant"], frameworks)
    layouts = arms.parse_layouts(options["layout"], identity.physical_cores())
    choice = catalog.one_of("weights", options["weights"], get_args(weights.Choice))
    requests = int(options["requests"]) if options["requests"] else None
    if requests is not None and requests < 1:
        raise BenchError(f"--requests {requests}: wants a whole number of at least 1")
    # Only a run that could have shown everything may become the board's current one.
    partial = options["framework"] or options["catalog"] or layouts or (named and named.roles)
    whole = bool(suite) and not partial and not {"default", "all"}.isdisjoint(names)
    # Without a budget every scenario takes what its K = 12 blocks cost, unless the suite has a budget of its own.
    limit = options["budget"] or (known.suites["quick"].budget if requests else known.suites[suite].budget if suite else None)
    spec = RunSpec(
        model=models[0], frameworks=tuple(frameworks), scenarios=tuple(scenarios), precisions=precisions,
        variants=names, layouts=layouts,
        budget_s=catalog.parse_seconds(str(limit)) if limit else None, weights=choice,
        command=shlex.join(["invoke", *sys.argv[1:]]), suite=suite,
        whole_catalog=whole,
        requests=requests,
        campaign_id=time.strftime("%Y%m%d-%H%M%S", time.gmtime()), corpus=options["corpus"], fresh=bool(options["fresh"]),
        quality_set=options["quality_set"] or None,
        roles=named.roles if named else (), fresh_blocks=bool(named and named.fresh),
    )  # fmt: skip
    return [replace(spec, model=model, scenarios=tuple(workload.fitted(scenario, model) for scenario in scenarios)) for model in models]


def run(options: Mapping[str, Any]) -> None:
    """`invoke bench`: measure each model, append to the database, print the table."""
    wanted = run_specs(options)
    progress, console = Progress(), Console()
    if options["dry_run"]:
        for spec in wanted:
            console.print(dry_run.table(spec))
        return
    client.require_linux()
    database.check_writable(paths.DATABASE)
    for place, spec in enumerate(wanted):
        measure(_vouched(spec, options, progress, counted=place == 0), [earlier.model for earlier in wanted[:place]], progress)


def measure(spec: RunSpec, done: Sequence[Model], progress: Progress, shown: bool = True) -> RunFolder:
    """One run, from the first export to the database and the printed table (without it where not `shown`).

    Artefacts of models that are `done` may be freed for it.
    """
    kinds = ["safetensors", *(framework.artefact for framework in spec.frameworks)]
    preflight.make_room(spec.model, kinds, done, progress.say)
    # Held from the first export on: a build or an export beside a measurement spoils it as much as another measurement.
    with lock.hold(spec.model.name) as held:
        ready = prepare.prepare(spec, progress.say)
        for unavailable in ready.unavailable:
            progress.say(f"{unavailable.arm.label}: {unavailable.status}: {unavailable.reason}")
        if not ready.prepared_arms:
            progress.say(f"{spec.model.name}: no framework can run here; the rows say why (`invoke doctor` shows the cures)")
        folder = runner.measure(ready, held, progress, database.undecided)
    database.append(paths.DATABASE, folder.path)
    if shown:
        print(tables.table(paths.DATABASE, folder.run_id))
    progress.say(f"run {folder.run_id}: {folder.path}; appended to {paths.DATABASE}")
    return folder


def _vouched(spec: RunSpec, options: Mapping[str, Any], progress: Progress, counted: bool) -> RunSpec:
    """The spec with the run whose controls vouch for it; measured first where its suite wants controls and this boot has none.

    `counted`: the time they take is taken from this spec's budget.
    """
    known = catalog.load(Path(options["catalog"]) if options["catalog"] else None)
    ours, asked = known.suites["controls"], known.suites.get(spec.suite)
    if spec.roles or not ours.model:
        return spec
    found = controls.newest(ours.model)
    if found or asked is None or not asked.controls:
        return replace(spec, controls_run_id=found)
    nothing: dict[str, Any] = {name: type(value)() for name, value in options.items()}
    (first,) = run_specs({**nothing, "catalog": options["catalog"], "model": ours.model, "scenario": "controls", "weights": "auto"})
    if reason := next((reason for framework in first.frameworks if (reason := launch.missing(framework))), None):
        progress.say(f"controls cannot be measured here, nothing will be ranked: {reason}")
        return spec
    progress.say("this machine has no controls since it was booted: they are measured first")
    folder = measure(first, [], progress)
    return replace(spec, controls_run_id=folder.run_id, controls_s=controls.measuring_s(folder.run_id) if counted else 0.0)
