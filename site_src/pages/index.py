"""`/`: for each model which framework to take, and the models that are not measured yet."""

from __future__ import annotations

from typing import Any

from site_src import markup, sentences
from site_src.charts import models
from site_src.charts.chart import Chart
from site_src.data import operating_points
from site_src.data.leaderboard import Leaderboard, ModelResults, is_shown
from site_src.page_writer import PageWriter


def write(writer: PageWriter) -> None:
    board = writer.board
    lines: list[dict[str, Any]] = []
    waiting: list[dict[str, str]] = []
    for model, by_machine in board.results.items():
        facts = sentences.model_facts(board.catalog.models.get(model))
        best = by_machine[0] if by_machine else None
        headline = best.headline if best else []
        if best is None or not headline:
            waiting.append({"model": model, "facts": facts})
            continue
        points = operating_points.find(board, best)
        lines.append(
            {
                "model": model,
                "facts": facts,
                "best": best,
                "verdict": sentences.verdict(board, headline[0]),
                "answers": sentences.answers(board, best, points),
                "no_limit": "not measured" if points is None else "no limit kept" if points.smallest_met is None else "",
                "failed": [row for row in headline[0].failed if not is_shown(row)],
                "id": markup.ident(f"{headline[0].scenario}-{headline[0].precision}"),
            }
        )
    chart = alone_and_together(board, [line["best"] for line in lines])
    if chart:
        writer.write_chart("index", chart)
    machines = {line["best"].machine: None for line in lines}
    writer.write_page(
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


def alone_and_together(board: Leaderboard, models_results: list[ModelResults]) -> Chart | None:
    """The chart of single requests against batches, a panel for each model that has both."""
    alone, together = [], []
    for results in models_results:
        headline = results.headline
        if len(headline) == 2 and all(table.rows and not table.mixed for table in headline):
            alone.append(headline[0].key)
            together.append(headline[1].key)
    return models.panels(board, alone, together) if alone else None
