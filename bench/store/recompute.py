"""All statistics again, from the samples that the database holds: the same bytes, unless the statistics have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import pandas as pd

from bench.core import paths
from bench.runs import reader
from bench.runs.schema import SAMPLE_COLUMNS
from bench.store import database as store

#: The tables that hold what bench/stats/leaderboard.py wrote.
STATISTICS = ("results", "comparisons", "fits", "quality", "swaps")


@dataclass(frozen=True)
class Recomputed:
    """One run: how many rows its statistics have now, how many of them differed from the stored ones (rows that are gone count too), and
    whether these had the same `stats_version`. `note` says why a run was left as it was."""

    run_id: str
    rows: int
    changed: int
    same_version: bool
    note: str | None = None


def recompute(database: Path = paths.DATABASE, runs: Path = paths.RUNS) -> list[Recomputed]:
    """Compute the statistics of every run of the database from its samples, and replace the rows of those that differ.

    Starts, slices and checks are read from the run folder; a run without one is left as it is.

    Raises:
        BenchError: the database is locked, or a run folder cannot be read.
    """
    with store.writing(database) as connection:
        run_ids = connection.execute("SELECT run_id FROM runs ORDER BY run_id").fetchall()
        return [_recompute(connection, runs / str(run_id)) for (run_id,) in run_ids]


def in_words(runs: Sequence[Recomputed]) -> str:
    """A summary for people: the totals, then a line for each run that changed or was left as it is."""
    changed = [run for run in runs if run.changed]
    lines = [f"{len(runs)} runs: {sum(run.rows for run in runs)} rows of statistics, {sum(run.changed for run in changed)} replaced"]
    for run in changed:
        why = "though the statistics' version is the same" if run.same_version else "by a new version of the statistics"
        lines.append(f"{run.run_id}: {run.changed} rows replaced {why}")
    return "\n".join(lines + [f"{run.run_id}: {run.note}" for run in runs if run.note])


def _recompute(connection: duckdb.DuckDBPyConnection, folder: Path) -> Recomputed:
    run_id = folder.name
    if not (folder / "run.json").exists():
        return Recomputed(run_id, 0, 0, True, "left as it is: its run folder is not here")
    run = replace(reader.read_run(folder), samples=_samples(connection, run_id))
    tables = store.tables_of(folder, run)
    changed: dict[str, int] = {}
    for name in STATISTICS:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE fresh AS SELECT * FROM {name} LIMIT 0")
        if tables[name].num_rows:
            connection.register("incoming", tables[name])
            connection.execute("INSERT INTO fresh BY NAME SELECT * FROM incoming")
            connection.unregister("incoming")
        # Rows as sets: NULL and NaN equal themselves there.
        stored = f"SELECT * FROM {name} WHERE run_id = '{run_id}'"
        for left, right in (("SELECT * FROM fresh", stored), (stored, "SELECT * FROM fresh")):
            differing = connection.execute(f"SELECT count(*) FROM (({left}) EXCEPT ({right}))").fetchone()
            changed[name] = max(changed.get(name, 0), int(differing[0]) if differing else 0)
    versions = connection.execute("SELECT DISTINCT stats_version FROM results WHERE run_id = ?", [run_id]).fetchall()
    same = {version for (version,) in versions} <= set(tables["results"].column("stats_version").to_pylist())
    store.put(connection, run_id, [name for name, rows in changed.items() if rows], tables)
    return Recomputed(run_id, sum(tables[name].num_rows for name in STATISTICS), sum(changed.values()), same)


def _samples(connection: duckdb.DuckDBPyConnection, run_id: str) -> pd.DataFrame:
    """The stored samples of a run, in the order and the types of `RunData.samples`."""
    query = f"SELECT {', '.join(SAMPLE_COLUMNS)} FROM samples WHERE run_id = ?"
    return reader.ordered(connection.execute(query, [run_id]).df())
