"""`/feed.xml`: an Atom feed of the newest runs."""

from __future__ import annotations

from site_src.page_writer import Press

ENTRIES = 50


def write(press: Press) -> None:
    board = press.board
    runs = [{**run, "title": board.model_title(run["model"])} for run in board.runs[:ENTRIES]]
    press.plain_text("feed.xml", "feed.xml.j2", runs=runs)
