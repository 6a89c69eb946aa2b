"""The pages that say where numbers come from: runs, machines, data, method."""

from __future__ import annotations

import hashlib
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from bench.core import paths
from bench.machine import record
from site_src import formatting, sentences
from site_src.data import operating_points, verification
from site_src.data.leaderboard import TABLES, Row, Standing
from site_src.page_writer import HERE, Press, anchor, public
from site_src.pages.model import measured_frameworks

HOLDS = {
    "runs": "one row per run: machine, command, commit, the whole experiment and machine records as JSON",
    "arms": "framework, precision, variant, layout of each arm, its version and settings as read back",
    "starts": "one row per process start",
    "blocks": "when each block ran, and whether the machine was noisy",
    "samples": "every request that the statistics used, in nanoseconds",
    "results": "the leaderboard: one row per run, arm and scenario",
    "comparisons": "every pair of arms that was compared",
    "fits": "what a row costs by its length, and what a new shape costs",
    "quality": "how much of fp32's retrieval and similarity an arm keeps",
    "swaps": "an index built by one arm and asked by another",
    "checks": "hard inputs, repeats, batch equals single",
}

EXAMPLE = """SELECT framework, precision, n, p50_ms, p99_ms, requests_per_s, min_cosine, ratio_to_best, rank_lo, rank_hi, rank_note
FROM 'results.parquet'
WHERE model = 'minilm' AND scenario = 'closed-1' AND role = 'measured'
ORDER BY measured_at DESC, requests_per_s DESC;"""


def run(press: Press, run: Row) -> None:
    """A run's page: everything that one run knows of itself, down to the raw row."""
    board, run_id = press.board, run["run_id"]
    path = f"runs/{formatting.slug(run_id)}"
    ask = partial(board.query, parameters=[run_id])
    rows = ask("SELECT * REPLACE (epoch_us(measured_at) AS measured_at) FROM leaderboard WHERE run_id = ? ORDER BY scenario, arm_id")
    arms = ask("SELECT * FROM arms WHERE run_id = ? ORDER BY role = 'floor', framework, precision, variant, arm_id")
    for arm in arms:
        arm["version"] = formatting.flatten(formatting.parse(arm["version_json"]))
        arm["settings"] = formatting.flatten(formatting.parse(arm["settings_json"]))
    names = {arm["arm_id"]: f"{board.framework_title(arm['framework'])} · {arm['precision']} · {arm['variant']}" for arm in arms}

    def name(arm_id: str) -> str:
        return names.get(arm_id, arm_id)

    checks = [{**check, "title": name(check["arm_id"])} for check in ask("SELECT * FROM checks WHERE run_id = ? ORDER BY arm_id, name")]
    starts = ask(
        "SELECT arm_id, start, spawn_ns / 1e6 AS spawn_ms, load_ns / 1e6 AS load_ms, first_ns / 1e6 AS first_ms,"
        " second_ns / 1e6 AS second_ms FROM starts WHERE run_id = ? ORDER BY arm_id, start"
    )
    blocks = ask(
        "SELECT scenario, count(*) AS blocks, count(*) FILTER (noisy) AS noisy, string_agg(DISTINCT note, '; ' ORDER BY note) AS notes"
        " FROM blocks WHERE run_id = ? GROUP BY scenario ORDER BY scenario"
    )
    press.text(f"data/{path}/rows.json", formatting.to_lines([public(row) for row in rows]))
    press.text(f"data/{path}/run.json", formatting.to_json(run["run_json"]))
    press.text(f"data/{path}/machine.json", formatting.to_json(run["machine_json"]))
    tables = board.tables(rows)
    standing = Standing(run["model"], run["machine_id"], run["machine"], run["weights"], run["complete"], (run,), tables)
    served = {row["served_scenario"] or row["scenario"]: row for row in sorted(rows, key=lambda row: row["served_scenario"] is not None)}
    scenarios = [{"name": scenario, "title": load_title(press, row)} for scenario, row in served.items()]
    order = list(board.catalog.scenarios)
    scenarios.sort(key=lambda entry: (order.index(entry["name"]) if entry["name"] in order else len(order), entry["name"]))
    press.page(
        path,
        "run.md.j2",
        title=f"Run {run_id}",
        section="Runs",
        description=f"Run {run_id}: machine, versions, settings, command and raw rows",
        run=run,
        model_title=board.model_title(run["model"]),
        facts=sentences.run_facts(run),
        machine=formatting.flatten(run["machine_json"]),
        standing=standing,
        scenarios=scenarios,
        limits=found if (found := operating_points.limits(board, standing)) and found.searched else None,
        frameworks=[name for name in measured_frameworks(press) if any(row["framework"] == name for row in rows)],
        arms=arms,
        starts=[{**start, "name": name(start["arm_id"])} for start in starts],
        blocks=blocks,
        checks=checks,
    )
    comparisons = ask("SELECT * FROM comparisons WHERE run_id = ? ORDER BY scenario, arm_a, arm_b")
    for entry in scenarios:
        own = [row for row in rows if (row["served_scenario"] or row["scenario"]) == entry["name"]]
        names_of = {row["scenario"] for row in own}
        press.page(
            f"{path}/{formatting.slug(entry['name'])}",
            "run_scenario.md.j2",
            title=f"{entry['title']}, run {run_id}",
            section="Runs",
            description=f"{entry['title']} in run {run_id}: intervals, clients, pairs and raw rows",
            heading=entry["title"],
            run=run,
            standing=standing,
            # of a search its limits, each a table; of any other load the one that was served
            tables=[
                t
                for t in tables
                if t.scenario in names_of and (t.scenario == entry["name"] if t.load != "slo" else operating_points.limit_of(t) is not None)
            ],
            comparisons=[
                {**pair, "name_a": name(pair["arm_a"]), "name_b": name(pair["arm_b"])}
                for pair in comparisons
                if pair["scenario"] == entry["name"]
            ],
            rows=[
                {
                    "anchor": anchor(row),
                    "name": name(row["arm_id"]),
                    "scenario": row["scenario"],
                    "status": row["status"],
                    "json": formatting.to_lines({key: value for key, value in public(row).items() if value is not None}),
                }
                for row in own
            ],
        )


def load_title(press: Press, row: Row) -> str:
    """The title of a served load, whichever of its rows is at hand."""
    return press.board.scenario_title({**row, "scenario": row["served_scenario"] or row["scenario"], "served_scenario": None})


def runs(press: Press) -> None:
    board = press.board
    counted = board.query(
        "SELECT run_id, count(DISTINCT arm_id) AS arms, count(DISTINCT arm_id) FILTER (status <> 'OK') AS not_ok"
        " FROM leaderboard GROUP BY run_id ORDER BY run_id"
    )
    counts = {run["run_id"]: {"arms": 0, "not_ok": 0} for run in board.runs} | {row["run_id"]: row for row in counted}
    press.page(
        "runs/index", "runs.md.j2", title="Runs", section="Runs", description="Every run in the database", runs=board.runs, counts=counts
    )


def machines(press: Press) -> None:
    """Each machine with its models and the record of its newest run."""
    groups: dict[str, list[Row]] = {}
    for run in press.board.runs:
        groups.setdefault(run["machine_id"], []).append(run)
    listed = [
        {
            "id": machine_id,
            "title": runs[0]["machine"],
            "runs": runs,
            "models": sorted({run["model"] for run in runs}),
            "facts": formatting.flatten(runs[0]["machine_json"]),
        }
        for machine_id, runs in groups.items()
    ]
    press.page(
        "machines", "machines.md.j2", title="Machines", section="Runs", description="The machines behind the numbers", machines=listed
    )


def data(press: Press, database: Path) -> None:
    """The database and its tables as files, their schemas and their sums. An empty database gives no files."""
    board, folder = press.board, press.folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    tables = [{"name": table, "columns": columns(press, table)} for table in TABLES]
    files: list[dict[str, Any]] = []
    if board.runs:
        shutil.copyfile(database, folder / "results.duckdb")
        files.append(file_entry(folder / "results.duckdb", "the database with all tables; open it with DuckDB", None))
        for table in TABLES:
            rows = board.query(f"SELECT count(*) AS rows FROM {table}")[0]["rows"]
            ordered = f"(SELECT * FROM {table} ORDER BY ALL)"
            board.connection.execute(f"COPY {ordered} TO '{literal_path(folder / table)}.parquet' (FORMAT parquet, COMPRESSION zstd)")
            files.append(file_entry(folder / f"{table}.parquet", HOLDS[table], rows))
            if table != "samples":
                board.connection.execute(f"COPY {ordered} TO '{literal_path(folder / table)}.csv' (HEADER)")
                files.append(file_entry(folder / f"{table}.csv", HOLDS[table], rows))
            schema = json_schema(table, columns(press, table))
            press.text(f"data/{table}.schema.json", formatting.to_json(schema))
        files.append(
            file_entry(folder / "results.schema.json", "JSON Schema of a row of the leaderboard (each table has its own beside it)", None)
        )
        shutil.copyfile(record.SCHEMA, folder / record.SCHEMA.name)
        files.append(file_entry(folder / record.SCHEMA.name, "JSON Schema of machine.json, a run's record of where it was measured", None))
        press.text("data/SHA256SUMS", "".join(f"{entry['sha256']}  {entry['name']}\n" for entry in files))
    press.page(
        "data/index",
        "data.md.j2",
        title="Data",
        section="Data",
        description="The database, Parquet, CSV and schemas behind these pages",
        files=files,
        tables=tables,
        example=EXAMPLE,
    )


def for_machines(press: Press) -> None:
    """llms.txt, which says where what is, and an Atom feed of the runs."""
    board = press.board
    models = [
        {"name": board.model_title(model), "folder": formatting.slug(model), "measured": bool(found)}
        for model, found in board.standings.items()
    ]
    press.plain_text("llms.txt", "llms.txt.j2", models=models, tables=TABLES, measured=bool(board.runs))
    press.plain_text("feed.xml", "feed.xml.j2", runs=[{**run, "title": board.model_title(run["model"])} for run in board.runs[:50]])


def literal_path(path: Path) -> str:
    return str(path).replace("'", "''")


def file_entry(file: Path, holds: str, rows: int | None) -> dict[str, Any]:
    content = file.read_bytes()
    return {"name": file.name, "holds": holds, "rows": rows, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def columns(press: Press, table: str) -> list[dict[str, Any]]:
    """Name, type and nullability of a table's columns, in order."""
    found = press.board.query(f"DESCRIBE {table}")
    return [{"name": row["column_name"], "type": row["column_type"], "null": row["null"] == "YES"} for row in found]


def json_schema(table: str, listed: list[dict[str, Any]]) -> dict[str, Any]:
    """JSON Schema 2020-12 of one row."""
    kinds = {"VARCHAR": "string", "JSON": "string", "BOOLEAN": "boolean", "DOUBLE": "number", "BIGINT": "integer", "INTEGER": "integer"}
    properties = {}
    for column in listed:
        if column["type"].startswith("TIMESTAMP"):
            kind: dict[str, Any] = {"type": "string", "format": "date-time"}
        else:
            kind = {"type": kinds[column["type"]]}
        properties[column["name"]] = {**kind, "type": [kind["type"], "null"]} if column["null"] else kind
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"a row of {table}",
        "type": "object",
        "properties": properties,
        "required": [column["name"] for column in listed if not column["null"]],
    }


def method(press: Press) -> None:
    """How numbers are made, what they cannot say, how to send better ones, and what changed."""
    corpus = HERE / "pages" / "_corpus.md"
    press.page(
        "methodology",
        "methodology.md.j2",
        title="Methodology",
        section="Method",
        sidebars="navigation toc",
        description="What stands behind a number: pairing, warm-up, percentiles, intervals, the correctness gate",
        scenarios=[{"name": s.name, "title": s.title, "text": sentences.scenario_text(s)} for s in press.board.catalog.scenarios.values()],
        corpus=Markup(corpus.read_text(encoding="utf-8")) if corpus.exists() else "",
        proofs=verification.read(paths.DATA / "verify"),
    )
    versions = press.board.query(
        "SELECT stats_version, count(*) AS rows, count(DISTINCT run_id) AS runs FROM results GROUP BY stats_version ORDER BY stats_version"
    )
    for path, title, description in (
        ("bias", "Bias", "What this board favours and what it cannot see"),
        ("submit", "Submit", "Check a number, correct it, add to it"),
        ("changelog", "Changelog", "Changes of the method"),
    ):
        press.page(
            path, f"{path}.md.j2", title=title, section="Method", sidebars="navigation toc", description=description, versions=versions
        )
