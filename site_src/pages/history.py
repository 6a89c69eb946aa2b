"""`/history/`: changes from run to run: a new version, or a throughput whose interval does not meet the one before."""

from __future__ import annotations

from site_src.data.leaderboard import Row
from site_src.page_writer import PageWriter

HISTORY = """
SELECT * REPLACE (epoch_us(measured_at) AS measured_at) FROM history
ORDER BY history.measured_at DESC, run_id DESC, scenario, framework, precision, variant
"""
#: The largest number of changes on the page.
MOST_CHANGES = 400


def write(writer: PageWriter) -> None:
    board = writer.board
    rows = board.query(HISTORY)
    changes = [{"row": row, "said": change, "load": board.scenario_title(row)} for row in rows if (change := change_of(row))]
    writer.write_page(
        "history",
        "history.md.j2",
        title="History",
        section="Runs",
        description="What changed from run to run: versions, and throughput beyond its interval",
        changes=changes[:MOST_CHANGES],
        rest=max(0, len(changes) - MOST_CHANGES),
        repeated=sum(row["run_before"] is not None for row in rows),
        runs=board.runs,
    )


def change_of(row: Row) -> str:
    """What changed since the run before, in words; empty if nothing did, or if there is no run before."""
    parts = []
    if row["run_before"] is not None and row["version_before"] != row["framework_version"]:
        parts.append(f"version {row['version_before'] or 'unknown'} → {row['framework_version'] or 'unknown'}")
    if row["change"] is not None:
        parts.append(f"{row['change']} than before: the intervals do not meet")
    return "; ".join(parts)
