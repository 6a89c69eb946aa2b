"""Numbers and names as text: decimals, units, dates, slugs, and escaping for Markdown and HTML."""

from __future__ import annotations

import hashlib
import html
import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

#: Characters with a meaning in Markdown or HTML, as character references.
INERT = {ord(char): f"&#{ord(char)};" for char in "\\`*_{}[]|~#!:<>&\"'"}
#: In place of a value that is NULL.
DASH = "–"


def escape(value: Any) -> Markup:
    """Any value as text without markup, safe in Markdown prose, in an HTML block and in a quoted attribute."""
    if hasattr(value, "__html__"):
        return Markup(value.__html__())
    text = "" if value is None else re.sub(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+", " ", str(value))
    return Markup(text.translate(INERT))


def pre(value: Any) -> Markup:
    """Text for a `<pre>`. Line ends become character references, because a blank line would end the HTML block."""
    return Markup(html.escape(str(value)).replace("\n", "&#10;"))


def plain(value: Any) -> str:
    """A name for a page title. The theme prints titles unescaped, so special characters become look-alikes."""
    text = " ".join(str(value).split()).replace("&", "＆")
    return text.replace("<", "‹").replace(">", "›").replace('"', "”")


def slug(name: str) -> str:
    """A name as a folder of a URL. A name that loses characters gets six digits of its hash, so that no two share a folder."""
    short = re.sub(r"[^a-z0-9.-]+", "-", name.lower()).strip("-.")[:60]
    return short if short == name else f"{short or 'x'}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def ident(name: str) -> str:
    """A name as an id inside a page, without dots, which Markdown reads as a class in an attribute list."""
    return slug(name).replace(".", "-")


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
    gap = 1.0 - cosine
    if gap <= 0:
        return "0"
    exponent = math.floor(math.log10(gap))
    return f"{gap / 10**exponent:.1f}e−{-exponent}" if exponent < -3 else f"{gap:.4f}"


def small(value: float | None) -> str:
    """A small number such as max |Δ|: `2.9e-07` → `2.9e−7`, from 0.001 on four decimals."""
    if value is None:
        return DASH
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


def parse(text: str | None) -> Any:
    """The value of a JSON column; an empty dict for NULL."""
    return json.loads(text) if text else {}


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


def to_json(value: Any, indent: int | None = 1) -> str:
    """JSON with sorted keys; NaN and ∞, which JSON lacks, become strings."""
    return json.dumps(finite(value), indent=indent, sort_keys=True, ensure_ascii=False, default=str)


def to_lines(value: dict[str, Any] | list[dict[str, Any]]) -> str:
    """JSON with one line per entry of a dict or per row of a list."""
    if isinstance(value, dict):
        return "{\n " + ",\n ".join(f"{to_json(key)}: {to_json(entry, None)}" for key, entry in sorted(value.items())) + "\n}"
    return "[\n " + ",\n ".join(to_json(row, None) for row in value) + "\n]"


def finite(value: Any) -> Any:
    """A nested value with NaN and ∞ as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value


def flatten(value: Any, path: str = "") -> list[tuple[str, str]]:
    """A nested record as (path, text) pairs; `{"unavailable": reason}` becomes `not available: reason`."""
    if isinstance(value, dict):
        if set(value) == {"unavailable"}:
            return [(path, f"not available: {value['unavailable']}")]
        return [row for key, entry in value.items() for row in flatten(entry, f"{path} · {key}" if path else str(key))]
    if isinstance(value, list):
        if any(isinstance(entry, dict) for entry in value):
            return [row for index, entry in enumerate(value) for row in flatten(entry, f"{path} {index}")]
        return [(path, ", ".join(str(entry) for entry in value) or "none")]
    if isinstance(value, bool):
        return [(path, "yes" if value else "no")]
    return [(path, DASH if value is None else str(value))]
