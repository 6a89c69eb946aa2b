"""Run folders ⇄ data/results.duckdb. The folders are the truth; the database can be made again from them at any time.

A run is appended in one transaction that touches no row of another run, so that the same run twice changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, fields, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.core import files, paths
from bench.core.errors import BenchError
from bench.machine import noise
from bench.runs import parquet
from bench.runs.schema import (
    SAMPLE_COLUMNS,
    ArmMemory,
    Block,
    Check,
    Comparison,
    Controls,
    Failure,
    Footprint,
    MachineUse,
    QualityData,
    Result,
    RunArm,
    RunData,
    RunScenario,
    Slice,
    Start,
)
from bench.stats import leaderboard

#: Every table that holds rows of a run, with `run_id` in it.
TABLES = ("runs", "arms", "starts", "blocks", "samples", "results", "comparisons", "fits", "checks", "quality", "swaps")
Row = dict[str, Any]


# --- the database ------------------------------------------------------------------------------------------------------------------


def check_writable(database: Path = paths.DATABASE) -> None:
    """Make sure, before anything is measured, that the database can be written; it is made from the run folders where absent.

    Raises:
        BenchError: another process holds it (named where DuckDB tells), or it is no database.
    """
    ensure(database)
    with _open(database, read_only=False):
        pass


def ensure(database: Path = paths.DATABASE, runs: Path | None = None) -> None:
    """Make the database from the run folders beside it (`runs`) if it is not there; add the columns that it lacks."""
    if not database.exists():
        load(database, runs)
        return
    with _open(database, read_only=True) as connection:
        old = _columns_of(connection) != _expected_columns()
    if old:
        with _open(database, read_only=False):
            pass


def catch_up(database: Path = paths.DATABASE, runs: Path | None = None) -> list[str]:
    """`ensure`, then put in the finished runs beside the database that it lacks, such as newly published ones; their folders' names."""
    ensure(database, runs)
    with _open(database, read_only=True) as connection:
        known = {str(name) for (name,) in connection.execute("SELECT run_id FROM runs").fetchall()}
    folders = [folder for folder in run_folders(runs or database.parent / "runs") if _done(folder) is not None]
    late = [folder for folder in folders if _read(folder / "run.json")["run_id"] not in known]
    for folder in late:
        append(database, folder)
    return [folder.name for folder in late]


def append(database: Path, folder: Path) -> None:
    """Put one run folder into the database: its rows replace those of the same run, no other row changes.

    Raises:
        BenchError: the database is locked; the run folder stays as it is, and `invoke load` brings it in later.
    """
    run = read_run(folder)
    try:
        ensure(database, folder.parent)
        with _open(database, read_only=False) as connection:
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
        with _open(database, read_only=False):
            pass
    temporary = database.with_name(database.name + ".tmp")
    for leftover in (temporary, temporary.with_name(temporary.name + ".wal")):
        leftover.unlink(missing_ok=True)
    folders = run_folders(runs or database.parent / "runs")
    with files.disk_full_is_said(temporary), _open(temporary, read_only=False) as connection:
        for folder in folders:
            _insert(connection, folder, read_run(folder))
    temporary.rename(database)
    return len(folders)


def rows(sql: str, parameters: Sequence[Any] = (), database: Path = paths.DATABASE) -> list[Row]:
    """The rows of a query, as dicts by column name, from a database opened for reading only."""
    ensure(database)
    with _open(database, read_only=True) as connection:
        cursor = connection.execute(sql, list(parameters))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


@contextmanager
def connect(database: Path = paths.DATABASE) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for reading, on a database that is made first where absent."""
    ensure(database)
    with _open(database, read_only=True) as connection:
        yield connection


@contextmanager
def writing(database: Path = paths.DATABASE) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for writing, on a database that is made first where absent.

    Raises:
        BenchError: another process holds it, or it is no database.
    """
    ensure(database)
    with _open(database, read_only=False) as connection:
        yield connection


@contextmanager
def _open(database: Path, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(str(database), read_only=read_only)
    except (duckdb.Error, OSError) as error:
        raise _cannot_open(database, str(error)) from None
    try:
        connection.execute("SET TimeZone = 'UTC'")
        if not read_only:
            _add_missing_columns(connection)
            connection.execute(paths.SCHEMA.read_text(encoding="utf-8"))
        yield connection
    finally:
        connection.close()


def _columns_of(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], str]:
    """(table, column) → type, of every table and view."""
    found = connection.execute("SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal").fetchall()
    return {(table, column): kind for table, column, kind in found}


@lru_cache(maxsize=1)
def _expected_columns() -> dict[tuple[str, str], str]:
    with duckdb.connect() as connection:
        connection.execute(paths.SCHEMA.read_text(encoding="utf-8"))
        return _columns_of(connection)


def _add_missing_columns(connection: duckdb.DuckDBPyConnection) -> None:
    """A database of an older schema.sql gains the new columns (NULL until `invoke load`), so that no row of it is lost."""
    there = _columns_of(connection)
    tables = {table for table, _ in there}
    for (table, column), kind in _expected_columns().items():
        if table in TABLES and table in tables and (table, column) not in there:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


def _cannot_open(database: Path, message: str) -> BenchError:
    if "lock" in message.lower():
        holder = re.search(r"held in (.+?) \(PID (\d+)\)", message)
        who = f"process {holder[2]} ({holder[1]})" if holder else "another process"
        return BenchError(f"{database}: {who} has it open: close it there and run the same command again")
    if "not a valid DuckDB" in message or "serializ" in message.lower():
        return BenchError(f"{database}: not a database of DuckDB {duckdb.__version__}: move it away, `invoke load` makes it again")
    return BenchError(f"{database}: cannot be opened ({message.splitlines()[0]}): check the folder's permissions and free space")


# --- writing -----------------------------------------------------------------------------------------------------------------------


def tables_of(folder: Path, run: RunData) -> dict[str, pa.Table]:
    """The rows of one run in every table, statistics computed."""
    run = replace(run, controls=_controls(folder))
    facts, machine, done = files.read_json(folder / "run.json"), files.read_json(folder / "machine.json"), _done(folder)
    results, comparisons = leaderboard.leaderboard(run)
    return {
        "runs": _table([_run_row(facts, machine, done)]),
        "arms": _table([
            {"run_id": run.run_id, **{name: getattr(arm, name) for name in ARM_COLUMNS}, "version_json": _json(arm.version),
             "settings_json": _json(arm.settings), "knobs_json": _json(arm.knobs), "headline": arm.headline,
             "note": arm.note} for arm in run.arms
        ]),
        "starts": _table([{"run_id": run.run_id, **asdict(start)} for start in run.starts]),
        "blocks": _table([
            {"run_id": run.run_id, "scenario": block.scenario, "block": block.block, "started_at": block.started_at,
             "ended_at": block.ended_at, "noisy": block.noisy, "note": block.note, **asdict(block.machine)} for block in run.blocks
        ]),
        "samples": pa.Table.from_pandas(run.samples.assign(run_id=run.run_id), preserve_index=False),
        "results": _table([_columns(row) for row in results]),
        "comparisons": _table([_columns(row) for row in comparisons]),
        "fits": _table([asdict(fit) for fit in leaderboard.fits(run)]),
        "checks": _table([{"run_id": run.run_id, **asdict(check)} for check in run.checks]),
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
    other = _read(folder / "run.json").get("controls_run_id")
    if not other:
        return None
    if not (folder.parent / other / "run.json").exists():
        return Controls(False, f"the run of the controls is missing: {other}")
    return leaderboard.controls_in(read_run(folder.parent / other)) or Controls(False, f"run {other} holds no controls")


#: What a slice always has.
SLICE_KEYS = ("arm_id", "slice", "count", "served", "wall_ns", "cpu_ns", "error")
ARM_COLUMNS = ("arm_id", "framework", "language", "precision", "variant", "sessions", "threads", "role", "artefact_hash")
RUN_COLUMNS = (
    "run_id", "campaign_id", "experiment_hash", "model", "weights", "corpus", "seed", "budget_s", "command", "code_commit", "code_dirty",
)  # fmt: skip


def _run_row(facts: Row, machine: Row, done: Row | None) -> Row:
    return {
        **{name: facts.get(name) for name in RUN_COLUMNS}, "measured_at": _moment(facts["measured_at"]),
        "ended_at": _moment(done["ended_at"]) if done else None, "machine_id": machine["machine_id"], "machine": machine["machine"],
        "complete": bool(facts["complete"]) and done is not None, "run_json": _json(facts), "machine_json": _json(machine),
    }  # fmt: skip


def _columns(row: Result | Comparison) -> Row:
    return dict(zip((field.name for field in fields(row)), astuple(row), strict=True))


def _table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows) if rows else pa.table({})


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


# --- reading run folders -------------------------------------------------------------------------------------------------------------


def run_folders(runs: Path = paths.RUNS) -> list[Path]:
    """The folders of runs, oldest first; what has no run.json, or a temporary name, is not one."""
    return sorted(path.parent for path in runs.glob("*/run.json") if not path.parent.name.endswith(".tmp"))


def read_run(folder: Path) -> RunData:
    """A run folder (RUNS.md) as RunData: finished or not, only what has its final name.

    Raises:
        BenchError: a file of it cannot be read, with its name.
    """
    facts, machine = _read(folder / "run.json"), _read(folder / "machine.json")
    try:
        starts = [_read(path) for path in sorted((folder / "starts").glob("*.json"))]
        versions = {start["arm_id"]: start for start in sorted(starts, key=lambda start: start["start"])}
        blocks = [(path.parent, _read(path)) for path in sorted(folder.glob("blocks/*/*/block.json")) if path.parent.name.isdigit()]
        return RunData(
            run_id=facts["run_id"], campaign_id=facts["campaign_id"], measured_at=_moment(facts["measured_at"]),
            machine_id=machine["machine_id"], machine=machine["machine"], model=facts["model"], model_bytes=int(facts["model_bytes"]),
            weights=facts["weights"], finished=_done(folder) is not None,
            arms=tuple(_arm(arm, versions.get(arm["arm_id"])) for arm in facts["arms"]),
            scenarios=tuple(_scenario(scenario) for scenario in facts["scenarios"]),
            starts=tuple(Start(**{field.name: start.get(field.name) for field in fields(Start)}) for start in starts),
            blocks=tuple(_block(block, note) for (_, block), note in zip(blocks, _noises(folder, blocks), strict=True)),
            checks=tuple(_check(path.stem, check) for path in sorted((folder / "checks").glob("*.json")) for check in _read(path)),
            failures=tuple(_failure(_read(path)) for path in sorted((folder / "failures").glob("*.json"))),
            samples=_samples(blocks), quality=_quality(folder),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise BenchError(f"{folder}: not as bench/RUNS.md says ({error!r}): mend it or move it away, then `invoke load`") from None


def undecided(folder: Path) -> frozenset[str]:
    """The scenarios of a run folder in which a pair of measured arms is still unresolved."""
    return leaderboard.undecided(read_run(folder))


def _read(path: Path) -> Any:
    try:
        return files.read_json(path)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: cannot be read ({error}): restore it or move its run away, then `invoke load`") from None


def _done(folder: Path) -> Row | None:
    path = folder / "done.json"
    return cast(Row, _read(path)) if path.exists() else None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _arm(arm: Row, start: Row | None) -> RunArm:
    start = start or {}
    return RunArm(
        **{name: arm[name] for name in ARM_COLUMNS}, version=start.get("version"), settings=start.get("settings"), knobs=arm.get("knobs"),
        headline=bool(arm.get("headline")), note=arm.get("note"),
        footprint=Footprint(**_known(Footprint, arm.get("footprint") or {})), fault=arm.get("fault"),
        precision_note=arm.get("precision_note"), compile_s=arm.get("compile_s"),
    )  # fmt: skip


def _scenario(scenario: Row) -> RunScenario:
    known: Row = {name: tuple(value) if isinstance(value, list) else value for name, value in _known(RunScenario, scenario).items()}
    return RunScenario(**known)


def _noises(folder: Path, blocks: Sequence[tuple[Path, Row]]) -> list[str | None]:
    """Why each block is noisy, judged beside all of its scenario (bench/machine/noise.py)."""
    if not blocks:
        return []
    usual = noise.Seconds(**_known(noise.Seconds, _read(folder / "probe.json")))
    levels: dict[str, list[noise.Seconds]] = {}
    for _, block in blocks:
        levels.setdefault(block["scenario"], []).append(noise.median(**block["probe"]))
    found = {scenario: iter(noise.notes(looks, usual)) for scenario, looks in levels.items()}
    return [next(found[block["scenario"]]) for _, block in blocks]


def _block(block: Row, note: str | None) -> Block:
    slices = [Slice(**{name: piece[name] for name in SLICE_KEYS} | _known(Slice, piece)) for piece in block["slices"]]
    memory = {arm: ArmMemory(**_known(ArmMemory, read)) for arm, read in block["resources"].items()}
    return Block(
        block["scenario"], int(block["block"]), _moment(block["started_at"]), _moment(block["ended_at"]), note is not None,
        note, tuple(slices), memory, MachineUse(**_known(MachineUse, block.get("machine") or {})),
    )  # fmt: skip


def _known(kind: Any, found: Row) -> Row:
    """What is there of a dataclass's fields: run folders of before a field have none."""
    return {field.name: found[field.name] for field in fields(kind) if field.name in found}


def _check(arm_id: str, check: Row) -> Check:
    known: Row = {field.name: check.get(field.name) for field in fields(Check)}
    return Check(**{**known, "arm_id": arm_id})


QUALITY_COLUMNS = ("measure", "set", "item", "value", "reference", "overlap", "gold")


def _quality(folder: Path) -> QualityData | None:
    """What the folder holds of quality; None where no probe was served."""
    if not (folder / "vectors" / "set.json").exists():
        return None
    about = _read(folder / "vectors" / "set.json")
    probes = parquet.read_vectors(folder / "vectors")
    frames = [
        pq.ParquetFile(path).read().to_pandas()[list(QUALITY_COLUMNS)].assign(arm_id=path.stem)
        for path in sorted((folder / "quality").glob("*.parquet"))
    ]
    nothing = pd.DataFrame({name: pd.Series(dtype="float64") for name in ("arm_id", *QUALITY_COLUMNS)})
    failed = {path.stem: str(_read(path)["note"]) for path in sorted((folder / "quality").glob("*.json"))}
    relevant = tuple(frozenset(places) for places in about["relevant"])
    items = pd.concat(frames, ignore_index=True) if frames else nothing
    return QualityData(items, probes, about["queries"], relevant, failed, about["plan_hash"])


def _failure(failure: Row) -> Failure:
    return Failure(failure["arm_id"], failure["scenario"], failure["status"], failure["reason"])


def _samples(blocks: Sequence[tuple[Path, Row]]) -> pd.DataFrame:
    """The samples of all blocks."""
    frames = [
        pq.ParquetFile(folder / "samples.parquet").read().to_pandas().assign(scenario=block["scenario"], block=int(block["block"]))
        for folder, block in blocks
    ]
    return ordered(pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(SAMPLE_COLUMNS)))


def ordered(samples: pd.DataFrame) -> pd.DataFrame:
    """Samples as RunData has them: the columns SAMPLE_COLUMNS, sorted so that the same samples always give the same table."""
    typed = samples[list(SAMPLE_COLUMNS)].astype({name: _DTYPES.get(name, "int64") for name in SAMPLE_COLUMNS})
    return typed.sort_values(["scenario", "block", "slice", "start_ns", "arm_id", "request"], kind="stable", ignore_index=True)


_DTYPES = {"arm_id": "str", "scenario": "str", "preprocess_ns": "float64", "cosine": "float64", "max_abs_diff": "float64"}
