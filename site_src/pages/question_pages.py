"""Pages of one question each: operating points, what a switch is worth, what changed over time."""

from __future__ import annotations

from typing import Any

from site_src import formatting
from site_src.data import operating_points
from site_src.data.leaderboard import TURNED
from site_src.page_writer import Press
from site_src.pages.model import measured_frameworks


def slo(press: Press) -> None:
    """Per model and latency limit the largest rate that each arm sustains."""
    parts, waiting = [], []
    for name, standings in press.board.standings.items():
        for standing in standings[:1]:
            found = operating_points.limits(press.board, standing)
            if found:
                parts.append({"standing": standing, "limits": found, "id": formatting.ident(f"slo-{name}")})
            else:
                waiting.append({"standing": standing, "why": operating_points.untried(standing)})
    press.page(
        "slo",
        "slo.md.j2",
        title="Operating points",
        section="Operating points",
        description="The largest rate of requests that each framework sustains within a latency limit",
        parts=parts,
        waiting=waiting,
    )


KNOBS = f"""
WITH {TURNED},
pairs AS (
  SELECT turned.*
  FROM turned JOIN arms AS one USING (run_id, arm_id)
  JOIN arms AS base ON base.run_id = turned.run_id AND base.arm_id = other_id
  WHERE one.variant LIKE 'knob:%' AND base.role = 'measured' AND base.variant NOT LIKE 'knob:%' AND base.precision = one.precision)
SELECT one.framework, substr(one.variant, 6) AS knob, row.model, row.weights, row.scenario, row.served_scenario, row.precision, row.run_id,
       row.arm_id, epoch_us(row.measured_at) AS measured_at, row.machine, row.rate_per_s, row.clients, row.status, row.reason,
       row.min_cosine, row.requests_per_s, pair.blocks, pair.quantity, pair.note, pair.ratio, pair.ratio_lo, pair.ratio_hi, pair.verdict
FROM leaderboard AS row
JOIN arms AS one ON one.run_id = row.run_id AND one.arm_id = row.arm_id
LEFT JOIN pairs AS pair ON pair.run_id = row.run_id AND pair.scenario = row.scenario AND pair.arm_id = row.arm_id
WHERE one.variant LIKE 'knob:%' AND row.role = 'measured' AND (row.served_scenario IS NULL OR row.clients IS NULL)
QUALIFY row.measured_at = max(row.measured_at) OVER (
    PARTITION BY row.machine_id, row.model, row.weights, row.scenario, row.precision, one.framework, one.variant)
ORDER BY one.framework, knob, row.model, list_position(?, row.scenario) NULLS LAST, row.run_id
"""


def knobs(press: Press) -> None:
    """What each switch is worth, against the same framework's default in the same run."""
    board = press.board
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in board.query(KNOBS, [list(board.catalog.scenarios)]):
        name = str(row["knob"]).partition("=")[0]
        known = board.catalog.frameworks.get(row["framework"])
        help_text = known.knobs[name].help if known and name in known.knobs else ""
        groups.setdefault(row["framework"], []).append({**row, "help": help_text, "load": board.scenario_title(row)})
    order = measured_frameworks(press)
    press.page(
        "knobs",
        "knobs.md.j2",
        title="Knobs",
        section="Knobs",
        description="What each switch of each framework is worth, paired with its default",
        groups=sorted(groups.items(), key=lambda item: (order.index(item[0]) if item[0] in order else len(order), item[0])),
        declared=[f for f in board.catalog.frameworks.values() if f.knobs and f.role == "measured"],
    )


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


def history(press: Press) -> None:
    """What changed from run to run: a new version, or a throughput whose interval left the one before."""
    board = press.board
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
    press.page(
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


SWAPS = """
SELECT swaps.*, runs.model, runs.weights, runs.machine
FROM swaps JOIN runs USING (run_id)
QUALIFY {run: runs.complete, moment: runs.measured_at}
        = max({run: runs.complete, moment: runs.measured_at}) OVER (PARTITION BY runs.model, runs.weights)
ORDER BY runs.model, runs.weights, built_arm, asked_arm
"""


def swap(press: Press) -> None:
    """May I swap without re-indexing: who may ask an index that another arm built."""
    board = press.board
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in board.query(SWAPS):
        groups.setdefault(row["run_id"], []).append(row)
    parts: list[dict[str, Any]] = []
    for run_id, rows in groups.items():
        known = {arm["arm_id"]: arm for arm in board.query("SELECT * FROM arms WHERE run_id = ? ORDER BY rowid", [run_id])}
        present = {row[end] for row in rows for end in ("built_arm", "asked_arm")}
        order = [name for name in known if name in present] + sorted(present - set(known))
        cells = {(row["built_arm"], row["asked_arm"]): row for row in rows}
        parts.append({"run": rows[0], "arms": [(name, known.get(name)) for name in order], "cells": cells})
    place = {name: index for index, name in enumerate(board.catalog.models)}
    parts.sort(key=lambda part: (place.get(part["run"]["model"], len(place)), part["run"]["model"]))
    press.page(
        "swap",
        "swap.md.j2",
        title="Swap without re-indexing",
        section="Compare",
        description="Whether an index that one framework built may be asked by another",
        parts=parts,
    )
