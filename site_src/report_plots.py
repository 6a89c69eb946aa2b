"""The charts of a run for a report: those of the site's model page, in the colours of the light scheme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import catalog
from site_src.charts import chart, one_load
from site_src.charts.parts import SHOWN, Selection
from site_src.data.leaderboard import Board, open_database


@dataclass(frozen=True)
class Plot:
    """A picture: its file name, an SVG that stands alone, and the sentence that says what it shows."""

    name: str
    svg: str
    sentence: str


def draw(database: Path, run: Mapping[str, Any]) -> list[Plot]:
    """The charts of one run, of each of its served scenarios that has arms to show."""
    plots = []
    with open_database(database) as connection:
        board = Board(connection, catalog.load())
        served = board.query(
            """
            SELECT scenario, arm_id, role, status FROM leaderboard WHERE run_id = ? AND served_scenario IS NULL
            ORDER BY scenario, tie_group NULLS LAST, rank_lo NULLS LAST, requests_per_s DESC NULLS LAST, framework, variant
            """,
            [run["run_id"]],
        )
        for scenario in dict.fromkeys(row["scenario"] for row in served):
            arms = [row["arm_id"] for row in served if row["scenario"] == scenario and row["role"] == "measured" and row["status"] in SHOWN]
            selection = Selection(board, [run["run_id"]], arms, scenario, scenario)
            for of_load in (one_load.latency, one_load.load_curve, one_load.ratios):
                drawn = of_load(selection) if arms else None
                if drawn:
                    plots.append(Plot(f"{run['run_id']}-{drawn.name}.svg", chart.plain_colours(drawn.wide), drawn.sentence))
    return plots
