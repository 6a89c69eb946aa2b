"""What the board shows, read from the database: runs, the current rows of each model, and their order.

Nothing here computes a statistic: rows are chosen, sorted and named. A row is a mapping from the columns of bench/schema.sql
to their values; times of day are microseconds since 1970 (UTC).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import duckdb

from bench.catalog import Catalog, Precision
from bench.core import paths
from bench.core.errors import BenchError
from site_src import formatting

Row = Mapping[str, Any]

SHOWN = ("OK", "PARTIAL")
#: A part of a WITH clause: every comparison from both sides, `arm_id` against `other_id`.
TURNED = """turned AS (
  SELECT run_id, scenario, arm_a AS arm_id, arm_b AS other_id, blocks, quantity, note, ratio_lo, ratio, ratio_hi, verdict FROM comparisons
  UNION ALL
  SELECT run_id, scenario, arm_b, arm_a, blocks, quantity, note, 1 / ratio_hi, 1 / ratio, 1 / ratio_lo,
         CASE verdict WHEN 'slower' THEN 'faster' WHEN 'faster' THEN 'slower' ELSE verdict END FROM comparisons)"""
TABLES = ("runs", "arms", "starts", "blocks", "samples", "results", "comparisons", "fits", "checks", "quality", "swaps")

# The newest complete campaign of each machine × model × weights × precision × scenario in which some arm was at least tried: one whose
# arms are all SKIPPED has nothing to show and hides no older one. Where there is no complete one, the newest row of each arm.
CURRENT = """
WITH known AS (
    SELECT results.*, runs.complete AS run_complete,
           bool_or(results.role = 'measured' AND results.status NOT IN ('SKIPPED', 'NOT_APPLICABLE'))
               OVER (PARTITION BY results.run_id, results.precision, results.scenario) AS tried
    FROM results JOIN runs USING (run_id)
    WHERE results.variant NOT LIKE 'knob:%'
), parts AS (
    SELECT machine_id, model, weights, precision, scenario,
           coalesce(max({moment: measured_at, run: run_id}) FILTER (run_complete AND tried),
                    max({moment: measured_at, run: run_id}) FILTER (run_complete)) AS newest
    FROM known GROUP BY ALL
)
SELECT known.* EXCLUDE (tried) REPLACE (epoch_us(known.measured_at) AS measured_at)
FROM known JOIN parts USING (machine_id, model, weights, precision, scenario)
WHERE newest IS NULL OR known.run_id = newest.run
QUALIFY newest IS NOT NULL OR known.measured_at = max(known.measured_at) OVER (
    PARTITION BY machine_id, model, weights, precision, scenario, framework, variant, sessions, threads, role)
ORDER BY ALL
"""

RUNS = """
SELECT * REPLACE (epoch_us(measured_at) AS measured_at, epoch_us(ended_at) AS ended_at)
FROM runs ORDER BY runs.measured_at DESC, run_id DESC
"""


@dataclass(frozen=True)
class TableKey:
    """One scenario of one run at one precision."""

    run_id: str
    scenario: str
    precision: str


@dataclass(frozen=True)
class Table:
    """One scenario at one precision, in the order in which it is shown."""

    scenario: str
    title: str
    load: str
    """closed, open, offline or slo."""
    served: str | None
    clients: int | None
    batch: int | None
    rate_per_s: float | None
    """The rate of an open loop; None for closed loops and offline batches."""
    precision: str
    rows: tuple[Row, ...]
    """Measured and shown, each framework as it stands among the defaults: ranked rows by rank, then those not ranked, best first."""
    variants: tuple[Row, ...]
    """Arms of other variants and layouts, with numbers or with a reason."""
    failed: tuple[Row, ...]
    """Arms without numbers to show, with status and reason."""
    floors: tuple[Row, ...]
    controls: tuple[Row, ...]
    missing: tuple[str, ...]
    """Frameworks of the catalogue that have no row here: not yet run."""

    @property
    def has_rate(self) -> bool:
        """False where throughput means nothing, as with text lengths of which each comes once: medians are compared instead."""
        return not self.rows or any(row["requests_per_s"] is not None for row in self.rows)

    @property
    def by_latency(self) -> bool:
        """True where the latency ranks: arrivals set the rate, or there is no throughput."""
        return self.rate_per_s is not None or not self.has_rate

    @property
    def tail(self) -> str:
        """The column by which latencies stand side by side: p99_ms where every arm has one, else p50_ms, never one beside the other."""
        return tail_of(self.rows)

    @property
    def mixed(self) -> bool:
        """True where rows come from several runs, whose ranks and ratios do not compare."""
        return len({row["run_id"] for row in (*self.rows, *self.failed)}) > 1

    def of(self, framework: str) -> Row | None:
        """The row by which a framework is shown where there is room for one: its best, else its failure."""
        return next((row for row in (*self.rows, *self.failed) if row["framework"] == framework), None)

    @property
    def every(self) -> tuple[Row, ...]:
        return (*self.rows, *self.variants, *self.failed, *self.floors, *self.controls)

    @property
    def key(self) -> TableKey:
        """Where the rows of a table that is not `mixed` come from."""
        return TableKey(self.rows[0]["run_id"], self.scenario, self.precision)

    def across_recipes(self, full: str) -> list[Row]:
        """The arms by which a precision is shown: each framework's headline and, beside the precision `full`, every recipe for it."""
        others = [row for row in self.variants if self.precision != full and not is_setting(row)]
        return [*self.rows, *(row for row in others if shown(row)), *self.failed, *(row for row in others if not shown(row))]


@dataclass(frozen=True)
class Standing:
    """The current rows of one model on one machine with one kind of weights."""

    model: str
    machine_id: str
    machine: str
    weights: str
    complete: bool
    runs: tuple[Row, ...]
    """The runs that the rows come from, newest first."""
    tables: tuple[Table, ...]

    @property
    def served(self) -> tuple[Table, ...]:
        """Tables of scenarios that were served; the others were derived from one of these. Searches for a rate stand apart."""
        return tuple(table for table in self.tables if table.served is None and table.load != "slo")

    @property
    def searches(self) -> tuple[Table, ...]:
        """What was searched: per latency limit the largest rate that keeps it."""
        return tuple(table for table in self.tables if table.load == "slo")

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those with numbers, the default one first."""
        return tuple(dict.fromkeys(table.precision for table in self.served if table.rows or table.variants))

    def derived(self, of: Table) -> tuple[Table, ...]:
        """`of` itself and the tables derived from it, by number of clients."""
        family = [t for t in self.tables if t.precision == of.precision and (t.served or t.scenario) == of.scenario and t.load != "slo"]
        return tuple(sorted(family, key=lambda table: table.clients or 1))

    @property
    def mixed(self) -> bool:
        """True where some table holds rows of several runs."""
        return any(table.mixed for table in self.tables)

    @property
    def rows(self) -> list[Row]:
        """Every row of every table."""
        return [row for table in self.tables for row in table.every]

    @property
    def headline(self) -> list[Table]:
        """The tables that are shown in full: the first of single requests and the first of the largest batches, in the first precision."""
        if not self.served:
            return []
        first = self.served[0]
        batches = [
            table for table in self.served if table.load == "offline" and table.precision == first.precision and (table.batch or 1) > 1
        ]
        largest = max(batches, key=lambda table: table.batch or 1, default=None)
        return [first, largest] if largest is not None and largest is not first else [first]

    def batched(self, precision: str) -> list[Table]:
        """Closed loops in which several requests are served together, by number of clients."""
        family = [t for t in self.tables if t.load == "closed" and (t.batch or 1) > 1 and t.precision == precision]
        return sorted(family, key=lambda table: (table.clients or 1, table.scenario))


class Board:
    """The database, opened for reading."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
        self.connection = connection
        self.catalog = catalog

    @property
    def file(self) -> Path:
        """The file of the database; it has none where there is no run yet."""
        return Path(self.query("SELECT path FROM duckdb_databases() WHERE database_name = current_database()")[0]["path"] or "")

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows of a query as dictionaries, columns in order."""
        cursor = self.connection.execute(sql, list(parameters))
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]

    @cached_property
    def runs(self) -> Sequence[Row]:
        """All runs, newest first; `run_json` and `machine_json` parsed."""
        parsed = []
        for row in self.query(RUNS):
            for column in ("run_json", "machine_json"):
                row[column] = json.loads(row[column])
            parsed.append(row)
        return parsed

    @cached_property
    def standings(self) -> dict[str, list[Standing]]:
        """Per model its standings: real weights before synthetic ones, complete before incomplete, newest first."""
        groups: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.query(CURRENT):
            groups.setdefault((row["model"], row["machine_id"], row["weights"]), []).append(row)
        found: dict[str, list[Standing]] = {name: [] for name in self.catalog.models}
        for (model, machine_id, weights), rows in groups.items():
            ids = {row["run_id"] for row in rows}
            runs = tuple(run for run in self.runs if run["run_id"] in ids)
            complete = all(row["run_complete"] for row in rows)
            standing = Standing(model, machine_id, runs[0]["machine"], weights, complete, runs, self.tables(rows))
            found.setdefault(model, []).append(standing)
        for standings in found.values():
            standings.sort(key=lambda s: (s.weights == "synthetic", not s.complete, -s.runs[0]["measured_at"], s.machine_id))
        return found

    def tables(self, rows: Sequence[Row]) -> tuple[Table, ...]:
        """Rows as tables, one per scenario and precision, in catalogue order; derived ones after the one that was served."""
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in rows:
            groups.setdefault((row["scenario"], row["precision"]), []).append(row)
        tables = [self._table(scenario, precision, part) for (scenario, precision), part in groups.items()]
        order, precisions = list(self.catalog.scenarios), list(get_args(Precision))

        def place(table: Table) -> tuple[int, int, str, int, str]:
            base = table.served or table.scenario
            return (
                precisions.index(table.precision) if table.precision in precisions else len(precisions),
                order.index(base) if base in order else len(order),
                base,
                table.clients or 1,
                table.scenario,
            )

        return tuple(sorted(tables, key=place))

    def _table(self, scenario: str, precision: str, rows: Sequence[Row]) -> Table:
        first = rows[0]
        compared = [row for row in rows if row["role"] == "measured"]
        default = [row for row in compared if self.is_default(row)]
        tail = tail_of([row for row in default if shown(row)])
        others = [row for row in compared if not self.is_default(row)]
        seen = {row["framework"] for row in default}
        wanted = [f.name for f in self.catalog.frameworks.values() if f.role == "measured" and f.headline(precision)]
        entry = self.scenario_entry(first)
        load = str(entry.get("load") or "closed")
        if load != "slo" and first["rate_per_s"] is not None:
            load = "open"
        return Table(
            scenario=scenario,
            title=self.scenario_title(first),
            load=load,
            served=first["served_scenario"],
            clients=first["clients"],
            batch=first["batch"],
            rate_per_s=first["rate_per_s"] if load == "open" else None,
            precision=precision,
            rows=tuple(sorted((row for row in default if shown(row)), key=lambda row: by_rank(row, tail))),
            variants=tuple(sorted(others, key=lambda row: (not shown(row), row["framework"], row["variant"], row["sessions"]))),
            failed=tuple(sorted((row for row in default if not shown(row)), key=lambda row: (row["framework"], row["variant"]))),
            floors=tuple(sorted((row for row in rows if row["role"] == "floor"), key=lambda row: str(row["framework"]))),
            controls=tuple(sorted((row for row in rows if row["role"] not in ("measured", "floor")), key=lambda row: str(row["variant"]))),
            missing=tuple(name for name in wanted if name not in seen),
        )

    def is_poisson(self, table: Table) -> bool:
        """True for arrivals at random, by which rates are compared: bursts, even spacing and traces are another load at the same rate."""
        return table.load == "open" and self.scenario_entry(table.every[0]).get("arrivals") in (None, "poisson")

    def is_default(self, row: Row) -> bool:
        """True for the arm that stands for its framework: everything untouched, or the variant that the catalogue names in its place."""
        if row["variant"] == "default":
            return True
        known = self.catalog.frameworks.get(row["framework"])
        headline = known.headline(row["precision"]) if known else None
        return headline is not None and row["variant"] == headline.name

    @cached_property
    def _entries(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """What each run says of its scenarios, by run and name."""
        return {(run["run_id"], str(entry.get("name"))): entry for run in self.runs for entry in run["run_json"].get("scenarios") or []}

    def scenario_entry(self, row: Row) -> Mapping[str, Any]:
        """What its run says of the scenario that was served for a row; empty where it says nothing."""
        return self._entries.get((row["run_id"], row["served_scenario"] or row["scenario"]), {})

    def scenario_title(self, row: Row) -> str:
        """What the load was, in words of the run itself, or of the catalogue."""
        base = row["served_scenario"] or row["scenario"]
        known = self.catalog.scenarios.get(base)
        title = str(self.scenario_entry(row).get("title") or (known.title if known else base))
        if row["rate_per_s"] is not None and self.scenario_entry(row).get("load") != "slo":
            return f"{title} ({formatting.number(row['rate_per_s'])}/s)"
        return f"{title}, {row['clients']} closed-loop clients" if row["served_scenario"] else title

    def load_title(self, row: Row) -> str:
        """The title of a served load, whichever of its rows is at hand."""
        return self.scenario_title({**row, "scenario": row["served_scenario"] or row["scenario"], "served_scenario": None})

    @cached_property
    def measured_frameworks(self) -> list[str]:
        """The catalogue's measured frameworks in its order, then others that the current rows name."""
        catalogue = [f.name for f in self.catalog.frameworks.values() if f.role == "measured"]
        rows = [row for standings in self.standings.values() for standing in standings for row in standing.rows]
        others = sorted({row["framework"] for row in rows if row["role"] == "measured"} - set(catalogue))
        return [*catalogue, *others]

    def model_title(self, name: str) -> str:
        if name in self.catalog.models:
            return self.catalog.models[name].title
        return str(next((run["run_json"].get("model_title") for run in self.runs if run["model"] == name), None) or name)

    def framework_title(self, name: str) -> str:
        return self.catalog.frameworks[name].title if name in self.catalog.frameworks else name


def is_setting(row: Row) -> bool:
    """Knobs, tuned settings and layouts: the same vectors otherwise served."""
    return row["variant"].partition(":")[0] in ("knob", "tuned") or row["sessions"] != 1


def measured(row: Row) -> bool:
    """True where an arm was measured to the end (or in part) and passed the correctness gate."""
    return row["status"] in SHOWN


def shown(row: Row) -> bool:
    """True where a measured row has numbers to show: a limit of a search that no rate keeps has none."""
    return measured(row) and (row["requests_per_s"] is not None or row["p50_ms"] is not None)


def tail_of(rows: Sequence[Row]) -> str:
    """Table.tail, of rows that are not in their order yet."""
    return "p99_ms" if rows and all(row["p99_ms"] is not None for row in rows) else "p50_ms"


def latency(row: Row, column: str) -> float | None:
    """A percentile in ms; ∞, whichever is asked for, where the backlog still grew at the end and the tail has no end."""
    endless = row["p99_ms"] is not None and math.isinf(row["p99_ms"])
    return math.inf if endless else row[column]


def by_rank(row: Row, tail: str) -> tuple[bool, int, int, float, str, str]:
    """Ranked before not ranked, better rank intervals first, then more requests a second (where latency ranks: the shorter one)."""
    worst = 10**6
    took = latency(row, tail)
    return (
        not row["ranked"],
        row["rank_lo"] or worst,
        row["rank_hi"] or worst,
        (math.inf if took is None else took) if row["rate_per_s"] is not None or row["requests_per_s"] is None else -row["requests_per_s"],
        row["framework"],
        row["variant"],
    )


def open_database(database: Path) -> duckdb.DuckDBPyConnection:
    """The database, read-only; where there is none yet, an empty one in memory.

    Raises:
        BenchError: the file is locked by a writer or is no results database.
    """
    if not database.exists():
        connection = duckdb.connect(":memory:")
        connection.execute((paths.ROOT / "bench" / "schema.sql").read_text(encoding="utf-8"))
        return connection
    try:
        connection = duckdb.connect(str(database), read_only=True)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise BenchError(
            f"{database}: cannot be read ({reason}); close the program that has it open, or rebuild it with: invoke load"
        ) from None
    tables = {row[0] for row in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()}
    if not set(TABLES) <= tables:
        connection.close()
        raise BenchError(f"{database}: is not a results database of this version (tables are missing); rebuild it with: invoke load")
    return connection
