"""The pages over all models: frameworks, coverage, pairs, cold start. Each function writes one kind of page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.catalog import Framework
from site_src import formatting, sentences
from site_src.charts import chart as drawing
from site_src.charts import models
from site_src.charts.models import Place
from site_src.data import operating_points
from site_src.data.leaderboard import Row, Table, measured, shown
from site_src.page_writer import Press
from site_src.pages.model import MOST_CHARTS, headline, measured_frameworks


def frameworks(press: Press) -> None:
    """The grid of models × frameworks, and a page per framework."""
    board = press.board
    known = measured_frameworks(press)
    grids: dict[tuple[str, str], dict[str, Any]] = {}
    for standings in board.standings.values():
        for standing in standings:
            for table in standing.served:
                key = (table.scenario, table.precision)
                grid = grids.setdefault(
                    key,
                    {
                        "id": formatting.ident("-".join(key)),
                        "title": table.title,
                        "precision": table.precision,
                        "frameworks": known,
                        "lines": [],
                    },
                )
                line = {"standing": standing, "table": table, "several": len(standings) > 1, "cells": [table.of(name) for name in known]}
                grid["lines"].append(line)
    press.page(
        "frameworks/index",
        "frameworks.md.j2",
        title="Frameworks",
        section="Frameworks",
        description="Six frameworks over all models: throughput over the best",
        grids=list(grids.values()),
        frameworks=[board.catalog.frameworks[name] for name in board.catalog.frameworks],
    )
    for entry in board.catalog.frameworks.values():
        framework(press, entry)


def framework(press: Press, entry: Framework) -> None:
    """One framework over all models: current rows, settings as read back, history."""
    board = press.board
    rows: list[dict[str, Any]] = []
    for standings in board.standings.values():
        for standing in standings:
            for table in standing.served:
                own = [row for row in (*table.rows, *table.variants, *table.failed, *table.floors) if row["framework"] == entry.name]
                rows += [{"row": row, "title": table.title, "mixed": table.mixed, "shown": shown(row)} for row in own]
    history = board.query(
        "SELECT * REPLACE (epoch_us(measured_at) AS measured_at) FROM leaderboard WHERE framework = ? AND served_scenario IS NULL"
        " AND status IN ('OK', 'PARTIAL') AND role IN ('measured', 'floor') AND requests_per_s IS NOT NULL"
        " ORDER BY leaderboard.measured_at DESC, run_id DESC, scenario, precision, variant",
        [entry.name],
    )
    newest = board.query(
        "SELECT version_json, settings_json FROM arms JOIN runs USING (run_id) WHERE framework = ? AND version_json IS NOT NULL"
        " AND role IN ('measured', 'floor') ORDER BY measured_at DESC, run_id DESC, variant LIMIT 1",
        [entry.name],
    )
    press.page(
        f"frameworks/{formatting.slug(entry.name)}",
        "framework.md.j2",
        title=entry.title,
        section="Frameworks",
        description=f"{entry.title} over all models: ratio to the best, settings, versions, history",
        framework=entry,
        summary=sentences.framework_summary(board, entry, [item["row"] for item in rows if item["shown"] and not item["mixed"]]),
        rows=rows,
        history=history,
        version=formatting.flatten(formatting.parse(newest[0]["version_json"])) if newest else [],
        settings=formatting.flatten(formatting.parse(newest[0]["settings_json"])) if newest else [],
    )


def coverage(press: Press) -> None:
    """What was run and what was not, with reasons."""
    board = press.board
    known = measured_frameworks(press)
    groups: list[dict[str, Any]] = []
    reasons: dict[tuple[str, str, str, str], list[str]] = {}
    for name, standings in board.standings.items():
        if not standings:
            groups.append({"model": name, "standing": None, "lines": [], "measured": [0] * len(known)})
        for place, standing in enumerate(standings):
            tables = [*standing.served, *(table for table in standing.searches if operating_points.limit_of(table) is None)]
            lines = [
                {"title": f"{table.title}, {table.precision}", "cells": [table.of(framework) for framework in known]} for table in tables
            ]
            columns = zip(*(line["cells"] for line in lines), strict=True)
            counts = [sum(cell is not None and measured(cell) for cell in column) for column in columns]
            here = f"{formatting.slug(name)}-{place + 1}"
            groups.append({"id": here, "model": name, "standing": standing, "lines": lines, "measured": counts})
            for table in tables:
                for row in (*table.rows, *table.failed):
                    state, why = state_of(row)
                    if why:
                        reasons.setdefault((name, row["framework"], state, why), []).append(f"{table.title}, {table.precision}")
    press.page(
        "coverage",
        "coverage.md.j2",
        title="Coverage",
        section="Coverage",
        description="Every model against every framework: measured, failed, skipped or not yet run, with reasons",
        frameworks=known,
        groups=groups,
        reasons=[
            {
                "model": m,
                "framework": f,
                "state": state,
                "reason": why,
                "loads": "; ".join(loads),
                "failed": state not in ("not ranked", "withheld", "SKIPPED", "NOT_APPLICABLE"),
            }
            for (m, f, state, why), loads in reasons.items()
        ],
    )


def state_of(row: Row) -> tuple[str, str]:
    """Why a row is less than a ranked row with all its tails: (state, reason), the reason empty where it is not."""
    if row["status"] != "OK":
        return row["status"], row["reason"] or "no reason was recorded"
    if not row["ranked"]:
        return "not ranked", row["rank_note"] or "no rank was computed"
    return ("withheld", row["tail_note"]) if row["p99_ms"] is None and row["tail_note"] else ("OK", "")


def compare(press: Press) -> None:
    """All pairs of the current runs: a forest over the models, tables of the headline loads, and the JSON behind the picker."""
    board = press.board
    parts, answers, seen = [], [], set()
    listed: dict[tuple[str, str], list[tuple[Place, str]]] = {}
    for name, standings in board.standings.items():
        for standing in standings[:1]:
            lead = headline(standing)
            for table in standing.served:
                rows = {row["arm_id"]: row for row in table.rows}
                pairs = [] if table.mixed else pairs_of(press, table, rows)
                for pair in pairs:
                    ends = {"a": rows[pair["arm_a"]]["framework"], "b": rows[pair["arm_b"]]["framework"]}
                    pair |= {f"name_{key}": board.framework_title(value) for key, value in ends.items()}
                    seen |= set(ends.values())
                    told = {key: rounded(pair[key]) for key in ("ratio", "ratio_lo", "ratio_hi", "verdict", "blocks", "quantity", "note")}
                    load = f"{table.title}, {table.precision}"
                    answers.append({**ends, **told, "model": board.model_title(name), "weights": standing.weights, "load": load})
                if pairs and table in lead:
                    listed.setdefault((table.scenario, table.precision), []).append((place_of(table), table.title))
                    parts.append(
                        {
                            "standing": standing,
                            "title": table.title,
                            "precision": table.precision,
                            "id": formatting.ident(f"{formatting.slug(name)}-{table.scenario}-{table.precision}"),
                            "pairs": pairs,
                            "quantity": pairs[0]["quantity"],
                            "note": next((row["rank_note"] for row in table.rows if not row["ranked"] and row["rank_note"]), ""),
                        }
                    )
    present = [framework for framework in measured_frameworks(press) if framework in seen]
    drawn: list[drawing.Chart] = []
    for (scenario, precision), found in listed.items():
        if len(drawn) == MOST_CHARTS:
            break
        title = f"{found[0][1]}, {precision}"
        chart = models.forest(board, [place for place, _ in found], present[0], title, formatting.ident(f"{scenario}-{precision}"))
        if chart:
            press.chart("compare", chart)
            drawn.append(chart)
    press.text("data/compare.json", formatting.to_json(answers, None))
    press.page(
        "compare",
        "compare.md.j2",
        title="Compare",
        section="Compare",
        description="Any two frameworks: paired ratios with intervals over all models",
        parts=parts,
        charts=drawn,
        frameworks=present,
    )


def rounded(value: Any) -> Any:
    """Six digits are more than an interval is good for."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def place_of(table: Table) -> Place:
    return Place(table.rows[0]["run_id"], table.scenario, table.precision)


def pairs_of(press: Press, table: Table, rows: Mapping[str, Row]) -> list[dict[str, Any]]:
    """The comparisons among the shown rows of a table."""
    found = press.board.query(
        "SELECT * FROM comparisons WHERE run_id = ? AND scenario = ? ORDER BY arm_a, arm_b",
        [next(iter(rows.values()))["run_id"] if rows else "", table.scenario],
    )
    return [pair for pair in found if pair["arm_a"] in rows and pair["arm_b"] in rows]


def cold_start(press: Press) -> None:
    """Start, load and memory of the best standing of each model."""
    board = press.board
    counted = board.query("SELECT run_id, arm_id, count(*) AS starts FROM starts GROUP BY ALL ORDER BY ALL")
    starts = {(row["run_id"], row["arm_id"]): row["starts"] for row in counted}
    parts, listed = [], []
    for standings in board.standings.values():
        table = next((table for table in standings[0].served if table.rows), None) if standings else None
        if table is None:
            continue
        listed.append(place_of(table))
        rows = sorted(table.rows, key=lambda row: (row["load_ms"] is None, row["load_ms"] or 0.0, row["framework"]))
        most = {name: max((row[name] or 0 for row in rows), default=0) for name in ("load_ms", "peak_rss_bytes")}
        parts.append({"standing": standings[0], "rows": rows, "starts": starts, "most": most})
    chart = models.starts(board, listed) if listed else None
    if chart:
        press.chart("cold-start", chart)
    press.page(
        "cold-start",
        "cold_start.md.j2",
        title="Cold start and memory",
        section="Cold start",
        description="Starting the process, loading the model, the first call, and the memory it holds",
        parts=parts,
        chart=chart,
    )
