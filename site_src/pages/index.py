"""`/`: what to take for each model, and what is not measured yet."""

from __future__ import annotations

from typing import Any

from site_src import formatting, sentences
from site_src.charts import chart as drawing
from site_src.charts import models
from site_src.data import operating_points
from site_src.data.leaderboard import Board, Standing, shown
from site_src.page_writer import Press


def write(press: Press) -> None:
    board = press.board
    lines: list[dict[str, Any]] = []
    waiting: list[dict[str, str]] = []
    for model, standings in board.standings.items():
        facts = sentences.model_facts(board.catalog.models.get(model))
        best = standings[0] if standings else None
        lead = best.headline if best else []
        if best is None or not lead:
            waiting.append({"model": model, "facts": facts})
            continue
        limits = operating_points.limits(board, best)
        lines.append(
            {
                "model": model,
                "facts": facts,
                "best": best,
                "verdict": sentences.verdict(board, lead[0]),
                "answers": sentences.answers(board, best, lead, limits),
                "no_limit": "not measured" if limits is None else "no limit kept" if limits.smallest_met is None else "",
                "failed": [row for row in lead[0].failed if not shown(row)],
                "id": formatting.ident(f"{lead[0].scenario}-{lead[0].precision}"),
            }
        )
    chart = alone_and_together(board, [line["best"] for line in lines])
    if chart:
        press.chart("index", chart)
    machines = {line["best"].machine: None for line in lines}
    press.page(
        "index",
        "index.md.j2",
        title="Embedding models on CPU",
        section="Overview",
        description="Which framework should serve an embedding model on a CPU, measured over six frameworks",
        lines=lines,
        questions=sentences.QUESTIONS,
        chart=chart,
        machines=list(machines),
        unranked=bool(lines) and not any(answer.leaders and not answer.flag for line in lines for answer in line["answers"][1:3] if answer),
        waiting=waiting,
    )


def alone_and_together(board: Board, standings: list[Standing]) -> drawing.Chart | None:
    """A Pareto panel per model: the headline of single requests against the headline of batches."""
    alone, together = [], []
    for standing in standings:
        lead = standing.headline
        if len(lead) == 2 and all(table.rows and not table.mixed for table in lead):
            alone.append(lead[0].key)
            together.append(lead[1].key)
    return models.panels(board, alone, together) if alone else None
