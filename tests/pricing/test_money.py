"""Money by hand: no amount is rounded to nothing, and another currency is refused."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.errors import BenchError
from bench.pricing import money

AMOUNTS = st.decimals(min_value="0.0001", max_value="999", places=4)
RATES = st.floats(min_value=1e-3, max_value=1e6)


def test_a_million_by_hand() -> None:
    """0.714 $/h at 100 a second: 0.714 / 360 000 a piece, $1.98333 a million."""
    assert money.usd_per_million(Decimal("0.714"), 100) == Decimal("1.98333")
    assert money.usd_per_million(Decimal("0.36"), 100) == Decimal("1")


def test_small_amounts_are_not_rounded_to_nothing() -> None:
    """FMBench shows the price of an embedding on a CPU as $0.0000."""
    per_embedding = money.usd_per_million(Decimal("0.714"), 100) / money.MILLION
    assert money.shown(per_embedding) == "$0.00000198333"


@pytest.mark.parametrize(
    ("amount", "text"),
    [("1983.33", "$1 983.33"), ("1.98333333", "$1.98333"), ("5", "$5.00"), ("0.1", "$0.10"), ("1234567", "$1 234 570.00"),
     ("0.0198333", "$0.0198333"), ("521.22", "$521.22")],
)  # fmt: skip
def test_amounts_as_shown(amount: str, text: str) -> None:
    assert money.shown(Decimal(amount)) == text


@pytest.mark.parametrize("text", ["0.714", " $0.714 ", ".714"])
def test_prices_as_typed(text: str) -> None:
    assert money.parse_usd(text) == Decimal("0.714")


@pytest.mark.parametrize("text", ["", "0", "$0.00", "-1", "0.7 EUR", "€0.7", "free", "1,5", "nan", "1e3"])
def test_what_is_no_price(text: str) -> None:
    with pytest.raises(BenchError, match=r"write US dollars, such as 0\.714"):
        money.parse_usd(text)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_nothing_served_has_no_price(rate: float) -> None:
    with pytest.raises(ValueError, match="wants more than 0"):
        money.usd_per_million(Decimal(1), rate)


@given(AMOUNTS, RATES)
def test_twice_the_price_is_twice_the_cost_and_twice_the_rate_is_half_of_it(usd_per_hour: Decimal, per_s: float) -> None:
    once = money.usd_per_million(usd_per_hour, per_s)
    assert once > 0
    assert float(money.usd_per_million(2 * usd_per_hour, per_s) / once) == pytest.approx(2, rel=1e-5)
    assert float(money.usd_per_million(usd_per_hour, 2 * per_s) / once) == pytest.approx(0.5, rel=1e-5)


@given(AMOUNTS, RATES)
def test_what_is_shown_is_never_zero_and_has_no_exponent(usd_per_hour: Decimal, per_s: float) -> None:
    text = money.shown(money.usd_per_million(usd_per_hour, per_s))
    assert "E" not in text and Decimal(text[1:].replace(" ", "")) > 0
