"""`/llms.txt`: an index of the site for language models."""

from __future__ import annotations

from bench.store.connection import TABLES
from site_src import markup
from site_src.page_writer import PageWriter


def write(writer: PageWriter) -> None:
    board = writer.board
    models = [
        {"name": board.model_title(model), "folder": markup.slug(model), "measured": bool(by_machine)}
        for model, by_machine in board.results.items()
    ]
    writer.write_template("llms.txt", "llms.txt.j2", models=models, tables=TABLES, measured=bool(board.runs))
