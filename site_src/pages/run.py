"""`/runs/<id>/`: one run: results, arms, starts, checks, machine; and below it a page per load."""

from __future__ import annotations

from site_src import markup, records, sentences
from site_src.data.run_record import RunRecord
from site_src.page_writer import PageWriter, public_row
from site_src.pages import run_scenario


def write(writer: PageWriter) -> None:
    for run in writer.board.runs:
        record = RunRecord(writer.board, run)
        write_run(writer, record)
        for load in record.loads:
            run_scenario.write(writer, record, load)


def write_run(writer: PageWriter, record: RunRecord) -> None:
    run = record.run
    path = f"runs/{markup.slug(run['run_id'])}"
    writer.write_file(f"data/{path}/rows.json", records.to_lines([public_row(row) for row in record.rows]))
    writer.write_file(f"data/{path}/run.json", records.to_json(run["run_json"]))
    writer.write_file(f"data/{path}/machine.json", records.to_json(run["machine_json"]))
    present = {row["framework"] for row in record.rows}
    writer.write_page(
        path,
        "run.md.j2",
        title=f"Run {run['run_id']}",
        section="Runs",
        description=f"Run {run['run_id']}: machine, versions, settings, command and raw rows",
        run=run,
        model_title=writer.board.model_title(run["model"]),
        facts=sentences.run_facts(run),
        machine=records.flatten(run["machine_json"]),
        results=record.results,
        loads=record.loads,
        limits=record.limits,
        frameworks=[name for name in writer.board.measured_frameworks if name in present],
        arms=record.arms,
        starts=record.starts,
        blocks=record.blocks,
        checks=record.checks,
    )
