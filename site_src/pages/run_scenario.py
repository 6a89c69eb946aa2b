"""`/runs/<id>/<scenario>/`: one load of one run: intervals, clients, pairs and raw rows."""

from __future__ import annotations

from typing import Any

from site_src import markup, records
from site_src.data.leaderboard import Row
from site_src.data.run_record import Load, RunRecord
from site_src.page_writer import PageWriter, anchor, public_row


def write(writer: PageWriter, record: RunRecord, load: Load) -> None:
    run_id = record.run["run_id"]
    writer.write_page(
        f"runs/{markup.slug(run_id)}/{markup.slug(load.name)}",
        "run_scenario.md.j2",
        title=f"{load.title}, run {run_id}",
        section="Runs",
        description=f"{load.title} in run {run_id}: intervals, clients, pairs and raw rows",
        heading=load.title,
        run=record.run,
        results=record.results,
        tables=record.tables_of(load),
        comparisons=[pair for pair in record.comparisons if pair["scenario"] == load.name],
        rows=[raw(record, row) for row in load.rows],
    )


def raw(record: RunRecord, row: Row) -> dict[str, Any]:
    """A row as JSON, without columns that are NULL."""
    return {
        "anchor": anchor(row),
        "name": record.board.arm_title(row["arm_id"]),
        "scenario": row["scenario"],
        "status": row["status"],
        "json": records.to_lines({key: value for key, value in public_row(row).items() if value is not None}),
    }
