"""The price files under data/prices: machine types by the hour, hosted embedding models by million tokens."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TypeVar

from bench.core import paths
from bench.core.errors import BenchError

#: Published with the code: a run with a data folder of its own has the same prices.
FOLDER = paths.ROOT / "data" / "prices"
#: $ per million tokens and $ per hour of a machine lie below these; a price beyond is a slip of units.
MOST_USD_PER_MILLION_TOKENS, MOST_USD_PER_HOUR = Decimal(1), Decimal(1000)


Value = TypeVar("Value")


@dataclass(frozen=True)
class MachinePrice:
    """A machine type in a region. `cores` are physical ones; None where the provider does not say."""

    provider: str
    region: str
    purchase: str
    type: str
    vcpus: int
    cores: int | None
    memory_gib: Decimal
    usd_per_hour: Decimal
    source: str
    as_of: date
    licence: str

    @property
    def origin(self) -> str:
        """For people: whose price, of which day."""
        return f"{self.provider} {self.region} {self.purchase}, {self.as_of}"


@dataclass(frozen=True)
class ApiPrice:
    """A hosted embedding model, by million input tokens; the batch price is None where there is none."""

    provider: str
    model: str
    usd_per_million_tokens: Decimal
    usd_per_million_tokens_batch: Decimal | None
    source: str
    as_of: date
    licence: str


@dataclass(frozen=True)
class _Row:
    """One line of a price file, whose cells are read with an error that names file, line, column and value."""

    file: Path
    line: int
    cells: Mapping[str, str | None]

    def text(self, column: str) -> str:
        return self._read(column, "wants a value", lambda text: text if text else None)

    def whole(self, column: str) -> int:
        return self._read(column, "wants a whole number", lambda text: int(text) if text.isdecimal() else None)

    def day(self, column: str) -> date:
        return self._read(column, "wants a day such as 2026-07-20", _day)

    def usd(self, column: str, most: Decimal) -> Decimal:
        return self._read(column, f"wants US dollars between 0 and {most}", lambda text: _between(text, most))

    def is_empty(self, column: str) -> bool:
        return not self.cells.get(column)

    def _read(self, column: str, wants: str, read: Callable[[str], Value | None]) -> Value:
        text = (self.cells.get(column) or "").strip()
        value = read(text)
        if value is None:
            raise BenchError(f"{self.file}:{self.line}: {column}: {wants} (found {text!r})")
        return value


def machine_prices(folder: Path = FOLDER) -> list[MachinePrice]:
    """All machine types, in the order of the file.

    Raises:
        BenchError: names file, line and column of a row that cannot be right.
    """
    return [
        MachinePrice(
            provider=row.text("provider"),
            region=row.text("region"),
            purchase=row.text("purchase"),
            type=row.text("type"),
            vcpus=row.whole("vcpus"),
            cores=None if row.is_empty("cores") else row.whole("cores"),
            memory_gib=row.usd("memory_gib", Decimal(100_000)),
            usd_per_hour=row.usd("usd_per_hour", MOST_USD_PER_HOUR),
            source=row.text("source"),
            as_of=row.day("as_of"),
            licence=row.text("licence"),
        )
        for row in _rows(folder / "machines.csv", ("provider", "region", "purchase", "type"))
    ]


def api_prices(folder: Path = FOLDER) -> list[ApiPrice]:
    """All hosted models, in the order of the file.

    Raises:
        BenchError: names file, line and column of a row that cannot be right.
    """
    return [
        ApiPrice(
            provider=row.text("provider"),
            model=row.text("model"),
            usd_per_million_tokens=row.usd("usd_per_million_tokens", MOST_USD_PER_MILLION_TOKENS),
            usd_per_million_tokens_batch=None
            if row.is_empty("usd_per_million_tokens_batch")
            else row.usd("usd_per_million_tokens_batch", MOST_USD_PER_MILLION_TOKENS),
            source=row.text("source"),
            as_of=row.day("as_of"),
            licence=row.text("licence"),
        )
        for row in _rows(folder / "apis.csv", ("provider", "model"))
    ]


def find_machine(prices: Sequence[MachinePrice], machine_type: str, region: str = "", purchase: str = "on-demand") -> MachinePrice:
    """The price of a machine type; in the first region that has it where none is named.

    Raises:
        BenchError: there is none; the nearest name is given.
    """
    for price in prices:
        if price.type == machine_type and price.purchase == purchase and region in ("", price.region):
            return price
    where = f" in {region}" if region else ""
    names = [price.type for price in prices if price.type != machine_type]
    near = difflib.get_close_matches(machine_type, names, n=1, cutoff=0.7)
    cure = f"did you mean {near[0]!r}?" if near else "add its row to data/prices/machines.csv, or give --usd-per-hour"
    raise BenchError(f"no {purchase} price for machine type {machine_type!r}{where}: {cure}")


def _rows(file: Path, key: tuple[str, ...]) -> Iterator[_Row]:
    """The lines of a price file; no two have the same `key`."""
    if not file.is_file():
        raise BenchError(f"{file}: not found; it belongs to the repository: `git checkout {file}`")
    seen: dict[tuple[str | None, ...], int] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        for cells in reader:
            values = tuple(cells.get(column) for column in key)
            if values in seen:
                raise BenchError(f"{file}:{reader.line_num}: the same {', '.join(key)} stands in line {seen[values]}; keep one")
            seen[values] = reader.line_num
            yield _Row(file, reader.line_num, cells)


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _between(text: str, most: Decimal) -> Decimal | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() and 0 < value < most else None
