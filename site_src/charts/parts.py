"""Parts of charts: the rows that a chart is about, lanes, points, places of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from site_src import markup
from site_src.charts.chart import NARROW, Rows, literal, literals, rounded
from site_src.charts.framework_style import scale
from site_src.data.leaderboard import Leaderboard, ModelResults, Table


@dataclass(frozen=True)
class Selection:
    """The rows that a chart is about: some arms of some runs under one load.

    Attributes:
        title: the load for people.
    """

    board: Leaderboard
    run_ids: Sequence[str]
    arm_ids: Sequence[str]
    scenario: str
    title: str

    @classmethod
    def of_table(cls, board: Leaderboard, results: ModelResults, table: Table) -> Selection:
        """The arms in `table.rows`."""
        arms = [row["arm_id"] for row in table.rows]
        return cls(board, [run["run_id"] for run in results.runs], arms, table.scenario, table.title)

    @classmethod
    def across_precisions(cls, board: Leaderboard, results: ModelResults, table: Table) -> Selection:
        """The arms of every precision under the load of `table`, each recipe of a lower precision among them."""
        rows = [row for other in results.served if other.scenario == table.scenario for row in other.across_recipes(table.precision)]
        return cls(board, [run["run_id"] for run in results.runs], [row["arm_id"] for row in rows], table.scenario, table.title)

    @property
    def stem(self) -> str:
        """The scenario as a part of a file name."""
        return markup.slug(self.scenario)

    @property
    def arms(self) -> str:
        """An SQL condition: these runs and arms."""
        return f"run_id IN ({literals(self.run_ids)})\n  AND arm_id IN ({literals(self.arm_ids)})"

    @property
    def where(self) -> str:
        """An SQL condition: these runs and arms in this scenario."""
        return f"{self.arms}\n  AND scenario = {literal(self.scenario)}"


def with_names(board: Leaderboard, rows: Rows) -> list[dict[str, Any]]:
    """The rows, rounded, with a column `arm`: the name that a chart prints."""
    return rounded([{**row, "arm": board.arm_title(row["arm_id"])} for row in rows])


def frameworks(rows: Rows) -> tuple[str, ...]:
    """The frameworks of the rows, each once, in their order."""
    return tuple(dict.fromkeys(row["framework"] for row in rows))


def scale_of(rows: Rows) -> alt.Scale:
    """The colours of the rows' frameworks."""
    return scale([row["framework"] for row in rows])["color"]


def room(names: Sequence[str]) -> int:
    """Pixels to reserve for names at 12 px. Vega measures text with a narrower typeface than the reader may have."""
    return 12 + round(7.1 * max(map(len, names)))


def lanes(data: Rows, width: int) -> tuple[alt.Chart, dict[str, int]]:
    """A chart with one horizontal lane per arm, in the order of the rows, and its width and height. On phones names stand above lanes."""
    narrow = width == NARROW
    order = list(dict.fromkeys(row["arm"] for row in data))
    beside = room(order)
    place = {"labelAlign": "left", "labelPadding": -6, "labelOffset": -17} if narrow else {"minExtent": beside}
    axis = alt.Axis(labelColor="var(--chart-ink)", labelFontSize=12, ticks=False, domain=False, labelLimit=400, zindex=1, **place)
    chart = alt.Chart(alt.NamedData("rows")).encode(
        y=alt.Y("arm:N", sort=order, title=None, axis=axis), color=alt.Color("framework:N", scale=scale_of(data), legend=None)
    )
    return chart, {"width": width - (20 if narrow else beside + 15), "height": len(order) * (46 if narrow else 34)}


def panel_head() -> alt.Header:
    """How the title of each of several panels looks."""
    return alt.Header(title=None, labelColor="var(--chart-ink)", labelFontSize=12, labelAnchor="start", labelFontWeight="bold")


def dots(base: alt.Chart, data: Rows) -> alt.Chart:
    """A point per row, in the shape of its framework."""
    shapes = scale([row["framework"] for row in data])["shape"]
    return base.mark_point(filled=True, size=80, opacity=1).encode(shape=alt.Shape("framework:N", scale=shapes, legend=None))


def line_ends(data: Rows, spots: Mapping[str, float]) -> list[dict[str, Any]]:
    """Per line its name, its framework, and the position of the name on the y axis (`spots`)."""
    lasts = {row["arm"]: row for row in data}
    return [{"arm": arm, "framework": row["framework"], "spot": spots[arm]} for arm, row in lasts.items()]


def end_names(ends: Rows, scale_y: alt.Scale, colour: alt.Color, narrow: bool) -> alt.Chart:
    """The names of lines, right of their ends; on phones the ids of frameworks, which are shorter."""
    names = alt.Chart(alt.Data(values=ends)).mark_text(align="left", dx=8)
    text = alt.Text("framework:N") if narrow else "arm:N"
    return names.encode(y=alt.Y("spot:Q", scale=scale_y), x=alt.XValue("width"), text=text, color=colour)


def spread(values: Mapping[str, float], gap: float) -> dict[str, float]:
    """Positions for labels at `values` so that none covers another.

    Labels keep the order of their values and stand at least `gap` apart. Labels that would overlap form a group around their mean.
    """
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
