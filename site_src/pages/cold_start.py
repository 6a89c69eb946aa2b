"""`/cold-start/`: starting a process, loading a model, and the memory that it holds."""

from __future__ import annotations

from site_src.charts import models
from site_src.page_writer import PageWriter


def write(writer: PageWriter) -> None:
    board = writer.board
    counted = board.query("SELECT run_id, arm_id, count(*) AS starts FROM starts GROUP BY ALL ORDER BY ALL")
    starts = {(row["run_id"], row["arm_id"]): row["starts"] for row in counted}
    parts, keys = [], []
    for results in board.first_results:
        table = next((table for table in results.served if table.rows), None)
        if table is None:
            continue
        keys.append(table.key)
        rows = sorted(table.rows, key=lambda row: (row["load_ms"] is None, row["load_ms"] or 0.0, row["framework"]))
        most = {name: max((row[name] or 0 for row in rows), default=0) for name in ("load_ms", "peak_rss_bytes")}
        parts.append({"results": results, "rows": rows, "starts": starts, "most": most})
    chart = models.starts(board, keys) if keys else None
    if chart:
        writer.write_chart("cold-start", chart)
    writer.write_page(
        "cold-start",
        "cold_start.md.j2",
        title="Cold start and memory",
        section="Cold start",
        description="Starting the process, loading the model, the first call, and the memory it holds",
        parts=parts,
        chart=chart,
    )
