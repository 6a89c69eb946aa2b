"""One run as the database holds it: rows, arms, starts, checks, blocks, pairs, and the loads that it served."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from site_src import records
from site_src.data import operating_points
from site_src.data.leaderboard import Leaderboard, ModelResults, Row, Table


@dataclass(frozen=True)
class Load:
    """One served load of a run, with its rows and those of the scenarios that were derived from it."""

    name: str
    title: str
    rows: tuple[Row, ...]


class RunRecord:
    def __init__(self, board: Leaderboard, run: Row) -> None:
        self.board = board
        self.run = run

    def ask(self, sql: str) -> list[dict[str, Any]]:
        """The rows of a query, in which `?` stands for the id of this run."""
        return self.board.query(sql, [self.run["run_id"]])

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return self.ask(
            "SELECT * REPLACE (epoch_us(measured_at) AS measured_at) FROM leaderboard WHERE run_id = ? ORDER BY scenario, arm_id"
        )

    @cached_property
    def results(self) -> ModelResults:
        """The run's rows as tables, whether or not they are the current ones."""
        run = self.run
        tables = self.board.tables(self.rows)
        return ModelResults(run["model"], run["machine_id"], run["machine"], run["weights"], run["complete"], (run,), tables)

    @cached_property
    def arms(self) -> list[dict[str, Any]]:
        """The arms, with `version` and `settings` as (name, text) pairs."""
        arms = self.ask("SELECT * FROM arms WHERE run_id = ? ORDER BY role = 'floor', framework, precision, variant, arm_id")
        for arm in arms:
            arm["version"] = records.flatten(records.parse(arm["version_json"]))
            arm["settings"] = records.flatten(records.parse(arm["settings_json"]))
        return arms

    @cached_property
    def checks(self) -> list[dict[str, Any]]:
        checks = self.ask("SELECT * FROM checks WHERE run_id = ? ORDER BY arm_id, name")
        return [{**check, "title": self.board.arm_title(check["arm_id"])} for check in checks]

    @cached_property
    def starts(self) -> list[dict[str, Any]]:
        starts = self.ask(
            "SELECT arm_id, start, spawn_ns / 1e6 AS spawn_ms, load_ns / 1e6 AS load_ms, first_ns / 1e6 AS first_ms,"
            " second_ns / 1e6 AS second_ms FROM starts WHERE run_id = ? ORDER BY arm_id, start"
        )
        return [{**start, "name": self.board.arm_title(start["arm_id"])} for start in starts]

    @cached_property
    def blocks(self) -> list[dict[str, Any]]:
        """Per scenario: the number of blocks, the number of noisy ones, and the notes on why."""
        return self.ask(
            "SELECT scenario, count(*) AS blocks, count(*) FILTER (noisy) AS noisy, string_agg(DISTINCT note, '; ' ORDER BY note) AS notes"
            " FROM blocks WHERE run_id = ? GROUP BY scenario ORDER BY scenario"
        )

    @cached_property
    def comparisons(self) -> list[dict[str, Any]]:
        pairs = self.ask("SELECT * FROM comparisons WHERE run_id = ? ORDER BY scenario, arm_a, arm_b")
        return [{**pair, "name_a": self.board.arm_title(pair["arm_a"]), "name_b": self.board.arm_title(pair["arm_b"])} for pair in pairs]

    @cached_property
    def loads(self) -> list[Load]:
        """The served loads in the order of the catalogue, loads that it does not name last."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row["served_scenario"] or row["scenario"], []).append(row)
        order = list(self.board.catalog.scenarios)
        names = sorted(groups, key=lambda name: (order.index(name) if name in order else len(order), name))
        return [Load(name, self.board.load_title(groups[name][0]), tuple(groups[name])) for name in names]

    def tables_of(self, load: Load) -> list[Table]:
        """The tables of a load: of a search one per latency limit, of any other load the one that was served."""
        scenarios = {row["scenario"] for row in load.rows}
        return [
            table
            for table in self.results.tables
            if table.scenario in scenarios
            and (table.scenario == load.name if table.load != "slo" else operating_points.limit_of(table) is not None)
        ]

    @cached_property
    def limits(self) -> operating_points.OperatingPoints | None:
        """The operating points that the run searched for; None if it did not search."""
        points = operating_points.find(self.board, self.results)
        return points if points and points.searched else None
