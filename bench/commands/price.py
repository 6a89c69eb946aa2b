"""`invoke price`: what a million embeddings cost on the machines that a model was measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.commands.machine_price import Priced, machine_prices_of, wide_console
from bench.commands.options import PriceOptions
from bench.commands.stored import ArmResults, StoredRow, results_of
from bench.pricing import cost, money
from bench.pricing.cost import Cost
from bench.pricing.prices import ApiPrice, api_prices
from bench.runs.schema import PROVEN

LEFT = ("machine", "arm", "load", "hosted model", "as of")


@dataclass(frozen=True)
class ArmCost:
    """One arm on a priced machine.

    Attributes:
        saturated: the cost at its largest throughput, which is in `fastest`.
        limited: by latency limit in ms, the cost at the largest rate that holds it; else why there is none.
    """

    arm: ArmResults
    machine: Priced
    fastest: StoredRow
    saturated: Cost
    limited: Mapping[float, Cost | str]


def print_prices(options: PriceOptions) -> None:
    """`invoke price`.

    Raises:
        BenchError: no results, or none of the machines has a price.
    """
    arms = results_of(options.model, options.machine)
    prices, without = machine_prices_of([arm.machine for arm in arms], options)
    costs, refused = costs_of(arms, prices)
    console = wide_console()
    if costs:
        console.print(saturation_table(costs))
        if any(arm_cost.limited for arm_cost in costs):
            console.print(limit_table(costs))
        console.print(break_even_table(costs[0], api_prices()))
    for line in [*dict.fromkeys(arm_cost.machine.line for arm_cost in costs), *without, *refused]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def costs_of(arms: Sequence[ArmResults], prices: Mapping[str, Priced]) -> tuple[list[ArmCost], list[str]]:
    """The costs of the arms on priced machines, cheapest first; and of the others there why they have none."""
    costs, refused = [], []
    for arm in arms:
        if machine := prices.get(arm.machine.id):
            arm_cost = cost_of(arm, machine)
            if isinstance(arm_cost, str):
                refused.append(f"{machine.type} {arm.label}: {arm_cost}")
            else:
                costs.append(arm_cost)
    return sorted(costs, key=lambda arm_cost: arm_cost.saturated.usd_per_million), refused


def cost_of(arm: ArmResults, machine: Priced) -> ArmCost | str:
    """The cost of an arm at saturation and within each limit that was searched; else why there is none."""
    rows = [row for row, _ in arm.usable("closed", "offline") if row.requests_per_s]
    if not rows:
        return arm.why_nothing("closed", "offline")
    fastest = max(rows, key=lambda row: row.requests_per_s or 0.0)
    saturated = cost.cost_at(machine.usd_per_hour, fastest.requests_per_s or 0.0, fastest.tokens_per_s)
    limited = {row.slo_ms: _within(row, saturated, machine) for row in arm.rows.values() if row.slo_ms is not None}
    return ArmCost(arm, machine, fastest, saturated, limited)


def _within(row: StoredRow, saturated: Cost, machine: Priced) -> Cost | str:
    """The cost at the largest rate that holds a limit; else why there is none."""
    if row.why_not:
        return "noisy" if row.status in PROVEN else row.status
    if not row.rate_per_s:
        return "no rate holds it"
    # A search serves pieces of a few hundred requests: beyond saturation they end before the queue has grown to a wide limit.
    return cost.cost_at(machine.usd_per_hour, min(row.rate_per_s, saturated.per_s), None)


def saturation_table(costs: Sequence[ArmCost]) -> Table:
    """A line per arm, cheapest first: its largest throughput and what embeddings cost at it."""
    columns = ("machine", "arm", "load", "embeddings/s", "a core", "$ per 1 M", "$ per 1 B", "$ per 1 M tokens")
    table = _table(f"{costs[0].arm.model}: the price at saturation", columns)
    for arm_cost in costs:
        saturated, tokens, cores = arm_cost.saturated, arm_cost.saturated.usd_per_million_tokens, arm_cost.arm.machine.cores
        table.add_row(
            arm_cost.machine.type,
            arm_cost.arm.label + (" (synthetic weights)" if arm_cost.arm.weights == "synthetic" else ""),
            arm_cost.fastest.scenario,
            f"{saturated.per_s:.1f}",
            f"{saturated.per_s / cores:.1f}" if cores else "",
            money.shown(saturated.usd_per_million),
            money.shown(saturated.usd_per_billion),
            money.shown(tokens) if tokens else "",
        )
    return table


def limit_table(costs: Sequence[ArmCost]) -> Table:
    """A line per arm, a column per limit: $ per million at the largest rate that holds it, and how many times the price at saturation."""
    limits_ms = sorted({limit_ms for arm_cost in costs for limit_ms in arm_cost.limited})
    columns = ("machine", "arm", *(f"{limit_ms:g} ms" for limit_ms in limits_ms))
    table = _table("The price of a limit: $ per 1 M with p99 within it, × the price at saturation", columns)
    for arm_cost in costs:
        cells = [_limited(arm_cost.saturated, arm_cost.limited.get(limit_ms, "not measured")) for limit_ms in limits_ms]
        table.add_row(arm_cost.machine.type, arm_cost.arm.label, *cells)
    return table


def _limited(saturated: Cost, limited: Cost | str) -> str:
    if isinstance(limited, str):
        return limited
    return f"{money.shown(limited.usd_per_million)} ({float(cost.price_of_limit(saturated, limited)):.2f}×)"


def break_even_table(cheapest: ArmCost, apis: Sequence[ApiPrice]) -> Table:
    """A line per hosted model, cheapest first: the tokens a second from which on the cheapest machine is cheaper, and how busy that is."""
    machine, tokens = cheapest.machine, cheapest.saturated.usd_per_million_tokens
    columns = ("hosted model", "$ per 1 M tokens", "as of", "cheaper here from", "that is")
    table = _table(f"Against hosted models: {machine.type} with {cheapest.arm.label}", columns)
    table.caption, table.caption_justify = "Tokens of two tokenizers differ: one text may be more of the one than of the other.", "left"
    for api in sorted(apis, key=lambda api: api.usd_per_million_tokens):
        price = api.usd_per_million_tokens
        break_even = cost.break_even_tokens_per_s(machine.usd_per_hour, price)
        busy = "" if tokens is None else _busy(float(tokens / price))
        table.add_row(f"{api.provider} {api.model}", money.shown(price), str(api.as_of), f"{break_even:.0f} tokens/s", busy)
    return table


def _busy(share: float) -> str:
    return f"{share:.1%} of its throughput" if share <= 1 else "more than it can do"


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in LEFT else "right")
    return table
