"""`/runs/`: every run in the database."""

from __future__ import annotations

from site_src.page_writer import PageWriter


def write(writer: PageWriter) -> None:
    board = writer.board
    counted = board.query(
        "SELECT run_id, count(DISTINCT arm_id) AS arms, count(DISTINCT arm_id) FILTER (status <> 'OK') AS not_ok"
        " FROM leaderboard GROUP BY run_id ORDER BY run_id"
    )
    counts = {run["run_id"]: {"arms": 0, "not_ok": 0} for run in board.runs} | {row["run_id"]: row for row in counted}
    writer.write_page(
        "runs/index", "runs.md.j2", title="Runs", section="Runs", description="Every run in the database", runs=board.runs, counts=counts
    )
