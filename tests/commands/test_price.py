"""`invoke price` on run folders whose truth is known."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bench.commands import price, stored
from bench.commands.machine_price import machine_prices_of
from bench.commands.options import PriceOptions
from bench.core import paths
from bench.core.errors import BenchError
from bench.pricing.cost import Cost, cost_at
from bench.pricing.prices import api_prices
from bench.store import database as store
from tests.support import runs
from tests.support.runs import OFFLINE, SINGLE, Fake, Load, Spec

HOUR = Decimal("0.36")  # a ten-thousandth of a dollar a second
POISSON = Load("poisson-mid", "open", 1, (), rate_per_s=60.0, rows=100, rounds=1)


def machine(folder: Path, product: object = None, cores: int = 2, name: str = "") -> None:
    """Say in a run folder what its machine is."""
    file = folder / "machine.json"
    about: dict[str, Any] = json.loads(file.read_text())
    about |= {"virtualisation": {"product": product or {"unavailable": "no DMI"}}, "cpu": {"physical_cores_allowed": cores}}
    if name:
        about |= {"machine_id": name}
    file.write_text(json.dumps(about))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MiniLM on a c7i.xlarge: single requests in 5 ms (200/s) and 10 ms (100/s); batches of 32 in 80 ms (400/s) and 640 ms (50/s)."""
    arms = (
        Fake("onnx-python", service=lambda draw, n: [5.0 if n == 20 else 80.0] * n),
        Fake("pytorch", service=lambda draw, n: [10.0 if n == 20 else 640.0] * n),
        Fake("candle", failures={"*": ("SKIPPED", "no Rust: install it")}),
    )
    machine(runs.write(tmp_path / "runs", Spec(arms=arms, loads=(SINGLE, OFFLINE))), "c7i.xlarge")
    monkeypatch.setattr(paths, "DATABASE", tmp_path / "results.duckdb")
    for function in (stored.results_of, stored.calibration_of):
        monkeypatch.setattr(function, "__defaults__", (*(function.__defaults__ or ())[:-1], tmp_path / "results.duckdb"))
    store.load(tmp_path / "results.duckdb", tmp_path / "runs")
    return tmp_path


def costs(**options: str) -> dict[str, price.ArmCost]:
    arms = stored.results_of("minilm", options.get("machine", ""))
    prices, _ = machine_prices_of([arm.machine for arm in arms], PriceOptions("minilm", **options))
    return {arm_cost.arm.label: arm_cost for arm_cost in price.costs_of(arms, prices)[0]}


def test_the_price_at_saturation_is_that_of_the_load_that_gives_the_most(data: Path) -> None:
    by_arm = costs(usd_per_hour="0.36")
    assert list(by_arm) == ["onnx-python", "pytorch"]
    onnx, pytorch = by_arm["onnx-python"], by_arm["pytorch"]
    assert (onnx.fastest.scenario, pytorch.fastest.scenario) == ("offline-32", "closed-1")
    assert float(onnx.saturated.usd_per_million) == pytest.approx(100 / 400, rel=0.02)
    assert float(pytorch.saturated.usd_per_million) == pytest.approx(100 / 100, rel=0.02)


def test_the_machine_says_what_it_is(data: Path) -> None:
    (arm_cost, *_) = costs().values()
    assert (arm_cost.machine.type, arm_cost.machine.usd_per_hour) == ("c7i.xlarge", Decimal("0.1785"))
    assert arm_cost.machine.line.startswith(
        "c7i.xlarge: $0.1785 an hour (aws us-east-1 on-demand, 2026-07-20), measured as fixture-machine"
    )


def test_the_task_prints_all_of_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    price.print_prices(PriceOptions("all-MiniLM-L6-v2"))
    out = capsys.readouterr().out
    for words in ("minilm: the price at saturation", "$ per 1 B", "offline-32", "Against hosted models: c7i.xlarge with onnx-python",
                  "openai text-embedding-3-small", "2026-11-28", "c7i.xlarge candle: SKIPPED: no Rust: install it"):  # fmt: skip
        assert words in out, words
    assert "The price of a limit" not in out, "no search was made"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"machine_type": "c7i.4xlarge"}, r"c7i\.4xlarge has 8 physical cores, the results are of 2.*of that family c7i\.xlarge has 2"),
        ({"machine_type": "c7i.xlarg"}, r"did you mean 'c7i\.xlarge'"),
        ({"usd_per_hour": "0.7 EUR"}, "write US dollars"),
        ({"machine": "elsewhere"}, "machine 'elsewhere': minilm was not measured there; it was on fixture-machine"),
    ],
)
def test_what_the_user_says_is_held_against_the_machine(data: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        price.print_prices(PriceOptions("minilm", **options))


def test_a_model_without_results(data: Path) -> None:
    with pytest.raises(BenchError, match="qwen3: no stored results; `invoke bench --model qwen3 --scenario standard` measures it"):
        price.print_prices(PriceOptions("qwen3"))
    with pytest.raises(BenchError, match="unknown model 'minilmm': did you mean 'minilm'"):
        price.print_prices(PriceOptions("minilmm"))


@pytest.mark.parametrize(
    ("product", "known"), [(None, "its runs do not say what it is sold as"), ("KVM", "nothing is known of the price of a 'KVM'")]
)
def test_a_machine_without_a_price(data: Path, product: str | None, known: str) -> None:
    """Another machine is shown with its reason; alone it is refused with the cure."""
    folder = runs.write(data / "runs", Spec(arms=(Fake("pytorch"),), run_id="other", day=1))
    machine(folder, product, name="second")
    store.load(data / "results.duckdb", data / "runs")
    arms = stored.results_of("minilm")
    prices, without = machine_prices_of([arm.machine for arm in arms], PriceOptions("minilm"))
    assert list(prices) == ["fixture-machine"]
    assert len(without) == 1 and known in without[0] and "name its type with --machine-type, or give --usd-per-hour" in without[0]
    with pytest.raises(BenchError, match=known):
        price.print_prices(PriceOptions("minilm", machine="second"))
    with pytest.raises(BenchError, match=r"are of one machine, and fixture-machine, second were measured: name one with --machine"):
        price.print_prices(PriceOptions("minilm", usd_per_hour="1"))


def test_the_newest_row_with_numbers_counts(data: Path) -> None:
    """A later run in which the arm was skipped hides no earlier one; a later one with numbers does."""
    for day, fake in ((1.0, Fake("pytorch", failures={"*": ("SKIPPED", "no torch")})), (2.0, Fake("pytorch", 20.0))):
        machine(runs.write(data / "runs", Spec(arms=(fake,), day=day, run_id=f"day-{day}")), "c7i.xlarge")
        store.load(data / "results.duckdb", data / "runs")
        assert float(costs(usd_per_hour="0.36")["pytorch"].saturated.per_s) == pytest.approx(100 if day == 1 else 50, rel=0.02)


def test_a_noisy_row_is_no_base(data: Path) -> None:
    (arm, *_) = [arm for arm in stored.results_of("minilm") if arm.label == "pytorch"]
    noisy = {name: replace(row, noisy_blocks=5) for name, row in arm.rows.items()}
    prices, _ = machine_prices_of([arm.machine], PriceOptions("minilm"))
    assert price.cost_of(replace(arm, rows=noisy), prices["fixture-machine"]) == "noisy machine: 5 of 12 blocks"


def test_the_price_of_a_limit(data: Path) -> None:
    """Searched rows: 25 ms holds up to 50/s of 100, 10 ms at no rate, 1 s beyond saturation, 50 ms on a noisy machine."""
    (arm, *_) = [arm for arm in stored.results_of("minilm") if arm.label == "pytorch"]
    base = replace(arm.rows["closed-1"], blocks=1)
    limits = {
        "slo-25ms": replace(base, scenario="slo-25ms", slo_ms=25.0, rate_per_s=50.0),
        "slo-10ms": replace(base, scenario="slo-10ms", slo_ms=10.0, rate_per_s=None),
        "slo-1000ms": replace(base, scenario="slo-1000ms", slo_ms=1000.0, rate_per_s=126.0),
        "slo-50ms": replace(base, scenario="slo-50ms", slo_ms=50.0, rate_per_s=80.0, noisy_blocks=1),
    }
    prices, _ = machine_prices_of([arm.machine], PriceOptions("minilm", usd_per_hour="0.36"))
    arm_cost = price.cost_of(replace(arm, rows={**arm.rows, **limits}), prices["fixture-machine"])
    assert isinstance(arm_cost, price.ArmCost)
    cells = {limit: price._limited(arm_cost.saturated, limited) for limit, limited in arm_cost.limited.items()}
    assert (cells[10.0], cells[50.0]) == ("no rate holds it", "noisy")
    assert cells[25.0].startswith("$2.00 (2.0")
    assert cells[1000.0].endswith("(1.00×)")


def test_a_break_even_beyond_the_throughput_is_said() -> None:
    saturated = cost_at(HOUR, 100.0, 1000.0)
    assert saturated.usd_per_million_tokens == Decimal("0.1")
    assert price._busy(0.5) == "50.0% of its throughput" and price._busy(1.2) == "more than it can do"
    assert isinstance(saturated, Cost) and len(api_prices()) > 15
