"""Charts as data: a query, a sentence, a Vega-Lite spec, and the SVG that is the first paint and needs no JavaScript.

A chart is drawn from nothing but the rows of its own query, which is printed below it. Colours are CSS variables, so that light
and dark share one SVG; each SVG is made twice, for wide and for narrow screens, because scaled-down text cannot be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt
import vl_convert

from site_src import form
from site_src.board import Board

VL_VERSION = "6.4"
WIDE, NARROW = 560, 340


@dataclass(frozen=True)
class Mark:
    """How one framework looks in every chart: colour in both schemes, dash of its lines, shape of its points."""

    light: str
    dark: str
    dash: tuple[int, ...]
    shape: str
    path: str
    """The same shape for the icon beside a name, in a box from −6 to 6."""


# Each colour has a contrast of at least 3:1 against its page; shape and dash carry the same difference without colour.
MARKS: dict[str, Mark] = {
    "pytorch": Mark("#c8451b", "#ff8f66", (1, 0), "circle", "M5 0A5 5 0 1 1-5 0A5 5 0 1 1 5 0Z"),
    "onnx-python": Mark("#1f5fbf", "#7aaeff", (6, 2), "square", "M-4.5-4.5h9v9h-9Z"),
    "onnx-rust": Mark("#0b7a5b", "#45d3a0", (2, 2), "triangle-up", "M0-5.2L5.5 4.4H-5.5Z"),
    "onnx-cpp": Mark("#1190b8", "#6fdcf2", (8, 2, 2, 2), "diamond", "M0-6L5.5 0L0 6L-5.5 0Z"),
    "candle": Mark("#a8680c", "#f2bd4b", (4, 4), "cross", "M-2-5.5h4v3.5h3.5v4h-3.5v3.5h-4v-3.5h-3.5v-4h3.5Z"),
    "openvino": Mark("#9b3fa5", "#e29aea", (3, 1), "triangle-down", "M0 5.2L5.5-4.4H-5.5Z"),
}
OTHER = Mark("#5c6370", "#a8b0bd", (1, 2), "triangle-right", "M5.2 0L-4.4 5.5V-5.5Z")

INK = {"ink": ("#1d2430", "#e8ebf0"), "muted": ("#5a6372", "#a5aebb"), "grid": ("#e3e6eb", "#363d49"), "band": ("#eceff3", "#2c323d")}


def mark(framework: str) -> Mark:
    return MARKS.get(framework, OTHER)


def css_name(framework: str) -> str:
    return framework if framework in MARKS else "other"


def colour(framework: str) -> str:
    return f"var(--fw-{css_name(framework)})"


def stylesheet() -> str:
    """The colours as CSS variables of both schemes: the only place where they become CSS."""
    light = {f"fw-{name}": m.light for name, m in MARKS.items()} | {"fw-other": OTHER.light} | {f"chart-{k}": v[0] for k, v in INK.items()}
    dark = {f"fw-{name}": m.dark for name, m in MARKS.items()} | {"fw-other": OTHER.dark} | {f"chart-{k}": v[1] for k, v in INK.items()}
    blocks = ((":root, [data-md-color-scheme=default]", light), ("[data-md-color-scheme=slate]", dark))
    return "\n".join(f"{selector} {{ {' '.join(f'--{k}: {v};' for k, v in names.items())} }}" for selector, names in blocks) + "\n"


@dataclass(frozen=True)
class Chart:
    """A chart ready for a page."""

    name: str
    title: str
    sentence: str
    note: str
    sql: str
    rows: Sequence[Mapping[str, Any]]
    spec: Mapping[str, Any]
    wide: str
    narrow: str

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


def rounded(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Six significant digits are more than a screen shows and keep a page small."""
    return [{k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]


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
        "background": None,
        "font": "system-ui, sans-serif",
        "axis": axis,
        "view": {"stroke": None},
        "text": {"color": "var(--chart-ink)", "fontSize": 11},
    }


def scale(names: Sequence[str]) -> dict[str, alt.Scale]:
    """Colour, shape and dash of the frameworks that are present."""
    present = sorted(set(names), key=lambda name: (name not in MARKS, list(MARKS).index(name) if name in MARKS else 0, name))
    return {
        "color": alt.Scale(domain=present, range=[colour(name) for name in present]),
        "shape": alt.Scale(domain=present, range=[mark(name).shape for name in present]),
        "dash": alt.Scale(domain=present, range=[list(mark(name).dash) for name in present]),
    }


def svg(spec: Mapping[str, Any], prefix: str) -> str:
    """One SVG with ids of its own, since several stand inline in a page."""
    text = str(vl_convert.vegalite_to_svg(json.dumps(spec, sort_keys=True), vl_version=VL_VERSION))
    text = re.sub(r'id="([^"]+)"', rf'id="{prefix}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", text)
    return text.replace("\n", " ")


def finish(name: str, title: str, sentence: str, note: str, sql: str, rows: Sequence[Mapping[str, Any]], draw: Any) -> Chart:
    """Draw at both widths. `draw(width)` returns the Altair chart."""
    specs = {}
    for width in (WIDE, NARROW):
        spec = draw(width).to_dict()
        spec.pop("$schema", None)
        specs[width] = {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", **spec, "config": config()}
    return Chart(
        name, title, sentence, note, sql.strip(), rows, specs[WIDE], svg(specs[WIDE], f"{name}-w"), svg(specs[NARROW], f"{name}-n")
    )


def labels(board: Board, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
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


def where(run_ids: Sequence[str], arm_ids: Sequence[str], scenario: str) -> str:
    return (
        f"run_id IN ({literals(run_ids)})\n  AND scenario = {literal(scenario)}\n  AND arm_id IN ({literals(arm_ids)})\n"
        "  AND role = 'measured' AND status IN ('OK', 'PARTIAL')"
    )


def latency(board: Board, run_ids: Sequence[str], arm_ids: Sequence[str], scenario: str, title: str) -> Chart | None:
    """Percentiles of one scenario, a row per arm: p50 with its interval, p90, p95, and p99 where it can be printed."""
    sql = (
        "SELECT framework, arm_id, precision, variant, n, p50_lo_ms, p50_ms, p50_hi_ms, p90_ms, p95_ms, p99_ms\n"
        f"FROM leaderboard\nWHERE {where(run_ids, arm_ids, scenario)} AND p50_ms IS NOT NULL\nORDER BY p50_ms, arm_id"
    )
    rows = board.query(sql)
    if not rows:
        return None
    names = labels(board, rows)
    data = rounded(
        [{**row, "arm": names[row["arm_id"]], "last": row["p99_ms"] or row["p95_ms"] or row["p90_ms"] or row["p50_ms"]} for row in rows]
    )
    for row in data:
        row["label"] = form.number(row["p50_ms"]) + (f" · p99 {form.number(row['p99_ms'])}" if row["p99_ms"] is not None else "")
    scales = scale([row["framework"] for row in rows])
    order = [row["arm"] for row in data]
    end = max(row["last"] for row in data)

    def draw(width: int) -> Any:
        narrow = width == NARROW
        base = alt.Chart(alt.Data(values=data)).encode(
            y=alt.Y(
                "arm:N",
                sort=order,
                title=None,
                axis=alt.Axis(
                    labelColor="var(--chart-ink)", labelFontSize=12, ticks=False, domain=False, labelLimit=170, **narrow_label(narrow)
                ),
            ),
            color=alt.Color("framework:N", scale=scales["color"], legend=None),
        )
        x = alt.X(
            "p50_ms:Q",
            title="latency, ms",
            scale=alt.Scale(domain=[0, end * (1.42 if narrow else 1.28)], nice=False),
            axis=alt.Axis(tickCount=5),
        )
        span = base.mark_rule(strokeWidth=1.5).encode(x=x, x2="last:Q")
        ci = base.mark_rule(strokeWidth=7, opacity=0.3).encode(x="p50_lo_ms:Q", x2="p50_hi_ms:Q")
        ticks = [base.mark_tick(thickness=2, height=11).encode(x=f"{p}:Q") for p in ("p90_ms", "p95_ms")]
        ring = base.mark_point(size=55, fill="var(--md-default-bg-color)", strokeWidth=2, opacity=1, shape="circle").encode(x="p99_ms:Q")
        dot = base.mark_point(filled=True, size=85, opacity=1).encode(
            x="p50_ms:Q", shape=alt.Shape("framework:N", scale=scales["shape"], legend=None)
        )
        text = base.mark_text(align="left", dx=10).encode(x="last:Q", text="label:N", color=alt.value("var(--chart-ink)"))
        return alt.layer(span, ci, *ticks, ring, dot, text).properties(
            width=width - (20 if narrow else 160), height=len(data) * (46 if narrow else 34)
        )

    best, worst = data[0], data[-1]
    sentence = f"{best['arm']} has the lowest median latency, {form.number(best['p50_ms'])} ms (n = {form.count(best['n'])})"
    if len(data) > 1:
        sentence += f"; {worst['arm']} the highest, {form.number(worst['p50_ms'])} ms (n = {form.count(worst['n'])})"
    note = (
        "Filled shape: p50, its 95 % interval as a band. Ticks: p90 and p95. Ring: p99, absent where the samples are too few to print it."
    )
    return finish(f"latency-{form.slug(scenario)}", f"Latency, {title} (lower is better)", sentence + ".", note, sql, rows, draw)


def narrow_label(narrow: bool) -> dict[str, Any]:
    """On phones a row's name stands above the row, so that the marks have the whole width."""
    return {"labelAlign": "left", "labelPadding": -6, "labelOffset": -17} if narrow else {}


def load_curve(board: Board, run_ids: Sequence[str], arm_ids: Sequence[str], scenario: str, title: str) -> Chart | None:
    """Throughput against closed-loop latency over the numbers of clients that were derived from `scenario`."""
    sql = (
        "SELECT framework, arm_id, precision, variant, clients, n, p50_ms, p99_ms, requests_per_s\nFROM leaderboard\n"
        f"WHERE run_id IN ({literals(run_ids)})\n  AND coalesce(served_scenario, scenario) = {literal(scenario)}\n  AND arm_id IN ({literals(arm_ids)})\n"
        "  AND role = 'measured' AND status IN ('OK', 'PARTIAL') AND p50_ms IS NOT NULL\nORDER BY framework, arm_id, clients"
    )
    rows = board.query(sql)
    if len({row["clients"] for row in rows}) < 2:
        return None
    names = labels(board, rows)
    data = rounded([{**row, "arm": names[row["arm_id"]]} for row in rows])
    scales = scale([row["framework"] for row in rows])
    top = max(row["requests_per_s"] for row in data) * 1.12
    height = 250
    lasts = {row["arm"]: row for row in data}  # the row of most clients of each arm, since rows are sorted by clients
    spots = spread({arm: row["requests_per_s"] for arm, row in lasts.items()}, gap=top * 14 / height)
    ends = [{**row, "spot": spots[arm]} for arm, row in lasts.items()]
    fastest = max(lasts.values(), key=lambda row: row["requests_per_s"])
    crowd = [row for row in data if row["arm"] == fastest["arm"]]

    def draw(width: int) -> Any:
        narrow = width == NARROW
        colours = alt.Color("framework:N", scale=scales["color"], legend=None)
        limit = max(row["p50_ms"] for row in data)
        x = alt.X(
            "p50_ms:Q",
            title="median latency, ms (log)",
            scale=alt.Scale(type="log", base=2, domainMax=limit, nice=False),
            axis=alt.Axis(grid=True, tickCount=5, format="~r" if limit < 1e5 else "~s"),
        )
        y = alt.Y("requests_per_s:Q", title="requests per second", scale=alt.Scale(domain=[0, top], nice=False), axis=alt.Axis(tickCount=5))
        base = alt.Chart(alt.Data(values=data)).encode(x=x, y=y, color=colours, detail="arm:N")
        line = base.mark_line(strokeWidth=1.8).encode(strokeDash=alt.StrokeDash("framework:N", scale=scales["dash"], legend=None))
        dots = base.mark_point(filled=True, size=55, opacity=1).encode(shape=alt.Shape("framework:N", scale=scales["shape"], legend=None))
        counts = (
            alt.Chart(alt.Data(values=crowd)).mark_text(dy=-12, fontSize=10, color="var(--chart-muted)").encode(x=x, y=y, text="clients:N")
        )
        side = alt.Chart(alt.Data(values=ends)).encode(
            y=alt.Y("spot:Q", scale=alt.Scale(domain=[0, top], nice=False)), x=alt.value("width")
        )
        text = side.mark_text(align="left", dx=8).encode(text="framework:N" if narrow else "arm:N", color=colours)
        return alt.layer(line, dots, counts, text).properties(width=width - (125 if narrow else 190), height=height)

    clients = sorted({row["clients"] for row in rows})
    sentence = (
        f"{fastest['arm']} serves the most, {form.number(fastest['requests_per_s'])} requests per second; "
        f"from {clients[0]} to {clients[-1]} clients its median latency goes from {form.number(crowd[0]['p50_ms'])} to {form.number(crowd[-1]['p50_ms'])} ms."
    )
    note = (
        "Each point is a number of closed-loop clients, written above the top line. Requests are served one at a time, so more clients wait longer "
        "and throughput stays as it is. Up and to the left is better."
    )
    return finish(
        f"clients-{form.slug(scenario)}", "Throughput against closed-loop latency (up and left is better)", sentence, note, sql, rows, draw
    )


def spread(values: Mapping[str, float], gap: float) -> dict[str, float]:
    """Where labels go so that none covers another: values in order, moved apart to at least `gap`, around their centres."""
    groups: list[tuple[list[str], float]] = []
    for name, value in sorted(values.items(), key=lambda item: (item[1], item[0])):
        groups.append(([name], value))
        while len(groups) > 1:
            (low_names, low), (high_names, high) = groups[-2:]
            if high - low >= gap * (len(low_names) + len(high_names)) / 2:
                break
            together = len(low_names) + len(high_names)
            groups[-2:] = [(low_names + high_names, (low * len(low_names) + high * len(high_names)) / together)]
    return {name: centre + gap * (i - (len(names) - 1) / 2) for names, centre in groups for i, name in enumerate(names)}


def ratios(board: Board, run_ids: Sequence[str], arm_ids: Sequence[str], scenario: str, title: str) -> Chart | None:
    """Each arm over the best one, with the interval of the paired comparison, on a log2 axis."""
    sql = (
        "SELECT framework, arm_id, precision, variant, blocks, ratio_lo, ratio_to_best, ratio_hi\n"
        f"FROM leaderboard\nWHERE {where(run_ids, arm_ids, scenario)} AND ratio_to_best IS NOT NULL\nORDER BY ratio_to_best DESC, arm_id"
    )
    rows = board.query(sql)
    if len(rows) < 2:
        return None
    names = labels(board, rows)
    data = rounded([{**row, "arm": names[row["arm_id"]], "label": form.number(row["ratio_to_best"], 2)} for row in rows])
    scales = scale([row["framework"] for row in rows])
    order = [row["arm"] for row in data]
    low = min(min(row["ratio_lo"] or row["ratio_to_best"] for row in data) * 0.9, 0.5)
    high = max(max(row["ratio_hi"] or row["ratio_to_best"] for row in data) * 1.05, 1.1)

    def draw(width: int) -> Any:
        narrow = width == NARROW
        x = alt.X(
            "ratio_to_best:Q",
            title="ratio to the best (log₂)",
            scale=alt.Scale(type="log", base=2, domain=[low, high], nice=False),
            axis=alt.Axis(values=[v for v in (0.0625, 0.125, 0.25, 0.5, 0.75, 1) if v >= low], format="~g"),
        )
        base = alt.Chart(alt.Data(values=data)).encode(
            y=alt.Y(
                "arm:N",
                sort=order,
                title=None,
                axis=alt.Axis(
                    labelColor="var(--chart-ink)", labelFontSize=12, ticks=False, domain=False, labelLimit=170, **narrow_label(narrow)
                ),
            ),
            color=alt.Color("framework:N", scale=scales["color"], legend=None),
        )
        ci = base.mark_rule(strokeWidth=3).encode(x=alt.X("ratio_lo:Q"), x2="ratio_hi:Q")
        dot = base.mark_point(filled=True, size=85, opacity=1).encode(
            x=x, shape=alt.Shape("framework:N", scale=scales["shape"], legend=None)
        )
        text = base.mark_text(dy=-12).encode(x=x, text="label:N", color=alt.value("var(--chart-ink)"))
        one = alt.Chart(alt.Data(values=[{"at": 1}])).mark_rule(color="var(--chart-muted)", strokeDash=[3, 3]).encode(x="at:Q")
        return alt.layer(one, ci, dot, text).properties(width=width - (20 if narrow else 160), height=len(data) * (46 if narrow else 34))

    last = data[-1]
    sentence = f"{last['arm']} reaches {form.number(last['ratio_to_best'], 2)} of {data[0]['arm']}, the best, over {form.count(last['blocks'])} blocks."
    note = "Line: 95 % interval of the paired ratio over blocks. The best arm stands at 1."
    return finish(f"ratios-{form.slug(scenario)}", f"Speed over the best, {title} (higher is better)", sentence, note, sql, rows, draw)


def ecdf(board: Board, run_ids: Sequence[str], arm_ids: Sequence[str], scenario: str, title: str) -> Chart | None:
    """The share of requests answered within a time, as 201 quantiles per arm, aggregated in the database."""
    sql = (
        "SELECT framework, arm_id, precision, variant, n,\n       unnest(range(0, 201)) / 200 AS share, unnest(quantiles) AS service_ms\nFROM (\n"
        "  SELECT framework, arm_id, precision, variant, count(*) AS n,\n"
        "         quantile_disc((end_ns - start_ns) / 1e6, list_transform(range(0, 201), lambda i: i / 200)) AS quantiles\n"
        "  FROM samples JOIN arms USING (run_id, arm_id)\n"
        f"  WHERE run_id IN ({literals(run_ids)})\n    AND scenario = {literal(scenario)}\n    AND arm_id IN ({literals(arm_ids)})\n"
        "  GROUP BY ALL)\nORDER BY framework, arm_id, share"
    )
    rows = board.query(sql)
    if not rows:
        return None
    names = labels(board, rows)
    data = rounded(
        [{"framework": row["framework"], "arm": names[row["arm_id"]], "share": row["share"], "ms": row["service_ms"]} for row in rows]
    )
    scales = scale([row["framework"] for row in rows])
    shown = [row["ms"] for row in data if row["share"] <= 0.995]

    def draw(width: int) -> Any:
        narrow = width == NARROW
        x = alt.X(
            "ms:Q",
            title="service time, ms (log)",
            axis=alt.Axis(tickCount=6, format="~r"),
            scale=alt.Scale(type="log", base=2, domain=[min(shown), max(shown)], nice=False, clamp=True),
        )
        y = alt.Y("share:Q", title="share of requests", scale=alt.Scale(domain=[0, 1], nice=False), axis=alt.Axis(format="%", tickCount=5))
        lines = (
            alt.Chart(alt.Data(values=data))
            .mark_line(strokeWidth=1.8, interpolate="step-after", clip=True)
            .encode(
                x=x,
                y=y,
                detail="arm:N",
                color=alt.Color("framework:N", scale=scales["color"], legend=None),
                strokeDash=alt.StrokeDash("framework:N", scale=scales["dash"], legend=None),
            )
        )
        return lines.properties(width=width - (60 if narrow else 70), height=230)

    n = min(row["n"] for row in rows)
    sentence = f"Service times of {len(names)} arms in {title}, at least {form.count(n)} requests each; the slowest half percent is cut off at the right."
    note = "Further left is faster; a steep line is steady. Requests of one batch share their time."
    return finish(f"ecdf-{form.slug(scenario)}", f"Distribution of service time, {title} (left is better)", sentence, note, sql, rows, draw)
