"""`/knobs/`: the effect of each switch, compared with the same framework's default in the same run."""

from __future__ import annotations

from typing import Any

from site_src.page_writer import PageWriter

KNOBS = """
WITH pairs AS (
  SELECT compared.*
  FROM comparisons_both_ways AS compared JOIN arms AS this USING (run_id, arm_id)
  JOIN arms AS base ON base.run_id = compared.run_id AND base.arm_id = other_id
  WHERE base.role = 'measured' AND base.variant NOT LIKE 'knob:%' AND base.precision = this.precision)
SELECT row.framework, substr(row.variant, 6) AS knob, row.model, row.weights, row.scenario, row.served_scenario, row.precision, row.run_id,
       row.arm_id, epoch_us(row.measured_at) AS measured_at, row.machine, row.rate_per_s, row.clients, row.status, row.reason,
       row.min_cosine, row.requests_per_s, pair.blocks, pair.quantity, pair.note, pair.ratio, pair.ratio_lo, pair.ratio_hi, pair.verdict
FROM leaderboard AS row
LEFT JOIN pairs AS pair ON pair.run_id = row.run_id AND pair.scenario = row.scenario AND pair.arm_id = row.arm_id
WHERE row.variant LIKE 'knob:%' AND row.role = 'measured' AND (row.served_scenario IS NULL OR row.clients IS NULL)
QUALIFY row.measured_at = max(row.measured_at) OVER (
    PARTITION BY row.machine_id, row.model, row.weights, row.scenario, row.precision, row.framework, row.variant)
ORDER BY row.framework, knob, row.model, list_position(?, row.scenario) NULLS LAST, row.run_id
"""


def write(writer: PageWriter) -> None:
    board = writer.board
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in board.query(KNOBS, [list(board.catalog.scenarios)]):
        name = str(row["knob"]).partition("=")[0]
        framework = board.catalog.frameworks.get(row["framework"])
        help_text = framework.knobs[name].help if framework and name in framework.knobs else ""
        groups.setdefault(row["framework"], []).append({**row, "help": help_text, "load": board.scenario_title(row)})
    order = board.measured_frameworks
    writer.write_page(
        "knobs",
        "knobs.md.j2",
        title="Knobs",
        section="Knobs",
        description="What each switch of each framework is worth, paired with its default",
        groups=sorted(groups.items(), key=lambda item: (order.index(item[0]) if item[0] in order else len(order), item[0])),
        declared=[f for f in board.catalog.frameworks.values() if f.knobs and f.role == "measured"],
    )
