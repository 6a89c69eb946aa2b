"""A chart from its query to its specification and pictures: what all charts share.

Colours are CSS variables, so that one SVG serves the light and the dark scheme. Each chart is drawn twice, for wide and for narrow
screens, because text that is scaled down with a picture cannot be read.
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

from site_src.charts import framework_style, render

Rows = Sequence[Mapping[str, Any]]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
#: Width in pixels of a chart on wide screens and on phones.
WIDE, NARROW = 560, 340


@dataclass(frozen=True)
class Chart:
    """A chart for a page. Its pictures may still be in the making.

    Attributes:
        name: its id on the page, and the stem of its files.
        title: what is drawn, with the direction that is better.
        sentence: what the chart shows, in one sentence with numbers.
        note: how to read it.
        sql: the query whose rows are drawn.
        rows: the result of the query, for the data table.
        spec: the Vega-Lite specification of the wide picture.
        svgs: the pictures for wide and for narrow screens.
        frameworks: what a legend below has to name; empty where each mark has its name beside it.
    """

    name: str
    title: str
    sentence: str
    note: str
    sql: str
    rows: Rows
    spec: Mapping[str, Any]
    svgs: tuple[Future[bytes], Future[bytes]]
    frameworks: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0]) if self.rows else []

    @cached_property
    def wide(self) -> str:
        """The SVG for wide screens, to embed in HTML."""
        return render.inline(self.svgs[0].result(), f"{self.name}-w")

    @cached_property
    def narrow(self) -> str:
        """The SVG for phones, to embed in HTML."""
        return render.inline(self.svgs[1].result(), f"{self.name}-n")


def plain_colours(svg: str) -> str:
    """An SVG for use outside of the site: on white, CSS variables replaced by the colours of the light scheme."""
    values = {f"--{name}": value for name, value in framework_style.variables(dark=False).items()} | {"--md-default-bg-color": "#ffffff"}
    svg = re.sub(r"var\((--[a-z-]+)\)", lambda match: values[match.group(1)], svg)
    return re.sub(r"(<svg[^>]*>)", r'\1<rect width="100%" height="100%" fill="#ffffff"/>', svg, count=1)


def literal(text: str) -> str:
    """A string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def literals(texts: Sequence[str]) -> str:
    """Distinct strings as SQL literals, sorted, for an IN list."""
    return ", ".join(literal(text) for text in sorted(set(texts)))


def rounded(rows: Rows) -> list[dict[str, Any]]:
    """The rows with floats at six significant digits, which is more than a screen shows; ∞ and NaN, which no axis has, become None."""
    return [{k: (float(f"{v:.6g}") if math.isfinite(v) else None) if isinstance(v, float) else v for k, v in row.items()} for row in rows]


def config() -> dict[str, Any]:
    """Fonts, paddings and colours of every chart."""
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
    """Make the chart and start drawing it at both widths.

    Altair copies its data at each step and validates each part of a chart as it is made, which would take most of a build's time. So the
    data is inserted last, and validation is left to a test of the finished specifications.

    Args:
        rows: the result of `sql`, for the data table.
        data: what is drawn: the rows, rounded, perhaps with columns for labels.
        draw: makes the Altair chart for a width in pixels; in it the data set "rows" stands for `data`.
    """
    specs = {}
    for width in (wide_width, NARROW):
        with debug_mode(False):
            spec = draw(width).to_dict(validate=False)
        specs[width] = {**spec, "$schema": SCHEMA, "datasets": {"rows": list(data)}, "config": config()}
    svgs = render.svg(specs[wide_width]), render.svg(specs[NARROW])
    return Chart(name, title, sentence, note, sql.strip(), rows, specs[wide_width], svgs, frameworks)
