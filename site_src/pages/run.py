"""`/runs/<id>/`: everything that one run knows of itself, and below it a page per load, down to the raw row."""

from __future__ import annotations

from site_src import formatting, sentences
from site_src.data.run_record import RunRecord
from site_src.page_writer import Press, public
from site_src.pages import run_scenario


def write(press: Press) -> None:
    for run in press.board.runs:
        record = RunRecord(press.board, run)
        write_run(press, record)
        for load in record.loads:
            run_scenario.write(press, record, load)


def write_run(press: Press, record: RunRecord) -> None:
    run = record.run
    path = f"runs/{formatting.slug(run['run_id'])}"
    press.text(f"data/{path}/rows.json", formatting.to_lines([public(row) for row in record.rows]))
    press.text(f"data/{path}/run.json", formatting.to_json(run["run_json"]))
    press.text(f"data/{path}/machine.json", formatting.to_json(run["machine_json"]))
    present = {row["framework"] for row in record.rows}
    press.page(
        path,
        "run.md.j2",
        title=f"Run {run['run_id']}",
        section="Runs",
        description=f"Run {run['run_id']}: machine, versions, settings, command and raw rows",
        run=run,
        model_title=press.board.model_title(run["model"]),
        facts=sentences.run_facts(run),
        machine=formatting.flatten(run["machine_json"]),
        standing=record.standing,
        loads=record.loads,
        limits=record.limits,
        frameworks=[name for name in press.board.measured_frameworks if name in present],
        arms=record.arms,
        starts=record.starts,
        blocks=record.blocks,
        checks=record.checks,
    )
