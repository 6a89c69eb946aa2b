"""What an embedding costs on a machine: at saturation, and within a latency limit.

At saturation a machine embeds X a second, so a million cost 10⁶ · p / (3 600 · X) at p dollars an hour. Within a limit it may only be
loaded up to the rate μ at which the limit still holds, and the same million cost X / μ times as much: the price of the limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from bench.pricing.money import HOUR_S, MILLION, decimal_of, rounded, usd_per_million

#: Hours of a month, as cloud providers count them (365 · 24 / 12).
MONTH_HOURS = 730
CENT = Decimal("0.01")


@dataclass(frozen=True)
class Cost:
    """Dollars for embeddings, and for input tokens where they were counted, at one rate on one machine."""

    per_s: float
    usd_per_million: Decimal
    usd_per_million_tokens: Decimal | None

    @property
    def usd_per_billion(self) -> Decimal:
        return rounded(self.usd_per_million * 1000)


def cost_at(usd_per_hour: Decimal, embeddings_per_s: float, tokens_per_s: float | None) -> Cost:
    """The cost at a rate; tokens are counted as the arm's own tokenizer counts them."""
    tokens = usd_per_million(usd_per_hour, tokens_per_s) if tokens_per_s else None
    return Cost(embeddings_per_s, usd_per_million(usd_per_hour, embeddings_per_s), tokens)


def price_of_limit(saturated: Cost, limited: Cost) -> Decimal:
    """How many times as much an embedding costs within the limit as at saturation."""
    return rounded(limited.usd_per_million / saturated.usd_per_million)


def break_even_tokens_per_s(usd_per_hour: Decimal, usd_per_million_tokens: Decimal, utilisation: float = 1.0) -> Decimal:
    """The tokens a second from which on a machine is cheaper than an API: 10⁶ · p / (3 600 · price · utilisation).

    Args:
        utilisation: the share of its time in which the machine is at work.
    """
    return rounded(MILLION * usd_per_hour / (HOUR_S * usd_per_million_tokens * decimal_of(utilisation)))


def usd_per_month(usd_per_hour: Decimal, machines: int) -> Decimal:
    """Dollars for `machines` that run all month, to the cent."""
    return (usd_per_hour * machines * MONTH_HOURS).quantize(CENT, ROUND_HALF_UP)
