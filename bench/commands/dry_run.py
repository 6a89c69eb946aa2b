"""What a run would cost, before anything is measured: every scenario in time, and what is listed apart from the budget.

An open loop takes as long as its arrivals. The rest goes by what a request cost in the newest run of the model on this machine, or, where
there is none, by the model's `rate_per_s`, which keeps a framework of middling speed half busy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from bench.catalog import Scenario
from bench.core import files, paths
from bench.core.progress import minutes
from bench.machine import identity
from bench.measure import budget
from bench.measure.budget import ServiceTime, Shape
from bench.plan import workload
from bench.prepare import launch, prepare
from bench.prepare.spec import RunSpec


@dataclass(frozen=True)
class Forecast:
    """One scenario: seconds of measuring for K = 12 blocks as long as their warm-ups ask for, for 12 blocks of one round, and for the
    least that gives a row; None where it means nothing."""

    scenario: str
    arms: int
    twelve_s: float | None
    short_s: float | None
    least_s: float | None
    note: str


def table(spec: RunSpec) -> Table:
    """What the command would do: arms, scenarios with their cost, and what is listed apart."""
    shown = Table(title=f"{spec.model.title}: nothing is measured", title_justify="left", show_header=False)
    running = floors = 0
    for request in prepare.arm_requests(spec):
        reason = f"NOT_APPLICABLE: {request.reason}" if request.reason else launch.missing(request.framework)
        running += not reason
        floors += not reason and request.framework.role == "floor"
        state = "runs" if not reason else reason if request.reason else f"SKIPPED: {reason}"
        shown.add_row("arm", prepare.arm_of(request, spec.model, "").label, state)
    found, source = forecasts(spec, running, floors)
    for one in found:
        cost = "" if one.twelve_s is None or spec.requests else f"; {minutes(one.twelve_s)}"
        shown.add_row("scenario", one.scenario, one.note + cost)
    whole = sum(one.twelve_s or 0 for one in found)
    if not spec.requests:
        within = "every scenario takes its own cost" if spec.budget_s is None else f"the budget is {minutes(spec.budget_s)}"
        shown.add_row("measuring", f"{minutes(whole)} for {budget.BLOCKS} blocks of everything", f"{within}; {source}")
        if spec.budget_s is not None:
            shown.add_row("skipped", skipped(found, spec.budget_s) or "nothing", "3 blocks do not fit the budget, as far as can be told")
    shown.add_row("weights", spec.weights, f"{spec.model.bytes_fp32 / 1e6:.0f} MB in fp32")
    last = last_stages(spec.model.name)
    starts = sum(_starts(spec, group[0]) for group in _turns(spec)) * running
    load_s = _load_s(spec.model.name)
    shown.add_row("apart", "loads", f"{starts} process starts" + (f", {minutes(starts * load_s)}" if load_s else ""))
    for stage, seconds in last.items():
        shown.add_row("last time", stage, f"{seconds:.1f} s")
    if not last:
        shown.add_row("apart", "build, export, reference", "no finished run of this model on this machine to go by")
    return shown


def forecasts(spec: RunSpec, arms: int, floors: int = 0) -> tuple[list[Forecast], str]:
    """A forecast for every scenario in their order, and what it goes by. `arms`: how many can run, `floors` of them null workers."""
    request_s, source = _request_s(spec)
    serving = {one.name: arms - floors if one.floor_in or one.load == "slo" else arms for one in spec.scenarios}
    warmed = {one.name for group in _turns(spec) for one in group[1:]}
    return [_forecast(spec, one, serving[one.name], request_s, one.name in warmed) for one in spec.scenarios], source


def _forecast(spec: RunSpec, scenario: Scenario, arms: int, request_s: float, warmed: bool) -> Forecast:
    """`warmed`: another scenario has warmed its processes up."""
    if reason := workload.why_not(scenario, spec.model):
        return Forecast(scenario.name, 0, None, None, None, f"NOT_APPLICABLE: {reason}")
    if spec.requests:
        return Forecast(scenario.name, arms, 0.0, 0.0, 0.0, f"{spec.requests} requests an arm")
    shape, costs = Shape.of(scenario), [ServiceTime(scenario.batch * request_s, request_s)] * arms
    if not costs:
        return Forecast(scenario.name, 0, None, None, None, "no framework can run here")
    if scenario.load == "slo" and scenario.piece:
        one, note = budget.trial_s(scenario.piece, costs), f"about {budget.TRIALS} trials of {scenario.piece} requests an arm"
        return Forecast(scenario.name, arms, budget.TRIALS * one, budget.TRIALS * one, one, note)
    fresh = workload.is_fresh(scenario, spec.fresh_blocks)
    work_s = budget.own_work_s(shape, costs, sum(_warm_up_s(cost) for cost in costs) if fresh else 0.0, scenario.rows)
    allocation = budget.allocate(work_s, shape, scenario.rows, costs)
    if isinstance(allocation, budget.TooSmall):
        return Forecast(scenario.name, arms, None, None, None, f"its plan of {scenario.rows} rows is too small")
    warm_up_s = sum(_warm_up_s(cost) for cost in costs) * (1 if warmed else allocation.blocks if fresh else 2)
    rate = f" at {scenario.rate_per_s:g}/s" if scenario.rate_per_s else ""
    note = f"{allocation.blocks} blocks × {allocation.rounds * allocation.rows} requests{rate}, batch {scenario.batch}"
    round_s = allocation.block_s / allocation.rounds
    return Forecast(
        scenario.name,
        arms,
        allocation.blocks * allocation.block_s + warm_up_s,
        allocation.blocks * round_s + warm_up_s,
        budget.MIN_BLOCKS * round_s,
        note,
    )


def skipped(found: list[Forecast], budget_s: float) -> str:
    """The scenarios that a budget, filled in order, has no room for."""
    left, names = budget_s, []
    for place, one in enumerate(found):
        if one.short_s is None or one.least_s is None:
            continue
        share = budget.share_s(left, one.short_s, [other.short_s or 0.0 for other in found[place + 1 :]])
        if share < one.least_s:
            names.append(one.scenario)
        else:
            left -= share
    return ", ".join(names)


def last_stages(model: str) -> Mapping[str, float]:
    """Seconds per stage of the newest finished run of a model; empty where there is none."""
    for done in sorted(paths.RUNS.glob(f"*-{model}-*/done.json"), reverse=True):
        stages: Mapping[str, float] = files.read_json(done)["stages"]
        return stages
    return {}


def _warm_up_s(cost: ServiceTime) -> float:
    """As Seats does it: the reserved rows one by one and again in batches, within three seconds."""
    return min(3.0, 128 * cost.single_s)


def _turns(spec: RunSpec) -> list[list[Scenario]]:
    """The scenarios that mean something for the model, in groups that share their processes."""
    served = [one for one in spec.scenarios if not workload.why_not(one, spec.model)]
    return workload.turns(served, spec.fresh_blocks and not spec.model.is_large)


def _starts(spec: RunSpec, scenario: Scenario) -> int:
    """Process starts of one arm in one scenario, or in those in turns with it."""
    if scenario.load == "slo":
        return 1
    return budget.BLOCKS if workload.is_fresh(scenario, spec.fresh_blocks) else 2


def _request_s(spec: RunSpec) -> tuple[float, str]:
    """Seconds of one request of a middling arm, and where that is from."""
    for run in _own_runs(spec.model.name):
        for file in sorted(run.glob("blocks/closed-1/*/samples.parquet")):
            samples = pd.read_parquet(file, columns=["arm_id", "start_ns", "end_ns"])
            measured = {arm["arm_id"] for arm in files.read_json(run / "run.json")["arms"] if arm["role"] == "measured"}
            own = samples[samples["arm_id"].isin(measured)]
            if len(own):
                per_arm = (own["end_ns"] - own["start_ns"]).groupby(own["arm_id"]).mean()
                return float(per_arm.mean()) / 1e9, f"a request costs what it did in run {run.name}"
    return 0.5 / workload.base_rate(spec.model), "no run of this model on this machine to go by: a guess from its rate_per_s"


def _load_s(model: str) -> float:
    """Mean seconds from spawn to ready over the newest run's process starts; 0 where there is none."""
    for run in _own_runs(model):
        spent: list[Mapping[str, Any]] = [files.read_json(file) for file in sorted(run.glob("starts/*.json"))]
        known = [int(start["spawn_ns"]) for start in spent if start.get("spawn_ns")]
        if known:
            return sum(known) / len(known) / 1e9
    return 0.0


def _own_runs(model: str) -> list[Path]:
    """Runs of a model on this machine, newest first."""
    here = identity.machine_id()
    runs = sorted((path.parent for path in paths.RUNS.glob(f"*-{model}-*/machine.json")), reverse=True)
    return [run for run in runs if files.read_json(run / "machine.json").get("machine_id") == here]
