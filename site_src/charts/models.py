"""The charts over all models, with a panel for each model: latency and throughput, ratios, starts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import altair as alt

from bench.core import formatting
from site_src.charts.chart import NARROW, Chart, Rows, finish, literal, rounded
from site_src.charts.parts import dots, panel_head, room, scale_of
from site_src.data.leaderboard import Leaderboard, TableKey


def among(tables: Sequence[TableKey]) -> str:
    """The list after `(run_id, scenario, precision) IN` that selects the rows of exactly these tables."""
    keys = (f"({literal(key.run_id)}, {literal(key.scenario)}, {literal(key.precision)})" for key in sorted(set(tables)))
    return f"({', '.join(keys)})"


def structs(tables: Sequence[TableKey]) -> str:
    """The same as a list of structs, for a macro."""
    keys = (
        f"{{run_id: {literal(key.run_id)}, scenario: {literal(key.scenario)}, precision: {literal(key.precision)}}}"
        for key in sorted(set(tables))
    )
    return f"[{', '.join(keys)}]"


def panels(board: Leaderboard, alone: Sequence[TableKey], together: Sequence[TableKey]) -> Chart | None:
    """Median latency of single requests against throughput in batches, a point per framework, with the Pareto front of each model."""
    sql = f"""
SELECT *
FROM single_and_batched(
  {structs(alone)},
  {structs(together)})
ORDER BY model, p50_ms, arm_id"""
    rows = board.query(sql)
    if len(rows) < 2:
        return None
    data = rounded([{**row, "title": board.model_title(row["model"])} for row in rows])
    order = list(dict.fromkeys(board.model_title(name) for name in board.results if any(row["model"] == name for row in rows)))
    fronts = {title: [row["framework"] for row in data if row["title"] == title and row["on_front"]] for title in order}
    winners = {name: sum(name in front for front in fronts.values()) for front in fronts.values() for name in front}
    name = min(winners, key=lambda key: (-winners[key], key))

    return finish(
        "alone-and-together",
        title="One request alone, many together (up and left is better)",
        sentence=f"{board.framework_title(name)} is beaten by none in both"
        + (f" in {winners[name]} of {len(order)} models." if len(order) > 1 else "."),
        note="Across: median latency of single requests. Upwards: throughput in batches. Dotted: the arms that no other beats in both. "
        "Each panel has its own scale.",
        sql=sql,
        rows=rows,
        data=data,
        draw=partial(_pareto_panels, data, order),
        frameworks=tuple(scale_of(data).domain),
        wide_width=PANELS,
    )


def _pareto_panels(data: Rows, order: Sequence[str], width: int) -> Any:
    columns = 2 if width == NARROW else 4
    panel = (width - 30) // columns - 62 if width == NARROW else 226
    base = alt.Chart().encode(
        x=alt.X("p50_ms:Q", title="alone: p50, ms", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=3, grid=True)),
        y=alt.Y("rows_per_s:Q", title="together: rows/s", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=3, labelFlush=True)),
        color=alt.Color("framework:N", scale=scale_of(data), legend=None),
    )
    edge = (
        alt.Chart()
        .transform_filter("datum.on_front")
        .mark_line(interpolate="step-after", color="var(--chart-muted)", strokeDash=[2, 3])
        .encode(x="p50_ms:Q", y="rows_per_s:Q")
    )
    layered = alt.layer(edge, dots(base, data), data=alt.NamedData("rows")).properties(width=panel, height=120)
    facet = layered.facet(facet=alt.Facet("title:N", sort=order, header=panel_head()), columns=columns, spacing=18)
    return facet.resolve_scale(x="independent", y="independent")


#: Width in pixels of all panels together, on wide screens.
PANELS = 1000


def named_lanes(data: Rows) -> alt.Chart:
    """A lane per framework, in alphabetical order, with its name on the left."""
    names = sorted({row["arm"] for row in data})
    axis = alt.Axis(labelColor="var(--chart-ink)", ticks=False, domain=False, labelLimit=300, minExtent=room(names), labelFontSize=12)
    return alt.Chart().encode(
        y=alt.Y("arm:N", sort=names, title=None, axis=axis), color=alt.Color("framework:N", scale=scale_of(data), legend=None)
    )


def one_panel_a_model(layers: Any, data: Rows, order: Sequence[str], width: int) -> Any:
    """The layers, once per model. Panels in a row share their lanes: names stand at the first panel only."""
    names = {row["arm"] for row in data}
    columns = 1 if width == NARROW else 3 if len(order) > 4 else 2
    panel = layers.properties(width=(width - 30 - room(list(names))) // columns - 20, height=24 * len(names))
    return panel.facet(facet=alt.Facet("title:N", sort=order, header=panel_head()), columns=columns, spacing=16)


def forest(board: Leaderboard, tables: Sequence[TableKey], reference: str, title: str, stem: str) -> Chart | None:
    """A forest plot: the paired ratio of every framework to `reference` with its 95 % interval, on a log2 axis."""
    sql = f"""
SELECT runs.model, this.framework, this.arm_id, blocks, ratio_lo, ratio, ratio_hi, compared.verdict
FROM comparisons_both_ways AS compared
JOIN arms AS this ON this.run_id = compared.run_id AND this.arm_id = compared.arm_id
JOIN arms AS other ON other.run_id = compared.run_id AND other.arm_id = compared.other_id
JOIN runs ON runs.run_id = compared.run_id
WHERE (compared.run_id, compared.scenario, this.precision) IN {among(tables)} AND other.precision = this.precision
  AND other.framework = {literal(reference)} AND this.framework <> other.framework
  AND this.variant = 'default' AND other.variant = 'default' AND this.role = 'measured' AND other.role = 'measured'
  AND ratio > 0 AND ratio_lo > 0 AND isfinite(ratio_hi)
ORDER BY runs.model, this.framework"""
    rows = board.query(sql)
    if not rows:
        return None
    title_of = board.framework_title
    data = rounded([{**row, "title": board.model_title(row["model"]), "arm": title_of(row["framework"])} for row in rows])
    order = list(dict.fromkeys(board.model_title(name) for name in board.results if any(row["model"] == name for row in rows)))
    counts = {name: sum(row["verdict"] == name for row in rows) for name in ("faster", "slower", "equivalent", "unresolved")}
    summary = formatting.listing([f"{count} {verdict}" for verdict, count in counts.items() if count])
    return finish(
        f"forest-{stem}",
        title=f"Every framework over {title_of(reference)}, {title} (further right is better)",
        sentence=f"Of {len(rows)} comparisons over {len(order)} models: {summary}.",
        note="Line: 95 % interval of the paired ratio over blocks. Band: ±2 %, inside which two are called equivalent.",
        sql=sql,
        rows=rows,
        data=data,
        draw=partial(_ratio_panels, data, order, title_of(reference)),
        wide_width=PANELS,
    )


def _ratio_panels(data: Rows, order: Sequence[str], reference: str, width: int) -> Any:
    low = min(0.95, *(row["ratio_lo"] for row in data)) * 0.97
    high = max(1.05, *(row["ratio_hi"] for row in data)) * 1.03
    ticks = [value for value in (0.0625, 0.125, 0.25, 0.5, 1, 2, 4, 8, 16) if low <= value <= high]
    across = alt.Scale(type="log", base=2, domain=[low, high], nice=False)
    x = alt.X("ratio:Q", title=f"÷ {reference} (log₂)", axis=alt.Axis(values=ticks, format="~g"), scale=across)
    base = named_lanes(data)
    near = alt.Chart().mark_rect(color="var(--chart-muted)", opacity=0.06, aria=False)
    line = base.mark_rule(strokeWidth=3).encode(x=alt.X("ratio_lo:Q"), x2=alt.X2("ratio_hi"))
    return one_panel_a_model(
        alt.layer(
            near.encode(x=alt.XDatum(0.98, scale=across), x2=alt.X2Datum(1.02)),
            line,
            dots(base, data).encode(x=x),
            data=alt.NamedData("rows"),
        ),
        data,
        order,
        width,
    )


def starts(board: Leaderboard, tables: Sequence[TableKey]) -> Chart | None:
    """Every process start: the time until the worker was ready, and the part of it that loaded the model."""
    sql = f"""
SELECT runs.model, arms.framework, arm_id, start,
       spawn_ns / 1e6 AS spawn_ms, load_ns / 1e6 AS load_ms, first_ns / 1e6 AS first_ms, second_ns / 1e6 AS second_ms
FROM starts JOIN arms USING (run_id, arm_id) JOIN runs USING (run_id)
JOIN measured USING (run_id, arm_id)
WHERE (run_id, measured.scenario, measured.precision) IN {among(tables)}
  AND arms.variant = 'default' AND spawn_ns IS NOT NULL
ORDER BY runs.model, arms.framework, arm_id, start"""
    rows = board.query(sql)
    if not rows:
        return None
    data = rounded([{**row, "title": board.model_title(row["model"]), "arm": board.framework_title(row["framework"])} for row in rows])
    order = list(dict.fromkeys(board.model_title(name) for name in board.results if any(row["model"] == name for row in rows)))
    soonest = min(data, key=lambda row: row["spawn_ms"])
    return finish(
        "starts",
        title="From starting the process to ready (lower is better)",
        sentence=f"The soonest of all: {soonest['arm']} with {soonest['title']}, {formatting.number(soonest['spawn_ms'], 0)} ms.",
        note="Filled shape: a process start until the worker is ready, with its first and second call. Tick: loading the model alone. "
        "Each panel has its own scale.",
        sql=sql,
        rows=rows,
        data=data,
        draw=partial(_start_panels, data, order),
        wide_width=PANELS,
    )


def _start_panels(data: Rows, order: Sequence[str], width: int) -> Any:
    base = named_lanes(data)
    x = alt.X("spawn_ms:Q", title="ms", scale=alt.Scale(zero=True), axis=alt.Axis(tickCount=4))
    loads = base.mark_tick(thickness=2, height=12, opacity=0.8).encode(x=alt.X("load_ms:Q"))
    layered = alt.layer(loads, dots(base, data).encode(x=x), data=alt.NamedData("rows"))
    return one_panel_a_model(layered, data, order, width).resolve_scale(x="independent")
