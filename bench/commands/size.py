"""`invoke size`: how many machines serve arrivals at a rate within a latency limit, and what that costs."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import get_args

from rich.console import Console
from rich.table import Table

from bench.catalog import one_of
from bench.commands.machine_price import Priced, machine_prices_of, wide_console
from bench.commands.options import SizeOptions
from bench.commands.stored import ArmResults, calibration_of, results_of
from bench.core.errors import BenchError
from bench.core.progress import Progress
from bench.pricing import cost, money, sizing
from bench.pricing.simulate import Balancing
from bench.pricing.sizing import RESAMPLES, Calibration, Demand, Prediction, Refused, Size

#: Rows taken together at most, where batches are allowed; the cap of the measured loads.
CAP = 32
#: Percentiles of a measured open loop against which the simulation is checked: the highest one that its sample carries.
CHECKED = ((0.99, "p99_ms"), (0.95, "p95_ms"), (0.9, "p90_ms"), (0.5, "p50_ms"))


@dataclass(frozen=True)
class Check:
    """A measured open loop of an arm, and the simulation of the very same: seconds at the percentile `q`."""

    scenario: str
    q: float
    measured_s: float
    predicted_s: float

    @property
    def error(self) -> float:
        return self.predicted_s / self.measured_s - 1


@dataclass(frozen=True)
class ArmSize:
    """One arm on a priced machine, with the fleet that it takes. `machines` counts the spare ones."""

    arm: ArmResults
    machine: Priced
    size: Size
    machines: int
    checks: tuple[Check, ...]

    @property
    def usd_per_month(self) -> Decimal:
        return cost.usd_per_month(self.machine.usd_per_hour, self.machines)


def print_sizes(options: SizeOptions) -> None:
    """`invoke size`.

    Raises:
        BenchError: no results, no price, or a demand that cannot be.
    """
    demand, balancing = demand_of(options), one_of("balancing", options.balancing, get_args(Balancing))
    if options.spare < 0:
        raise BenchError(f"--spare {options.spare}: wants a whole number of at least 0")
    arms = [arm for arm in results_of(options.model, options.machine) if not options.framework or _named(arm, options.framework)]
    if not arms:
        raise BenchError(f"--framework {options.framework}: {options.model} was not measured in it; leave the option away to see all")
    prices, without = machine_prices_of([arm.machine for arm in arms], options)
    sizes, refused = [], []
    with Progress().steps("simulated", len(arms)) as advance:
        for arm in arms:
            if machine := prices.get(arm.machine.id):
                arm_size = size_of(arm, machine, demand, balancing, options.spare)
                if isinstance(arm_size, str):
                    refused.append(f"{machine.type} {arm.label}: {arm_size}")
                else:
                    sizes.append(arm_size)
            advance()
    sizes.sort(key=lambda arm_size: (arm_size.usd_per_month, arm_size.size.at.percentile_s))
    _print(wide_console(), options, demand, sizes, [*without, *refused])


def demand_of(options: SizeOptions) -> Demand:
    """The rate and the limit as typed.

    Raises:
        BenchError: one of them is missing or cannot be.
    """
    if not math.isfinite(options.rate) or options.rate <= 0:
        raise BenchError(f"--rate {options.rate:g}: wants arrivals a second, above 0, such as --rate 300")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)", options.p99.strip())
    if not match or float(match[1]) <= 0:
        raise BenchError(f"--p99 {options.p99!r}: wants a latency above 0, such as 100ms or 0.5s")
    return Demand(options.rate, float(match[1]) / (1000 if match[2] == "ms" else 1), 0.99)


def size_of(arm: ArmResults, machine: Priced, demand: Demand, balancing: Balancing, spare: int) -> ArmSize | str:
    """The cheaper of serving one at a time and in batches of what waits; else why no number can be named."""
    calibration = calibration_of(arm)
    if isinstance(calibration, str):
        return calibration
    alone, together = (sizing.size(calibration, demand, balancing, cap) for cap in (1, CAP))
    sizes = [size for size in (alone, together) if isinstance(size, Size)]
    if not sizes:
        assert isinstance(alone, Refused)
        return alone.reason
    best = min(sizes, key=lambda size: (size.machines, size.at.percentile_s))
    return ArmSize(arm, machine, best, best.machines + spare, tuple(checks_of(arm, calibration, best.cap)))


def checks_of(arm: ArmResults, calibration: Calibration, cap: int) -> list[Check]:
    """Each measured open loop of Poisson arrivals with this cap, simulated as it was measured."""
    checks = []
    for row, load in arm.usable("open"):
        if not load.poisson or load.batch != cap or not load.rate_per_s or not load.piece:
            continue
        for q, column in CHECKED:
            measured_ms = getattr(row, column)
            if measured_ms is not None and math.isfinite(measured_ms):
                predicted_s = sizing.predicted_pieces(calibration, load.rate_per_s, cap, load.piece, load.discard, q)
                checks.append(Check(row.scenario, q, measured_ms / 1000, predicted_s))
                break
    return checks


def _named(arm: ArmResults, frameworks: str) -> bool:
    return arm.label.partition(" ")[0] in [name.strip() for name in frameworks.split(",")]


def _print(console: Console, options: SizeOptions, demand: Demand, sizes: Sequence[ArmSize], refused: Sequence[str]) -> None:
    if sizes:
        console.print(recommendation(sizes[0], demand, options.spare), markup=False, highlight=False, soft_wrap=True)
        console.print(size_table(options, demand, sizes))
        for arm_size in sizes:
            if line := checked(arm_size):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
        for line in dict.fromkeys(arm_size.machine.line for arm_size in sizes):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in refused:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def recommendation(cheapest: ArmSize, demand: Demand, spare: int) -> str:
    """The answer in a sentence."""
    size = cheapest.size
    how = "one request at a time" if size.cap == 1 else f"up to {size.cap} requests together"
    spares = f", {spare} of them spare" if spare else ""
    return (
        f"{cheapest.machines} × {cheapest.machine.type} with {cheapest.arm.label}{spares}, {how}, {size.balancing} balancing: p99 "
        f"{1000 * size.at.percentile_s:.0f} ms predicted at {demand.rate_per_s:g}/s (limit {1000 * demand.limit_s:g} ms), "
        f"{money.shown(cheapest.usd_per_month)} a month."
    )


def size_table(options: SizeOptions, demand: Demand, sizes: Sequence[ArmSize]) -> Table:
    """A line per arm, cheapest first."""
    title = f"{sizes[0].arm.model}: {demand.rate_per_s:g}/s with p99 ≤ {1000 * demand.limit_s:g} ms, {options.balancing} balancing"
    caption = (
        "naive: arrivals over the throughput at saturation, as FMBench divides, with the p99 that it would have. "
        f"risk: in how many of {RESAMPLES} resamplings of the measured blocks the limit is missed."
    )
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for column in ("machine", "arm", "together", "N", "p99", "busy", "one less", "naive", "risk", "$ a month", "$ per 1 M"):
        table.add_column(column, justify="left" if column in ("machine", "arm") else "right")
    for arm_size in sizes:
        size = arm_size.size
        usd_per_hour = arm_size.machine.usd_per_hour * arm_size.machines
        table.add_row(
            arm_size.machine.type,
            arm_size.arm.label,
            f"≤ {size.cap}",
            str(arm_size.machines),
            _ms(size.at),
            f"{size.at.utilisation:.0%}",
            _ms(size.one_less) if size.one_less else "",
            f"{size.naive.machines}: {_ms(size.naive)}",
            f"{size.missed} of {RESAMPLES}",
            money.shown(arm_size.usd_per_month),
            money.shown(money.usd_per_million(usd_per_hour, demand.rate_per_s)),
        )
    return table


def checked(arm_size: ArmSize) -> str:
    """How far the simulation lies from what was measured of the same arm; empty where no such load was measured."""
    parts = [
        f"{check.scenario} p{100 * check.q:g} {1000 * check.predicted_s:.1f} ms predicted, {1000 * check.measured_s:.1f} measured "
        f"({check.error:+.0%})"
        for check in arm_size.checks
    ]
    return f"checked, {arm_size.arm.label}: {'; '.join(parts)}" if parts else ""


def _ms(prediction: Prediction) -> str:
    return f"{1000 * prediction.percentile_s:.0f} ms" if math.isfinite(prediction.percentile_s) else "grows without end"
