"""`/feed.xml`: an Atom feed of the newest runs."""

from __future__ import annotations

from site_src.page_writer import PageWriter

ENTRIES = 50


def write(writer: PageWriter) -> None:
    board = writer.board
    runs = [{**run, "title": board.model_title(run["model"])} for run in board.runs[:ENTRIES]]
    writer.write_template("feed.xml", "feed.xml.j2", runs=runs)
