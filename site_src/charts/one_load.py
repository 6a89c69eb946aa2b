"""The charts of one load of one model: percentiles, load curve, ratios, distribution.

Each chart is drawn from the rows of one query alone, which is printed below it. To add one: a function that returns a Chart, or None
where there is nothing to draw, and a line in the module of the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import altair as alt

from bench.core import formatting
from site_src.charts.chart import NARROW, Chart, Rows, finish, literal, literals, rounded
from site_src.charts.framework_style import scale
from site_src.charts.parts import Selection, dots, end_names, frameworks, lanes, line_ends, room, spread, with_names


def latency(selection: Selection) -> Chart | None:
    """Latency percentiles, a lane per arm: p50 with its interval, p90, p95, and p99 where it is not withheld."""
    sql = f"""
SELECT framework, arm_id, precision, variant, n, p50_lo_ms, p50_ms, p50_hi_ms,
       nullif(p90_ms, 'Infinity') AS p90_ms, nullif(p95_ms, 'Infinity') AS p95_ms, nullif(p99_ms, 'Infinity') AS p99_ms
FROM measured
WHERE {selection.where} AND isfinite(p50_ms)
ORDER BY p50_ms, arm_id"""
    rows = selection.board.query(sql)
    if not rows:
        return None
    data = with_names(selection.board, rows)
    for row in data:
        row["last"] = next(row[name] for name in ("p99_ms", "p95_ms", "p90_ms", "p50_ms") if row[name] is not None)
        row["label"] = formatting.number(row["p50_ms"]) + (
            f" · p99 {formatting.number(row['p99_ms'])}" if row["p99_ms"] is not None else ""
        )
    best, worst = data[0], data[-1]
    sentence = f"{best['arm']} has the lowest median latency, {formatting.number(best['p50_ms'])} ms (n = {formatting.count(best['n'])})"
    if len(data) > 1:
        sentence += f"; {worst['arm']} the highest, {formatting.number(worst['p50_ms'])} ms (n = {formatting.count(worst['n'])})"
    return finish(
        f"latency-{selection.stem}",
        title=f"Latency, {selection.title} (lower is better)",
        sentence=sentence + ".",
        note="Filled shape: p50, its 95 % interval as a band. Ticks: p90 and p95. Ring: p99, absent where too few samples stand behind it.",
        sql=sql,
        rows=rows,
        data=data,
        draw=partial(_percentile_lanes, data),
    )


def _percentile_lanes(data: Rows, width: int) -> Any:
    base, size = lanes(data, width)
    end = max(row["last"] for row in data)
    beyond = 1.42 if width == NARROW else 1.35  # room for the label right of the last mark
    x = alt.X("p50_ms:Q", title="latency, ms", scale=alt.Scale(domain=[0, end * beyond], nice=False), axis=alt.Axis(tickCount=5))
    line = base.mark_rule(strokeWidth=1.5).encode(x=x, x2=alt.X2("last"))
    band = base.mark_rule(strokeWidth=8, opacity=0.3).encode(x=alt.X("p50_lo_ms:Q"), x2=alt.X2("p50_hi_ms"))
    ticks = [base.mark_tick(thickness=2, height=11).encode(x=alt.X(f"{name}:Q")) for name in ("p90_ms", "p95_ms")]
    ring = base.mark_point(size=55, fill="var(--md-default-bg-color)", strokeWidth=2, opacity=1, shape="circle").encode(x=alt.X("p99_ms:Q"))
    rings = [ring] if any(row["p99_ms"] is not None for row in data) else []
    text = base.mark_text(align="left", dx=10).encode(x=alt.X("last:Q"), text=alt.Text("label:N"), color=alt.ColorValue("var(--chart-ink)"))
    return alt.layer(line, band, *ticks, *rings, dots(base, data).encode(x=x), text).properties(**size)


def load_curve(selection: Selection, scenarios: Sequence[str] = (), stem: str = "") -> Chart | None:
    """Throughput against median latency in closed loops, a line per arm, a point per number of clients.

    Args:
        scenarios: served scenarios with batches, whose own and derived rows are drawn; by default the rows derived from the selection's
            scenario, in which requests are served one at a time.
        stem: the end of the chart's name; by default the scenario.
    """
    batched = bool(scenarios)
    together = "\n  AND (batch > 1 OR (clients = 1 AND served_scenario IS NULL))" if batched else ""
    sql = f"""
SELECT framework, arm_id, precision, variant, clients, n, p50_ms, p99_ms, requests_per_s
FROM measured
WHERE {selection.arms}
  AND coalesce(served_scenario, scenario) IN ({literals(scenarios or [selection.scenario])})
  AND isfinite(p50_ms) AND requests_per_s IS NOT NULL{together}
ORDER BY framework, arm_id, clients"""
    rows = selection.board.query(sql)
    if len({row["clients"] for row in rows}) < 2:
        return None
    data = with_names(selection.board, rows)
    lasts = {row["arm"]: row for row in data}  # the row of most clients of each arm, since rows are sorted by clients
    fastest = max(lasts.values(), key=lambda row: row["requests_per_s"])
    top_line = [{name: row[name] for name in ("clients", "p50_ms", "requests_per_s")} for row in data if row["arm"] == fastest["arm"]]
    lead = f"With {fastest['clients']} clients " if batched else ""
    return finish(
        f"clients-{stem or selection.stem}",
        title=f"Throughput against closed-loop latency, {'batched' if batched else 'one at a time'} (up and left is better)",
        sentence=f"{lead}{fastest['arm']} serves the most, {formatting.number(fastest['requests_per_s'])} requests per second; from "
        f"{top_line[0]['clients']} to {top_line[-1]['clients']} clients its median latency goes from "
        f"{formatting.number(top_line[0]['p50_ms'])} to {formatting.number(top_line[-1]['p50_ms'])} ms.",
        note="Each point is a number of closed-loop clients, written above the top line. "
        + (
            "Requests that wait are served together, so more clients raise throughput until batches stop paying."
            if batched
            else "Requests are served one at a time, so more clients wait longer and throughput stays as it is."
        ),
        sql=sql,
        rows=rows,
        data=data,
        draw=partial(_client_lines, data, top_line),
    )


def _client_lines(data: Rows, top_line: Rows, width: int) -> Any:
    """A line per arm with its name, and the numbers of clients above the line of the fastest arm."""
    narrow, height = width == NARROW, 250
    top, limit = max(row["requests_per_s"] for row in data) * 1.12, max(row["p50_ms"] for row in data)
    scales = scale([row["framework"] for row in data])
    ends = line_ends(data, spread({row["arm"]: row["requests_per_s"] for row in data}, gap=top * 14 / height))
    colour = alt.Color("framework:N", scale=scales["color"], legend=None)
    x = alt.X(
        "p50_ms:Q",
        title="median latency, ms (log₂)",
        scale=alt.Scale(type="log", base=2, domainMax=limit, nice=False),
        axis=alt.Axis(tickCount=5, format="~r" if limit < 1e5 else "~s"),
    )
    scale_y = alt.Scale(domain=[0, top], nice=False)
    y = alt.Y("requests_per_s:Q", title="requests per second", scale=scale_y, axis=alt.Axis(tickCount=5))
    base = alt.Chart(alt.NamedData("rows")).encode(x=x, y=y, color=colour, detail=alt.Detail("arm:N"))
    line = base.mark_line(strokeWidth=1.8).encode(strokeDash=alt.StrokeDash("framework:N", scale=scales["dash"], legend=None))
    counts = alt.Chart(alt.Data(values=top_line)).mark_text(dy=-12, fontSize=10, color="var(--chart-muted)")
    return alt.layer(
        line, dots(base, data), counts.encode(x=x, y=y, text=alt.Text("clients:N")), end_names(ends, scale_y, colour, narrow)
    ).properties(width=width - 45 - room([row["framework" if narrow else "arm"] for row in ends]), height=height)


def ratios(selection: Selection) -> Chart | None:
    """The ratio of each arm to the best, with the 95 % interval of the paired comparison, on a log2 axis.

    The best arm has a ratio of exactly 1. Another arm's paired estimate may lie a little above 1.
    """
    sql = f"""
SELECT framework, arm_id, precision, variant, blocks, ratio_lo, ratio_to_best, ratio_hi
FROM measured
WHERE {selection.where} AND ratio_to_best IS NOT NULL
ORDER BY ratio_to_best = 1 DESC, ratio_to_best DESC, arm_id"""
    rows = selection.board.query(sql)
    if len(rows) < 2:
        return None
    data = with_names(selection.board, rows)
    for row in data:
        row["label"] = formatting.number(row["ratio_to_best"], 2)
    noise = noise_of(selection)
    last = data[-1]
    return finish(
        f"ratios-{selection.stem}",
        title=f"Ratio to the best, {selection.title} (higher is better)",
        sentence=f"{last['arm']} reaches {formatting.number(last['ratio_to_best'], 2)} of {data[0]['arm']}, the best "
        f"(over {last['blocks']} blocks).",
        note="Line: 95 % interval of the paired ratio over blocks. The best arm stands at 1."
        + (" Band: the noise floor, by which two copies of one worker differed (95 % interval)." if noise else ""),
        sql=sql,
        rows=rows,
        data=data,
        draw=partial(_ratio_lanes, data, noise),
    )


def _ratio_lanes(data: Rows, noise: Rows, width: int) -> Any:
    base, size = lanes(data, width)
    low = min(min(row["ratio_lo"] or row["ratio_to_best"] for row in data) * 0.9, 0.5)
    high = max(max(row["ratio_hi"] or row["ratio_to_best"] for row in data) * 1.05, 1.1)
    ticks = [value for value in (0.03125, 0.0625, 0.125, 0.25, 0.5, 0.75, 1) if value >= low]
    x = alt.X(
        "ratio_to_best:Q",
        title="ratio to the best (log₂)",
        scale=alt.Scale(type="log", base=2, domain=[low, high], nice=False),
        axis=alt.Axis(values=ticks, format="~g"),
    )
    line = base.mark_rule(strokeWidth=3).encode(x=alt.X("ratio_lo:Q"), x2=alt.X2("ratio_hi"))
    text = base.mark_text(dy=-12).encode(x=x, text=alt.Text("label:N"), color=alt.ColorValue("var(--chart-ink)"))
    one = alt.Chart(alt.Data(values=[{"at": 1}])).mark_rule(color="var(--chart-muted)", strokeDash=[3, 3]).encode(x=alt.X("at:Q"))
    floor = alt.Chart(alt.Data(values=noise)).mark_rect(color="var(--chart-band)", aria=False).encode(x=alt.X("lo:Q"), x2=alt.X2("hi"))
    return alt.layer(*([floor] if noise else []), one, line, dots(base, data).encode(x=x), text).properties(**size)


def noise_of(selection: Selection) -> list[dict[str, float]]:
    """The noise floor, [{lo, hi}]: the widest 95 % interval of the ratio of two copies of one worker (twins) in these runs.

    Taken from the selection's scenario if twins were measured there, else from another; empty without twins.
    """
    rows = selection.board.query(
        f"SELECT lo, hi FROM noise_floor WHERE run_id IN ({literals(selection.run_ids)})"
        f" ORDER BY scenario = {literal(selection.scenario)} DESC, scenario, hi / lo DESC LIMIT 1"
    )
    return [dict(row) for row in rounded(rows)]


def ecdf(selection: Selection) -> Chart | None:
    """The cumulative distribution of service time, a line of 201 quantiles per arm."""
    sql = f"""
SELECT framework, arm_id, precision, variant, n, share, service_ms
FROM service_quantiles JOIN arms USING (run_id, arm_id)
WHERE {selection.where}
ORDER BY framework, arm_id, share"""
    rows = selection.board.query(sql)
    if not rows:
        return None
    data = [{name: row[name] for name in ("framework", "arm", "share", "service_ms")} for row in with_names(selection.board, rows)]
    fewest = min(row["n"] for row in rows)
    return finish(
        f"ecdf-{selection.stem}",
        title=f"Distribution of service time, {selection.title} (left is better)",
        sentence=f"The share of requests served within a time, at least {formatting.count(fewest)} requests per line.",
        note="A steep line is steady. The slowest half percent lies beyond the right edge. Requests of one batch share their time.",
        sql=sql,
        rows=rows,
        data=data,
        draw=partial(_distribution_lines, data),
        frameworks=frameworks(rows),
    )


def _distribution_lines(data: Rows, width: int) -> Any:
    scales = scale([row["framework"] for row in data])
    body = [row["service_ms"] for row in data if row["share"] <= 0.995]
    x = alt.X(
        "service_ms:Q",
        title="service time, ms (log₂)",
        axis=alt.Axis(tickCount=6, format="~r"),
        scale=alt.Scale(type="log", base=2, domain=[min(body), max(body)], nice=False, clamp=True),
    )
    y = alt.Y("share:Q", title="share of requests", scale=alt.Scale(domain=[0, 1], nice=False), axis=alt.Axis(format="%", tickCount=5))
    lines = alt.Chart(alt.NamedData("rows")).mark_line(strokeWidth=1.8, interpolate="step-after", clip=True, aria=False)
    lines = lines.encode(
        x=x,
        y=y,
        detail=alt.Detail("arm:N"),
        color=alt.Color("framework:N", scale=scales["color"], legend=None),
        strokeDash=alt.StrokeDash("framework:N", scale=scales["dash"], legend=None),
    )
    return lines.properties(width=width - (60 if width == NARROW else 70), height=230)
