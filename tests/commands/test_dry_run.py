"""What a dry run says a run would cost: by the same arithmetic as the run, and nothing is measured or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import catalog
from bench.commands import bench, dry_run
from bench.commands.options import BenchOptions
from bench.core import paths
from bench.measure import allocator, budget, service_time
from bench.measure.budget import Shape
from bench.measure.service_time import ServiceTime
from bench.plan.rows import MIN_WARM
from bench.prepare.spec import RunSpec

CATALOGUE = catalog.load()
REQUEST_S = 0.005
ARMS = 3


@pytest.fixture(autouse=True)
def no_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No stored run to go by: a request takes REQUEST_S."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(dry_run, "_request_s", lambda _: (REQUEST_S, "as told"))


def spec(**options: Any) -> RunSpec:
    (spec,) = bench.run_specs(BenchOptions("minilm", **options), CATALOGUE, "invoke bench")
    return spec


def test_a_scenario_costs_what_its_allocation_takes() -> None:
    """`closed-1` by itself, without a budget: 12 blocks of the rounds that its warm-up asks for, and 3 starts to warm up."""
    ((forecast,), source) = dry_run.forecasts(spec(scenario="closed-1"), ARMS)
    services = [ServiceTime(REQUEST_S, REQUEST_S)] * ARMS
    shape, rows = Shape.of(CATALOGUE.scenarios["closed-1"]), CATALOGUE.scenarios["closed-1"].rows
    run = budget.allocate(budget.own_work_s(shape, services, 0.0, rows) / budget.ROUNDS_SHARE, shape, rows, services)
    assert isinstance(run, budget.Allocation)
    warm_up_s = ARMS * service_time.warm_up_s(MIN_WARM, 1, services[0], allocator.WARM_UP_S)
    assert forecast.twelve_s == pytest.approx(run.blocks * run.block_s + 3 * warm_up_s)
    assert forecast.note == f"12 blocks × {run.rounds * run.rows} requests, batch 1"
    assert source == "as told"


def test_blocks_in_fresh_processes_work_four_times_as_long_as_they_warm_up() -> None:
    (forecast, *_), _ = dry_run.forecasts(spec(scenario="standard"), ARMS)
    assert forecast.twelve_s is not None
    warm_up_s = 12 * ARMS * service_time.warm_up_s(MIN_WARM, 1, ServiceTime(REQUEST_S, REQUEST_S), allocator.WARM_UP_S)
    assert forecast.twelve_s / warm_up_s == pytest.approx(5, rel=0.2)


def test_null_workers_do_not_count_where_others_stand_for_them() -> None:
    all_forecasts, _ = dry_run.forecasts(spec(scenario="standard"), ARMS, floors=1)
    arms = {forecast.scenario: forecast.arms for forecast in all_forecasts}
    assert (arms["poisson-mid"], arms["poisson-high"], arms["slo"]) == (3, 2, 2)


def test_requests_take_the_place_of_time() -> None:
    ((forecast, _), _) = dry_run.forecasts(spec(requests=50), ARMS)
    assert (forecast.twelve_s, forecast.note) == (0.0, "50 requests an arm")


def test_what_means_nothing_for_a_model_costs_nothing() -> None:
    (spec,) = bench.run_specs(BenchOptions("clip-image", scenario="length-sweep,closed-1"), CATALOGUE, "invoke bench")
    forecasts = {forecast.scenario: forecast for forecast in dry_run.forecasts(spec, ARMS)[0]}
    assert forecasts["length-sweep"].note.startswith("NOT_APPLICABLE: ") and forecasts["length-sweep"].twelve_s is None
    assert forecasts["closed-1"].twelve_s


@pytest.mark.parametrize(("budget_s", "skipped"), [(1000.0, ""), (130.0, "c"), (109.0, "b, c"), (20.0, "a, b, c")])
def test_a_budget_skips_from_behind(budget_s: float, skipped: str) -> None:
    """Each needs 100 s for its 12 blocks and 25 s for 3."""
    forecasts = [dry_run.Forecast(name, 1, 100.0, 100.0, 25.0, "") for name in "abc"]
    assert dry_run.skipped(forecasts, budget_s) == skipped
