"""The charts over several loads of one model: latency over arrival rate, throughput over batch size, time over length × batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import altair as alt

from bench.core import formatting
from site_src import markup
from site_src.charts.chart import NARROW, Chart, Rows, finish, literals
from site_src.charts.framework_style import scale
from site_src.charts.parts import Selection, dots, end_names, line_ends, panel_head, room, spread, with_names

HEIGHT = 250


def open_loop(selection: Selection, scenarios: Sequence[str], how: str) -> Chart | None:
    """Latency over arrival rate, a line per arm: p99 if every point has one, else p50.

    Rates at which an arm's backlog grew without end are left out, so that its line ends before them.

    Args:
        how: how requests are served, for the title: "one at a time" or "batched".
    """
    where = f"""{selection.arms}
  AND scenario IN ({literals(scenarios)}) AND rate_per_s IS NOT NULL"""
    whole = selection.board.query(f"SELECT bool_and(p99_ms IS NOT NULL) AS whole FROM measured WHERE {where}")[0]["whole"]
    percentile = "p99" if whole else "p50"
    sql = f"""
SELECT framework, arm_id, precision, variant, rate_per_s, n, {percentile}_ms
FROM measured
WHERE {where} AND isfinite({percentile}_ms) AND (p99_ms IS NULL OR isfinite(p99_ms))
ORDER BY framework, arm_id, rate_per_s"""
    rows = selection.board.query(sql)
    if len({row["rate_per_s"] for row in rows}) < 2:
        return None
    data = with_names(selection.board, rows)
    column = f"{percentile}_ms"
    lasts = {row["arm"]: row for row in data}
    best = min(lasts.values(), key=lambda row: (-row["rate_per_s"], row[column]))
    return finish(
        f"open-loop-{markup.ident(how)}",
        title=f"Latency under arrivals, {how} (lower is better)",
        sentence=f"At {formatting.number(best['rate_per_s'])} arrivals per second {best['arm']} keeps the lowest {percentile}, "
        f"{formatting.number(best[column])} ms.",
        note="Requests arrive at random and do not wait for answers; latency counts from when a request was due. A line that ends early: "
        "beyond it the backlog grew without end." + ("" if whole else " The median is shown, since p99 is withheld for some of them."),
        sql=sql,
        rows=rows,
        data=data,
        draw=partial(_rate_lines, data, percentile),
    )


def _rate_lines(data: Rows, percentile: str, width: int) -> Any:
    column = f"{percentile}_ms"
    low, high = min(row[column] for row in data) * 0.8, max(row[column] for row in data) * 1.3
    lasts = {row["arm"]: math.log(row[column]) for row in data}
    spots = spread(lasts, gap=math.log(high / low) * 14 / HEIGHT)
    x = alt.X(
        "rate_per_s:Q",
        title="arrivals per second",
        scale=alt.Scale(zero=True, nice=False),
        axis=alt.Axis(format="~r", tickCount=5),
    )
    scale_y = alt.Scale(type="log", base=2, domain=[low, high], nice=False)
    y = alt.Y(f"{column}:Q", title=f"{percentile}, ms (log₂)", scale=scale_y, axis=alt.Axis(tickCount=5, format="~r"))
    return lines_over(data, width, x, y, scale_y, {arm: math.exp(spot) for arm, spot in spots.items()})


def scaling(selection: Selection, scenarios: Sequence[str]) -> Chart | None:
    """Rows per second over the number of rows that are served together, a line per arm."""
    sql = f"""
SELECT framework, arm_id, precision, variant, batch, n, requests_per_s AS rows_per_s, requests_per_s_lo AS lo, requests_per_s_hi AS hi
FROM measured
WHERE {selection.arms}
  AND scenario IN ({literals(scenarios)}) AND requests_per_s IS NOT NULL
ORDER BY framework, arm_id, batch"""
    rows = selection.board.query(sql)
    if len({row["batch"] for row in rows}) < 2:
        return None
    data = with_names(selection.board, rows)
    lasts = {row["arm"]: row for row in data}
    firsts = {row["arm"]: row for row in reversed(data)}
    best = max(lasts.values(), key=lambda row: row["rows_per_s"])
    first = firsts[best["arm"]]
    return finish(
        "scaling-batch",
        title="Throughput over batch size (higher is better)",
        sentence=f"{best['arm']} gives the most with {best['batch']} rows together, "
        f"{formatting.number(best['rows_per_s'])} rows per second, against {formatting.number(first['rows_per_s'])} with {first['batch']}.",
        note="The same rows in batches of different size, back to back; each batch is padded to its longest row.",
        sql=sql,
        rows=rows,
        data=data,
        draw=partial(_batch_lines, data),
    )


def _batch_lines(data: Rows, width: int) -> Any:
    top = max(row["rows_per_s"] for row in data) * 1.12
    batches = sorted({row["batch"] for row in data})
    x = alt.X(
        "batch:Q",
        title="rows served together (log₂)",
        scale=alt.Scale(type="log", base=2, domain=[batches[0], batches[-1]], nice=False),
        axis=alt.Axis(format="~r", values=batches),
    )
    scale_y = alt.Scale(domain=[0, top], nice=False)
    y = alt.Y("rows_per_s:Q", title="rows per second", scale=scale_y, axis=alt.Axis(tickCount=5, format="~r"))
    return lines_over(data, width, x, y, scale_y, spread({row["arm"]: row["rows_per_s"] for row in data}, gap=top * 14 / HEIGHT))


def lines_over(data: Rows, width: int, x: alt.X, y: alt.Y, scale_y: alt.Scale, spots: dict[str, float]) -> Any:
    """A line per arm with its name at the end. `spots`: arm → position of its name on the y axis, whose scale is `scale_y`."""
    narrow = width == NARROW
    scales = scale([row["framework"] for row in data])
    colour = alt.Color("framework:N", scale=scales["color"], legend=None)
    ends = line_ends(data, spots)
    base = alt.Chart(alt.NamedData("rows")).encode(x=x, y=y, color=colour, detail=alt.Detail("arm:N"))
    line = base.mark_line(strokeWidth=1.8).encode(strokeDash=alt.StrokeDash("framework:N", scale=scales["dash"], legend=None))
    names = [row["framework" if narrow else "arm"] for row in ends]
    layers = alt.layer(line, dots(base, data), end_names(ends, scale_y, colour, narrow))
    return layers.properties(width=width - 55 - room(names), height=HEIGHT)


def by_shape(selection: Selection) -> Chart | None:
    """Milliseconds per row over padded length × batch, a heat map per arm, from the samples of all loads without an arrival rate."""
    sql = f"""
SELECT framework, arm_id, precision, variant, batch, up_to_tokens, calls, ms_per_row, share_of_best
FROM shapes_compared([{literals(selection.run_ids)}], [{literals(selection.arm_ids)}])
JOIN arms USING (run_id, arm_id)
WHERE batch IN (1, 2, 4, 8, 16, 32, 64)
ORDER BY framework, arm_id, batch, up_to_tokens"""
    rows = selection.board.query(sql)
    cells = {(row["batch"], row["up_to_tokens"]) for row in rows}
    if len(cells) < 3 or len({row["arm_id"] for row in rows}) < 2:
        return None
    data = with_names(selection.board, rows)
    for row in data:
        row["label"] = formatting.number(row["ms_per_row"], formatting.decimals([row["ms_per_row"]], 2))
    won = {arm: sum(row["share_of_best"] == 1 for row in data if row["arm"] == arm) for arm in {row["arm"] for row in data}}
    winner = min(won, key=lambda arm: (-won[arm], arm))
    lengths, batches = sorted({length for _, length in cells}), sorted({batch for batch, _ in cells})
    return finish(
        "length-batch",
        title="Time per row over length × batch (lower is better, darker is nearer to the best)",
        sentence=f"{winner} is the fastest in {won[winner]} of {len(cells)} shapes, {lengths[0]} to {lengths[-1]} tokens, batches of "
        f"{batches[0]} to {batches[-1]}.",
        note="Number: median ms of a call divided by its rows, at least 3 calls. Length: the longest row of the call, to the next power of "
        "two. Only shapes that every arm served.",
        sql=sql,
        rows=rows,
        data=data,
        draw=partial(_shape_panels, len(batches)),
    )


def _shape_panels(batches: int, width: int) -> Any:
    """A heat map per arm, with as many rows as there are batch sizes."""
    columns = 1 if width == NARROW else 2
    panel = (width - 60) // columns - 45
    base = alt.Chart().encode(
        x=alt.X("up_to_tokens:O", title="padded length, up to tokens", axis=alt.Axis(labelAngle=0, domain=False, ticks=False)),
        y=alt.Y("batch:O", title="batch", axis=alt.Axis(domain=False, ticks=False)),
    )
    heat = base.mark_rect(cornerRadius=2).encode(
        color=alt.ColorValue("var(--chart-heat)"),
        opacity=alt.Opacity("share_of_best:Q", legend=None, scale=alt.Scale(type="linear", domain=[0, 1], range=[0.02, 0.55])),
    )
    text = base.mark_text(fontSize=10).encode(text=alt.Text("label:N"), color=alt.ColorValue("var(--chart-ink)"))
    layered = alt.layer(heat, text, data=alt.NamedData("rows")).properties(width=panel, height=26 * batches)
    return layered.facet(facet=alt.Facet("arm:N", header=panel_head()), columns=columns, spacing=14)
