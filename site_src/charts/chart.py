"""A chart from its query to its specification: shared by all charts, knowing none of them.

Colours are CSS variables, so that light and dark share one SVG; each SVG is made twice, for wide and for narrow screens, because
scaled-down text cannot be read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from altair.utils.schemapi import debug_mode

from site_src.charts import render
from site_src.charts.framework_style import INK, MARKS, OTHER
from site_src.data.leaderboard import Board

Rows = Sequence[Mapping[str, Any]]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
WIDE, NARROW = 560, 340


@dataclass(frozen=True)
class Chart:
    """A chart for a page; its pictures may still be on the way."""

    name: str
    title: str
    sentence: str
    note: str
    sql: str
    rows: Rows
    spec: Mapping[str, Any]
    svgs: tuple[Future[bytes], Future[bytes]]
    """For wide and for narrow screens, as Vega draws them."""
    frameworks: tuple[str, ...] = ()
    """What a legend below has to name; empty where each mark has its name beside it."""

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0]) if self.rows else []

    @cached_property
    def wide(self) -> str:
        """The SVG for wide screens, to stand in a page."""
        return render.inline(self.svgs[0].result(), f"{self.name}-w")

    @cached_property
    def narrow(self) -> str:
        """The SVG for phones."""
        return render.inline(self.svgs[1].result(), f"{self.name}-n")


def plain_colours(picture: str) -> str:
    """An SVG that stands alone: the variables replaced by the colours of the light scheme, on white."""
    values = {f"--fw-{name}": m.light for name, m in MARKS.items()} | {"--fw-other": OTHER.light, "--md-default-bg-color": "#ffffff"}
    values |= {f"--chart-{name}": light for name, (light, _dark) in INK.items()}
    picture = re.sub(r"var\((--[a-z-]+)\)", lambda match: values[match.group(1)], picture)
    return re.sub(r"(<svg[^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', picture, count=1)


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Sequence[str]) -> str:
    return ", ".join(literal(text) for text in sorted(set(texts)))


def rounded(rows: Rows) -> list[dict[str, Any]]:
    """Six significant digits are more than a screen shows and keep a page small; what never ends has no place on an axis."""
    return [{k: (float(f"{v:.6g}") if math.isfinite(v) else None) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def config() -> dict[str, Any]:
    axis = {
        "labelColor": "var(--chart-muted)",
        "titleColor": "var(--chart-muted)",
        "gridColor": "var(--chart-grid)",
        "domainColor": "var(--chart-grid)",
        "tickColor": "var(--chart-grid)",
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
    }
    return {
        "background": "transparent",
        "padding": {"left": 4, "top": 6, "right": 8, "bottom": 4},
        "font": "system-ui, sans-serif",
        "axis": axis,
        "view": {"stroke": None},
        "text": {"color": "var(--chart-ink)", "fontSize": 11},
    }


def finish(
    name: str,
    *,
    title: str,
    sentence: str,
    note: str,
    sql: str,
    rows: Rows,
    data: Rows,
    draw: Callable[[int], Any],
    frameworks: tuple[str, ...] = (),
    wide_width: int = WIDE,
) -> Chart:
    """Draw at both widths. `draw(width)` returns the Altair chart, in which the data set "rows" stands for `data`.

    Altair copies data at each step and checks each piece against the schema as it is made, which would take most of a build's time:
    the data is put in last, and a test checks the finished specifications.
    """
    specs = {}
    for width in (wide_width, NARROW):
        with debug_mode(False):
            spec = draw(width).to_dict(validate=False)
        specs[width] = {**spec, "$schema": SCHEMA, "datasets": {"rows": list(data)}, "config": config()}
    svgs = render.svg(specs[wide_width]), render.svg(specs[NARROW])
    return Chart(name, title, sentence, note, sql.strip(), rows, specs[wide_width], svgs, frameworks)


def labels(board: Board, rows: Rows) -> dict[str, str]:
    """A name for every arm: the framework, with precision and variant only where the framework appears twice."""
    arms = {row["arm_id"]: row for row in rows}
    titles: dict[str, list[str]] = {}
    for arm_id, row in arms.items():
        titles.setdefault(row["framework"], []).append(arm_id)
    names = {}
    for arm_id, row in arms.items():
        title = board.framework_title(row["framework"])
        names[arm_id] = title if len(titles[row["framework"]]) == 1 else f"{title} · {row['precision']} · {row['variant']}"
    return names
