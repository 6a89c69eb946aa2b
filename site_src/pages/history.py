"""`/history/`: changes from run to run: a new version, or a throughput whose interval does not meet the one before."""

from __future__ import annotations

from site_src.page_writer import PageWriter

HISTORY = """
SELECT row.run_id, row.arm_id, row.model, row.weights, row.framework, row.framework_version, row.precision, row.variant, row.sessions,
       row.threads, row.scenario,
       row.served_scenario, row.clients, row.rate_per_s, row.machine, row.status, row.requests_per_s, row.requests_per_s_lo,
       row.requests_per_s_hi, row.p50_ms, row.n, row.tail_note, row.rank_lo, row.rank_hi, row.ranked, row.rank_note,
       epoch_us(row.measured_at) AS measured_at,
       lag(row.framework_version) OVER arm AS version_before, lag(row.requests_per_s_lo) OVER arm AS lo_before,
       lag(row.requests_per_s_hi) OVER arm AS hi_before, lag(row.run_id) OVER arm AS run_before
FROM leaderboard AS row JOIN runs USING (run_id)
WHERE row.role = 'measured' AND row.served_scenario IS NULL AND row.status IN ('OK', 'PARTIAL') AND row.requests_per_s IS NOT NULL
  AND row.variant NOT LIKE 'knob:%' AND row.rate_per_s IS NULL
WINDOW arm AS (PARTITION BY row.machine_id, row.model, row.weights, row.framework, row.precision, row.variant, row.sessions, row.threads,
               row.scenario ORDER BY row.measured_at, row.run_id)
ORDER BY row.measured_at DESC, row.run_id DESC, row.scenario, row.framework, row.precision, row.variant
"""
HISTORY_ROWS = 400


def write(writer: PageWriter) -> None:
    board = writer.board
    rows = board.query(HISTORY)
    changes = []
    for row in rows:
        if row["run_before"] is None:
            continue
        said = []
        if row["version_before"] != row["framework_version"]:
            said.append(f"version {row['version_before'] or 'unknown'} → {row['framework_version'] or 'unknown'}")
        ends = (row["requests_per_s_lo"], row["requests_per_s_hi"], row["lo_before"], row["hi_before"])
        if None not in ends and (ends[0] > ends[3] or ends[1] < ends[2]):
            said.append(
                "faster than before: the intervals do not meet" if ends[0] > ends[3] else "slower than before: the intervals do not meet"
            )
        if said:
            changes.append({"row": row, "said": "; ".join(said), "load": board.scenario_title(row)})
    writer.write_page(
        "history",
        "history.md.j2",
        title="History",
        section="Runs",
        description="What changed from run to run: versions, and throughput beyond its interval",
        changes=changes[:HISTORY_ROWS],
        rest=max(0, len(changes) - HISTORY_ROWS),
        repeated=sum(row["run_before"] is not None for row in rows),
        runs=board.runs,
    )
