"""`/data/`: the database and its tables as files, with schemas and SHA-256 sums. An empty database gives no files."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from bench.machine import record
from bench.store.connection import TABLES
from site_src import records
from site_src.page_writer import PageWriter

#: Table → what it holds, for people.
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

#: A query to start with.
EXAMPLE = """SELECT framework, precision, n, p50_ms, p99_ms, requests_per_s, min_cosine, ratio_to_best, rank_lo, rank_hi, rank_note
FROM 'results.parquet'
WHERE model = 'minilm' AND scenario = 'closed-1' AND role = 'measured'
ORDER BY measured_at DESC, requests_per_s DESC;"""


def write(writer: PageWriter) -> None:
    board, folder = writer.board, writer.folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    tables = [{"name": table, "columns": columns(writer, table)} for table in TABLES]
    files: list[dict[str, Any]] = []
    if board.runs:
        shutil.copyfile(board.file, folder / "results.duckdb")
        files.append(file_entry(folder / "results.duckdb", "the database with all tables; open it with DuckDB", None))
        for table in TABLES:
            rows = board.query(f"SELECT count(*) AS rows FROM {table}")[0]["rows"]
            ordered = f"(SELECT * FROM {table} ORDER BY ALL)"
            board.connection.execute(f"COPY {ordered} TO '{literal_path(folder / table)}.parquet' (FORMAT parquet, COMPRESSION zstd)")
            files.append(file_entry(folder / f"{table}.parquet", HOLDS[table], rows))
            if table != "samples":
                board.connection.execute(f"COPY {ordered} TO '{literal_path(folder / table)}.csv' (HEADER)")
                files.append(file_entry(folder / f"{table}.csv", HOLDS[table], rows))
            schema = json_schema(table, columns(writer, table))
            writer.write_file(f"data/{table}.schema.json", records.to_json(schema))
        files.append(
            file_entry(folder / "results.schema.json", "JSON Schema of a row of the leaderboard (each table has its own beside it)", None)
        )
        shutil.copyfile(record.SCHEMA, folder / record.SCHEMA.name)
        files.append(file_entry(folder / record.SCHEMA.name, "JSON Schema of machine.json, a run's record of where it was measured", None))
        writer.write_file("data/SHA256SUMS", "".join(f"{entry['sha256']}  {entry['name']}\n" for entry in files))
    writer.write_page(
        "data/index",
        "data.md.j2",
        title="Data",
        section="Data",
        description="The database, Parquet, CSV and schemas behind these pages",
        files=files,
        tables=tables,
        example=EXAMPLE,
    )


def literal_path(path: Path) -> str:
    """A path inside an SQL literal."""
    return str(path).replace("'", "''")


def file_entry(file: Path, holds: str, rows: int | None) -> dict[str, Any]:
    """A line of the list of files."""
    content = file.read_bytes()
    return {"name": file.name, "holds": holds, "rows": rows, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def columns(writer: PageWriter, table: str) -> list[dict[str, Any]]:
    """Name, type and nullability of a table's columns, in order."""
    rows = writer.board.query(f"DESCRIBE {table}")
    return [{"name": row["column_name"], "type": row["column_type"], "null": row["null"] == "YES"} for row in rows]


def json_schema(table: str, listed: list[dict[str, Any]]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one row of a table."""
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
