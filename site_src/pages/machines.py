"""`/machines/`: each machine with its models and the machine record of its newest run."""

from __future__ import annotations

from site_src import records
from site_src.data.leaderboard import Row
from site_src.page_writer import PageWriter


def write(writer: PageWriter) -> None:
    groups: dict[str, list[Row]] = {}
    for run in writer.board.runs:
        groups.setdefault(run["machine_id"], []).append(run)
    listed = [
        {
            "id": machine_id,
            "title": runs[0]["machine"],
            "runs": runs,
            "models": sorted({run["model"] for run in runs}),
            "facts": records.flatten(runs[0]["machine_json"]),
        }
        for machine_id, runs in groups.items()
    ]
    writer.write_page(
        "machines", "machines.md.j2", title="Machines", section="Runs", description="The machines behind the numbers", machines=listed
    )
