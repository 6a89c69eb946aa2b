"""`/coverage/`: every model against every framework: measured, failed, skipped or not yet run, with reasons."""

from __future__ import annotations

from typing import Any

from site_src import markup
from site_src.data import operating_points
from site_src.data.leaderboard import ModelResults, Row, Table, is_measured
from site_src.page_writer import PageWriter


def write(writer: PageWriter) -> None:
    board = writer.board
    names = board.measured_frameworks
    groups: list[dict[str, Any]] = []
    reasons: dict[tuple[str, str, str, str], list[str]] = {}
    for model, by_machine in board.results.items():
        if not by_machine:
            groups.append({"model": model, "results": None, "lines": [], "measured": [0] * len(names)})
        for place, results in enumerate(by_machine, 1):
            tables = listed(results)
            lines = [{"title": f"{table.title}, {table.precision}", "cells": [table.of(name) for name in names]} for table in tables]
            columns = zip(*(line["cells"] for line in lines), strict=True)
            counts = [sum(cell is not None and is_measured(cell) for cell in column) for column in columns]
            here = f"{markup.slug(model)}-{place}"
            groups.append({"id": here, "model": model, "results": results, "lines": lines, "measured": counts})
            for table in tables:
                for row in (*table.rows, *table.failed):
                    state, why = state_of(row)
                    if why:
                        reasons.setdefault((model, row["framework"], state, why), []).append(f"{table.title}, {table.precision}")
    writer.write_page(
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


def listed(results: ModelResults) -> list[Table]:
    """The tables that coverage counts: served scenarios, and each search once instead of once per limit."""
    return [*results.served, *(table for table in results.searches if operating_points.limit_of(table) is None)]


def state_of(row: Row) -> tuple[str, str]:
    """(state, reason): what keeps a row from being ranked with all percentiles; the reason is empty if nothing does."""
    if row["status"] != "OK":
        return row["status"], row["reason"] or "no reason was recorded"
    if not row["ranked"]:
        return "not ranked", row["rank_note"] or "no rank was computed"
    return ("withheld", row["tail_note"]) if row["p99_ms"] is None and row["tail_note"] else ("OK", "")
