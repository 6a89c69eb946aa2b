"""Speed against the retrieval quality that lower precisions keep."""

from __future__ import annotations

from functools import partial
from typing import Any

import altair as alt

from bench.core import formatting
from site_src.charts.chart import NARROW, Chart, Rows, finish, literal, literals, rounded
from site_src.charts.parts import Selection, dots, frameworks, scale_of

HEIGHT = 270


def speed_and_quality(selection: Selection, full: str) -> Chart | None:
    """Rows per second against the quality kept, a point per arm, with the Pareto front.

    Arms in the precision `full` are drawn at 1: the correctness gate has shown that their vectors are the reference's.
    """
    sql = f"""
SELECT *
FROM speed_and_quality(
  [{literals(selection.run_ids)}],
  [{literals(selection.arm_ids)}],
  {literal(selection.scenario)}, {literal(full)})
ORDER BY rows_per_s, arm_id"""
    rows = selection.board.query(sql)
    if len({row["kept"] for row in rows}) < 2:
        return None
    data, title_of = rounded(rows), selection.board.framework_title
    for row in data:
        row["label"] = f"{row['precision']} · {row['variant']}" if row["variant"] != "default" else row["precision"]
    front = [row for row in data if row["on_front"]]
    fastest, best = front[-1], max(data, key=lambda row: (row["precision"] == full, row["rows_per_s"]))
    return finish(
        f"quality-{selection.stem}",
        title=f"Speed against quality kept, {selection.title} (up and right is better)",
        sentence=f"The fastest of all, {title_of(fastest['framework'])} in {fastest['label']}, gives "
        f"{formatting.number(fastest['rows_per_s'])} rows per second and keeps {formatting.number(fastest['kept'], 3)} of the quality; "
        f"the fastest in {full}, {title_of(best['framework'])}, gives {formatting.number(best['rows_per_s'])}.",
        note=f"Quality: nDCG at 10 over that of {full} on the same queries, its 95 % interval as a line. Dotted, with names: the arms that "
        "no other beats in both.",
        sql=sql,
        rows=rows,
        data=data,
        draw=partial(_points, data),
        frameworks=frameworks(data),
    )


def _points(data: Rows, width: int) -> Any:
    """A point per arm with its interval; along the front a dotted line with labels."""
    low = min(row["lo"] if row["lo"] is not None else row["kept"] for row in data)
    high = max(row["hi"] if row["hi"] is not None else row["kept"] for row in data)
    margin = (high - low) * 0.1
    top = max(row["rows_per_s"] for row in data)
    # room for the label of the last point, which stands to its right
    x_scale = alt.Scale(domain=[0, top * (1.45 if width == NARROW else 1.25)], nice=False)
    y_scale = alt.Scale(domain=[low - margin, high + margin], nice=False)
    x = alt.X("rows_per_s:Q", title="rows per second", scale=x_scale, axis=alt.Axis(tickCount=5))
    y = alt.Y("kept:Q", title="quality kept", scale=y_scale, axis=alt.Axis(tickCount=5, format=".3~f", titlePadding=12))
    base = alt.Chart(alt.NamedData("rows")).encode(x=x, color=alt.Color("framework:N", scale=scale_of(data), legend=None))
    spans = base.mark_rule(strokeWidth=1.2, opacity=0.5).encode(y=alt.Y("lo:Q", scale=y_scale), y2=alt.Y2("hi"))
    front = base.transform_filter("datum.on_front")
    edge = front.mark_line(interpolate="step-before", color="var(--chart-muted)", strokeDash=[2, 3])
    text = front.mark_text(align="left", dx=8, dy=-8).encode(y=y, text="label:N", color=alt.ColorValue("var(--chart-ink)"))
    layers = alt.layer(spans, edge.encode(y=y, color=alt.ColorValue("var(--chart-muted)")), dots(base, data).encode(y=y), text)
    return layers.properties(width=width - 60, height=HEIGHT)
