"""`/coverage/`: what was run and what was not, with reasons."""

from __future__ import annotations

from typing import Any

from site_src import formatting
from site_src.data import operating_points
from site_src.data.leaderboard import Row, Standing, Table, measured
from site_src.page_writer import Press


def write(press: Press) -> None:
    board = press.board
    names = board.measured_frameworks
    groups: list[dict[str, Any]] = []
    reasons: dict[tuple[str, str, str, str], list[str]] = {}
    for model, standings in board.standings.items():
        if not standings:
            groups.append({"model": model, "standing": None, "lines": [], "measured": [0] * len(names)})
        for place, standing in enumerate(standings, 1):
            tables = listed(standing)
            lines = [{"title": f"{table.title}, {table.precision}", "cells": [table.of(name) for name in names]} for table in tables]
            columns = zip(*(line["cells"] for line in lines), strict=True)
            counts = [sum(cell is not None and measured(cell) for cell in column) for column in columns]
            here = f"{formatting.slug(model)}-{place}"
            groups.append({"id": here, "model": model, "standing": standing, "lines": lines, "measured": counts})
            for table in tables:
                for row in (*table.rows, *table.failed):
                    state, why = state_of(row)
                    if why:
                        reasons.setdefault((model, row["framework"], state, why), []).append(f"{table.title}, {table.precision}")
    press.page(
        "coverage",
        "coverage.md.j2",
        title="Coverage",
        section="Coverage",
        description="Every model against every framework: measured, failed, skipped or not yet run, with reasons",
        frameworks=names,
        groups=groups,
        reasons=[
            {
                "model": model,
                "framework": framework,
                "state": state,
                "reason": why,
                "loads": "; ".join(loads),
                "failed": state not in ("not ranked", "withheld", "SKIPPED", "NOT_APPLICABLE"),
            }
            for (model, framework, state, why), loads in reasons.items()
        ],
    )


def listed(standing: Standing) -> list[Table]:
    """What was served, and each search as a whole rather than by limit."""
    return [*standing.served, *(table for table in standing.searches if operating_points.limit_of(table) is None)]


def state_of(row: Row) -> tuple[str, str]:
    """Why a row is less than a ranked row with all its tails: (state, reason), the reason empty where it is not."""
    if row["status"] != "OK":
        return row["status"], row["reason"] or "no reason was recorded"
    if not row["ranked"]:
        return "not ranked", row["rank_note"] or "no rank was computed"
    return ("withheld", row["tail_note"]) if row["p99_ms"] is None and row["tail_note"] else ("OK", "")
