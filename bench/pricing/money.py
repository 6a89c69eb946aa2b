"""Money in US dollars: decimal numbers, six significant digits, never rounded to zero."""

from __future__ import annotations

import re
from decimal import Context, Decimal

from bench.core.errors import BenchError

HOUR_S = 3600
MILLION = 1_000_000
SIGNIFICANT = Context(prec=6)


def parse_usd(text: str) -> Decimal:
    """`"0.714"`, `"$0.714"` → Decimal.

    Raises:
        BenchError: not a positive amount of US dollars.
    """
    match = re.fullmatch(r"\$?(\d+(?:\.\d+)?|\.\d+)", text.strip())
    if not match or not Decimal(match[1]):
        raise BenchError(f"bad price {text!r}: write US dollars, such as 0.714; convert other currencies first")
    return Decimal(match[1])


def decimal_of(value: float) -> Decimal:
    """A measured number as the decimal that it is printed as."""
    return Decimal(repr(float(value)))


def rounded(amount: Decimal) -> Decimal:
    """Six significant digits."""
    return SIGNIFICANT.create_decimal(amount)


def usd_per_million(usd_per_hour: Decimal, per_second: float) -> Decimal:
    """10⁶ · p / (3 600 · X): dollars for a million of what comes at a rate of `per_second`, on machines of `usd_per_hour` together."""
    if not per_second > 0:
        raise ValueError(f"{per_second} per second: wants more than 0")
    return rounded(MILLION * usd_per_hour / (HOUR_S * decimal_of(per_second)))


def shown(amount: Decimal) -> str:
    """`$1 983.33`, `$0.00198333`: without an exponent, cents at least, as many digits as are significant."""
    digits = format(rounded(amount), "f")
    whole, _, fraction = digits.partition(".")
    fraction = fraction.rstrip("0").ljust(2, "0")
    return f"${int(whole):,}.{fraction}".replace(",", " ")
