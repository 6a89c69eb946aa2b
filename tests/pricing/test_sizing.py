"""How many machines: a worked example that was measured on emulated servers, and refusals with their reasons."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.pricing import sizing
from bench.pricing.service import Batches, Singles, fitted
from bench.pricing.simulate import Balancing, Fleet
from bench.pricing.sizing import Calibration, Demand, Refused, Size


def calibration(service_s: Any) -> Calibration:
    """Requests served alone, in blocks of 100."""
    block = np.arange(len(service_s)) // 100
    return Calibration(Singles(block, np.ones(len(service_s), dtype=np.int64), np.asarray(service_s)), None)


@pytest.fixture(scope="module")
def measured() -> Calibration:
    """10 ms + 0.25 ms a token, lognormal lengths of 104 tokens in the mean: a service of 36 ms with c² = 0.21."""
    draw = np.random.default_rng(5)
    spread = np.log(1 + 0.21 * 36**2 / 26**2)
    tokens = draw.lognormal(np.log(104) - spread / 2, np.sqrt(spread), 20_000)
    return calibration((10 + 0.25 * tokens) / 1000)


def test_the_division_of_fmbench_by_hand() -> None:
    """96 a second on machines of 27.7 a second: ⌈3.47⌉ = 4. A whole quotient is not rounded up."""
    assert sizing.naive_machines(96, 1 / 0.036) == 4
    assert sizing.naive_machines(100, 25) == 4


def test_capacity_by_hand() -> None:
    assert sizing.capacity_per_s(calibration([0.01, 0.03]), 1) == pytest.approx(50)


@pytest.mark.parametrize(("balancing", "machines", "p99_s"), [("random", 8, (0.172, 0.198)), ("least-outstanding", 5, (0.12, 0.143))])
def test_the_example_that_was_measured(measured: Calibration, balancing: Balancing, machines: int, p99_s: tuple[float, float]) -> None:
    """96/s with p99 ≤ 200 ms. Emulated servers: 8 at random 172–198 ms, 5 least outstanding 134–143 ms, the naive 4 at random 701–1 595."""
    size = sizing.size(measured, Demand(96, 0.2), balancing, 1)
    assert isinstance(size, Size)
    assert (size.machines, size.naive.machines) == (machines, 4)
    assert size.one_less is not None
    assert size.at.percentile_s <= 0.2 < size.one_less.percentile_s <= size.naive.percentile_s
    assert p99_s[0] <= size.at.percentile_s <= p99_s[1]
    assert size.at.share_over <= 0.01


def test_how_far_a_simulation_lies_from_emulated_servers(measured: Calibration) -> None:
    """p99 of one server in ms, range of runs: 155 (133–171) at ρ 0.3, 191 (167–208) at 0.5, 366 (213–476) at 0.7, 508 (411–582) at 0.8."""
    for rho, (low, high) in {0.3: (133, 171), 0.5: (167, 208), 0.7: (213, 476), 0.8: (411, 582)}.items():
        prediction = sizing.predicted(measured, Demand(rho / 0.03627, 1.0), Fleet(1, "random"))
        assert 0.95 * low <= 1000 * prediction.percentile_s <= 1.05 * high, rho
        assert prediction.utilisation == pytest.approx(rho, rel=0.02)


def test_an_overload_has_no_percentile(measured: Calibration) -> None:
    prediction = sizing.predicted(measured, Demand(96, 0.2), Fleet(3, "least-outstanding"))
    assert (prediction.percentile_s, prediction.share_over) == (np.inf, 1.0) and prediction.utilisation > 1


def test_a_wide_limit_takes_no_more_than_the_load_does(measured: Calibration) -> None:
    size = sizing.size(measured, Demand(20, 10.0), "least-outstanding", 1)
    assert isinstance(size, Size) and size.machines == size.naive.machines == 1 and size.one_less is None


def test_risk_counts_how_uneven_the_blocks_were() -> None:
    """All blocks at 20 ms, or half of them at 10 and half at 30: where more of the slow ones are drawn, the limit is missed."""
    block, ones = np.repeat(np.arange(10), 50), np.ones(500, dtype=np.int64)
    demand, fleet = Demand(60, 0.09), Fleet(2, "least-outstanding")
    missed = [
        sizing._missed(Calibration(Singles(block, ones, service_s), None), demand, fleet)
        for service_s in (np.full(500, 0.02), np.where(block % 2, 0.03, 0.01))
    ]
    assert missed[0] == 0 < missed[1] < sizing.RESAMPLES


def test_batches_need_fewer_machines_where_they_are_cheap() -> None:
    """A call that costs 20 ms whatever it holds: batches of what waits carry many times the load of single requests."""
    draw = np.random.default_rng(2)
    rows = np.repeat([1, 4, 16, 32], 60)
    width = draw.integers(10, 20, len(rows))
    curve = fitted(Batches(np.arange(len(rows)) % 12, rows, width, np.full(len(rows), 0.02)))
    served = Calibration(Singles(np.arange(600) // 50, draw.integers(10, 20, 600), np.full(600, 0.02)), curve)
    alone, together = (sizing.size(served, Demand(400, 0.1), "least-outstanding", cap) for cap in (1, 32))
    assert isinstance(alone, Size) and isinstance(together, Size)
    assert alone.machines >= 8 and together.machines == 1
    assert sizing.capacity_per_s(served, 32) == pytest.approx(1600, rel=0.01)


def test_pieces_from_an_empty_queue_are_quicker_than_the_steady_state(measured: Calibration) -> None:
    """Near saturation a queue takes longer to grow than a piece lasts: a run that serves pieces measures less."""
    steady = sizing.predicted(measured, Demand(25, 1.0), Fleet(1, "random"))
    assert sizing.predicted_pieces(measured, 25, 1, 100, 0.2, 0.99) < steady.percentile_s


@pytest.mark.parametrize(
    ("demand", "cap", "reason"),
    [
        (Demand(10, 0.01), 1, r"no number of machines: 100\.0% of the services alone take longer than 10 ms"),
        (Demand(10, 0.5), 32, r"batches of several sizes were not measured"),
        (Demand(1e6, 0.5), 1, r"36\d\d\d machines and more: fleets of up to 500 are simulated"),
    ],
)
def test_refusals(measured: Calibration, demand: Demand, cap: int, reason: str) -> None:
    size = sizing.size(measured, demand, "least-outstanding", cap)
    assert isinstance(size, Refused) and re.search(reason, size.reason), size


@pytest.mark.parametrize("demand", [Demand(0, 0.1), Demand(-1, 0.1), Demand(1, 0)])
def test_no_load_and_no_limit_are_mistakes(measured: Calibration, demand: Demand) -> None:
    with pytest.raises(ValueError, match="above 0"):
        sizing.size(measured, demand, "random", 1)


@given(st.integers(1, 400), st.integers(1, 500))
def test_the_smallest_number_is_found_wherever_it_lies(first: int, answer: int) -> None:
    tried: list[int] = []

    def keeps(machines: int) -> bool:
        tried.append(machines)
        return machines >= answer

    assert sizing._smallest(keeps, first) == max(first, answer)
    assert len(tried) == len(set(tried)) <= 20


def test_no_number_keeps_an_impossible_limit() -> None:
    assert sizing._smallest(lambda machines: False, 3) is None
