"""Sentences made from rows: verdicts, tasks, facts of a model. Every figure in them is a column of the row it names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.catalog import Framework, Model, Scenario
from site_src import formatting
from site_src.data.leaderboard import Board, Row, Standing, Table
from site_src.data.operating_points import Limits


@dataclass(frozen=True)
class Task:
    """One question of the overview with its answer."""

    title: str
    link: str
    leaders: tuple[Row, ...]
    value: str
    under: str = ""
    """What the value was found under: the latency limit that is kept, the load."""
    flag: str = ""
    why: str = ""


def model_facts(model: Model | None) -> str:
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
    """The arms that nothing beats: rank interval from 1. Empty where nothing is ranked."""
    return () if table.mixed else tuple(row for row in table.rows if row["ranked"] and row["rank_lo"] == 1)


def name(board: Board, row: Row, table: Table) -> str:
    title = board.framework_title(row["framework"])
    twice = sum(other["framework"] == row["framework"] for other in table.rows) > 1
    return f"{title} ({row['variant']})" if twice else title


def rate(row: Row) -> str:
    places = formatting.decimals([row["requests_per_s"]])
    text = f"{formatting.number(row['requests_per_s'], places)} per second"
    ends = formatting.interval(row["requests_per_s_lo"], row["requests_per_s_hi"], places)
    return f"{text} {ends}" if ends else text


def merit(row: Row, table: Table) -> str:
    """The quantity by which a table is ranked: throughput, or latency."""
    if not table.by_latency:
        return rate(row)
    tail = table.tail.removesuffix("_ms")
    value, lo, hi = row[table.tail], row[f"{tail}_lo_ms"], row[f"{tail}_hi_ms"]
    places = formatting.decimals([value])
    text = f"{tail}, {formatting.number(value, places)} ms {formatting.interval(lo, hi, places)}".rstrip()
    return text if table.rate_per_s is None else f"{text} at {formatting.number(table.rate_per_s)} requests per second"


def verdict(board: Board, table: Table) -> str:
    """Who leads in the quantity of the table, how sure that is, and how far the last one is behind."""
    if not table.rows:
        return f"No framework has a number for {table.title}: the table gives the reasons."
    what = f"{table.title[:1].upper()}{table.title[1:]}, {table.precision}"
    lead = leaders(table)
    if table.mixed:
        return f"{what}: not ranked, since these rows come from different runs."
    first = lead[0] if lead else table.rows[0]
    if len(lead) > 1:
        names = formatting.listing([name(board, row, table) for row in lead])
        together = f"{what}: {names} lead together, none shown to be better than the others"
        text = f"{together}; {name(board, first, table)} gave {merit(first, table)}."
    else:
        best = "has the lowest" if table.by_latency else "serves the most,"
        text = f"{what}: {name(board, first, table)} {best} {merit(first, table)}."
    behind = [row for row in table.rows if row is not first and row not in lead and row["ratio_to_best"] is not None]
    if behind:
        nearest, last = behind[0], behind[-1]
        text += f" {name(board, nearest, table)} reaches {ratio(nearest)} of the best"
        text += f", {name(board, last, table)} {ratio(last)}." if last is not nearest else "."
    if not lead:
        why = next((row["rank_note"] for row in table.rows if row["rank_note"]), "no rank was computed")
        text = f"Not ranked ({why}). In this data: {text[:1].lower()}{text[1:]}"
    return text


def ratio(row: Row) -> str:
    ends = formatting.interval(row["ratio_lo"], row["ratio_hi"], 2)
    return f"{formatting.number(row['ratio_to_best'], 2)} {ends}".strip()


#: The questions of the start page, each with what its answer is read from.
QUESTIONS = (
    ("Within the tightest limit", "the largest rate of arrivals at the smallest latency limit that some framework keeps"),
    ("Fastest single query", "median latency, one client"),
    ("Most throughput", "rows per second back to back: one by one or in batches, whichever gives the most"),
    ("Least memory", "peak RSS of the process"),
    ("Fastest load", "from its files to a usable session"),
)


def answers(board: Board, standing: Standing, lead: Sequence[Table], limits: Limits | None) -> list[Task | None]:
    """The answers to QUESTIONS for one model, None where nothing was measured for it."""
    found: list[Task | None] = [within(limits)]
    alone = lead[0]
    link = formatting.ident(f"{alone.scenario}-{alone.precision}")
    found.append(fastest(alone, QUESTIONS[1][0], link))
    found.append(most(fullest(board, standing, alone), QUESTIONS[2][0], lead))
    rows = alone.rows
    found.append(smallest(rows, QUESTIONS[3][0], "resources", lambda row: row["peak_rss_bytes"], lambda v: f"{formatting.megabytes(v)} MB"))
    found.append(smallest(rows, QUESTIONS[4][0], "resources", lambda row: row["load_ms"], lambda v: f"{formatting.number(v, 0)} ms"))
    return found


def within(limits: Limits | None) -> Task | None:
    """The arms with the largest rate at the smallest limit that any arm keeps."""
    limit = limits.smallest_met if limits else None
    if limits is None or limit is None:
        return None
    points = limits.leaders(limit)
    rate_text = f"{'' if limits.searched else '≥ '}{formatting.number(points[0].rate_per_s)}/s"
    return Task(QUESTIONS[0][0], "slo", tuple(p.row for p in points), rate_text, f"p99\u00a0≤\u00a0{limit:g}\u00a0ms")


def fullest(board: Board, standing: Standing, alone: Table) -> Table:
    """The load back to back under which some framework serves the most rows per second: single ones, or batches of inputs as they come.
    Sweeps over chosen lengths say nothing of that."""
    whole = [t for t in standing.served if t.rows and t.load == "offline" and t.precision == alone.precision
             and not board.scenario_entry(t.rows[0]).get("lengths")]  # fmt: skip
    return max([alone, *whole], key=lambda table: max((row["requests_per_s"] or 0.0 for row in table.rows), default=0.0))


def most(table: Table, title: str, sections: Sequence[Table]) -> Task | None:
    """The leading tie group of a table by throughput. `sections`: the tables that the model's page has in full."""
    if not table.rows or not table.has_rate:
        return None
    lead = leaders(table)
    group = lead or (table.rows[0],)
    best = group[0]
    return Task(
        title=title,
        link=formatting.ident(f"{table.scenario}-{table.precision}") if table in sections else "every-load",
        leaders=group,
        value=f"{formatting.number(best['requests_per_s'], formatting.decimals([best['requests_per_s']]))} rows/s",
        under=table.title.partition(",")[0],
        flag="" if lead else "not ranked",
        why="" if lead else why_unranked(table, best),
    )


def fastest(table: Table, title: str, link: str) -> Task | None:
    """The arm with the lowest median, with those that the ranking shows no worse; flagged where nothing is ranked."""
    found = smallest(table.rows, title, link, lambda row: row["p50_ms"], lambda value: f"{formatting.number(value)} ms")
    if found is None:
        return None
    best, lead = found.leaders[0], leaders(table)
    if not lead:
        return replace(found, flag="not ranked", why=why_unranked(table, best))
    return replace(found, leaders=(best, *(row for row in lead if row is not best))) if best in lead else found


def why_unranked(table: Table, row: Row) -> str:
    return "rows of different runs do not rank against each other" if table.mixed else str(row["rank_note"] or "no rank was computed")


def smallest(rows: Sequence[Row], title: str, link: str, key: Callable[[Row], float | None], text: Callable[[float], str]) -> Task | None:
    """The row with the smallest value of one column."""
    known = sorted(((value, str(row["framework"]), row) for row in rows if (value := key(row)) is not None), key=lambda item: item[:2])
    if not known:
        return None
    best = known[0]
    return Task(title=title, link=link, leaders=(best[2],), value=text(best[0]))


def framework_summary(board: Board, framework: Framework, rows: Sequence[Row]) -> str:
    """In how many of its current rows a framework leads, and where it stands otherwise."""
    compared = [row for row in rows if row["ratio_to_best"] is not None]
    if not compared:
        return ""
    ranked = [row for row in compared if row["ranked"]]
    lead = [row for row in ranked if row["rank_lo"] == 1]
    low, high = min(compared, key=lambda row: row["ratio_to_best"]), max(compared, key=lambda row: row["ratio_to_best"])
    what = f"{len(compared)} current comparison{'s' if len(compared) > 1 else ''}"
    text = (
        f"In {what} it reaches between {ratio(low)} and {ratio(high)} of the best, in throughput, or in latency where arrivals set the rate"
    )
    if low is high:
        text = f"In {what} it reaches {ratio(low)} of the best"
    if ranked:
        return f"{text}. It is in the leading group in {len(lead)} of {len(ranked)} ranked."
    return f"{text}. None of them is ranked."


def scenario_text(scenario: Scenario) -> str:
    """What a scenario does, from its fields."""
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


#: What the terms of the table `fits` say.
TERMS = {
    "base_ms": "Whatever the length",
    "per_token_us": "For each token",
    "per_token2_ns": "For each pair of tokens",
    "new_shape_ratio": "A new length over the same one again",
}


def run_facts(run: Row) -> list[tuple[str, Any]]:
    """What identifies a run, as (name, value)."""
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
