"""`/llms.txt`: an index of the site for language models."""

from __future__ import annotations

from site_src import formatting
from site_src.data.leaderboard import TABLES
from site_src.page_writer import PageWriter


def write(writer: PageWriter) -> None:
    board = writer.board
    models = [
        {"name": board.model_title(model), "folder": formatting.slug(model), "measured": bool(by_machine)}
        for model, by_machine in board.results.items()
    ]
    writer.write_template("llms.txt", "llms.txt.j2", models=models, tables=TABLES, measured=bool(board.runs))
