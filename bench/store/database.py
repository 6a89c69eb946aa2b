"""Run folders ⇄ data/results.duckdb. The folders are the truth; the database can be made again from them at any time.

A run is appended in one transaction that touches no row of another run, so that the same run twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bench.core import files, paths
from bench.core.errors import BenchError
from bench.runs import codec, reader
from bench.runs.schema import RunData
from bench.stats import leaderboard
from bench.stats.arms import Controls
from bench.stats.tables import Comparison, Result
from bench.store.connection import TABLES, connect, is_current

Row = dict[str, Any]


# --- the database ------------------------------------------------------------------------------------------------------------------


def check_writable(database: Path = paths.DATABASE) -> None:
    """Make sure, before anything is measured, that the database can be written; it is made from the run folders where absent.

    Raises:
        BenchError: another process holds it (named where DuckDB tells), or it is no database.
    """
    ensure(database)
    connect(database, read_only=False).close()


def ensure(database: Path = paths.DATABASE, runs: Path | None = None) -> None:
    """Make the database from the run folders beside it (`runs`) if it is not there; add the columns and views that it lacks."""
    if not database.exists():
        load(database, runs)
        return
    with connect(database, read_only=True) as connection:
        current = is_current(connection)
    if not current:
        connect(database, read_only=False).close()


def catch_up(database: Path = paths.DATABASE, runs: Path | None = None) -> list[str]:
    """`ensure`, then put in the finished runs beside the database that it lacks, such as newly published ones; their folders' names."""
    ensure(database, runs)
    with connect(database, read_only=True) as connection:
        known = {str(name) for (name,) in connection.execute("SELECT run_id FROM runs").fetchall()}
    folders = [folder for folder in reader.run_folders(runs or database.parent / "runs") if reader.read_done(folder) is not None]
    late = [folder for folder in folders if reader.read_json(folder / "run.json")["run_id"] not in known]
    for folder in late:
        append(database, folder)
    return [folder.name for folder in late]


def append(database: Path, folder: Path) -> None:
    """Put one run folder into the database: its rows replace those of the same run, no other row changes.

    Raises:
        BenchError: the database is locked; the run folder stays as it is, and `invoke load` brings it in later.
    """
    run = reader.read_run(folder)
    try:
        ensure(database, folder.parent)
        with connect(database, read_only=False) as connection:
            _insert(connection, folder, run)
    except (BenchError, duckdb.Error) as error:
        first = str(error).splitlines()[0]
        raise BenchError(f"{first}; the run itself is safe in {folder}: `invoke load` brings it in") from None


def load(database: Path = paths.DATABASE, runs: Path | None = None) -> int:
    """Make the database anew from all run folders, and return how many there are.

    It is built under a temporary name and renamed, so that an interrupted load leaves the old database in place.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    if database.exists():
        connect(database, read_only=False).close()
    folders = reader.run_folders(runs or database.parent / "runs")
    with files.whole_file(database) as temporary:
        for leftover in (temporary, temporary.with_name(temporary.name + ".wal")):
            leftover.unlink(missing_ok=True)
        with connect(temporary, read_only=False) as connection:
            for folder in folders:
                _insert(connection, folder, reader.read_run(folder))
    return len(folders)


def rows(sql: str, parameters: Sequence[Any] = (), database: Path = paths.DATABASE) -> list[Row]:
    """The rows of a query, as dicts by column name, from a database opened for reading only."""
    ensure(database)
    with connect(database, read_only=True) as connection:
        cursor = connection.execute(sql, list(parameters))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


@contextmanager
def writing(database: Path = paths.DATABASE) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for writing, on a database that is made first where absent.

    Raises:
        BenchError: another process holds it, or it is no database.
    """
    ensure(database)
    with connect(database, read_only=False) as connection:
        yield connection


# --- writing -----------------------------------------------------------------------------------------------------------------------


def tables_of(folder: Path, run: RunData) -> dict[str, pa.Table]:
    """The rows of one run in every table, statistics computed."""
    facts, machine, done = reader.read_json(folder / "run.json"), reader.read_json(folder / "machine.json"), reader.read_done(folder)
    results, comparisons = leaderboard.leaderboard(run, _controls(folder))
    return {
        "runs": _table([_run_row(facts, machine, done)]),
        "arms": _table([
            {"run_id": run.run_id, **{name: getattr(arm, name) for name in reader.ARM_KEYS}, "version_json": _json(arm.version),
             "settings_json": _json(arm.settings), "knobs_json": _json(arm.knobs), "headline": arm.headline,
             "note": arm.note} for arm in run.arms
        ]),
        "starts": _table([{"run_id": run.run_id, **{name: getattr(start, name) for name in START_COLUMNS}} for start in run.starts]),
        "blocks": _table([
            {"run_id": run.run_id, "scenario": block.scenario, "block": block.block, "started_at": block.started_at,
             "ended_at": block.ended_at, "noisy": block.noisy, "note": block.note, **asdict(block.machine)} for block in run.blocks
        ]),
        "samples": pa.Table.from_pandas(run.samples.assign(run_id=run.run_id), preserve_index=False),
        "results": _table([_columns(row) for row in results]),
        "comparisons": _table([_columns(row) for row in comparisons]),
        "fits": _table([asdict(fit) for fit in leaderboard.fits(run)]),
        "checks": _table([
            {"run_id": run.run_id, "arm_id": arm_id, **asdict(check)} for arm_id, checks in run.checks.items() for check in checks
        ]),
        "quality": _table([{"run_id": run.run_id, **asdict(row)} for row in leaderboard.qualities(run)]),
        "swaps": _table([{"run_id": run.run_id, **asdict(row)} for row in leaderboard.swaps(run)]),
    }  # fmt: skip


def _insert(connection: duckdb.DuckDBPyConnection, folder: Path, run: RunData) -> None:
    """One run, with its statistics, in one transaction."""
    put(connection, run.run_id, TABLES, tables_of(folder, run))


def put(connection: duckdb.DuckDBPyConnection, run_id: str, names: Sequence[str], tables: Mapping[str, pa.Table]) -> None:
    """Replace the rows of one run in the named tables, in one transaction."""
    connection.begin()
    try:
        for name in names:
            connection.execute(f"DELETE FROM {name} WHERE run_id = ?", [run_id])
            if tables[name].num_rows:
                connection.register("incoming", tables[name])
                connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM incoming")
                connection.unregister("incoming")
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _controls(folder: Path) -> Controls | None:
    """The outcome of the controls that a run refers to by `controls_run_id`; its own ones are found by the statistics."""
    other = reader.read_json(folder / "run.json").get("controls_run_id")
    if not other:
        return None
    if not (folder.parent / other / "run.json").exists():
        return Controls(False, f"the run of the controls is missing: {other}")
    return leaderboard.controls_in(reader.read_run(folder.parent / other)) or Controls(False, f"run {other} holds no controls")


START_COLUMNS = (
    "arm_id", "start", "spawn_ns", "load_ns", "first_ns", "second_ns", "load_pss_bytes", "first_pss_bytes", "rss_bytes", "peak_rss_bytes",
    "page_cache", "page_cache_note",
)  # fmt: skip
RUN_COLUMNS = (
    "run_id", "campaign_id", "experiment_hash", "model", "weights", "corpus", "seed", "budget_s", "command", "code_commit", "code_dirty",
)  # fmt: skip


def _run_row(facts: Row, machine: Row, done: Row | None) -> Row:
    return {
        **{name: facts.get(name) for name in RUN_COLUMNS}, "measured_at": codec.moment(facts["measured_at"]),
        "ended_at": codec.moment(done["ended_at"]) if done else None, "machine_id": machine["machine_id"], "machine": machine["machine"],
        "complete": bool(facts["complete"]) and done is not None, "run_json": _json(facts), "machine_json": _json(machine),
    }  # fmt: skip


def _columns(row: Result | Comparison) -> Row:
    return dict(zip((field.name for field in fields(row)), astuple(row), strict=True))


def _table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows) if rows else pa.table({})


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


def undecided(folder: Path) -> frozenset[str]:
    """The scenarios of a run folder in which a pair of measured arms is still unresolved."""
    return leaderboard.undecided(reader.read_run(folder))
