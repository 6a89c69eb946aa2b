"""Opening the results database: data/results.duckdb with the tables, views and macros of bench/schema.sql. Errors are one line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import duckdb

from bench.core import paths
from bench.core.errors import BenchError

#: Every table that holds rows of a run, with `run_id` in it.
TABLES = ("runs", "arms", "starts", "blocks", "samples", "results", "comparisons", "fits", "checks", "quality", "swaps")


@dataclass(frozen=True)
class Schema:
    """The structure of a database.

    Attributes:
        columns: (table or view, column) → type.
        definitions: the SQL of every view and macro.
    """

    columns: dict[tuple[str, str], str]
    definitions: frozenset[str]


def connect(database: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A connection, to be closed by the caller. For writing, the database is created where absent and brought to the present schema.

    Raises:
        BenchError: another process has it open, or it is no database.
    """
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        connection = duckdb.connect(str(database), read_only=read_only)
    except (duckdb.Error, OSError) as error:
        raise _cannot_open(database, str(error)) from None
    connection.execute("SET TimeZone = 'UTC'")
    if not read_only:
        _add_missing_columns(connection)
        connection.execute(paths.SCHEMA.read_text(encoding="utf-8"))
    return connection


def open_for_reading(database: Path) -> duckdb.DuckDBPyConnection:
    """A connection for reading, to be closed by the caller. A database that does not exist is taken as an empty one, in memory.

    Raises:
        BenchError: another process has it open, it is no database, or it is one of another version.
    """
    if not database.exists():
        connection = duckdb.connect(":memory:")
        connection.execute(paths.SCHEMA.read_text(encoding="utf-8"))
        return connection
    connection = connect(database, read_only=True)
    if not is_current(connection):
        connection.close()
        raise BenchError(f"{database}: not a results database of this version: make it again with `invoke load`")
    return connection


def is_current(connection: duckdb.DuckDBPyConnection) -> bool:
    """True if the database has every column, view and macro of bench/schema.sql. It may have more."""
    present, expected = _schema_of(connection), _expected_schema()
    return expected.columns.items() <= present.columns.items() and expected.definitions <= present.definitions


def _schema_of(connection: duckdb.DuckDBPyConnection) -> Schema:
    columns = connection.execute("SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal").fetchall()
    definitions = connection.execute(
        "SELECT sql FROM duckdb_views() WHERE NOT internal"
        " UNION ALL SELECT concat(function_name, parameters::VARCHAR, macro_definition) FROM duckdb_functions() WHERE NOT internal"
    ).fetchall()
    return Schema({(table, column): kind for table, column, kind in columns}, frozenset(text for (text,) in definitions))


@lru_cache(maxsize=1)
def _expected_schema() -> Schema:
    with duckdb.connect() as connection:
        connection.execute(paths.SCHEMA.read_text(encoding="utf-8"))
        return _schema_of(connection)


def _add_missing_columns(connection: duckdb.DuckDBPyConnection) -> None:
    """Add the columns that the tables of an older schema lack. They are NULL until `invoke load`; no row is lost."""
    present = _schema_of(connection).columns
    tables = {table for table, _ in present}
    for (table, column), kind in _expected_schema().columns.items():
        if table in TABLES and table in tables and (table, column) not in present:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")


def _cannot_open(database: Path, message: str) -> BenchError:
    if "lock" in message.lower():
        holder = re.search(r"held in (.+?) \(PID (\d+)\)", message)
        who = f"process {holder[2]} ({holder[1]})" if holder else "another process"
        return BenchError(f"{database}: {who} has it open: close it there and run the same command again")
    if "not a valid DuckDB" in message or "serializ" in message.lower():
        return BenchError(f"{database}: not a database of DuckDB {duckdb.__version__}: move it away, `invoke load` makes it again")
    return BenchError(f"{database}: cannot be opened ({message.splitlines()[0]}): check the folder's permissions and free space")
