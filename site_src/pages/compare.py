"""`/compare/`: all pairs of the current rows: forest plots, tables under the headline loads, and the JSON behind the picker of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from site_src import markup, records
from site_src.charts import models
from site_src.charts.chart import Chart
from site_src.data.leaderboard import Leaderboard, ModelResults, Row, Table, TableKey
from site_src.page_writer import MOST_CHARTS, PageWriter


def write(writer: PageWriter) -> None:
    board = writer.board
    parts, answers, seen = [], [], set()
    forests: dict[tuple[str, str], list[tuple[TableKey, str]]] = {}
    for results in board.first_results:
        headline = results.headline
        for table in results.served:
            pairs = pairs_of(board, table)
            seen |= {pair[f"framework_{end}"] for pair in pairs for end in "ab"}
            answers += [answer(board, results, table, pair) for pair in pairs]
            if pairs and table in headline:
                forests.setdefault((table.scenario, table.precision), []).append((table.key, table.title))
                parts.append(part(results, table, pairs))
    present = [framework for framework in board.measured_frameworks if framework in seen]
    charts: list[Chart] = []
    for (scenario, precision), tables in forests.items():
        if len(charts) == MOST_CHARTS:
            break
        title = f"{tables[0][1]}, {precision}"
        chart = models.forest(board, [key for key, _ in tables], present[0], title, markup.ident(f"{scenario}-{precision}"))
        if chart:
            writer.write_chart("compare", chart)
            charts.append(chart)
    writer.write_file("data/compare.json", records.to_json(answers, None))
    writer.write_page(
        "compare",
        "compare.md.j2",
        title="Compare",
        section="Compare",
        description="Any two frameworks: paired ratios with intervals over all models",
        parts=parts,
        charts=charts,
        frameworks=present,
    )


def pairs_of(board: Leaderboard, table: Table) -> list[dict[str, Any]]:
    """The comparisons among the rows of a table, with both frameworks and their titles."""
    if table.mixed or not table.rows:
        return []
    rows: Mapping[str, Row] = {row["arm_id"]: row for row in table.rows}
    pairs = board.query(
        "SELECT * FROM comparisons WHERE run_id = ? AND scenario = ? ORDER BY arm_a, arm_b", [table.rows[0]["run_id"], table.scenario]
    )
    pairs = [pair for pair in pairs if pair["arm_a"] in rows and pair["arm_b"] in rows]
    for pair in pairs:
        for end in "ab":
            framework = rows[pair[f"arm_{end}"]]["framework"]
            pair |= {f"framework_{end}": framework, f"name_{end}": board.framework_title(framework)}
    return pairs


def answer(board: Leaderboard, results: ModelResults, table: Table, pair: Mapping[str, Any]) -> dict[str, Any]:
    """One pair as an entry of the JSON."""
    return {
        "a": pair["framework_a"],
        "b": pair["framework_b"],
        **{key: rounded(pair[key]) for key in ("ratio", "ratio_lo", "ratio_hi", "verdict", "blocks", "quantity", "note")},
        "model": board.model_title(results.model),
        "weights": results.weights,
        "load": f"{table.title}, {table.precision}",
    }


def part(results: ModelResults, table: Table, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """The table of pairs under one load."""
    return {
        "results": results,
        "title": table.title,
        "precision": table.precision,
        "id": markup.ident(f"{markup.slug(results.model)}-{table.scenario}-{table.precision}"),
        "pairs": pairs,
        "quantity": pairs[0]["quantity"],
        "note": next((row["rank_note"] for row in table.rows if not row["ranked"] and row["rank_note"]), ""),
    }


def rounded(value: Any) -> Any:
    """A float at six significant digits, which is more than an interval carries; any other value as it is."""
    return float(f"{value:.6g}") if isinstance(value, float) else value
