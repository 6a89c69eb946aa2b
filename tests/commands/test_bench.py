"""How the options of `invoke bench` become runs, and when controls are measured first. Nothing is measured here."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import catalog
from bench.commands import bench
from bench.commands.options import BenchOptions
from bench.core.errors import BenchError
from bench.core.progress import Progress
from bench.runs.writer import RunFolder

CATALOGUE = catalog.load()
LINE = "invoke bench --model minilm"


def test_without_options_it_is_the_quick_suite_of_all_frameworks() -> None:
    (spec,) = bench.run_specs(BenchOptions("minilm"), CATALOGUE, LINE)
    assert [framework.name for framework in spec.frameworks] == list(CATALOGUE.frameworks)
    assert [scenario.name for scenario in spec.scenarios] == list(CATALOGUE.suites["quick"].scenarios)
    assert (spec.suite, spec.whole_catalog, spec.budget_s, spec.requests) == ("quick", True, 180.0, None)
    assert (spec.precisions, spec.variants, spec.layouts) == (("fp32",), ("default",), ())
    assert spec.command == LINE


@pytest.mark.parametrize(
    "narrower",
    [{"framework": "pytorch"}, {"layout": "1x1"}, {"variant": "knob:allocator=jemalloc"}, {"scenario": "closed-1"},
     {"scenario": "controls"}],
)  # fmt: skip
def test_only_a_run_of_a_whole_suite_by_all_defaults_may_become_current(narrower: dict[str, str]) -> None:
    (spec,) = bench.run_specs(BenchOptions("minilm", **narrower), CATALOGUE, LINE)  # type: ignore[arg-type]
    assert not spec.whole_catalog


def test_a_folder_of_ones_own_is_not_the_whole_catalogue() -> None:
    (spec,) = bench.run_specs(BenchOptions("minilm", catalog="mine"), CATALOGUE, LINE)
    assert not spec.whole_catalog


@pytest.mark.parametrize(
    ("options", "budget_s"),
    [({}, 180.0), ({"budget": "90s"}, 90.0), ({"scenario": "standard"}, None), ({"scenario": "closed-1"}, None),
     ({"scenario": "standard", "requests": 50}, 180.0), ({"scenario": "closed-1", "requests": 50, "budget": "1m"}, 60.0)],
)  # fmt: skip
def test_whose_budget_it_is(options: dict[str, Any], budget_s: float | None) -> None:
    (spec,) = bench.run_specs(BenchOptions("minilm", **options), CATALOGUE, LINE)
    assert spec.budget_s == budget_s


def test_every_model_has_a_spec_with_its_own_rates() -> None:
    text, image = bench.run_specs(BenchOptions("minilm,clip-image", scenario="poisson-mid"), CATALOGUE, LINE)
    assert (text.model.name, image.model.name) == ("minilm", "clip-image")
    assert text.campaign_id == image.campaign_id
    assert text.scenarios[0].rate_per_s != image.scenarios[0].rate_per_s


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (BenchOptions("minilm", requests=-1), "--requests -1: wants a whole number of at least 1"),
        (BenchOptions("minilm", weights="mine"), "unknown weights 'mine': choose from auto, hub, wheel, synthetic"),
        (BenchOptions("minilm", precision="fp31"), "unknown precision 'fp31': did you mean 'fp32'"),
        (BenchOptions("minilm", layout="2"), "bad layout '2'"),
        (BenchOptions("minilm", budget="soon"), "bad duration 'soon'"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_cure(options: BenchOptions, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        bench.run_specs(options, CATALOGUE, LINE)


@pytest.mark.parametrize(
    ("scenario", "newest", "expected", "measured"),
    [
        ("standard", None, "fresh", True), ("standard", "before", "before", False), ("quick", None, None, False),
        ("quick", "before", "before", False), ("closed-1", "before", "before", False), ("controls", "before", None, False),
    ],
)  # fmt: skip
def test_controls_are_measured_first_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scenario: str, newest: str | None, expected: str | None, measured: bool
) -> None:
    """Paid by the first model's budget; `quick` and single scenarios do without; controls need none themselves."""
    specs: list[Any] = []
    monkeypatch.setattr(bench.controls, "newest", lambda _: newest)
    monkeypatch.setattr(bench.controls, "measuring_s", lambda _: 55.0)
    monkeypatch.setattr(bench.launch, "missing", lambda _: None)
    monkeypatch.setattr(bench, "measure_and_store", lambda spec, done, progress: (specs.append(spec), RunFolder(tmp_path / "fresh"))[1])
    (spec,) = bench.run_specs(BenchOptions("minilm", scenario=scenario), CATALOGUE, LINE)
    for paid in (True, False):
        with_controls = bench._with_controls(spec, "", CATALOGUE, Progress(Console(file=io.StringIO())), paid=paid)
        assert with_controls.controls_run_id == expected
        assert with_controls.controls_s == (55.0 if measured and paid else 0.0)
    assert bool(specs) == measured
    for controls_spec in specs:
        assert controls_spec.roles == ("twin", "slow", "stall") and controls_spec.suite == "controls" and not controls_spec.whole_catalog
        assert [framework.name for framework in controls_spec.frameworks] == ["onnx-python"]
        assert (controls_spec.model.name, controls_spec.command) == ("minilm", LINE)


def test_where_controls_cannot_run_nothing_vouches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.controls, "newest", lambda _: None)
    monkeypatch.setattr(bench.launch, "missing", lambda _: "no onnxruntime: pip install it")
    (spec,) = bench.run_specs(BenchOptions("minilm", scenario="standard"), CATALOGUE, LINE)
    said = io.StringIO()
    assert bench._with_controls(spec, "", CATALOGUE, Progress(Console(file=said)), paid=True).controls_run_id is None
    assert "nothing will be ranked: no onnxruntime" in said.getvalue()


def test_the_catalogue_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = catalog.load
    monkeypatch.setattr(catalog, "load", lambda extra=None: (loads.append(extra), load(extra))[1])
    monkeypatch.setattr(bench, "measure_and_store", lambda spec, done, progress: None)
    monkeypatch.setattr(bench.controls, "newest", lambda _: "before")
    monkeypatch.setattr(bench.database, "check_writable", lambda _: None)
    bench.bench_models(BenchOptions("minilm,clip", scenario="standard"), LINE)
    assert loads == [None]
