"""The leaderboard as the pages show it: runs, the current rows of each model, their order and their names.

Rows are selected, sorted and named here; no number is computed. A row maps the columns of bench/schema.sql to values. Times of day are
microseconds since 1970 (UTC).
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

from bench.catalog import Catalog, Precision, arm_label
from bench.core import formatting
from bench.runs.schema import PROVEN

Row = Mapping[str, Any]

CURRENT = "SELECT * REPLACE (epoch_us(measured_at) AS measured_at) FROM current_results ORDER BY ALL"
RUNS = """
SELECT * REPLACE (epoch_us(measured_at) AS measured_at, epoch_us(ended_at) AS ended_at)
FROM runs ORDER BY runs.measured_at DESC, run_id DESC
"""


@dataclass(frozen=True, order=True)
class TableKey:
    """One scenario of one run at one precision."""

    run_id: str
    scenario: str
    precision: str


@dataclass(frozen=True)
class Table:
    """One scenario at one precision, its rows in the order in which they are shown.

    Attributes:
        title: the load for people.
        load: closed, open, offline or slo.
        served: the scenario that was served, where this one was derived from it; None where this one was served.
        rate_per_s: the arrival rate of an open loop; None for closed loops and offline batches.
        rows: each framework's default arm that has numbers: ranked rows by rank, then rows without a rank, the best first.
        variants: arms of other variants and layouts, with numbers or with a reason.
        failed: default arms without numbers, with status and reason.
        floors: null workers, which measure the harness itself.
        controls: twins, slowed and stalled arms.
        missing: frameworks of the catalogue without a row.
    """

    scenario: str
    title: str
    load: str
    served: str | None
    clients: int | None
    batch: int | None
    rate_per_s: float | None
    precision: str
    rows: tuple[Row, ...]
    variants: tuple[Row, ...]
    failed: tuple[Row, ...]
    floors: tuple[Row, ...]
    controls: tuple[Row, ...]
    missing: tuple[str, ...]

    @property
    def has_rate(self) -> bool:
        """False if no row has a throughput, as under text lengths that come once each: medians are compared instead."""
        return not self.rows or any(row["requests_per_s"] is not None for row in self.rows)

    @property
    def by_latency(self) -> bool:
        """True if rows are ranked by latency: under an arrival rate, or without a throughput."""
        return self.rate_per_s is not None or not self.has_rate

    @property
    def tail(self) -> str:
        """The percentile to compare latencies by: p99_ms if every row has one, else p50_ms for all rows."""
        return tail_of(self.rows)

    @property
    def mixed(self) -> bool:
        """True if the rows come from several runs: ranks and ratios of different runs do not compare."""
        return len({row["run_id"] for row in (*self.rows, *self.failed)}) > 1

    def of(self, framework: str) -> Row | None:
        """The one row that stands for a framework: its best, else its failure; None without either."""
        return next((row for row in (*self.rows, *self.failed) if row["framework"] == framework), None)

    @property
    def every(self) -> tuple[Row, ...]:
        """All rows of the table."""
        return (*self.rows, *self.variants, *self.failed, *self.floors, *self.controls)

    @property
    def key(self) -> TableKey:
        """The run, scenario and precision of a table that has rows and is not mixed."""
        return TableKey(self.rows[0]["run_id"], self.scenario, self.precision)

    def across_recipes(self, full: str) -> list[Row]:
        """The rows for a comparison of precisions: defaults and, in a precision other than `full`, every recipe for it; failures too."""
        others = [row for row in self.variants if self.precision != full and not is_setting(row)]
        return [*self.rows, *(row for row in others if is_shown(row)), *self.failed, *(row for row in others if not is_shown(row))]


@dataclass(frozen=True)
class ModelResults:
    """The current results of one model on one machine with one kind of weights.

    Attributes:
        complete: every row comes from a run of the whole catalogue.
        runs: the runs that the rows come from, newest first.
    """

    model: str
    machine_id: str
    machine: str
    weights: str
    complete: bool
    runs: tuple[Row, ...]
    tables: tuple[Table, ...]

    @property
    def served(self) -> tuple[Table, ...]:
        """The tables of served scenarios, without derived ones and without searches for a rate."""
        return tuple(table for table in self.tables if table.served is None and table.load != "slo")

    @property
    def searches(self) -> tuple[Table, ...]:
        """The tables of searches: a table per latency limit, with the largest rate of each arm that keeps it."""
        return tuple(table for table in self.tables if table.load == "slo")

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions in which something was measured, the model's first one first."""
        return tuple(dict.fromkeys(table.precision for table in self.served if table.rows or table.variants))

    def derived(self, of: Table) -> tuple[Table, ...]:
        """The table `of` and those derived from it, by number of clients."""
        family = [t for t in self.tables if t.precision == of.precision and (t.served or t.scenario) == of.scenario and t.load != "slo"]
        return tuple(sorted(family, key=lambda table: table.clients or 1))

    @property
    def mixed(self) -> bool:
        """True if a table holds rows of several runs."""
        return any(table.mixed for table in self.tables)

    @property
    def rows(self) -> list[Row]:
        """All rows of all tables."""
        return [row for table in self.tables for row in table.every]

    @property
    def headline(self) -> list[Table]:
        """The one or two tables that are shown in full, in the first precision: the first scenario, and the largest offline batches."""
        if not self.served:
            return []
        first = self.served[0]
        batches = [
            table for table in self.served if table.load == "offline" and table.precision == first.precision and (table.batch or 1) > 1
        ]
        largest = max(batches, key=lambda table: table.batch or 1, default=None)
        return [first, largest] if largest is not None and largest is not first else [first]

    def batched(self, precision: str) -> list[Table]:
        """The tables of closed loops whose waiting requests are served in batches, by number of clients."""
        family = [t for t in self.tables if t.load == "closed" and (t.batch or 1) > 1 and t.precision == precision]
        return sorted(family, key=lambda table: (table.clients or 1, table.scenario))


class Leaderboard:
    """The results database, opened for reading, beside the catalogue that names what is in it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, catalog: Catalog) -> None:
        self.connection = connection
        self.catalog = catalog

    @property
    def file(self) -> Path:
        """The database file. An empty database in memory, which stands for one that is not there yet, has none (`Path("")`)."""
        return Path(self.query("SELECT path FROM duckdb_databases() WHERE database_name = current_database()")[0]["path"] or "")

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows of a query as dicts, columns in the order of the query."""
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
    def results(self) -> dict[str, list[ModelResults]]:
        """Model → its results, one per machine and kind of weights, the one to show first.

        Real weights come before synthetic ones, complete results before incomplete ones, newer before older ones.
        """
        groups: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.query(CURRENT):
            groups.setdefault((row["model"], row["machine_id"], row["weights"]), []).append(row)
        by_model: dict[str, list[ModelResults]] = {name: [] for name in self.catalog.models}
        for (model, machine_id, weights), rows in groups.items():
            ids = {row["run_id"] for row in rows}
            runs = tuple(run for run in self.runs if run["run_id"] in ids)
            complete = all(row["run_complete"] for row in rows)
            results = ModelResults(model, machine_id, runs[0]["machine"], weights, complete, runs, self.tables(rows))
            by_model.setdefault(model, []).append(results)
        for by_machine in by_model.values():
            by_machine.sort(key=lambda r: (r.weights == "synthetic", not r.complete, -r.runs[0]["measured_at"], r.machine_id))
        return by_model

    @property
    def first_results(self) -> list[ModelResults]:
        """Of each model that has results the ones to show first."""
        return [by_machine[0] for by_machine in self.results.values() if by_machine]

    def tables(self, rows: Sequence[Row]) -> tuple[Table, ...]:
        """Rows as tables, one per scenario and precision, in the order of the catalogue, derived scenarios after the served one."""
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
        tail = tail_of([row for row in default if is_shown(row)])
        others = [row for row in compared if not self.is_default(row)]
        present = {row["framework"] for row in default}
        expected = [f.name for f in self.catalog.frameworks.values() if f.role == "measured" and f.headline(precision)]
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
            rows=tuple(sorted((row for row in default if is_shown(row)), key=lambda row: by_rank(row, tail))),
            variants=tuple(sorted(others, key=lambda row: (not is_shown(row), row["framework"], row["variant"], row["sessions"]))),
            failed=tuple(sorted((row for row in default if not is_shown(row)), key=lambda row: (row["framework"], row["variant"]))),
            floors=tuple(sorted((row for row in rows if row["role"] == "floor"), key=lambda row: str(row["framework"]))),
            controls=tuple(sorted((row for row in rows if row["role"] not in ("measured", "floor")), key=lambda row: str(row["variant"]))),
            missing=tuple(name for name in expected if name not in present),
        )

    def is_poisson(self, table: Table) -> bool:
        """True for Poisson arrivals. Only these are compared over rates: bursts, even spacing and traces are other loads."""
        return table.load == "open" and self.scenario_entry(table.every[0]).get("arrivals") in (None, "poisson")

    def is_default(self, row: Row) -> bool:
        """True for the arm that stands for its framework: the default variant, or the one that the catalogue names for a precision
        without a default."""
        if row["variant"] == "default":
            return True
        framework = self.catalog.frameworks.get(row["framework"])
        headline = framework.headline(row["precision"]) if framework else None
        return headline is not None and row["variant"] == headline.name

    @cached_property
    def _entries(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """(run, scenario) → the scenario as its run.json describes it."""
        return {(run["run_id"], str(entry.get("name"))): entry for run in self.runs for entry in run["run_json"].get("scenarios") or []}

    def scenario_entry(self, row: Row) -> Mapping[str, Any]:
        """The served scenario of a row as its run.json describes it; empty if it does not."""
        return self._entries.get((row["run_id"], row["served_scenario"] or row["scenario"]), {})

    def scenario_title(self, row: Row) -> str:
        """The load of a row for people, with rate or clients: the title in its run.json, else the catalogue's."""
        base = row["served_scenario"] or row["scenario"]
        scenario = self.catalog.scenarios.get(base)
        title = str(self.scenario_entry(row).get("title") or (scenario.title if scenario else base))
        if row["rate_per_s"] is not None and self.scenario_entry(row).get("load") != "slo":
            return f"{title} ({formatting.number(row['rate_per_s'])}/s)"
        return f"{title}, {row['clients']} closed-loop clients" if row["served_scenario"] else title

    def load_title(self, row: Row) -> str:
        """The title of the served load of a row, which may be a derived one."""
        return self.scenario_title({**row, "scenario": row["served_scenario"] or row["scenario"], "served_scenario": None})

    @cached_property
    def measured_frameworks(self) -> list[str]:
        """The catalogue's measured frameworks in its order, then others that current rows name."""
        catalogue = [f.name for f in self.catalog.frameworks.values() if f.role == "measured"]
        rows = [row for by_machine in self.results.values() for results in by_machine for row in results.rows]
        others = sorted({row["framework"] for row in rows if row["role"] == "measured"} - set(catalogue))
        return [*catalogue, *others]

    def model_title(self, name: str) -> str:
        if name in self.catalog.models:
            return self.catalog.models[name].title
        return str(next((run["run_json"].get("model_title") for run in self.runs if run["model"] == name), None) or name)

    @cached_property
    def _arm_titles(self) -> dict[str, str]:
        rows = self.query("SELECT DISTINCT arm_id, framework, precision, variant, sessions, threads FROM arms ORDER BY ALL")
        return {row.pop("arm_id"): arm_label(self.framework_title(row.pop("framework")), **row, separator=" · ") for row in rows}

    def arm_title(self, arm_id: str) -> str:
        """An arm's name for people; the id of an arm that is in no run, such as the reference."""
        return self._arm_titles.get(arm_id, arm_id)

    def framework_title(self, name: str) -> str:
        return self.catalog.frameworks[name].title if name in self.catalog.frameworks else name


def is_setting(row: Row) -> bool:
    """True for knobs, tuned settings and other layouts: they change how vectors are served, not which."""
    return row["variant"].partition(":")[0] in ("knob", "tuned") or row["sessions"] != 1


def is_measured(row: Row) -> bool:
    """True if the arm was measured, at least in part, and passed the correctness gate."""
    return row["status"] in PROVEN


def is_shown(row: Row) -> bool:
    """True if a measured row has numbers. A latency limit that the arm keeps at no rate has none."""
    return is_measured(row) and (row["requests_per_s"] is not None or row["p50_ms"] is not None)


def tail_of(rows: Sequence[Row]) -> str:
    """`Table.tail` for rows that are in no table yet."""
    return "p99_ms" if rows and all(row["p99_ms"] is not None for row in rows) else "p50_ms"


def latency(row: Row, column: str) -> float | None:
    """A percentile in ms. Where the backlog grew until the end, p99 is ∞, and so is every percentile here."""
    endless = row["p99_ms"] is not None and math.isinf(row["p99_ms"])
    return math.inf if endless else row[column]


def by_rank(row: Row, tail: str) -> tuple[bool, int, int, float, str, str]:
    """A sort key: ranked rows by rank interval, then rows without a rank by throughput, or by latency where latency ranks.

    Args:
        tail: the percentile to compare latencies by.
    """
    last = 10**6
    if row["rate_per_s"] is None and row["requests_per_s"] is not None:
        merit = -row["requests_per_s"]
    else:
        latency_ms = latency(row, tail)
        merit = math.inf if latency_ms is None else latency_ms
    return not row["ranked"], row["rank_lo"] or last, row["rank_hi"] or last, merit, row["framework"], row["variant"]
