"""Numbers, ranks, sizes and durations as text."""

from __future__ import annotations

import pytest

from bench.catalog import parse_seconds
from bench.core import formatting


@pytest.mark.parametrize(("value", "text"), [(1 - 1.1e-12, "1.1e−12"), (1.0, "0"), (0.9979, "0.0021"), (None, "–")])
def test_a_cosine_is_shown_as_its_distance(value: float | None, text: str) -> None:
    assert formatting.distance(value) == text


def test_numbers_line_up_and_never_lose_their_size() -> None:
    assert formatting.number(1234.5) == "1,234"
    assert formatting.number(0.0123) == "0.0123"
    assert formatting.number(float("inf")) == "∞"
    assert formatting.number(None) == "–"
    assert formatting.decimals([271.3, 94.3]) == 1
    assert formatting.span(1, 2) == "1–2"
    assert formatting.span(3, 3) == "3"
    assert formatting.interval(0.5, 2, 2) == "[0.50, 2.00]"
    assert formatting.interval(None, 2, 2) == ""
    assert formatting.size(90852864) == "90.9 MB"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (0.00412, "0.00412"), (3.8, "3.80"), (99.96, "100"), (1234.5, "1,234"), (2.5e5, "250k"), (8e6, "8M")],
)
def test_numbers_of_narrow_tables_have_three_digits(value: float | None, text: str) -> None:
    assert formatting.compact(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (95, "1m35s"), (3600, "1h00m"), (7300, "2h01m")])
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (42.2, "`--budget 43s`"),
        (121, "`--budget 2m10s`"),
        (1201, "`--budget 21m00s`"),
        (7201, "`--budget 2h10m`"),
        (86803, "`--budget 24h10m` (about a day)"),
        (170000, "`--budget 47h20m` (about 2 days)"),
    ],
)
def test_a_budget_is_one_that_can_be_typed_and_that_does(seconds: float, text: str) -> None:
    assert formatting.budget_of(seconds) == text
    assert parse_seconds(text.split("`")[1].split()[1]) >= seconds


def test_recorded_budgets_are_read_as_durations() -> None:
    recorded = "0 s are left of the budget; 3 blocks need about 146 s: `--budget 86803s` would do"
    assert formatting.with_readable_budgets(recorded).endswith("146 s: `--budget 24h10m` (about a day) would do")
    assert formatting.with_readable_budgets("`--budget 2h10m` would do") == "`--budget 2h10m` would do"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_vectors_of_nan_came_to_is_shown_as_such(value: float) -> None:
    assert formatting.small(value) == formatting.distance(value) == "NaN"
