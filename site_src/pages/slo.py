"""`/slo/`: the largest arrival rate that each arm sustains within a latency limit, per model and limit."""

from __future__ import annotations

from site_src import markup
from site_src.data import operating_points
from site_src.page_writer import PageWriter


def write(writer: PageWriter) -> None:
    parts, waiting = [], []
    for results in writer.board.first_results:
        points = operating_points.find(writer.board, results)
        if points:
            parts.append({"results": results, "limits": points, "id": markup.ident(f"slo-{results.model}")})
        else:
            waiting.append({"results": results, "why": operating_points.why_unknown(results)})
    writer.write_page(
        "slo",
        "slo.md.j2",
        title="Operating points",
        section="Operating points",
        description="The largest rate of requests that each framework sustains within a latency limit",
        parts=parts,
        waiting=waiting,
    )
