"""`/models/<model>/`: the best results in full, the others as tables. Every model of the catalogue or of the database has its page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.core import formatting
from site_src import markup, sentences
from site_src.charts import many_loads, one_load, quality
from site_src.charts.chart import Chart, literal, literals
from site_src.charts.parts import Selection
from site_src.data import operating_points
from site_src.data.leaderboard import Leaderboard, ModelResults, Row, Table, is_setting
from site_src.page_writer import MOST_CHARTS, PageWriter


def write(writer: PageWriter) -> None:
    for name, by_machine in writer.board.results.items():
        write_model(writer, name, by_machine)


def write_model(writer: PageWriter, name: str, by_machine: Sequence[ModelResults]) -> None:
    board = writer.board
    path = f"models/{markup.slug(name)}"
    title = board.model_title(name)
    best = by_machine[0] if by_machine else None
    headline = best.headline if best else []
    charts = charts_of(board, best, headline) if best else {}
    for chart in (chart for section_charts in charts.values() for chart in section_charts):
        writer.write_chart(path, chart)
    if best:
        writer.write_rows(f"data/{path}/leaderboard", [row for results in by_machine for row in results.rows])
    writer.write_page(
        path,
        "model.md.j2",
        title=title,
        section="Overview",
        image=f"data/{path}/card.png" if best else "",
        description=f"{title} in six frameworks on CPU: throughput, latency, memory and start, with intervals",
        model=name,
        facts=sentences.model_facts(board.catalog.models.get(name)),
        best=best,
        others=by_machine[1:],
        verdict=sentences.verdict(board, headline[0]) if headline else "",
        sections=[section(best, table, charts) for table in headline] if best else [],
        open_tables=[t for t in best.served if t.load == "open" and t.precision == headline[0].precision] if best and headline else [],
        batched=best.batched(headline[0].precision) if best and headline else [],
        limits=operating_points.find(board, best) if best else None,
        charts=charts,
        precisions=by_precision(board, best, headline) if best else [],
        front={row["arm_id"] for chart in charts.get("precisions", []) for row in chart.rows if row["on_front"]},
        variants=other_variants(best, headline) if best else [],
        fits=fits(board, best) if best else [],
        resource_heads=[(name, unit, help_text) for name, unit, help_text, _column, _why, _text in RESOURCES],
        resources=resources(headline[0].rows) if headline else [],
        floors=[row for table in headline for row in table.floors],
        controls=controls(board, best) if best else [],
        runs=[run for run in board.runs if run["model"] == name],
        shown_runs={run["run_id"] for results in by_machine for run in results.runs},
        frameworks=board.measured_frameworks,
        sql=query_of(best) if best else "",
    )


def query_of(results: ModelResults) -> str:
    """The query that gives the rows of the page, for readers who want to ask the database themselves."""
    return (
        f"SELECT *\nFROM leaderboard\nWHERE run_id IN ({literals([run['run_id'] for run in results.runs])})\n"
        f"  AND weights = {literal(results.weights)}\nORDER BY scenario, precision, rank_lo, requests_per_s DESC"
    )


def section(results: ModelResults, table: Table, charts: Mapping[str, Sequence[Chart]]) -> dict[str, Any]:
    """The section of the page about one table of the headline."""
    anchor = section_of(table)
    return {
        "id": anchor,
        "table": table,
        "charts": charts.get(anchor, []),
        "derived": results.derived(table),
        "several": sum(other.scenario == table.scenario for other in results.served) > 1,
    }


def section_of(table: Table) -> str:
    """The id of the section about a table."""
    return markup.ident(f"{table.scenario}-{table.precision}")


def charts_of(board: Leaderboard, results: ModelResults, headline: Sequence[Table]) -> dict[str, list[Chart]]:
    """Section → its charts. At most MOST_CHARTS of all that can be drawn, the more informative ones first."""
    if not headline or not headline[0].rows:
        return {}
    first = headline[0]
    served = [table for table in results.served if table.precision == first.precision]
    rates = [table for table in served if board.is_poisson(table)]
    one_by_one = [table.scenario for table in rates if (table.batch or 1) == 1]
    in_batches = [table.scenario for table in rates if table.scenario not in one_by_one]
    by_batch: dict[int, str] = {}
    for table in served:
        if table.load == "offline" and table.scenario.startswith("offline-"):
            by_batch.setdefault(table.batch or 1, table.scenario)
    closed_batched = [table.scenario for table in results.batched(first.precision) if table.served is None]
    selection = Selection.of_table(board, results, first)
    own = section_of(first)
    candidates: list[tuple[str, Callable[[], Chart | None]]] = [
        (own, lambda: one_load.latency(selection)),
        (own, lambda: ratios(board, results, first)),
        ("precisions", lambda: quality.speed_and_quality(Selection.across_precisions(board, results, first), first.precision)),
        (own, lambda: one_load.load_curve(selection)),
        (own, lambda: one_load.ecdf(selection)),
        ("shapes", lambda: many_loads.by_shape(selection)),
        ("arrivals", lambda: many_loads.open_loop(selection, one_by_one, "one at a time")),
        ("shapes", lambda: many_loads.scaling(selection, list(by_batch.values()))),
        ("batched", lambda: one_load.load_curve(selection, [first.scenario, *closed_batched], "batched") if closed_batched else None),
        ("arrivals", lambda: many_loads.open_loop(selection, in_batches, "batched")),
        *((section_of(table), lambda table=table: ratios(board, results, table)) for table in headline[1:] if table.rows),
    ]
    charts: dict[str, list[Chart]] = {}
    for name, draw in candidates:
        if sum(map(len, charts.values())) < MOST_CHARTS and (chart := draw()):
            charts.setdefault(name, []).append(chart)
    return charts


def ratios(board: Leaderboard, results: ModelResults, table: Table) -> Chart | None:
    """The chart of ratios to the best; None if the rows are of several runs, whose ratios do not compare."""
    return None if table.mixed else one_load.ratios(Selection.of_table(board, results, table))


def other_variants(results: ModelResults, headline: Sequence[Table]) -> list[tuple[Table, Row]]:
    """The variants under the headline loads that the table of precisions leaves out, each with its table."""
    tables = [table for table in results.served if table.scenario in {t.scenario for t in headline}]
    full = headline[0].precision if headline else ""
    return [(table, row) for table in tables for row in table.variants if table.precision == full or is_setting(row)]


def by_precision(board: Leaderboard, results: ModelResults, headline: Sequence[Table]) -> list[dict[str, Any]]:
    """Every framework in every precision and recipe under the headline loads, compared with its default; empty with one precision."""
    if len(results.precisions) < 2 or not headline:
        return []
    rows = board.query(
        "SELECT arm_a, arm_b, scenario, ratio, ratio_lo, ratio_hi, verdict FROM comparisons WHERE run_id = ?", [results.runs[0]["run_id"]]
    )
    pairs = {(row["arm_a"], row["arm_b"], row["scenario"]): row for row in rows}
    lines = []
    for table in results.served:
        if table.scenario not in {other.scenario for other in headline}:
            continue
        base = next((t for t in headline if t.scenario == table.scenario), None)
        defaults = {row["framework"]: row for row in base.rows} if base else {}
        for row in table.across_recipes(headline[0].precision):
            other = defaults.get(row["framework"])
            pair = pairs.get((row["arm_id"], other["arm_id"], table.scenario)) if other else None
            lines.append({"table": table, "row": row, "pair": pair, "base": row is other})
    return lines


#: The columns of the resource table: name, unit, help, column of the leaderboard, the column with the reason if it is NULL, formatter.
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
    """Per row the cells of the columns in RESOURCES: value, text, and the reason if it is NULL."""
    return [
        (row, [(row[column], text(row[column]) if row[column] is not None else "", (row[why] or "") if why else "")
               for _name, _unit, _help, column, why, text in RESOURCES])
        for row in rows
    ]  # fmt: skip


def fits(board: Leaderboard, results: ModelResults) -> list[dict[str, Any]]:
    """The terms that were fitted to times: per load a table with a line per arm and a column per term, in the order of sentences.TERMS."""
    runs = literals([run["run_id"] for run in results.runs])
    rows = board.query(
        f"SELECT fits.*, framework, precision, variant FROM fits JOIN arms USING (run_id, arm_id) WHERE run_id IN ({runs})"
        " AND role = 'measured' AND variant NOT LIKE 'knob:%' ORDER BY scenario, list_position(?, term), value NULLS LAST, arm_id, run_id",
        [list(sentences.TERMS)],
    )
    titles = {table.scenario: table.title for table in results.served}
    loads: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for fit in rows:
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


def controls(board: Leaderboard, results: ModelResults) -> list[dict[str, Any]]:
    """The controls of the newest run, or of the run of controls that it names: each compared with the arm that it copies."""
    return board.query(
        "SELECT control.role, control.framework, other.framework AS other, scenario, ratio, ratio_lo, ratio_hi, blocks, verdict, pair.note"
        " FROM comparisons AS pair JOIN arms AS control ON control.run_id = pair.run_id AND control.arm_id = arm_a"
        " JOIN arms AS other ON other.run_id = pair.run_id AND other.arm_id = arm_b"
        " WHERE pair.run_id = (SELECT coalesce(json_extract_string(run_json, '$.controls_run_id'), run_id) FROM runs WHERE run_id = ?)"
        " AND control.role NOT IN ('measured', 'floor') ORDER BY ALL",
        [results.runs[0]["run_id"]],
    )
