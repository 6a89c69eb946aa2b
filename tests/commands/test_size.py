"""`invoke size` on run folders whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.commands import size, stored
from bench.commands.options import SizeOptions
from bench.core import paths
from bench.core.errors import BenchError
from bench.store import database as store
from tests.commands.test_price import machine
from tests.support import runs
from tests.support.runs import SINGLE, Fake, Load, Spec

POISSON = Load("poisson-mid", "open", 1, (), rate_per_s=50.0, rows=200, rounds=1)
BATCHES = tuple(Load(f"closed-batched-{batch}", "closed", batch, (batch,), rows=2 * batch, rounds=2) for batch in (4, 16, 32))


def exponential(mean_ms: float) -> Any:
    return lambda draw, n: np.maximum(draw.exponential(mean_ms, n), 0.01)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MiniLM on a c7i.xlarge: one arm with exponential services of 10 ms, one whose batches take 10 ms whatever they hold."""
    arms = (Fake("onnx-python", service=exponential(10.0)), Fake("openvino", 10.0), Fake("candle", sessions=2, threads=1))
    folder = runs.write(tmp_path / "runs", Spec(arms=arms, loads=(SINGLE, POISSON, *BATCHES)))
    machine(folder, "c7i.xlarge")
    run = json.loads((folder / "run.json").read_text())
    for scenario in run["scenarios"]:
        if scenario["name"] == "poisson-mid":
            scenario |= {"arrivals": "poisson", "piece": 200, "discard": 0.0}
    (folder / "run.json").write_text(json.dumps(run))
    monkeypatch.setattr(paths, "DATABASE", tmp_path / "results.duckdb")
    for function in (stored.results_of, stored.calibration_of):
        monkeypatch.setattr(function, "__defaults__", (*(function.__defaults__ or ())[:-1], tmp_path / "results.duckdb"))
    store.load(tmp_path / "results.duckdb", tmp_path / "runs")
    return tmp_path


def test_the_answer_first_then_the_table_and_what_was_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size.print_sizes(SizeOptions("minilm", rate=150.0, p99="100ms"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 × c7i.xlarge with openvino, up to 32 requests together, least-outstanding balancing: p99 ")
    assert lines[0].endswith("predicted at 150/s (limit 100 ms), $130.31 a month.")
    assert "minilm: 150/s with p99 ≤ 100 ms" in lines[1]
    assert any(line.startswith("checked, onnx-python: poisson-mid p") for line in lines)
    assert lines[-1] == "c7i.xlarge candle 2x1: several sessions serve side by side, which is not simulated"


def test_the_simulation_agrees_with_what_was_measured(data: Path) -> None:
    """The fixture's open loop is a queue with the services that calibrate it, so the two may differ by the size of the sample only."""
    (arm,) = [arm for arm in stored.results_of("minilm") if arm.label == "onnx-python"]
    calibration = stored.calibration_of(arm)
    assert isinstance(calibration, size.Calibration)
    assert float(calibration.singles.service_s.mean()) == pytest.approx(0.01, rel=0.1)
    (check,) = size.checks_of(arm, calibration, 1)
    assert check.scenario == "poisson-mid" and abs(check.error) < 0.25


def test_spare_machines_are_paid(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size.print_sizes(SizeOptions("minilm", rate=150.0, p99="100ms", framework="openvino", spare=2))
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("3 × c7i.xlarge with openvino, 2 of them spare, ") and first.endswith("$390.92 a month.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0, "p99": "100ms"}, "--rate 0: wants arrivals a second, above 0"),
        ({"rate": float("nan"), "p99": "100ms"}, "--rate nan"),
        ({"rate": 1.0, "p99": ""}, "--p99 '': wants a latency above 0, such as 100ms or 0.5s"),
        ({"rate": 1.0, "p99": "0ms"}, "--p99 '0ms'"),
        ({"rate": 1.0, "p99": "soon"}, "--p99 'soon'"),
        ({"rate": 1.0, "p99": "1s", "balancing": "round-robin"}, "unknown balancing 'round-robin': choose from random, least-outstanding"),
        ({"rate": 1.0, "p99": "1s", "spare": -1}, "--spare -1: wants a whole number of at least 0"),
        ({"rate": 1.0, "p99": "1s", "framework": "tensorflow"}, "--framework tensorflow: minilm was not measured in it"),
    ],
)
def test_a_demand_that_cannot_be_is_refused(data: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        size.print_sizes(SizeOptions("minilm", **options))


def test_a_limit_below_one_service_names_no_number(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size.print_sizes(SizeOptions("minilm", rate=10.0, p99="5ms", framework="openvino"))
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "c7i.xlarge openvino: no number of machines: 100.0% of the services alone take longer than 5 ms"


@pytest.mark.parametrize(("text", "seconds"), [("100ms", 0.1), ("0.5s", 0.5), (" 2s ", 2.0), ("12.5ms", 0.0125)])
def test_latencies_as_typed(text: str, seconds: float) -> None:
    assert size.demand_of(SizeOptions("minilm", rate=1.0, p99=text)).limit_s == pytest.approx(seconds)
