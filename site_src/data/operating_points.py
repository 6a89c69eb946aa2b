"""Operating points: the largest arrival rate at which an arm keeps a latency limit. Rows are selected; no number is computed.

There are two sources, and pages say which one is used. A search (scenario `slo`) has a row per arm and limit. Without one, the rates that
all arms were measured at form a ladder, and an arm's point is the largest of them with p99 at or below the limit: a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from site_src.data.leaderboard import Leaderboard, ModelResults, Row, Table, is_measured

#: Limits in ms that are read off the ladder.
LADDER_MS = (10.0, 25.0, 50.0, 100.0, 250.0, 1000.0)


@dataclass(frozen=True)
class OperatingPoint:
    """What one arm sustains within one limit.

    Attributes:
        row: the row that says so.
        rate_per_s: None if no rate keeps the limit, or if none was tried.
        why: where the rate is from, or why there is none.
    """

    row: Row
    rate_per_s: float | None
    why: str

    @property
    def state(self) -> str:
        """In place of a rate: `none` if no rate keeps the limit, else the status of the arm."""
        return "none" if is_measured(self.row) else str(self.row["status"])


@dataclass(frozen=True)
class OperatingPoints:
    """All operating points of one model in one precision.

    Attributes:
        searched: True if the rates come from a search, False if from the ladder.
        arms: one row per arm, the arm with the largest rates at small limits first.
        points: limit in ms → arm id → point.
    """

    searched: bool
    precision: str
    limits_ms: tuple[float, ...]
    arms: tuple[Row, ...]
    points: Mapping[float, Mapping[str, OperatingPoint]]

    @property
    def smallest_met(self) -> float | None:
        """The smallest limit in ms that some arm keeps at some rate."""
        return next((limit for limit in self.limits_ms if any(p.rate_per_s for p in self.points[limit].values())), None)

    def leaders(self, limit_ms: float) -> tuple[OperatingPoint, ...]:
        """The points with the largest rate within a limit: several if they stand on the same rung of the ladder."""
        met = [point for point in self.points[limit_ms].values() if point.rate_per_s]
        best = max((point.rate_per_s or 0.0 for point in met), default=0.0)
        return tuple(point for point in met if point.rate_per_s == best)


def find(board: Leaderboard, results: ModelResults) -> OperatingPoints | None:
    """The operating points of a model: by its search if some arm took part in it, else by its ladder; None without arrival rates."""
    searches = [table for table in results.searches if limit_of(table) is not None]
    if any(is_measured(row) for table in searches for row in (*table.rows, *table.failed)):
        return _by_search([table for table in searches if table.precision == searches[0].precision])
    ladder = [table for table in results.served if table.rate_per_s is not None and board.is_poisson(table)]
    ladder = [table for table in ladder if table.precision == ladder[0].precision]
    return _by_ladder(ladder) if any(table.rows for table in ladder) else None


def _by_search(searches: Sequence[Table]) -> OperatingPoints:
    points = {
        limit: {row["arm_id"]: OperatingPoint(row, row["rate_per_s"], row["reason"] or "") for row in (*table.rows, *table.failed)}
        for table in searches
        if (limit := limit_of(table)) is not None
    }
    return _assemble(True, searches[0].precision, points)


def _by_ladder(ladder: Sequence[Table]) -> OperatingPoints:
    return _assemble(False, ladder[0].precision, {limit: _rungs(ladder, limit) for limit in LADDER_MS})


def _rungs(ladder: Sequence[Table], limit_ms: float) -> dict[str, OperatingPoint]:
    """Arm id → the largest rate of the ladder at which the arm's p99 is at or below the limit."""
    points: dict[str, OperatingPoint] = {}
    for table in ladder:
        for row in table.rows:
            before = points.get(row["arm_id"])
            keeps = row["p99_ms"] is not None and row["p99_ms"] <= limit_ms
            if keeps and (before is None or (before.rate_per_s or 0) < (table.rate_per_s or 0)):
                points[row["arm_id"]] = OperatingPoint(row, table.rate_per_s, table.title)
            elif before is None:
                why = "p99 is withheld" if row["p99_ms"] is None else "p99 is above it at every rate that was tried"
                points[row["arm_id"]] = OperatingPoint(row, None, why)
    return points


def why_unknown(results: ModelResults) -> str:
    """Why a model has no operating points."""
    reasons = [row["reason"] for table in results.searches for row in table.failed if row["reason"]]
    return str(reasons[0]) if reasons else "none of its runs has arrivals at a rate"


def limit_of(table: Table) -> float | None:
    """The latency limit in ms of one table of a search; None for the row of the search as a whole."""
    return next((float(row["slo_ms"]) for row in table.every if row.get("slo_ms") is not None), None)


def _assemble(searched: bool, precision: str, points: Mapping[float, Mapping[str, OperatingPoint]]) -> OperatingPoints:
    limits_ms = tuple(sorted(points))
    rows = {arm_id: point.row for limit in reversed(limits_ms) for arm_id, point in points[limit].items()}

    def largest_rates_first(arm_id: str) -> tuple[tuple[float, ...], str]:
        rates = tuple(-(points[limit][arm_id].rate_per_s or 0.0) if arm_id in points[limit] else 0.0 for limit in limits_ms)
        return rates, arm_id

    return OperatingPoints(searched, precision, limits_ms, tuple(rows[arm_id] for arm_id in sorted(rows, key=largest_rates_first)), points)
