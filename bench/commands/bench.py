"""The main job: for each model prepare, measure, append to the database, and print the table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from rich.console import Console

from bench import catalog
from bench.catalog import Catalog, Framework, Model, Suite, arms, tuned_settings
from bench.commands import dry_run
from bench.commands.options import BenchOptions
from bench.core import paths
from bench.core.errors import BenchError
from bench.core.progress import Progress
from bench.machine import identity, lock
from bench.measure import run as runner
from bench.model import weights
from bench.plan import workload
from bench.prepare import launch, preflight, prepare
from bench.prepare.spec import RunSpec
from bench.report import tables
from bench.runs.writer import RunFolder
from bench.store import controls, database
from bench.workers import client


def bench_models(options: BenchOptions, command: str) -> None:
    """`invoke bench`: measure each model, append to the database, print the table. `command`: the line as typed, for the record."""
    catalogue = load_catalog(options.catalog)
    specs = run_specs(options, catalogue, command)
    progress, console = Progress(), Console()
    if options.dry_run:
        for spec in specs:
            console.print(dry_run.forecast_table(spec))
        return
    client.require_linux()
    database.check_writable(paths.DATABASE)
    for place, spec in enumerate(specs):
        with_controls = _with_controls(spec, options.catalog, catalogue, progress, paid=place == 0)
        measure_and_store(with_controls, [earlier.model for earlier in specs[:place]], progress)


def load_catalog(folder: str) -> Catalog:
    """The catalogue with the tuned settings of this clone, and with the user's own `folder` where one is given.

    Raises:
        BenchError: names file, line, key and the cure.
    """
    return tuned_settings.merged(catalog.load(Path(folder) if folder else None))


def run_specs(options: BenchOptions, catalogue: Catalog, command: str) -> list[RunSpec]:
    """The options of `invoke bench` → one spec per model.

    Raises:
        BenchError: an unknown name or an unusable value.
    """
    models = catalogue.pick_models(options.model)
    suite_name = options.scenario or "quick"
    suite = catalogue.suites.get(suite_name)
    frameworks = catalogue.pick_frameworks(options.framework or (suite.framework if suite else None))
    scenarios = catalogue.pick_scenarios(options.scenario)
    precisions = arms.parse_precisions(options.precision, frameworks)
    variants = arms.parse_variants(options.variant, frameworks)
    layouts = arms.parse_layouts(options.layout, identity.physical_cores())
    if options.requests < 0:
        raise BenchError(f"--requests {options.requests}: wants a whole number of at least 1")
    spec = RunSpec(
        model=models[0],
        frameworks=tuple(frameworks),
        scenarios=tuple(scenarios),
        precisions=precisions,
        variants=variants,
        layouts=layouts,
        budget_s=_budget_s(options, catalogue, suite),
        weights=catalog.one_of("weights", options.weights, get_args(weights.WeightsChoice)),
        command=command,
        suite=suite_name if suite else "",
        whole_catalog=_is_whole(options, suite, variants),
        requests=options.requests or None,
        campaign_id=time.strftime("%Y%m%d-%H%M%S", time.gmtime()),
        corpus=options.corpus,
        fresh=options.fresh,
        quality_set=options.quality_set or None,
        roles=suite.roles if suite else (),
        fresh_blocks=bool(suite and suite.fresh),
    )
    return [replace(spec, model=model, scenarios=tuple(workload.fitted(scenario, model) for scenario in scenarios)) for model in models]


def _budget_s(options: BenchOptions, catalogue: Catalog, suite: Suite | None) -> float | None:
    """Seconds of measuring per model; None: every scenario takes what its K = 12 blocks cost, unless its suite has a budget."""
    default = catalogue.suites["quick"].budget if options.requests else suite.budget if suite else None
    text = options.budget or default
    return catalog.parse_seconds(text) if text else None


def _is_whole(options: BenchOptions, suite: Suite | None, variants: Sequence[str]) -> bool:
    """Could this run show everything that the catalogue has? Only such a run may become the board's current one."""
    if suite is None or suite.roles or options.framework or options.catalog or options.layout:
        return False
    return not {"default", "all"}.isdisjoint(variants)


def measure_and_store(spec: RunSpec, done: Sequence[Model], progress: Progress, shown: bool = True) -> RunFolder:
    """One run, from the first export to the database and the printed table (without it where not `shown`).

    Artefacts of models that are `done` may be freed for it.
    """
    kinds = ["safetensors", *(framework.artefact for framework in spec.frameworks)]
    preflight.make_room(spec.model, kinds, done, progress.say)
    # Held from the first export on: a build or an export beside a measurement spoils it as much as another measurement.
    with lock.hold(spec.model.name) as held:
        experiment = prepare.prepare(spec, progress.say)
        for unavailable in experiment.unavailable:
            progress.say(f"{unavailable.arm.label}: {unavailable.status}: {unavailable.reason}")
        if not experiment.prepared_arms:
            progress.say(f"{spec.model.name}: no framework can run here; the rows say why (`invoke doctor` shows the cures)")
        folder = runner.measure(experiment, held, progress, database.undecided)
    database.append(paths.DATABASE, folder.path)
    if shown:
        print(tables.table(paths.DATABASE, folder.run_id))
    progress.say(f"run {folder.run_id}: {folder.path}; appended to {paths.DATABASE}")
    return folder


def _with_controls(spec: RunSpec, catalog_folder: str, catalogue: Catalog, progress: Progress, paid: bool) -> RunSpec:
    """The spec with the run whose controls vouch for it; measured first where its suite wants controls and this boot has none.

    `paid`: the seconds that they take come out of this spec's budget.
    """
    controls_suite, own_suite = catalogue.suites["controls"], catalogue.suites.get(spec.suite)
    if spec.roles or not controls_suite.model:
        return spec
    run_id = controls.newest(controls_suite.model)
    if run_id or own_suite is None or not own_suite.controls:
        return replace(spec, controls_run_id=run_id)
    options = BenchOptions(model=controls_suite.model, scenario="controls", catalog=catalog_folder)
    (controls_spec,) = run_specs(options, catalogue, spec.command)
    if reason := _first_missing(controls_spec.frameworks):
        progress.say(f"controls cannot be measured here, nothing will be ranked: {reason}")
        return spec
    progress.say("this machine has no controls since it was booted: they are measured first")
    folder = measure_and_store(controls_spec, [], progress)
    return replace(spec, controls_run_id=folder.run_id, controls_s=controls.measuring_s(folder.run_id) if paid else 0.0)


def _first_missing(frameworks: Sequence[Framework]) -> str | None:
    """Why the first of the frameworks that cannot run here cannot; None where all can."""
    return next((reason for framework in frameworks if (reason := launch.missing(framework))), None)
