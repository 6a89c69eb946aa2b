"""`invoke bench --dry-run`: what a run would cost in time, scenario by scenario, and what is listed apart from the budget.

An open loop takes as long as its arrivals. The rest goes by what a request cost in the newest run of the model on this machine, or, where
there is none, by the model's `rate_per_s`, which keeps a framework of middling speed half busy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.table import Table

from bench.catalog import Scenario
from bench.core import files, paths
from bench.core.formatting import duration
from bench.machine import identity
from bench.measure import allocator, budget, service_time
from bench.measure.budget import Shape
from bench.measure.service_time import ServiceTime
from bench.plan import workload
from bench.plan.rows import MIN_WARM
from bench.prepare import launch, prepare
from bench.prepare.spec import RunSpec
from bench.runs.headers import RunHeader, runs_of_machine
from bench.stats.rows import MIN_BLOCKS


@dataclass(frozen=True)
class Forecast:
    """The expected measuring time of one scenario, in seconds; None where there is nothing to measure.

    Attributes:
        arms: how many arms serve it.
        twelve_s: K = 12 blocks, each as long as its warm-up asks for.
        short_s: K = 12 blocks of one round.
        least_s: 3 blocks of one round, the least that gives a row.
        note: the blocks, or why there are none.
    """

    scenario: str
    arms: int
    twelve_s: float | None
    short_s: float | None
    least_s: float | None
    note: str


def forecast_table(spec: RunSpec) -> Table:
    """What the command would do: its arms, its scenarios with their cost, and what is listed apart."""
    table = Table(title=f"{spec.model.title}: nothing is measured", title_justify="left", show_header=False)
    running = floors = 0
    for request in prepare.arm_requests(spec):
        reason = f"NOT_APPLICABLE: {request.reason}" if request.reason else launch.missing(request.framework)
        running += not reason
        floors += not reason and request.framework.role == "floor"
        state = "runs" if not reason else reason if request.reason else f"SKIPPED: {reason}"
        table.add_row("arm", prepare.arm_of(request, spec.model, "").label, state)
    all_forecasts, source = forecasts(spec, running, floors)
    for forecast in all_forecasts:
        cost = "" if forecast.twelve_s is None or spec.requests else f"; {duration(forecast.twelve_s)}"
        table.add_row("scenario", forecast.scenario, forecast.note + cost)
    if not spec.requests:
        whole_s = sum(forecast.twelve_s or 0 for forecast in all_forecasts)
        within = "every scenario takes its own cost" if spec.budget_s is None else f"the budget is {duration(spec.budget_s)}"
        table.add_row("measuring", f"{duration(whole_s)} for {budget.BLOCKS} blocks of everything", f"{within}; {source}")
        if spec.budget_s is not None:
            no_room = skipped(all_forecasts, spec.budget_s)
            table.add_row("skipped", no_room or "nothing", "3 blocks do not fit the budget, as far as can be told")
    for row in _apart(spec, running):
        table.add_row(*row)
    return table


def _apart(spec: RunSpec, running: int) -> Iterator[tuple[str, str, str]]:
    """Rows on what is not paid from the budget: weights, process starts, and the phases of preparation."""
    yield "weights", spec.weights, f"{spec.model.bytes_fp32 / 1e6:.0f} MB in fp32"
    starts = sum(_starts(spec, group[0]) for group in _turns(spec)) * running
    load_s = _load_s(spec.model.name)
    yield "apart", "loads", f"{starts} process starts" + (f", {duration(starts * load_s)}" if load_s else "")
    phases = last_phases(spec.model.name)
    for phase, seconds in phases.items():
        yield "last time", phase, f"{seconds:.1f} s"
    if not phases:
        yield "apart", "build, export, reference", "no finished run of this model on this machine to go by"


def forecasts(spec: RunSpec, arms: int, floors: int = 0) -> tuple[list[Forecast], str]:
    """A forecast for every scenario in their order, and what it goes by. `arms`: how many can run, `floors` of them null workers."""
    request_s, source = _request_s(spec)
    already_warm = {scenario.name for group in _turns(spec) for scenario in group[1:]}
    return [
        _forecast(spec, scenario, arms - floors if scenario.floor_in or scenario.load == "slo" else arms, request_s,
                  scenario.name in already_warm)
        for scenario in spec.scenarios
    ], source  # fmt: skip


def _forecast(spec: RunSpec, scenario: Scenario, arms: int, request_s: float, already_warm: bool) -> Forecast:
    """`already_warm`: another scenario has warmed its processes up."""
    if reason := workload.why_not(scenario, spec.model):
        return Forecast(scenario.name, 0, None, None, None, f"NOT_APPLICABLE: {reason}")
    if spec.requests:
        return Forecast(scenario.name, arms, 0.0, 0.0, 0.0, f"{spec.requests} requests an arm")
    shape, services = Shape.of(scenario), [ServiceTime(scenario.batch * request_s, request_s)] * arms
    if not services:
        return Forecast(scenario.name, 0, None, None, None, "no framework can run here")
    if scenario.load == "slo" and scenario.piece:
        trial_s = budget.trial_s(scenario.piece, services)
        note = f"about {budget.TRIALS} trials of {scenario.piece} requests an arm"
        return Forecast(scenario.name, arms, budget.TRIALS * trial_s, budget.TRIALS * trial_s, trial_s, note)
    fresh = workload.is_fresh(scenario, spec.fresh_blocks)
    # The plan is not made yet: it has MIN_WARM rows for warm-up, or one for each length of its texts where these are more.
    start_s = sum(service_time.warm_up_s(MIN_WARM, scenario.batch, service, allocator.WARM_UP_S) for service in services)
    work_s = budget.own_work_s(shape, services, start_s if fresh else 0.0, scenario.rows)
    allocation = budget.allocate(work_s / budget.ROUNDS_SHARE, shape, scenario.rows, services)
    if isinstance(allocation, budget.TooSmall):
        return Forecast(scenario.name, arms, None, None, None, f"its plan of {scenario.rows} rows is too small")
    starts = 1 if already_warm else allocation.blocks if fresh else allocator.starts_in_each(len(spec.scenarios))
    warm_up_s = start_s * starts
    rate = f" at {scenario.rate_per_s:g}/s" if scenario.rate_per_s else ""
    note = f"{allocation.blocks} blocks × {allocation.rounds * allocation.rows} requests{rate}, batch {scenario.batch}"
    round_s = allocation.block_s / allocation.rounds
    return Forecast(
        scenario.name,
        arms,
        allocation.blocks * allocation.block_s + warm_up_s,
        allocation.blocks * round_s + warm_up_s,
        MIN_BLOCKS * round_s,
        note,
    )


def skipped(all_forecasts: Sequence[Forecast], budget_s: float) -> str:
    """The scenarios that a budget, filled in order, has no room for."""
    left_s, names = budget_s, []
    for place, forecast in enumerate(all_forecasts):
        if forecast.short_s is None or forecast.least_s is None:
            continue
        share_s = budget.share_s(left_s, forecast.short_s, [later.short_s or 0.0 for later in all_forecasts[place + 1 :]])
        if share_s < forecast.least_s:
            names.append(forecast.scenario)
        else:
            left_s -= share_s
    return ", ".join(names)


def last_phases(model: str) -> Mapping[str, float]:
    """Seconds per phase of the newest finished run of a model; empty where there is none."""
    for done in sorted(paths.RUNS.glob(f"*-{model}-*/done.json"), reverse=True):
        phases: Mapping[str, float] = files.read_json(done)["stages"]
        return phases
    return {}


def _turns(spec: RunSpec) -> list[list[Scenario]]:
    """The scenarios that mean something for the model, in groups that share their processes."""
    served = [scenario for scenario in spec.scenarios if not workload.why_not(scenario, spec.model)]
    return workload.turns(served, spec.fresh_blocks and not spec.model.is_large)


def _starts(spec: RunSpec, scenario: Scenario) -> int:
    """Process starts of one arm in one scenario, or in those in turns with it."""
    if scenario.load == "slo":
        return 1
    return budget.BLOCKS if workload.is_fresh(scenario, spec.fresh_blocks) else allocator.starts_in_each(len(spec.scenarios))


def _request_s(spec: RunSpec) -> tuple[float, str]:
    """Seconds of one request, the mean over the measured arms, and where that is from."""
    for run in _own_runs(spec.model.name):
        for file in sorted(run.folder.glob("blocks/closed-1/*/samples.parquet")):
            samples = pd.read_parquet(file, columns=["arm_id", "start_ns", "end_ns"])
            measured = samples[samples["arm_id"].map(run.roles) == "measured"]
            if len(measured):
                per_arm = (measured["end_ns"] - measured["start_ns"]).groupby(measured["arm_id"]).mean()
                return float(per_arm.mean()) / 1e9, f"a request costs what it did in run {run.run_id}"
    return 0.5 / workload.base_rate(spec.model), "no run of this model on this machine to go by: a guess from its rate_per_s"


def _load_s(model: str) -> float:
    """Mean seconds from spawn to ready over the newest run's process starts; 0 where there is none."""
    for run in _own_runs(model):
        starts: list[Mapping[str, Any]] = [files.read_json(file) for file in sorted(run.folder.glob("starts/*.json"))]
        spawns_ns = [int(start["spawn_ns"]) for start in starts if start.get("spawn_ns")]
        if spawns_ns:
            return sum(spawns_ns) / len(spawns_ns) / 1e9
    return 0.0


def _own_runs(model: str) -> list[RunHeader]:
    """Runs of a model on this machine, newest first."""
    return [run for run in runs_of_machine(paths.RUNS, identity.machine_id()) if run.model == model]
