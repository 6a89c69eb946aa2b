"""The pages that compare: overview, models, frameworks, coverage, pairs, cold start. Each function writes one kind of page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.catalog import Framework
from site_src import charts, drawing, form, words
from site_src.board import Row, Standing, Table, shown
from site_src.press import Press


def overview(press: Press) -> None:
    """The start page: per model the answer, and what is not measured yet."""
    board = press.board
    cards, waiting = [], []
    for model, standings in board.standings.items():
        facts = words.model_facts(board.catalog.models.get(model))
        if not standings:
            waiting.append({"model": model, "facts": facts})
            continue
        best = standings[0]
        lead = best.served[0]
        chart = alone_and_together(press, best)
        if chart:
            press.chart(f"index/{form.slug(model)}", chart)
        cards.append(
            {
                "model": model,
                "facts": facts,
                "best": best,
                "verdict": words.verdict(board, lead, best.mixed),
                "tasks": words.tasks(board, best),
                "failed": lead.failed,
                "chart": chart,
            }
        )
    press.page(
        "index",
        "index.md.j2",
        title="Embedding models on CPU",
        section="Overview",
        description="Which framework should serve an embedding model on a CPU, measured over six frameworks",
        cards=cards,
        slo=any(row["scenario"].startswith("slo") for found in board.standings.values() for s in found for row in every_row(s)),
        waiting=waiting,
    )


def alone_and_together(press: Press, standing: Standing) -> drawing.Chart | None:
    """The Pareto panel: the first scenario of single requests against the first one of batches."""
    alone = next((table for table in standing.served if (table.batch or 1) == 1 and table.rows), None)
    together = next((table for table in standing.served if (table.batch or 1) > 1 and table.rows), None)
    if alone is None or together is None or standing.mixed:
        return None
    return charts.pareto(chosen(press, standing, alone), together.scenario, together.title, form.ident(standing.model))


def chosen(press: Press, standing: Standing, table: Table) -> charts.Selection:
    """The shown rows of a table, for a chart."""
    arms = [row["arm_id"] for row in table.rows]
    return charts.Selection(press.board, [run["run_id"] for run in standing.runs], arms, table.scenario, table.title)


def model(press: Press, name: str, standings: Sequence[Standing]) -> None:
    """A model's page: the best standing in full, the others as tables."""
    board = press.board
    path = f"models/{form.slug(name)}"
    title = board.model_title(name)
    best = standings[0] if standings else None
    sql = ""
    if best:
        sql = (
            f"SELECT *\nFROM leaderboard\nWHERE run_id IN ({drawing.literals([run['run_id'] for run in best.runs])})\n"
            f"  AND weights = {drawing.literal(best.weights)}\nORDER BY scenario, precision, rank_lo, requests_per_s DESC"
        )
        press.rows(f"data/{path}/leaderboard", [row for standing in standings for row in every_row(standing)])
    press.page(
        path,
        "model.md.j2",
        title=title,
        section="Overview",
        description=f"{title} in six frameworks on CPU: throughput, latency, memory and start, with intervals",
        model=name,
        facts=words.model_facts(board.catalog.models.get(name)),
        best=best,
        others=standings[1:],
        verdict=words.verdict(board, best.served[0], best.mixed) if best else "",
        sections=sections(press, path, best) if best else [],
        floors=[row for table in best.served for row in table.floors] if best else [],
        controls=controls(press, best) if best else [],
        runs=[run for run in board.runs if run["model"] == name],
        shown_runs={run["run_id"] for standing in standings for run in standing.runs},
        sql=sql,
    )


def controls(press: Press, standing: Standing) -> list[dict[str, Any]]:
    """What the controls of the standing's newest run showed: each against the arm that it was made from."""
    return press.board.query(
        "SELECT control.role, control.framework, other.framework AS other, scenario, ratio, ratio_lo, ratio_hi, blocks, verdict, note"
        " FROM comparisons AS pair JOIN arms AS control ON control.run_id = pair.run_id AND control.arm_id = arm_a"
        " JOIN arms AS other ON other.run_id = pair.run_id AND other.arm_id = arm_b"
        " WHERE pair.run_id = ? AND control.role NOT IN ('measured', 'floor') ORDER BY ALL",
        [standing.runs[0]["run_id"]],
    )


def every_row(standing: Standing) -> list[Row]:
    return [row for table in standing.tables for row in (*table.rows, *table.failed, *table.floors, *table.controls)]


def sections(press: Press, path: str, standing: Standing) -> list[dict[str, Any]]:
    """One section per served scenario and precision: its table, its charts, the tables derived from it."""
    found = []
    for place, table in enumerate(standing.served):
        # The first scenario has all charts, the others what differs there; rows of different runs have no common best.
        wanted = [charts.latency, *([] if standing.mixed else [charts.ratios])]
        if place == 0:
            wanted += [charts.load_curve, charts.ecdf]
        drawn = [chart for draw in wanted if table.rows and (chart := draw(chosen(press, standing, table)))]
        for chart in drawn:
            press.chart(path, chart)
        found.append(
            {
                "id": form.ident(f"{table.scenario}-{table.precision}"),
                "table": table,
                "charts": drawn,
                "derived": standing.derived(table),
                "several": sum(other.scenario == table.scenario for other in standing.served) > 1,
            }
        )
    return found


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
                    {"id": form.ident("-".join(key)), "title": table.title, "precision": table.precision, "frameworks": known, "lines": []},
                )
                cells = {row["framework"]: row for row in (*table.failed, *reversed(table.rows))}
                line = {"standing": standing, "several": len(standings) > 1, "cells": [cells.get(name) for name in known]}
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


def measured_frameworks(press: Press) -> list[str]:
    """The catalogue's measured frameworks in its order, then others that the current rows name."""
    catalogue = [f.name for f in press.board.catalog.frameworks.values() if f.role == "measured"]
    rows = [row for standings in press.board.standings.values() for standing in standings for row in every_row(standing)]
    others = sorted({row["framework"] for row in rows if row["role"] == "measured"} - set(catalogue))
    return [*catalogue, *others]


def framework(press: Press, entry: Framework) -> None:
    """One framework over all models: current rows, settings as read back, history."""
    board = press.board
    rows: list[dict[str, Any]] = []
    for standings in board.standings.values():
        for standing in standings:
            for table in standing.served:
                own = [row for row in (*table.rows, *table.failed, *table.floors) if row["framework"] == entry.name]
                rows += [{"row": row, "title": table.title, "mixed": standing.mixed, "shown": shown(row)} for row in own]
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
        f"frameworks/{form.slug(entry.name)}",
        "framework.md.j2",
        title=entry.title,
        section="Frameworks",
        description=f"{entry.title} over all models: ratio to the best, settings, versions, history",
        framework=entry,
        summary=words.framework_summary(board, entry, [item["row"] for item in rows if item["shown"] and not item["mixed"]]),
        rows=rows,
        history=history,
        version=form.flatten(form.parse(newest[0]["version_json"])) if newest else [],
        settings=form.flatten(form.parse(newest[0]["settings_json"])) if newest else [],
    )


def coverage(press: Press) -> None:
    """What was run and what was not, with reasons."""
    board = press.board
    known = measured_frameworks(press)
    lines: list[dict[str, Any]] = []
    reasons: dict[tuple[str, str, str, str], list[str]] = {}
    for name, standings in board.standings.items():
        if not standings:
            lines.append({"model": name, "weights": "", "machine": "", "title": "", "cells": [None] * len(known)})
        for standing in standings:
            for table in standing.served:
                cells = {row["framework"]: row for row in (*table.failed, *reversed(table.rows))}
                lines.append(
                    {
                        "model": name,
                        "weights": standing.weights,
                        "machine": standing.machine,
                        "title": f"{table.title}, {table.precision}",
                        "cells": [cells.get(framework) for framework in known],
                    }
                )
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
        lines=lines,
        reasons=[
            {
                "model": m,
                "framework": f,
                "state": state,
                "reason": why,
                "loads": "; ".join(loads),
                "ok": state in ("not ranked", "withheld"),
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
    """All pairs of the current runs: forest plots, tables, and the JSON behind the picker."""
    board = press.board
    parts, answers, seen = [], [], set()
    for name, standings in board.standings.items():
        for standing in standings[:1]:
            for table in standing.served:
                rows = {row["arm_id"]: row for row in table.rows}
                pairs = [] if standing.mixed else pairs_of(press, standing, table, rows)
                if not pairs:
                    continue
                names = drawing.labels(board, table.rows)
                for pair in pairs:
                    pair |= {"name_a": names[pair["arm_a"]], "name_b": names[pair["arm_b"]]}
                    ends = {"a": rows[pair["arm_a"]]["framework"], "b": rows[pair["arm_b"]]["framework"]}
                    seen |= set(ends.values())
                    told = {key: pair[key] for key in ("ratio", "ratio_lo", "ratio_hi", "verdict", "blocks", "quantity", "note")}
                    answers.append(
                        {
                            **ends,
                            **told,
                            "model": board.model_title(name),
                            "weights": standing.weights,
                            "load": f"{table.title}, {table.precision}",
                        }
                    )
                stem = form.ident(f"{form.slug(name)}-{table.scenario}-{table.precision}")
                chart = charts.forest(chosen(press, standing, table), stem)
                if chart:
                    press.chart("compare", chart)
                parts.append(
                    {
                        "standing": standing,
                        "title": table.title,
                        "precision": table.precision,
                        "id": stem,
                        "chart": chart,
                        "pairs": pairs,
                        "quantity": pairs[0]["quantity"],
                        "note": next((row["rank_note"] for row in table.rows if not row["ranked"] and row["rank_note"]), ""),
                    }
                )
    press.text("data/compare.json", form.to_json(answers))
    press.page(
        "compare",
        "compare.md.j2",
        title="Compare",
        section="Compare",
        description="Any two frameworks: paired ratios with intervals over all models",
        parts=parts,
        frameworks=[framework for framework in measured_frameworks(press) if framework in seen],
    )


def pairs_of(press: Press, standing: Standing, table: Table, rows: Mapping[str, Row]) -> list[dict[str, Any]]:
    """The comparisons among the shown rows of a table."""
    found = press.board.query(
        "SELECT * FROM comparisons WHERE run_id = ? AND scenario = ? ORDER BY arm_a, arm_b", [standing.runs[0]["run_id"], table.scenario]
    )
    return [pair for pair in found if pair["arm_a"] in rows and pair["arm_b"] in rows]


def cold_start(press: Press) -> None:
    """Start, load and memory of the best standing of each model."""
    board = press.board
    counted = board.query("SELECT run_id, arm_id, count(*) AS starts FROM starts GROUP BY ALL ORDER BY ALL")
    parts = []
    for name, standings in board.standings.items():
        table = next((table for table in standings[0].served if table.rows), None) if standings else None
        if table is None:
            continue
        picked = chosen(press, standings[0], table)
        chart = charts.starts(board, picked.run_ids, picked.arm_ids, form.ident(name))
        if chart:
            press.chart("cold-start", chart)
        rows = sorted(table.rows, key=lambda row: (row["load_ms"] is None, row["load_ms"] or 0.0, row["framework"]))
        starts = {(row["run_id"], row["arm_id"]): row["starts"] for row in counted}
        parts.append({"standing": standings[0], "rows": rows, "chart": chart, "starts": starts})
    press.page(
        "cold-start",
        "cold_start.md.j2",
        title="Cold start and memory",
        section="Cold start",
        description="Starting the process, loading the model, the first call, and the memory it holds",
        parts=parts,
    )
