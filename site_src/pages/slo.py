"""`/slo/`: per model and latency limit the largest rate that each arm sustains."""

from __future__ import annotations

from site_src import formatting
from site_src.data import operating_points
from site_src.page_writer import Press


def write(press: Press) -> None:
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
