"""`/models/<model>/`: the best standing in full, the others as tables. Every model of the catalogue or of the database has its page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from site_src import formatting, sentences
from site_src.charts import chart as drawing
from site_src.charts import many_loads, one_load, quality
from site_src.charts.parts import Selection
from site_src.data import operating_points
from site_src.data.leaderboard import Board, Row, Standing, Table, is_setting
from site_src.page_writer import MOST_CHARTS, Press


def write(press: Press) -> None:
    for name, standings in press.board.standings.items():
        write_model(press, name, standings)


def write_model(press: Press, name: str, standings: Sequence[Standing]) -> None:
    board = press.board
    path = f"models/{formatting.slug(name)}"
    title = board.model_title(name)
    best = standings[0] if standings else None
    lead = best.headline if best else []
    sql = ""
    drawn: dict[str, list[drawing.Chart]] = {}
    if best:
        sql = (
            f"SELECT *\nFROM leaderboard\nWHERE run_id IN ({drawing.literals([run['run_id'] for run in best.runs])})\n"
            f"  AND weights = {drawing.literal(best.weights)}\nORDER BY scenario, precision, rank_lo, requests_per_s DESC"
        )
        press.rows(f"data/{path}/leaderboard", [row for standing in standings for row in standing.rows])
        drawn = figures(board, best, lead)
        for chart in (chart for part in drawn.values() for chart in part):
            press.chart(path, chart)
    press.page(
        path,
        "model.md.j2",
        title=title,
        section="Overview",
        image=f"data/{path}/card.png" if best else "",
        description=f"{title} in six frameworks on CPU: throughput, latency, memory and start, with intervals",
        model=name,
        facts=sentences.model_facts(board.catalog.models.get(name)),
        best=best,
        others=standings[1:],
        verdict=sentences.verdict(board, lead[0]) if lead else "",
        sections=[section(best, table, drawn) for table in lead] if best else [],
        open_tables=[table for table in best.served if table.load == "open" and table.precision == lead[0].precision]
        if best and lead
        else [],
        batched=best.batched(lead[0].precision) if best and lead else [],
        limits=operating_points.limits(board, best) if best else None,
        charts=drawn,
        precisions=by_precision(board, best, lead) if best else [],
        front={row["arm_id"] for chart in drawn.get("precisions", []) for row in chart.rows if row["beaten_by_none"]},
        variants=other_variants(best, lead) if best else [],
        fits=fits(board, best) if best else [],
        resource_heads=[(name, unit, help_text) for name, unit, help_text, _column, _why, _text in RESOURCES],
        resources=resources(lead[0].rows) if lead else [],
        floors=[row for table in lead for row in table.floors],
        controls=controls(board, best) if best else [],
        runs=[run for run in board.runs if run["model"] == name],
        shown_runs={run["run_id"] for standing in standings for run in standing.runs},
        frameworks=board.measured_frameworks,
        sql=sql,
    )


def section(standing: Standing, table: Table, drawn: dict[str, list[drawing.Chart]]) -> dict[str, Any]:
    place = formatting.ident(f"{table.scenario}-{table.precision}")
    return {
        "id": place,
        "table": table,
        "charts": drawn.get(place, []),
        "derived": standing.derived(table),
        "several": sum(other.scenario == table.scenario for other in standing.served) > 1,
    }


def figures(board: Board, standing: Standing, lead: Sequence[Table]) -> dict[str, list[drawing.Chart]]:
    """The charts of the page by the section they stand in, the more telling ones first, at most seven."""
    if not lead or not lead[0].rows:
        return {}
    first = lead[0]
    own = formatting.ident(f"{first.scenario}-{first.precision}")
    rates = [t.scenario for t in standing.served if board.is_poisson(t) and t.precision == first.precision]
    alone = [s for s in rates if all((t.batch or 1) == 1 for t in standing.served if t.scenario == s)]
    many = [s for s in rates if s not in alone]
    offline: dict[int, str] = {}
    for table in standing.served:
        if table.load == "offline" and table.precision == first.precision and table.scenario.startswith("offline-"):
            offline.setdefault(table.batch or 1, table.scenario)
    together = [t.scenario for t in standing.batched(first.precision) if t.served is None]
    pick = Selection.of_table(board, standing, first)
    wanted: list[tuple[str, Callable[[], drawing.Chart | None]]] = [
        (own, lambda: one_load.latency(pick)),
        (own, lambda: ratios(board, standing, first)),
        ("precisions", lambda: quality.speed_and_quality(Selection.across_precisions(board, standing, first), first.precision)),
        (own, lambda: one_load.load_curve(pick)),
        (own, lambda: one_load.ecdf(pick)),
        ("shapes", lambda: many_loads.by_shape(pick)),
        ("arrivals", lambda: many_loads.open_loop(pick, alone, "one at a time")),
        ("shapes", lambda: many_loads.scaling(pick, list(offline.values()))),
        ("batched", lambda: one_load.load_curve(pick, [first.scenario, *together], "batched") if together else None),
        ("arrivals", lambda: many_loads.open_loop(pick, many, "batched")),
        *((formatting.ident(f"{t.scenario}-{t.precision}"), lambda t=t: ratios(board, standing, t)) for t in lead[1:] if t.rows),
    ]
    drawn: dict[str, list[drawing.Chart]] = {}
    for place, draw in wanted:
        if sum(map(len, drawn.values())) < MOST_CHARTS and (chart := draw()):
            drawn.setdefault(place, []).append(chart)
    return drawn


def ratios(board: Board, standing: Standing, table: Table) -> drawing.Chart | None:
    """Ratios to the best of a table, if its rows compare at all."""
    return None if table.mixed else one_load.ratios(Selection.of_table(board, standing, table))


def other_variants(standing: Standing, lead: Sequence[Table]) -> list[tuple[Table, Row]]:
    """What the table of precisions does not hold, under the headline loads."""
    tables = [table for table in standing.served if table.scenario in {t.scenario for t in lead}]
    full = lead[0].precision if lead else ""
    return [(table, row) for table in tables for row in table.variants if table.precision == full or is_setting(row)]


def by_precision(board: Board, standing: Standing, lead: Sequence[Table]) -> list[dict[str, Any]]:
    """Every framework in every precision and recipe under the headline loads, beside what it costs; empty with one precision."""
    if len(standing.precisions) < 2 or not lead:
        return []
    found = board.query(
        "SELECT arm_a, arm_b, scenario, ratio, ratio_lo, ratio_hi, verdict FROM comparisons WHERE run_id = ?", [standing.runs[0]["run_id"]]
    )
    pairs = {(pair["arm_a"], pair["arm_b"], pair["scenario"]): pair for pair in found}
    lines = []
    for table in standing.served:
        if table.scenario not in {other.scenario for other in lead}:
            continue
        base = next((t for t in lead if t.scenario == table.scenario), None)
        defaults = {row["framework"]: row for row in base.rows} if base else {}
        for row in table.across_recipes(lead[0].precision):
            other = defaults.get(row["framework"])
            pair = pairs.get((row["arm_id"], other["arm_id"], table.scenario)) if other else None
            lines.append({"table": table, "row": row, "pair": pair, "base": row is other})
    return lines


#: The columns of the resource table: name, unit, help, column, the column that says why it is empty, how a value is written.
RESOURCES: tuple[tuple[str, str, str, str, str, Callable[[float], str]], ...] = (
    (
        "Start → first",
        "ms",
        "from starting the process to its first vector, files in the page cache",
        "start_to_first_ms",
        "footprint_note",
        formatting.milliseconds,
    ),
    ("Load", "ms", "from its files to a usable session", "load_ms", "", formatting.milliseconds),
    ("Cold load", "ms", "with an empty page cache", "cold_load_ms", "cold_note", formatting.milliseconds),
    ("First call", "ms", "32 tokens, or one image", "first_ms", "", formatting.number),
    ("Peak RSS", "MB", "", "peak_rss_bytes", "", formatting.megabytes),
    ("Steady RSS", "MB", "", "rss_bytes", "", formatting.megabytes),
    ("PSS", "MB", "what is mapped by several processes counts in part", "pss_bytes", "", formatting.megabytes),
    ("CPU per 1 000", "s", "CPU seconds per 1 000 embeddings", "cpu_s_per_1000", "", formatting.number),
    ("Energy per 1 000", "J", "packages and their memory, by RAPL", "energy_j_per_1000", "energy_note", formatting.number),
    ("Tokens/s", "", "useful tokens, padding not counted", "tokens_per_s", "", formatting.count),
    ("Model", "", "the converted model on disk", "artefact_bytes", "footprint_note", formatting.size),
    ("Libraries", "", "what the runtime loads, on disk", "library_bytes", "footprint_note", formatting.size),
    ("Program", "", "the worker with what is linked into it; none where a Python interpreter runs it", "binary_bytes", "", formatting.size),
    ("max |Δ|", "", "largest difference to the fp32 reference", "max_abs_diff", "", formatting.small),
)


def resources(rows: Sequence[Row]) -> list[tuple[Row, list[tuple[float | None, str, str]]]]:
    """Per arm the cells of RESOURCES: value, text, and why it is empty."""
    return [
        (row, [(row[column], text(row[column]) if row[column] is not None else "", (row[why] or "") if why else "")
               for _name, _unit, _help, column, why, text in RESOURCES])
        for row in rows
    ]  # fmt: skip


def fits(board: Board, standing: Standing) -> list[dict[str, Any]]:
    """What was fitted to the times of the standing's runs: per load a line per arm, a column per term, the terms in the order of TERMS."""
    runs = drawing.literals([run["run_id"] for run in standing.runs])
    found = board.query(
        f"SELECT fits.*, framework, precision, variant FROM fits JOIN arms USING (run_id, arm_id) WHERE run_id IN ({runs})"
        " AND role = 'measured' AND variant NOT LIKE 'knob:%' ORDER BY scenario, list_position(?, term), value NULLS LAST, arm_id, run_id",
        [list(sentences.TERMS)],
    )
    titles = {table.scenario: table.title for table in standing.served}
    loads: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for fit in found:
        loads.setdefault(fit["scenario"], {}).setdefault((fit["run_id"], fit["arm_id"]), {})[fit["term"]] = fit
    listed = []
    for scenario, arms in loads.items():
        terms = {name: fit["unit"] for arm in arms.values() for name, fit in arm.items()}
        listed.append(
            {
                "title": titles.get(scenario, scenario),
                "terms": [{"name": name, "unit": unit, "says": sentences.TERMS.get(name, name)} for name, unit in terms.items()],
                "lines": [{**next(iter(arm.values())), "cells": [arm.get(name) for name in terms]} for arm in arms.values()],
            }
        )
    return listed


def controls(board: Board, standing: Standing) -> list[dict[str, Any]]:
    """What the controls of the standing's newest run showed: each against the arm that it was made from."""
    return board.query(
        "SELECT control.role, control.framework, other.framework AS other, scenario, ratio, ratio_lo, ratio_hi, blocks, verdict, pair.note"
        " FROM comparisons AS pair JOIN arms AS control ON control.run_id = pair.run_id AND control.arm_id = arm_a"
        " JOIN arms AS other ON other.run_id = pair.run_id AND other.arm_id = arm_b"
        " WHERE pair.run_id = (SELECT coalesce(json_extract_string(run_json, '$.controls_run_id'), run_id) FROM runs WHERE run_id = ?)"
        " AND control.role NOT IN ('measured', 'floor') ORDER BY ALL",
        [standing.runs[0]["run_id"]],
    )
