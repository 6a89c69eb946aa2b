"""`/frameworks/<framework>/`: one framework over all models: current rows, version, settings as read back, history."""

from __future__ import annotations

from typing import Any

from bench.catalog import Framework
from site_src import markup, records, sentences
from site_src.data.leaderboard import Leaderboard, Row, is_shown
from site_src.page_writer import PageWriter


def write(writer: PageWriter, entry: Framework) -> None:
    board = writer.board
    rows: list[dict[str, Any]] = []
    for by_machine in board.results.values():
        for results in by_machine:
            for table in results.served:
                own = [row for row in (*table.rows, *table.variants, *table.failed, *table.floors) if row["framework"] == entry.name]
                rows += [{"row": row, "title": table.title, "mixed": table.mixed, "shown": is_shown(row)} for row in own]
    newest = newest_start(board, entry)
    writer.write_page(
        f"frameworks/{markup.slug(entry.name)}",
        "framework.md.j2",
        title=entry.title,
        section="Frameworks",
        description=f"{entry.title} over all models: ratio to the best, settings, versions, history",
        framework=entry,
        summary=sentences.framework_summary(board, entry, [item["row"] for item in rows if item["shown"] and not item["mixed"]]),
        rows=rows,
        history=history(board, entry),
        version=records.flatten(records.parse(newest.get("version_json"))),
        settings=records.flatten(records.parse(newest.get("settings_json"))),
    )


def history(board: Leaderboard, entry: Framework) -> list[dict[str, Any]]:
    """The framework's measured rows of all runs, newest first."""
    return board.query(
        "SELECT * REPLACE (epoch_us(measured_at) AS measured_at) FROM leaderboard WHERE framework = ? AND served_scenario IS NULL"
        " AND status IN ('OK', 'PARTIAL') AND role IN ('measured', 'floor') AND requests_per_s IS NOT NULL"
        " ORDER BY leaderboard.measured_at DESC, run_id DESC, scenario, precision, variant",
        [entry.name],
    )


def newest_start(board: Leaderboard, entry: Framework) -> Row:
    """Version and settings that the framework reported in its newest run; empty if it never started."""
    rows = board.query(
        "SELECT version_json, settings_json FROM arms JOIN runs USING (run_id) WHERE framework = ? AND version_json IS NOT NULL"
        " AND role IN ('measured', 'floor') ORDER BY measured_at DESC, run_id DESC, variant LIMIT 1",
        [entry.name],
    )
    return rows[0] if rows else {}
