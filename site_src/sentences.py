"""Sentences made from rows: verdicts, answers, facts of a model or a run. Every figure in them is a column of a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.catalog import Framework, Model, Scenario
from bench.core import formatting
from site_src import markup
from site_src.data.leaderboard import Leaderboard, ModelResults, Row, Table
from site_src.data.operating_points import OperatingPoints


@dataclass(frozen=True)
class Answer:
    """The answer to one question of the start page.

    Attributes:
        title: the question in short.
        link: the section of the model's page (or the page) with the details.
        leaders: the rows of the arms that are the answer.
        value: the number that makes them so.
        under: the condition of the value: the latency limit, or the load.
        flag: "not ranked", if the leaders come from no ranking.
        why: the reason of the flag.
    """

    title: str
    link: str
    leaders: tuple[Row, ...]
    value: str
    under: str = ""
    flag: str = ""
    why: str = ""


#: A fact of a run that is longer than this is folded away behind its summary.
LONG_FACT = 160
#: The parts of a long build string that decide speed.
TELLING = ("Math Kernel Library", "MKL-DNN", "oneDNN", "OpenBLAS", "CPU capability")


def fact_summary(value: Any) -> str:
    """A fact of a run in at most about LONG_FACT characters: of a build string its BLAS, oneDNN and CPU capability, else its beginning."""
    text = str(value)
    if len(text) <= LONG_FACT:
        return text
    parts = [part for part in text.split(" - ") if any(name in part for name in TELLING)]
    short = "; ".join(re.sub(r"\s*\((?!R\))[^)]*\)", "", part).replace("(R)", "").split(" for ")[0].strip() for part in parts)
    return short or f"{text[: LONG_FACT // 2].rstrip()} …"


def model_facts(model: Model | None) -> str:
    """Modality, size, pooling, input and licence of a model; empty for a model outside of the catalogue."""
    if model is None:
        return ""
    pooling = {"mean": "mean pooling", "cls": "first-token pooling", "last": "last-token pooling"}.get(
        model.pooling, f"{model.pooling} head"
    )
    reads = (
        f"up to {model.max_tokens} tokens"
        if model.modality == "text"
        else f"images of {model.image.size} × {model.image.size}"
        if model.image
        else "images"
    )
    size = f"{formatting.number(model.parameters / 1e6)} million parameters ({formatting.size(model.bytes_fp32)} in fp32)"
    return f"{model.modality.capitalize()} to {model.dim} dimensions, {size}, {pooling}, {reads}. Licence {model.license}."


def leaders(table: Table) -> tuple[Row, ...]:
    """The arms whose rank interval begins at 1; empty if nothing is ranked."""
    return () if table.mixed else tuple(row for row in table.rows if row["ranked"] and row["rank_lo"] == 1)


def rate(row: Row) -> str:
    """Throughput with its interval."""
    places = formatting.decimals([row["requests_per_s"]])
    text = f"{formatting.number(row['requests_per_s'], places)} per second"
    ends = formatting.interval(row["requests_per_s_lo"], row["requests_per_s_hi"], places)
    return f"{text} {ends}" if ends else text


def merit(row: Row, table: Table) -> str:
    """The quantity by which a table is ranked, throughput or latency, with its interval."""
    if not table.by_latency:
        return rate(row)
    tail = table.tail.removesuffix("_ms")
    value, lo, hi = row[table.tail], row[f"{tail}_lo_ms"], row[f"{tail}_hi_ms"]
    places = formatting.decimals([value])
    text = f"{tail}, {formatting.number(value, places)} ms {formatting.interval(lo, hi, places)}".rstrip()
    return text if table.rate_per_s is None else f"{text} at {formatting.number(table.rate_per_s)} requests per second"


def verdict(board: Leaderboard, table: Table) -> str:
    """Who leads a table and by which quantity, whether that is ranked, and how far the others are behind."""
    if not table.rows:
        return f"No framework has a number for {table.title}: the table gives the reasons."
    load = f"{table.title[:1].upper()}{table.title[1:]}, {table.precision}"
    ranked = leaders(table)
    if table.mixed:
        return f"{load}: not ranked, since these rows come from different runs."
    first = ranked[0] if ranked else table.rows[0]
    if len(ranked) > 1:
        names = formatting.listing([board.arm_title(row["arm_id"]) for row in ranked])
        together = f"{load}: {names} lead together, none shown to be better than the others"
        text = f"{together}; {board.arm_title(first['arm_id'])} gave {merit(first, table)}."
    else:
        best = "has the lowest" if table.by_latency else "serves the most,"
        text = f"{load}: {board.arm_title(first['arm_id'])} {best} {merit(first, table)}."
    behind = [row for row in table.rows if row is not first and row not in ranked and row["ratio_to_best"] is not None]
    if behind:
        nearest, last = behind[0], behind[-1]
        text += f" {board.arm_title(nearest['arm_id'])} reaches {ratio(nearest)} of the best"
        text += f", {board.arm_title(last['arm_id'])} {ratio(last)}." if last is not nearest else "."
    if not ranked:
        why = next((row["rank_note"] for row in table.rows if row["rank_note"]), "no rank was computed")
        text = f"Not ranked ({why}). In this data: {text[:1].lower()}{text[1:]}"
    return text


def ratio(row: Row) -> str:
    """The ratio to the best, with its interval."""
    ends = formatting.interval(row["ratio_lo"], row["ratio_hi"], 2)
    return f"{formatting.number(row['ratio_to_best'], 2)} {ends}".strip()


#: The questions of the start page: title, and how the answer is determined.
QUESTIONS = (
    ("Within the tightest limit", "the largest rate of arrivals at the smallest latency limit that some framework keeps"),
    ("Fastest single query", "median latency, one client"),
    ("Most throughput", "rows per second back to back: one by one or in batches, whichever gives the most"),
    ("Least memory", "peak RSS of the process"),
    ("Fastest load", "from its files to a usable session"),
)


def answers(board: Leaderboard, results: ModelResults, points: OperatingPoints | None) -> list[Answer | None]:
    """The answers to QUESTIONS for one model that has a headline; None if nothing was measured for a question."""
    single = results.headline[0]
    tightest, query, throughput, memory, load = (title for title, _ in QUESTIONS)
    return [
        within(tightest, points),
        fastest(query, single),
        most(throughput, fullest(board, results, single), results.headline),
        smallest(memory, "resources", single.rows, "peak_rss_bytes", lambda value: f"{formatting.megabytes(value)} MB"),
        smallest(load, "resources", single.rows, "load_ms", lambda value: f"{formatting.number(value, 0)} ms"),
    ]


def within(title: str, points: OperatingPoints | None) -> Answer | None:
    """The arms with the largest rate within the smallest limit that any arm keeps."""
    limit_ms = points.smallest_met if points else None
    if points is None or limit_ms is None:
        return None
    best = points.leaders(limit_ms)
    rate_text = f"{'' if points.searched else '≥ '}{formatting.number(best[0].rate_per_s)}/s"
    return Answer(title, "slo", tuple(point.row for point in best), rate_text, f"p99\u00a0≤\u00a0{limit_ms:g}\u00a0ms")


def fullest(board: Leaderboard, results: ModelResults, single: Table) -> Table:
    """The table with the largest throughput of all: single requests, or batches of inputs as they come.

    Sweeps over chosen text lengths are left out: their rows per second depend on the lengths that were chosen.
    """
    batches = [
        table
        for table in results.served
        if table.rows and table.load == "offline" and table.precision == single.precision
        and not board.scenario_entry(table.rows[0]).get("lengths")
    ]  # fmt: skip
    return max([single, *batches], key=lambda table: max((row["requests_per_s"] or 0.0 for row in table.rows), default=0.0))


def most(title: str, table: Table, sections: Sequence[Table]) -> Answer | None:
    """The leading arms of a table by throughput. `sections`: the tables that the model's page has in full, to link to."""
    if not table.rows or not table.has_rate:
        return None
    ranked = leaders(table)
    first = ranked[0] if ranked else table.rows[0]
    return Answer(
        title=title,
        link=markup.ident(f"{table.scenario}-{table.precision}") if table in sections else "every-load",
        leaders=ranked or (first,),
        value=f"{formatting.number(first['requests_per_s'], formatting.decimals([first['requests_per_s']]))} rows/s",
        under=table.title.partition(",")[0],
        flag="" if ranked else "not ranked",
        why="" if ranked else why_unranked(table, first),
    )


def fastest(title: str, table: Table) -> Answer | None:
    """The arm with the lowest median, and the arms that the ranking puts level with it."""
    link = markup.ident(f"{table.scenario}-{table.precision}")
    answer = smallest(title, link, table.rows, "p50_ms", lambda value: f"{formatting.number(value)} ms")
    if answer is None:
        return None
    best, ranked = answer.leaders[0], leaders(table)
    if not ranked:
        return replace(answer, flag="not ranked", why=why_unranked(table, best))
    return replace(answer, leaders=(best, *(row for row in ranked if row is not best))) if best in ranked else answer


def why_unranked(table: Table, row: Row) -> str:
    """The reason why a row of a table has no rank."""
    return "rows of different runs do not rank against each other" if table.mixed else str(row["rank_note"] or "no rank was computed")


def smallest(title: str, link: str, rows: Sequence[Row], column: str, text: Callable[[float], str]) -> Answer | None:
    """The row with the smallest value of a column, of equal ones the first framework by name; None if all are NULL."""
    candidates = [row for row in rows if row[column] is not None]
    if not candidates:
        return None
    best = min(candidates, key=lambda row: (row[column], str(row["framework"])))
    return Answer(title=title, link=link, leaders=(best,), value=text(best[column]))


def framework_summary(board: Leaderboard, framework: Framework, rows: Sequence[Row]) -> str:
    """The range of a framework's ratios to the best over its current rows, and how many of the ranked ones it leads."""
    compared = [row for row in rows if row["ratio_to_best"] is not None]
    if not compared:
        return ""
    ranked = [row for row in compared if row["ranked"]]
    leading = [row for row in ranked if row["rank_lo"] == 1]
    low, high = min(compared, key=lambda row: row["ratio_to_best"]), max(compared, key=lambda row: row["ratio_to_best"])
    count = f"{len(compared)} current comparison{'s' if len(compared) > 1 else ''}"
    where = "in throughput, or in latency where arrivals set the rate"
    text = f"In {count} it reaches between {ratio(low)} and {ratio(high)} of the best, {where}"
    if low is high:
        text = f"In {count} it reaches {ratio(low)} of the best"
    if ranked:
        return f"{text}. It is in the leading group in {len(leading)} of {len(ranked)} ranked."
    return f"{text}. None of them is ranked."


def scenario_text(scenario: Scenario) -> str:
    """A scenario in words, from its fields."""
    rows = "one request at a time" if scenario.batch == 1 else f"{scenario.batch} rows together, padded to the longest of them"
    if scenario.load == "open":
        rate_text = (
            f"{formatting.number(scenario.rate_per_s)} requests per second" if scenario.rate_per_s else "a rate of its own per model"
        )
        return f"{rows}, arriving by a {scenario.arrivals} schedule at {rate_text}, whether or not the last answer was given"
    clients = (
        f"; {formatting.listing([str(c) for c in scenario.clients])} closed-loop clients are derived from it"
        if len(scenario.clients) > 1
        else ""
    )
    return f"{rows}, back to back, from a plan of {formatting.count(scenario.rows)} rows{clients}"


#: The terms of the table `fits`, for people.
TERMS = {
    "base_ms": "Whatever the length",
    "per_token_us": "For each token",
    "per_token2_ns": "For each pair of tokens",
    "new_shape_ratio": "A new length over the same one again",
}


def run_facts(run: Row) -> list[tuple[str, Any]]:
    """What identifies a run, as (name, value) pairs."""
    record = run["run_json"]
    facts: list[tuple[str, Any]] = [
        ("Run", run["run_id"]),
        ("Campaign", run["campaign_id"]),
        ("Experiment hash", run["experiment_hash"]),
        ("Weights", run["weights"]),
        ("Corpus", f"{run['corpus']}, seed {run['seed']}"),
        ("Budget", f"{formatting.number(run['budget_s'], 0)} s" if run["budget_s"] is not None else "none"),
        ("Suite", record.get("suite")),
        ("Code", f"{run['code_commit'] or 'unknown commit'}{' with uncommitted changes' if run['code_dirty'] else ''}"),
    ]
    facts += [(f"Plan of {scenario.get('name')}", scenario.get("plan_hash")) for scenario in record.get("scenarios") or []]
    return [(name, value if value is not None else formatting.DASH) for name, value in facts]
