"""Numbers, sizes, dates and durations as text for people: in the terminal, in reports and on pages."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime

#: In place of a value that is NULL.
#: Of vectors that hold NaN or infinity.
NOT_A_NUMBER = "NaN"
DASH = "–"


def decimals(values: Iterable[float | None], digits: int = 3) -> int:
    """The number of decimals (0 to 4) for a column, so that its smallest value shows `digits` digits and the points line up."""
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if not sizes:
        return 0
    return min(4, max(0, digits - 1 - math.floor(math.log10(min(sizes)))))


def number(value: float | None, places: int | None = None) -> str:
    """`1234.5` → `1,234`, with `places` decimals or as many as show three digits; ∞ for an infinite latency, a dash for NULL."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return DASH
    if math.isinf(value):
        return "∞"
    return f"{value:,.{decimals([value]) if places is None else places}f}"


def count(value: float | None) -> str:
    """`12345` → `12,345`; a dash for NULL."""
    return DASH if value is None else f"{value:,.0f}"


def distance(cosine: float | None) -> str:
    """A cosine as 1 − cos, which is easier to read: `0.999999999998` → `2.0e−12`. A float64 cosine resolves 1e-16."""
    if cosine is None:
        return DASH
    if not math.isfinite(cosine):
        return NOT_A_NUMBER
    gap = 1.0 - cosine
    if gap <= 0:
        return "0"
    exponent = math.floor(math.log10(gap))
    return f"{gap / 10**exponent:.1f}e−{-exponent}" if exponent < -3 else f"{gap:.4f}"


def small(value: float | None) -> str:
    """A small number such as max |Δ|: `2.9e-07` → `2.9e−7`, from 0.001 on four decimals."""
    if value is None:
        return DASH
    if not math.isfinite(value):
        return NOT_A_NUMBER
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    return f"{value / 10**exponent:.1f}e−{-exponent}" if exponent < -3 else f"{value:.4f}"


def milliseconds(value: float | None) -> str:
    """Whole milliseconds, for starts and loads."""
    return number(value, 0)


def megabytes(value: float | None) -> str:
    """Bytes as whole MB (10⁶ bytes), without the unit."""
    return DASH if value is None else f"{value / 1e6:,.0f}"


def size(value: float | None) -> str:
    """Bytes with a decimal unit: `90852864` → `90.9 MB`."""
    if value is None:
        return DASH
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if value >= 10**power:
            return f"{number(value / 10**power, decimals([value / 10**power]))} {unit}"
    return f"{value:.0f} B"


def when(microseconds: int | None, clock: bool = True) -> str:
    """Microseconds since 1970 → `2026-11-21 06:39 UTC` (or the date alone)."""
    if microseconds is None:
        return DASH
    moment = datetime.fromtimestamp(microseconds / 1e6, UTC)
    return moment.strftime("%Y-%m-%d %H:%M UTC" if clock else "%Y-%m-%d")


def iso(microseconds: int) -> str:
    """Microseconds since 1970 → `2026-11-21T06:39:06Z`."""
    return datetime.fromtimestamp(microseconds / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def span(lo: int | None, hi: int | None) -> str:
    """A rank interval: `1–2`, or `3` if both ends are equal."""
    if lo is None or hi is None:
        return DASH
    return str(lo) if lo == hi else f"{lo}{DASH}{hi}"


def interval(lo: float | None, hi: float | None, places: int) -> str:
    """`[265.1, 277.3]`; empty if an end is NULL."""
    return "" if lo is None or hi is None else f"[{number(lo, places)}, {number(hi, places)}]"


def listing(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    items = list(names)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def compact(value: float | None) -> str:
    """Three significant digits for a narrow table: `3.8` → `3.80`, `1234.5` → `1,234`, `250000` → `250k`, `8e6` → `8M`; a dash for NULL."""
    if value is None:
        return DASH
    if abs(value) >= 1e5:
        return f"{value / 1e6:,.3g}M" if abs(value) >= 1e6 else f"{value / 1e3:,.0f}k"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".") if value else "0"


def duration(seconds: float) -> str:
    """`95` → `1m35s`, `7300` → `2h01m`, in the form that `--budget` takes."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.0f} s"
    return f"{whole // 60}m{whole % 60:02d}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def budget_of(seconds: float) -> str:
    """A budget that holds so many seconds, as an option and, from 20 hours on, in words: `--budget 2m10s`, `--budget 24h10m` (about a day).

    It is rounded up: below a minute to seconds, below 10 minutes to 10 seconds, below 2 hours to minutes, else to 10 minutes.
    """
    step = 1 if seconds < 60 else 10 if seconds < 600 else 60 if seconds < 7200 else 600
    enough = math.ceil(seconds / step) * step
    days = round(enough / 86400)
    words = "" if enough < 20 * 3600 else f" ({'about a day' if days == 1 else f'about {days} days'})"
    return f"`--budget {duration(enough).replace(' ', '')}`{words}"


def with_readable_budgets(text: str) -> str:
    """A reason that was recorded with a budget in seconds, with that budget as `budget_of` writes it."""
    return re.sub(r"`--budget (\d{3,})s`", lambda match: budget_of(float(match.group(1))), text)
