"""What a measured machine costs an hour: by its type in the price files, or by the user's word."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from rich.console import Console

from bench.commands.options import PriceOptions, SizeOptions
from bench.commands.stored import Machine
from bench.core.errors import BenchError
from bench.pricing.money import parse_usd
from bench.pricing.prices import MachinePrice, find_machine, machine_prices

#: Columns of a table where the terminal is narrower, or none.
LEAST_WIDTH = 132


@dataclass(frozen=True)
class Priced:
    """A machine with its price: what it is sold as, dollars an hour, and whose price that is."""

    machine: Machine
    type: str
    usd_per_hour: Decimal
    origin: str

    @property
    def line(self) -> str:
        """For people: the price and where it is from."""
        return f"{self.type}: ${self.usd_per_hour} an hour ({self.origin}), measured as {self.machine.id}: {self.machine.name}"


def wide_console() -> Console:
    """A console in which a table of many columns has room."""
    return Console(width=max(shutil.get_terminal_size().columns, LEAST_WIDTH))


def machine_prices_of(machines: Iterable[Machine], options: PriceOptions | SizeOptions) -> tuple[dict[str, Priced], list[str]]:
    """The prices of measured machines by id, by what the user says or what their runs say that they are; and why the others have none.

    Raises:
        BenchError: none has a price, or what the user says cannot be used.
    """
    by_id = {machine.id: machine for machine in machines}
    if (options.machine_type or options.usd_per_hour) and len(by_id) > 1:
        raise BenchError(
            f"--machine-type and --usd-per-hour are of one machine, and {', '.join(by_id)} were measured: name one with --machine"
        )
    table = machine_prices()
    prices: dict[str, Priced] = {}
    without: list[str] = []
    for machine in by_id.values():
        price = _priced(machine, options, table)
        if isinstance(price, Priced):
            prices[machine.id] = price
        else:
            without.append(price)
    if not prices:
        raise BenchError(without[0])
    return prices, without


def _priced(machine: Machine, options: PriceOptions | SizeOptions, table: Sequence[MachinePrice]) -> Priced | str:
    if options.usd_per_hour:
        return Priced(machine, options.machine_type or machine.product or machine.id, parse_usd(options.usd_per_hour), "your own price")
    name = options.machine_type or machine.product
    if not name or (not options.machine_type and name not in {price.type for price in table}):
        known = f"nothing is known of the price of a {name!r}" if name else "its runs do not say what it is sold as"
        return f"{machine.id} ({machine.name}): {known}; name its type with --machine-type, or give --usd-per-hour"
    price = find_machine(table, name, options.region)
    _check_cores(machine, price, table)
    return Priced(machine, price.type, price.usd_per_hour, price.origin)


def _check_cores(machine: Machine, price: MachinePrice, prices: Sequence[MachinePrice]) -> None:
    """A machine type of another number of cores would be another speed, which is not guessed."""
    if price.cores is None or machine.cores is None or price.cores == machine.cores:
        return
    family = price.type.partition(".")[0]
    same = [other.type for other in prices if other.cores == machine.cores and other.type.partition(".")[0] == family]
    cure = f"; of that family {same[0]} has {machine.cores}" if same else ""
    raise BenchError(
        f"{price.type} has {price.cores} physical cores, the results are of {machine.cores}, and speed is not guessed between them: "
        f"measure there{cure}"
    )
