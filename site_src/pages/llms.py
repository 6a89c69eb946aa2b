"""`/llms.txt`: where what is, for programs that read."""

from __future__ import annotations

from site_src import formatting
from site_src.data.leaderboard import TABLES
from site_src.page_writer import Press


def write(press: Press) -> None:
    board = press.board
    models = [
        {"name": board.model_title(model), "folder": formatting.slug(model), "measured": bool(standings)}
        for model, standings in board.standings.items()
    ]
    press.plain_text("llms.txt", "llms.txt.j2", models=models, tables=TABLES, measured=bool(board.runs))
