"""Costs by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.pricing import cost

P = Decimal("0.714")


def test_at_saturation() -> None:
    saturated = cost.cost_at(P, 100, 4000)
    assert (saturated.usd_per_million, saturated.usd_per_billion) == (Decimal("1.98333"), Decimal("1983.33"))
    assert saturated.usd_per_million_tokens == Decimal("0.0495833")
    assert cost.cost_at(P, 100, None).usd_per_million_tokens is None


def test_the_price_of_a_limit() -> None:
    """A limit that allows 48 of 100 a second costs 100/48 times as much."""
    assert float(cost.price_of_limit(cost.cost_at(P, 100, None), cost.cost_at(P, 48, None))) == pytest.approx(100 / 48, rel=1e-5)


def test_break_even() -> None:
    """At 1 $/h against 1 $ per million tokens: 10⁶ / 3 600 tokens a second; busy for half of its time, twice that."""
    assert cost.break_even_tokens_per_s(Decimal(1), Decimal(1)) == Decimal("277.778")
    assert cost.break_even_tokens_per_s(Decimal(1), Decimal(1), 0.5) == Decimal("555.556")
    assert cost.break_even_tokens_per_s(P, Decimal("0.02")) == Decimal("9916.67")


def test_at_the_break_even_both_cost_the_same() -> None:
    per_s = cost.break_even_tokens_per_s(P, Decimal("0.02"))
    assert float(cost.cost_at(P, 1, float(per_s)).usd_per_million_tokens or 0) == pytest.approx(0.02, rel=1e-5)


def test_a_month_to_the_cent() -> None:
    assert cost.usd_per_month(P, 1) == Decimal("521.22")
    assert cost.usd_per_month(Decimal("0.08925"), 3) == Decimal("195.46")


@given(st.decimals(min_value="0.01", max_value="99", places=5), st.integers(1, 500))
def test_a_month_of_many_is_the_sum_to_the_cent(usd_per_hour: Decimal, machines: int) -> None:
    assert abs(cost.usd_per_month(usd_per_hour, machines) - usd_per_hour * machines * cost.MONTH_HOURS) <= Decimal("0.005")
