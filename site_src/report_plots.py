"""The charts of a run for a report: those of the site's page of a model, in the colours of the light scheme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import catalog
from bench.store.connection import open_for_reading
from site_src.charts import one_load
from site_src.charts.chart import plain_colours
from site_src.charts.parts import Selection
from site_src.data.leaderboard import Leaderboard


@dataclass(frozen=True)
class Plot:
    """One picture.

    Attributes:
        name: its file name.
        svg: an SVG that needs no stylesheet.
        sentence: what it shows.
    """

    name: str
    svg: str
    sentence: str


def draw(database: Path, run: Mapping[str, Any]) -> list[Plot]:
    """Latency, load curve and ratios of every served scenario of a run, as far as there are arms to show."""
    plots = []
    with open_for_reading(database) as connection:
        board = Leaderboard(connection, catalog.load())
        rows = board.query(
            """
            SELECT scenario, arm_id FROM measured WHERE run_id = ? AND served_scenario IS NULL
            ORDER BY scenario, tie_group NULLS LAST, rank_lo NULLS LAST, requests_per_s DESC NULLS LAST, framework, variant
            """,
            [run["run_id"]],
        )
        for scenario in dict.fromkeys(row["scenario"] for row in rows):
            arms = [row["arm_id"] for row in rows if row["scenario"] == scenario]
            selection = Selection(board, [run["run_id"]], arms, scenario, scenario)
            charts = (draw_chart(selection) for draw_chart in (one_load.latency, one_load.load_curve, one_load.ratios))
            plots += [Plot(f"{run['run_id']}-{chart.name}.svg", plain_colours(chart.wide), chart.sentence) for chart in charts if chart]
    return plots
