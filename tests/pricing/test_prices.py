"""The price files: every row has its source and day, and a row that cannot be right is named with file, line and column."""

from __future__ import annotations

import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from bench.core.errors import BenchError
from bench.pricing import prices
from bench.pricing.prices import FOLDER, find_machine

ROW = "c7i.4xlarge,16,8,32,0.714"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the price files."""
    for file in FOLDER.glob("*.csv"):
        shutil.copy(file, tmp_path)
    return tmp_path


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_machine_prices() -> None:
    table = prices.machine_prices()
    price = find_machine(table, "c7i.4xlarge")
    assert (price.usd_per_hour, price.vcpus, price.cores, price.memory_gib) == (Decimal("0.714"), 16, 8, 32)
    assert (price.region, price.purchase, price.as_of, price.licence) == ("us-east-1", "on-demand", date(2026, 7, 20), "Apache-2.0")
    assert find_machine(table, "c7a.4xlarge").cores == find_machine(table, "c8g.4xlarge").cores == 16
    assert find_machine(table, "intel-spr-x8", "aws").cores is None
    assert all("@" in row.source for row in table)


def test_a_machine_costs_in_proportion_to_its_size() -> None:
    """A slip of a digit in one row would show: within a family of AWS a vCPU costs the same."""
    families: dict[str, set[Decimal]] = {}
    for row in prices.machine_prices():
        if row.provider == "aws":
            families.setdefault(row.type.partition(".")[0], set()).add(row.usd_per_hour / row.vcpus)
    for family, per_vcpu in families.items():
        assert max(per_vcpu) - min(per_vcpu) <= Decimal("0.000005"), family


def test_api_prices() -> None:
    apis = {(price.provider, price.model): price for price in prices.api_prices()}
    small = apis["openai", "text-embedding-3-small"]
    assert (small.usd_per_million_tokens, small.usd_per_million_tokens_batch) == (Decimal("0.02"), Decimal("0.01"))
    assert apis["voyage", "voyage-4"].usd_per_million_tokens_batch is None
    assert all(price.source.startswith("https://") for price in apis.values())


def test_a_changed_price_changes_exactly_its_row(folder: Path) -> None:
    before = prices.machine_prices(folder)
    change(folder / "machines.csv", ROW, "c7i.4xlarge,16,8,32,0.68")
    after = prices.machine_prices(folder)
    assert [new.type for old, new in zip(before, after, strict=True) if old != new] == ["c7i.4xlarge"]


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("c7i.4xlarge,16,8,32,0", r"machines\.csv:\d+: usd_per_hour: wants US dollars between 0 and 1000 \(found '0'\)"),
        ("c7i.4xlarge,16,8,32,714000", "usd_per_hour"),
        ("c7i.4xlarge,16,8,32,€0.7", "usd_per_hour"),
        ("c7i.4xlarge,16,eight,32,0.714", r"cores: wants a whole number \(found 'eight'\)"),
        ("c7i.2xlarge,16,8,32,0.714", r"the same provider, region, purchase, type stands in line \d+; keep one"),
    ],
)
def test_a_row_that_cannot_be_right_is_named(folder: Path, new: str, message: str) -> None:
    change(folder / "machines.csv", ROW, new)
    with pytest.raises(BenchError, match=message):
        prices.machine_prices(folder)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x,y,100,,https://x,2026-11-28,MIT", "usd_per_million_tokens: wants US dollars between 0 and 1"),
        ("x,y,0.1,,,2026-11-28,MIT", "source: wants a value"),
        ("x,y,0.1,,https://x,yesterday,MIT", "as_of: wants a day such as 2026-07-20"),
        ("x,,0.1,,https://x,2026-11-28,MIT", "model: wants a value"),
        ("x,y", "usd_per_million_tokens"),
    ],
)
def test_a_price_without_its_source_or_of_another_unit_is_refused(folder: Path, row: str, message: str) -> None:
    with (folder / "apis.csv").open("a", encoding="utf-8") as file:
        file.write(f"{row}\n")
    with pytest.raises(BenchError, match=message):
        prices.api_prices(folder)


def test_missing_files_and_types(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"machines\.csv: not found; it belongs to the repository"):
        prices.machine_prices(tmp_path)
    table = prices.machine_prices()
    with pytest.raises(BenchError, match=r"no on-demand price for machine type 'c7i\.4xlrge': did you mean 'c7i\.4xlarge'"):
        find_machine(table, "c7i.4xlrge")
    with pytest.raises(BenchError, match=r"'c7i\.4xlarge' in eu-west-1"):
        find_machine(table, "c7i.4xlarge", "eu-west-1")
    with pytest.raises(BenchError, match=r"add its row to data/prices/machines\.csv, or give --usd-per-hour"):
        find_machine(table, "abacus")
