"""A chart from its query to its SVG: shared by all charts, knowing none of them.

Colours are CSS variables, so that light and dark share one SVG; each SVG is made twice, for wide and for narrow screens, because
scaled-down text cannot be read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vl_convert
from altair.utils.schemapi import debug_mode

from bench import paths
from site_src.board import Board
from site_src.marks import INK, MARKS, OTHER

Rows = Sequence[Mapping[str, Any]]

VL_VERSION = "6.4"
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
WIDE, NARROW = 560, 340


@dataclass(frozen=True)
class Chart:
    """A chart ready for a page."""

    name: str
    title: str
    sentence: str
    note: str
    sql: str
    rows: Rows
    spec: Mapping[str, Any]
    wide: str
    narrow: str
    frameworks: tuple[str, ...] = ()
    """What a legend below has to name; empty where each mark has its name beside it."""

    @property
    def columns(self) -> list[str]:
        return list(self.rows[0]) if self.rows else []


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


def svg(spec: Mapping[str, Any], prefix: str) -> str:
    """One SVG whose ids are its own, since several stand inline in a page, and counted anew, since Vega counts on from chart to chart."""
    text = picture(json.dumps(spec, sort_keys=True)).replace("\n", " ")
    names = {old: f"{prefix}-{count}" for count, old in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', text)))}
    text = re.sub(r'\bid="([^"]+)"', lambda found: f'id="{names[found.group(1)]}"', text)
    return re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{names[found.group(1)]})", text)


def picture(spec: str) -> str:
    """The SVG of a specification."""
    return kept("svg", spec, lambda: str(vl_convert.vegalite_to_svg(spec, vl_version=VL_VERSION)).encode()).decode()


def raster(svg_text: str, scale: float = 2) -> bytes:
    """A PNG of an SVG."""
    return kept("png", f"{scale} {svg_text}", lambda: bytes(vl_convert.svg_to_png(svg_text, scale=scale)))


def kept(kind: str, source: str, make: Callable[[], bytes]) -> bytes:
    """What `make` draws from `source`, kept under build/ by the hash of its source: a site that is built again draws only what is new."""
    digest = hashlib.sha256(f"{version('vl-convert-python')} {VL_VERSION} {source}".encode()).hexdigest()[:32]
    file = paths.BUILD / "site" / "pictures" / f"{digest}.{kind}"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        unfinished.write_bytes(make())
        unfinished.rename(file)
    return file.read_bytes()


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
    wide, narrow = svg(specs[wide_width], f"{name}-w"), svg(specs[NARROW], f"{name}-n")
    return Chart(name, title, sentence, note, sql.strip(), rows, specs[wide_width], wide, narrow, frameworks)


def vega_bundle(folder: Path) -> str:
    """Vega, Vega-Lite and the embedder of the version that draws the pictures, as one module. Kept in `folder`: making it takes seconds."""
    kept = folder / f"vega-{VL_VERSION}-{version('vl-convert-python')}.js"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_name(f"{kept.name}.{os.getpid()}.tmp")
        unfinished.write_text(vl_convert.javascript_bundle("export { vegaEmbed };", vl_version=VL_VERSION), encoding="utf-8")
        unfinished.rename(kept)
    return kept.read_text(encoding="utf-8")


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
