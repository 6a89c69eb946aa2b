"""Operating points: per latency limit the largest arrival rate that an arm keeps it at. Rows are picked here, nothing is computed.

Two sources, and the page says which: a search (scenario `slo`), whose rows name a limit each; else the ladder of Poisson rates that all
arms were measured at, of which the largest with p99 at or below the limit is taken: the real one lies at or above it.
"""

from __future__ import annotations

from dataclasses import dataclass

from site_src.data.leaderboard import Board, Row, Standing, Table, measured

LADDER_MS = (10.0, 25.0, 50.0, 100.0, 250.0, 1000.0)


@dataclass(frozen=True)
class Point:
    """What one arm sustains within one limit. `row` is where it stands; `rate_per_s` None: no rate keeps the limit, or none was tried."""

    row: Row
    rate_per_s: float | None
    why: str

    @property
    def state(self) -> str:
        """`none` where no rate keeps the limit, else why it is not known."""
        return "none" if measured(self.row) else str(self.row["status"])


@dataclass(frozen=True)
class Limits:
    """All limits of one standing. `points[limit][arm_id]`."""

    searched: bool
    precision: str
    limits_ms: tuple[float, ...]
    arms: tuple[Row, ...]
    """One row per arm, the one with the most at the smallest met limit first."""
    points: dict[float, dict[str, Point]]

    @property
    def smallest_met(self) -> float | None:
        """The smallest limit that some arm keeps at some rate."""
        return next((limit for limit in self.limits_ms if any(p.rate_per_s for p in self.points[limit].values())), None)

    def leaders(self, limit: float) -> tuple[Point, ...]:
        """The points with the largest rate: several where a ladder puts them on one rung."""
        known = [point for point in self.points[limit].values() if point.rate_per_s]
        best = max((point.rate_per_s or 0.0 for point in known), default=0.0)
        return tuple(point for point in known if point.rate_per_s == best)


def limits(board: Board, standing: Standing) -> Limits | None:
    """The operating points of a standing in its first precision; None where nothing arrived at a rate. A search that no arm had its turn
    in gives none: the ladder stands in for it."""
    searches = [table for table in standing.searches if limit_of(table) is not None]
    if any(measured(row) for table in searches for row in (*table.rows, *table.failed)):
        precision = searches[0].precision
        found = {
            limit: {row["arm_id"]: Point(row, row["rate_per_s"], row["reason"] or "") for row in (*table.rows, *table.failed)}
            for table in searches
            if table.precision == precision and (limit := limit_of(table)) is not None
        }
        return ordered(True, precision, found)
    ladder = [table for table in standing.served if table.rate_per_s is not None and board.is_poisson(table)]
    ladder = [table for table in ladder if table.precision == ladder[0].precision]
    if not any(table.rows for table in ladder):
        return None
    found = {}
    for limit in LADDER_MS:
        points: dict[str, Point] = {}
        for table in ladder:
            for row in table.rows:
                known = points.get(row["arm_id"])
                keeps = row["p99_ms"] is not None and row["p99_ms"] <= limit
                if keeps and (known is None or (known.rate_per_s or 0) < (table.rate_per_s or 0)):
                    points[row["arm_id"]] = Point(row, table.rate_per_s, table.title)
                elif known is None:
                    why = "p99 is withheld" if row["p99_ms"] is None else "p99 is above it at every rate that was tried"
                    points[row["arm_id"]] = Point(row, None, why)
        found[limit] = points
    return ordered(False, ladder[0].precision, found)


def untried(standing: Standing) -> str:
    """Why nothing is known of a standing's operating points."""
    reasons = [row["reason"] for table in standing.searches for row in table.failed if row["reason"]]
    return str(reasons[0]) if reasons else "none of its runs has arrivals at a rate"


def limit_of(table: Table) -> float | None:
    """The latency limit in ms that a table of a search is about; None for the search itself."""
    return next((float(row["slo_ms"]) for row in table.every if row.get("slo_ms") is not None), None)


def ordered(searched: bool, precision: str, found: dict[float, dict[str, Point]]) -> Limits:
    limits_ms = tuple(sorted(found))
    arms = {arm_id: point.row for limit in reversed(limits_ms) for arm_id, point in found[limit].items()}

    def most(arm_id: str) -> tuple[float, ...]:
        return tuple(-(found[limit][arm_id].rate_per_s or 0.0) if arm_id in found[limit] else 0.0 for limit in limits_ms)

    return Limits(searched, precision, limits_ms, tuple(arms[arm] for arm in sorted(arms, key=lambda a: (most(a), a))), found)
