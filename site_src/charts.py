"""The charts. Each is drawn from nothing but the rows of its own query, which is printed below it.

To add one: a function here that returns a Chart (or None where there is nothing to draw), and a line where the page asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from site_src import form
from site_src.board import Board
from site_src.drawing import NARROW, Chart, Rows, finish, labels, literal, literals, rounded
from site_src.marks import scale

SHOWN = "role = 'measured' AND status IN ('OK', 'PARTIAL')"


@dataclass(frozen=True)
class Selection:
    """The rows that a chart is about: arms of runs in one scenario."""

    board: Board
    run_ids: Sequence[str]
    arm_ids: Sequence[str]
    scenario: str
    title: str

    @property
    def stem(self) -> str:
        return form.slug(self.scenario)

    @property
    def arms(self) -> str:
        """The condition on run and arm."""
        return f"run_id IN ({literals(self.run_ids)})\n  AND arm_id IN ({literals(self.arm_ids)})"

    @property
    def where(self) -> str:
        return f"{self.arms}\n  AND scenario = {literal(self.scenario)} AND {SHOWN}"


def latency(chosen: Selection) -> Chart | None:
    """Percentiles of one scenario, a row per arm: p50 with its interval, p90, p95, and p99 where it can be printed."""
    sql = f"""
SELECT framework, arm_id, precision, variant, n, p50_lo_ms, p50_ms, p50_hi_ms,
       nullif(p90_ms, 'Infinity') AS p90_ms, nullif(p95_ms, 'Infinity') AS p95_ms, nullif(p99_ms, 'Infinity') AS p99_ms
FROM leaderboard
WHERE {chosen.where} AND isfinite(p50_ms)
ORDER BY p50_ms, arm_id"""
    rows = chosen.board.query(sql)
    if not rows:
        return None
    data = named(chosen.board, rows)
    for row in data:
        row["last"] = next(row[name] for name in ("p99_ms", "p95_ms", "p90_ms", "p50_ms") if row[name] is not None)
        row["label"] = form.number(row["p50_ms"]) + (f" · p99 {form.number(row['p99_ms'])}" if row["p99_ms"] is not None else "")
    end = max(row["last"] for row in data)

    def draw(width: int) -> Any:
        base, size = lanes(data, width)
        beyond = 1.42 if width == NARROW else 1.35  # room for the label right of the last mark
        x = alt.X("p50_ms:Q", title="latency, ms", scale=alt.Scale(domain=[0, end * beyond], nice=False), axis=alt.Axis(tickCount=5))
        line = base.mark_rule(strokeWidth=1.5).encode(x=x, x2=alt.X2("last"))
        band = base.mark_rule(strokeWidth=8, opacity=0.3).encode(x=alt.X("p50_lo_ms:Q"), x2=alt.X2("p50_hi_ms"))
        ticks = [base.mark_tick(thickness=2, height=11).encode(x=alt.X(f"{name}:Q")) for name in ("p90_ms", "p95_ms")]
        known = any(row["p99_ms"] is not None for row in data)
        ring = base.mark_point(size=55, fill="var(--md-default-bg-color)", strokeWidth=2, opacity=1, shape="circle").encode(
            x=alt.X("p99_ms:Q")
        )
        text = base.mark_text(align="left", dx=10).encode(
            x=alt.X("last:Q"), text=alt.Text("label:N"), color=alt.ColorValue("var(--chart-ink)")
        )
        return alt.layer(line, band, *ticks, *([ring] if known else []), dots(base, data).encode(x=x), text).properties(**size)

    best, worst = data[0], data[-1]
    sentence = f"{best['arm']} has the lowest median latency, {form.number(best['p50_ms'])} ms (n = {form.count(best['n'])})"
    if len(data) > 1:
        sentence += f"; {worst['arm']} the highest, {form.number(worst['p50_ms'])} ms (n = {form.count(worst['n'])})"
    return finish(
        f"latency-{chosen.stem}",
        title=f"Latency, {chosen.title} (lower is better)",
        sentence=sentence + ".",
        note="Filled shape: p50, its 95 % interval as a band. Ticks: p90 and p95. Ring: p99, absent where too few samples stand behind it.",
        sql=sql,
        rows=rows,
        data=data,
        draw=draw,
    )


def load_curve(chosen: Selection) -> Chart | None:
    """Throughput against closed-loop latency over the numbers of clients that were derived from one served scenario."""
    sql = f"""
SELECT framework, arm_id, precision, variant, clients, n, p50_ms, p99_ms, requests_per_s
FROM leaderboard
WHERE {chosen.arms}
  AND coalesce(served_scenario, scenario) = {literal(chosen.scenario)} AND {SHOWN} AND isfinite(p50_ms)
ORDER BY framework, arm_id, clients"""
    rows = chosen.board.query(sql)
    if len({row["clients"] for row in rows}) < 2:
        return None
    data = named(chosen.board, rows)
    scales = scale([row["framework"] for row in rows])
    height, top = 250, max(row["requests_per_s"] for row in data) * 1.12
    lasts = {row["arm"]: row for row in data}  # the row of most clients of each arm, since rows are sorted by clients
    spots = spread({arm: row["requests_per_s"] for arm, row in lasts.items()}, gap=top * 14 / height)
    ends = [{**row, "spot": spots[arm]} for arm, row in lasts.items()]
    fastest = max(lasts.values(), key=lambda row: row["requests_per_s"])
    top_line = [row for row in data if row["arm"] == fastest["arm"]]
    limit = max(row["p50_ms"] for row in data)

    def draw(width: int) -> Any:
        narrow = width == NARROW
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
        names = alt.Chart(alt.Data(values=ends)).mark_text(align="left", dx=8)
        return alt.layer(
            line,
            dots(base, data),
            counts.encode(x=x, y=y, text=alt.Text("clients:N")),
            names.encode(
                y=alt.Y("spot:Q", scale=scale_y), x=alt.XValue("width"), text=alt.Text("framework:N") if narrow else "arm:N", color=colour
            ),
        ).properties(width=width - 45 - room([row["framework" if narrow else "arm"] for row in ends]), height=height)

    return finish(
        f"clients-{chosen.stem}",
        title="Throughput against closed-loop latency (up and left is better)",
        sentence=f"{fastest['arm']} serves the most, {form.number(fastest['requests_per_s'])} requests per second; from "
        f"{top_line[0]['clients']} to {top_line[-1]['clients']} clients its median latency goes from "
        f"{form.number(top_line[0]['p50_ms'])} to {form.number(top_line[-1]['p50_ms'])} ms.",
        note="Each point is a number of closed-loop clients, written above the top line. Requests are served one at a time, so more "
        "clients wait longer and throughput stays as it is.",
        sql=sql,
        rows=rows,
        data=data,
        draw=draw,
    )


def ratios(chosen: Selection) -> Chart | None:
    """Each arm over the best one, with the interval of the paired comparison, on a log2 axis.

    The best arm is the one that stands at exactly 1; a paired estimate beside it may lie a little above.
    """
    sql = f"""
SELECT framework, arm_id, precision, variant, blocks, ratio_lo, ratio_to_best, ratio_hi
FROM leaderboard
WHERE {chosen.where} AND ratio_to_best IS NOT NULL
ORDER BY ratio_to_best = 1 DESC, ratio_to_best DESC, arm_id"""
    rows = chosen.board.query(sql)
    if len(rows) < 2:
        return None
    data = named(chosen.board, rows)
    for row in data:
        row["label"] = form.number(row["ratio_to_best"], 2)
    low = min(min(row["ratio_lo"] or row["ratio_to_best"] for row in data) * 0.9, 0.5)
    high = max(max(row["ratio_hi"] or row["ratio_to_best"] for row in data) * 1.05, 1.1)

    def draw(width: int) -> Any:
        base, size = lanes(data, width)
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
        return alt.layer(one, line, dots(base, data).encode(x=x), text).properties(**size)

    last = data[-1]
    return finish(
        f"ratios-{chosen.stem}",
        title=f"Throughput over the best, {chosen.title} (higher is better)",
        sentence=f"{last['arm']} reaches {form.number(last['ratio_to_best'], 2)} of {data[0]['arm']}, the best "
        f"(over {last['blocks']} blocks).",
        note="Line: 95 % interval of the paired ratio over blocks. The best arm stands at 1.",
        sql=sql,
        rows=rows,
        data=data,
        draw=draw,
    )


def ecdf(chosen: Selection) -> Chart | None:
    """The share of requests answered within a time, as 201 quantiles per arm, aggregated in the database."""
    sql = f"""
SELECT framework, arm_id, precision, variant, n, unnest(range(0, 201)) / 200 AS share, unnest(quantiles) AS service_ms
FROM (
  SELECT framework, arm_id, precision, variant, count(*) AS n,
         quantile_disc((end_ns - start_ns) / 1e6, list_transform(range(0, 201), lambda i: i / 200)) AS quantiles
  FROM samples JOIN arms USING (run_id, arm_id)
  WHERE {chosen.arms}
  AND scenario = {literal(chosen.scenario)}
  GROUP BY ALL)
ORDER BY framework, arm_id, share"""
    rows = chosen.board.query(sql)
    if not rows:
        return None
    data = [{name: row[name] for name in ("framework", "arm", "share", "service_ms")} for row in named(chosen.board, rows)]
    scales = scale([row["framework"] for row in rows])
    body = [row["service_ms"] for row in data if row["share"] <= 0.995]

    def draw(width: int) -> Any:
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

    fewest = min(row["n"] for row in rows)
    return finish(
        f"ecdf-{chosen.stem}",
        title=f"Distribution of service time, {chosen.title} (left is better)",
        sentence=f"The share of requests served within a time, at least {form.count(fewest)} requests per line.",
        note="A steep line is steady. The slowest half percent lies beyond the right edge. Requests of one batch share their time.",
        sql=sql,
        rows=rows,
        data=data,
        draw=draw,
        frameworks=frameworks(rows),
    )


def pareto(chosen: Selection, batched: str, batched_title: str, stem: str) -> Chart | None:
    """One request alone against many together: who is good at both."""
    sql = f"""
WITH pairs AS (
  SELECT alone.framework, arm_id, alone.precision, alone.variant, alone.p50_ms, many.requests_per_s AS rows_per_s
  FROM leaderboard AS alone JOIN leaderboard AS many USING (run_id, arm_id)
  WHERE run_id IN ({literals(chosen.run_ids)}) AND arm_id IN ({literals(chosen.arm_ids)})
    AND alone.scenario = {literal(chosen.scenario)} AND many.scenario = {literal(batched)}
    AND alone.status IN ('OK', 'PARTIAL') AND many.status IN ('OK', 'PARTIAL'))
SELECT *, NOT EXISTS (
  SELECT 1 FROM pairs AS other
  WHERE other.p50_ms <= pairs.p50_ms AND other.rows_per_s >= pairs.rows_per_s
    AND (other.p50_ms < pairs.p50_ms OR other.rows_per_s > pairs.rows_per_s)) AS beaten_by_none
FROM pairs
WHERE isfinite(p50_ms) AND rows_per_s IS NOT NULL
ORDER BY p50_ms, arm_id"""
    rows = chosen.board.query(sql)
    if len(rows) < 2:
        return None
    data = named(chosen.board, rows)
    best = [row for row in data if row["beaten_by_none"]]
    right, top = max(row["p50_ms"] for row in data) * 1.15, max(row["rows_per_s"] for row in data) * 1.15
    height = 190
    spots = spread({row["arm"]: row["rows_per_s"] for row in data}, gap=top * 13 / height)
    for row in data:
        row["spot"] = spots[row["arm"]]

    def draw(width: int) -> Any:
        wide = width - (85 if width == NARROW else 150)
        x = alt.X("p50_ms:Q", title="median latency alone, ms", scale=alt.Scale(domain=[0, right], nice=False), axis=alt.Axis(tickCount=5))
        scale_y = alt.Scale(domain=[0, top], nice=False)
        y = alt.Y("rows_per_s:Q", title="rows per second together", scale=scale_y, axis=alt.Axis(tickCount=4))
        base = alt.Chart(alt.NamedData("rows")).encode(x=x, color=alt.Color("framework:N", scale=scale_of(data), legend=None))
        names = base.mark_text(align="left", dx=9).encode(y=alt.Y("spot:Q", scale=scale_y), text=alt.Text("framework:N"))
        edge = alt.Chart(alt.Data(values=best)).mark_line(interpolate="step-after", color="var(--chart-muted)", strokeDash=[2, 3])
        return alt.layer(edge.encode(x=x, y=y), dots(base, data).encode(y=y), names).properties(width=wide, height=height)

    return finish(
        f"alone-and-together-{stem}",
        title="One request alone, many together (up and left is better)",
        sentence=f"Beaten by none in both: {form.listing([row['arm'] for row in best])}.",
        note=f"Across: {chosen.title}. Upwards: {batched_title}. Dotted: the arms that no other beats in both.",
        sql=sql,
        rows=rows,
        data=data,
        draw=draw,
    )


VERDICTS = {
    "faster": ("var(--fw-onnx-python)", "triangle-right"),
    "equivalent": ("var(--chart-ink)", "square"),
    "unresolved": ("var(--chart-muted)", "circle"),
}


def forest(chosen: Selection, stem: str) -> Chart | None:
    """Every pair of arms of one scenario, the better one first: the paired ratio with its interval, log2 from 1."""
    sql = f"""
WITH pairs AS (
  SELECT * FROM comparisons
  WHERE run_id IN ({literals(chosen.run_ids)}) AND scenario = {literal(chosen.scenario)}
    AND arm_a IN ({literals(chosen.arm_ids)})
    AND arm_b IN ({literals(chosen.arm_ids)})
    AND ratio > 0 AND ratio_lo > 0 AND ratio_hi > 0
), turned AS (
  SELECT run_id, arm_a AS first, arm_b AS second, blocks, quantity, ratio_lo, ratio, ratio_hi, verdict FROM pairs WHERE ratio >= 1
  UNION ALL
  SELECT run_id, arm_b, arm_a, blocks, quantity, 1 / ratio_hi, 1 / ratio, 1 / ratio_lo,
         CASE verdict WHEN 'slower' THEN 'faster' WHEN 'faster' THEN 'slower' ELSE verdict END FROM pairs WHERE ratio < 1
)
SELECT one.framework, two.framework AS other, first AS arm_id, second, blocks, quantity, ratio_lo, ratio, ratio_hi, verdict
FROM turned
JOIN arms AS one ON one.run_id = turned.run_id AND one.arm_id = first
JOIN arms AS two ON two.run_id = turned.run_id AND two.arm_id = second
ORDER BY ratio DESC, first, second"""
    rows = chosen.board.query(sql)
    if not rows:
        return None
    title = chosen.board.framework_title
    data = rounded([{**row, "arm": f"{title(row['framework'])} ÷ {title(row['other'])}"} for row in rows])
    low = min(0.97, *(row["ratio_lo"] for row in data)) * 0.99
    high = max(1.1, *(row["ratio_hi"] for row in data)) * 1.03

    def draw(width: int) -> Any:
        base, size = lanes(data, width)
        ticks = [value for value in (0.5, 0.71, 1, 1.19, 1.41, 2, 2.83, 4, 8, 16, 32) if low <= value <= high]
        ticks = [value for value in ticks if value not in (1.19, 2.83) or high < 2.2]
        x = alt.X(
            "ratio:Q",
            title="first ÷ second (log₂)",
            scale=alt.Scale(type="log", base=2, domain=[low, high], nice=False),
            axis=alt.Axis(values=ticks, format="~g"),
        )
        names = list(VERDICTS)
        sure = alt.Color("verdict:N", legend=None, scale=alt.Scale(domain=names, range=[VERDICTS[name][0] for name in names]))
        shape = alt.Shape("verdict:N", legend=None, scale=alt.Scale(domain=names, range=[VERDICTS[name][1] for name in names]))
        near = alt.Chart(alt.Data(values=[{"lo": 0.98, "hi": 1.02}])).mark_rect(color="var(--chart-band)")
        line = base.mark_rule(strokeWidth=2).encode(x=alt.X("ratio_lo:Q"), x2=alt.X2("ratio_hi"), color=sure)
        dot = base.mark_point(filled=True, size=50, opacity=1).encode(x=x, color=sure, shape=shape)
        height = size["height"] * (0.8 if width == NARROW else 0.62)
        return alt.layer(near.encode(x=alt.X("lo:Q"), x2=alt.X2("hi")), line, dot).properties(width=size["width"], height=height)

    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in VERDICTS}
    told = form.listing([f"{n} {verdict}" for verdict, n in counts.items() if n])
    return finish(
        f"pairs-{stem}",
        title=f"Pairs, {chosen.title} (further right: the first leads by more)",
        sentence=f"{len(rows)} pairs, the better one first: {told}.",
        note="Line: 95 % interval. Band: ±2 %, inside which two are called equivalent. Triangle: shown to be faster; square: equivalent; "
        "circle: unresolved.",
        sql=sql,
        rows=rows,
        data=data,
        draw=draw,
    )


def starts(board: Board, run_ids: Sequence[str], arm_ids: Sequence[str], stem: str) -> Chart | None:
    """Every process start of the chosen arms: from spawning the process to the end of its first call."""
    sql = f"""
SELECT framework, arm_id, precision, variant, start,
       spawn_ns / 1e6 AS spawn_ms, load_ns / 1e6 AS load_ms, first_ns / 1e6 AS first_ms, second_ns / 1e6 AS second_ms
FROM starts JOIN arms USING (run_id, arm_id)
WHERE run_id IN ({literals(run_ids)})
  AND arm_id IN ({literals(arm_ids)}) AND role = 'measured' AND spawn_ns IS NOT NULL
ORDER BY min(spawn_ns) OVER (PARTITION BY arm_id), arm_id, start"""
    rows = board.query(sql)
    if not rows:
        return None
    data = named(board, rows)
    end = max(row["spawn_ms"] for row in data)

    def draw(width: int) -> Any:
        base, size = lanes(data, width)
        x = alt.X("spawn_ms:Q", title="ms", scale=alt.Scale(domain=[0, end * 1.05], nice=False), axis=alt.Axis(tickCount=5))
        loads = base.mark_tick(thickness=2, height=12, opacity=0.8).encode(x=alt.X("load_ms:Q"))
        return alt.layer(loads, dots(base, data).encode(x=x)).properties(**size)

    best = data[0]
    return finish(
        f"starts-{stem}",
        title="From starting the process to ready (lower is better)",
        sentence=f"{best['arm']} was ready soonest: {form.number(best['spawn_ms'], 0)} ms after its process was started.",
        note="Filled shape: a process start until the worker is ready, with its first and second call. Tick: loading the model alone.",
        sql=sql,
        rows=rows,
        data=data,
        draw=draw,
    )


def named(board: Board, rows: Rows) -> list[dict[str, Any]]:
    """The rows with `arm`, the name that a chart prints, and rounded."""
    names = labels(board, rows)
    return rounded([{**row, "arm": names[row["arm_id"]]} for row in rows])


def frameworks(rows: Rows) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row["framework"] for row in rows))


def scale_of(rows: Rows) -> alt.Scale:
    return scale([row["framework"] for row in rows])["color"]


def room(names: Sequence[str]) -> int:
    """Pixels that names of 12 px take in a wide typeface: Vega measures with a narrower one than the reader may have."""
    return 12 + round(7.1 * max(map(len, names)))


def lanes(data: Rows, width: int) -> tuple[alt.Chart, dict[str, int]]:
    """A chart with one lane per arm, in the order of the rows, and its size. On phones a name stands above its lane."""
    narrow = width == NARROW
    order = list(dict.fromkeys(row["arm"] for row in data))
    beside = room(order)
    place = {"labelAlign": "left", "labelPadding": -6, "labelOffset": -17} if narrow else {"minExtent": beside}
    axis = alt.Axis(labelColor="var(--chart-ink)", labelFontSize=12, ticks=False, domain=False, labelLimit=400, zindex=1, **place)
    chart = alt.Chart(alt.NamedData("rows")).encode(
        y=alt.Y("arm:N", sort=order, title=None, axis=axis), color=alt.Color("framework:N", scale=scale_of(data), legend=None)
    )
    return chart, {"width": width - (20 if narrow else beside + 15), "height": len(order) * (46 if narrow else 34)}


def dots(base: alt.Chart, data: Rows) -> alt.Chart:
    """The framework's own filled shape."""
    shapes = scale([row["framework"] for row in data])["shape"]
    return base.mark_point(filled=True, size=80, opacity=1).encode(shape=alt.Shape("framework:N", scale=shapes, legend=None))


def spread(values: Mapping[str, float], gap: float) -> dict[str, float]:
    """Where labels go so that none covers another: in order of value, at least `gap` apart, each crowd around its own centre."""
    groups: list[tuple[list[str], float]] = []
    for name, value in sorted(values.items(), key=lambda item: (item[1], item[0])):
        groups.append(([name], value))
        while len(groups) > 1:
            (low_names, low), (high_names, high) = groups[-2:]
            both = len(low_names) + len(high_names)
            if high - low >= gap * both / 2:
                break
            groups[-2:] = [(low_names + high_names, (low * len(low_names) + high * len(high_names)) / both)]
    return {name: centre + gap * (i - (len(names) - 1) / 2) for names, centre in groups for i, name in enumerate(names)}
