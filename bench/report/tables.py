"""Stored results for a terminal, a spreadsheet or a page: no number here is computed, only chosen, sorted and written down."""

from __future__ import annotations

import csv
import difflib
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench import catalog
from bench.catalog import arm_label
from bench.core import files, paths
from bench.core.errors import BenchError
from bench.core.formatting import DASH, compact, interval, number, span
from bench.runs.schema import PROVEN
from bench.store import database as store
from bench.store.database import Row

FORMATS = ("md", "csv", "json")

#: A scenario in which every row has one of these was left out on purpose or for want of budget.
NOT_MEASURED = ("SKIPPED", "NOT_APPLICABLE")
#: The runs behind the leaderboard.
BOARD_RUNS = "SELECT run_id FROM runs SEMI JOIN current_results USING (run_id) ORDER BY measured_at DESC, run_id DESC"


class Plot(Protocol):
    """A picture of a report: its file name, an SVG that stands alone, and the sentence that says what it shows."""

    @property
    def name(self) -> str: ...
    @property
    def svg(self) -> str: ...
    @property
    def sentence(self) -> str: ...


#: Draws the plots of one run of a database.
Draw = Callable[[Path, Row], Sequence[Plot]]


@dataclass(frozen=True)
class Sheet:
    """One served scenario of a run, as text: a header, a line per arm, and what must be said under it."""

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    failed: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class RunText:
    """A run as text: the answer in one line, its loads in the order of the run, and in one line those that were not measured."""

    answer: str
    sheets: tuple[Sheet, ...]
    skipped: str


# --- the table after a bench -------------------------------------------------------------------------------------------------------


def table(database: Path = paths.DATABASE, run_id: str | None = None) -> str:
    """The comparison of one run (the newest without a name) for the terminal.

    Raises:
        BenchError: no such run.
    """
    run = _run(database, run_id)
    buffer, text = io.StringIO(), _told(database, run)
    console = Console(file=buffer, width=max(shutil.get_terminal_size().columns, 132), highlight=False)
    console.print(Text(_headline(run), style="bold"))
    if text.answer:
        console.print(Text(text.answer))
    for sheet in text.sheets:
        shown = Table(title=sheet.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        for place, name in enumerate(sheet.header):
            shown.add_column(name, justify="left" if place <= 1 else "right", no_wrap=True)
        for line in sheet.lines:
            shown.add_row(*map(Text, line))
        console.print(shown if sheet.lines else Text(f"{sheet.title}\n"))
        for name, why in sheet.failed:
            console.print(Text(f"  {name}: {why}"))
        for note in sheet.notes:
            console.print(Text(f"  {note}"))
    if text.skipped:
        console.print(Text(text.skipped))
    return buffer.getvalue().rstrip()


def _headline(run: Row) -> str:
    meaning = ": speed is the same work, meaning is not" if run["weights"] == "synthetic" else ""
    unfinished = "" if run["ended_at"] else " · not finished"
    return f"{run['model']} · {run['weights']} weights{meaning} · {run['machine']} · run {run['run_id']}{unfinished}"


# --- reports -----------------------------------------------------------------------------------------------------------------------


def report(
    database: Path = paths.DATABASE, format: str = "md", run_id: str | None = None, out: Path | None = None,
    draw: Draw | None = None,
) -> str:  # fmt: skip
    """Stored results as Markdown, CSV or JSON, without measuring.

    Args:
        format: md, csv or json. CSV and JSON hold every column of `leaderboard`.
        run_id: one run; without it the newest, then the others behind the board, newest first.
        out: a file, or a folder for `report.<format>`; for md the plots are written beside it. Without it the text is returned.
        draw: makes the plots of a run; none without it.

    Returns:
        The text, or the name of the file that was written.

    Raises:
        BenchError: an unknown format or run, no run at all, or `out` cannot be written.
    """
    if format not in FORMATS:
        raise catalog.unknown("format", format, FORMATS)
    runs = [_run(database, run_id)] if run_id else _board_runs(database)
    if format != "md":
        rows = [row for run in runs for row in _rows(database, run["run_id"])]
        return _deliver(_csv(rows) if format == "csv" else _json(rows), format, out)
    plots = {run["run_id"]: list(draw(database, run)) if out and draw else [] for run in runs}
    text = "\n".join(_markdown(run, _told(database, run), plots[run["run_id"]]) for run in runs)
    for run in runs:
        for plot in plots[run["run_id"]]:
            files.write_text(_file(out or Path(), format).parent / plot.name, plot.svg)
    return _deliver(text, format, out)


def _markdown(run: Row, text: RunText, plots: Sequence[Plot]) -> str:
    parts = [f"# {_plain(run['model'])}", "", _plain(_headline(run)), ""]
    parts += [_plain(text.answer), ""] if text.answer else []
    parts += [f"Measured {run['measured_at']:%Y-%m-%d %H:%M} UTC by `{run['command'].replace('`', '')}`.", ""]
    for sheet in text.sheets:
        parts += [f"## {_plain(sheet.title)}", ""]
        if sheet.lines:
            align = ["---" if place <= 1 else "---:" for place in range(len(sheet.header))]
            parts += [_line(cells) for cells in (sheet.header, align, *sheet.lines)] + [""]
        parts += [f"- {_plain(name)}: {_plain(why)}" for name, why in sheet.failed] + [""] * bool(sheet.failed)
        parts += [line for note in sheet.notes for line in (_plain(note), "")]
    parts += [_plain(text.skipped), ""] if text.skipped else []
    for plot in plots:
        parts += [f"![{_plain(plot.sentence)}]({plot.name})", "", _plain(plot.sentence), ""]
    return "\n".join(parts)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell if set(cell) <= {"-", ":"} else _plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text that is inert in Markdown: no tag, no table cell, no emphasis of its own."""
    for char, inert in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("*", "\\*"), ("`", "\\`"), ("](", "]\\("), ("\n", " ")):
        text = text.replace(char, inert)
    return text


def _csv(rows: Sequence[Row]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _json_value(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()


def _json(rows: Sequence[Row]) -> str:
    return json.dumps([{name: _json_value(value) for name, value in row.items()} for row in rows], indent=1, ensure_ascii=False) + "\n"


def _json_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _deliver(text: str, format: str, out: Path | None) -> str:
    if out is None:
        return text.rstrip("\n")
    file = _file(out, format)
    try:
        files.write_text(file, text)
    except OSError as error:
        raise BenchError(f"{file}: cannot be written ({error.strerror}): choose another --out") from None
    return str(file)


def _file(out: Path, format: str) -> Path:
    return out if out.suffix == f".{format}" else out / f"report.{format}"


# --- what both show ------------------------------------------------------------------------------------------------------------------


def _run(database: Path, run_id: str | None) -> Row:
    runs = store.rows("SELECT * EXCLUDE (run_json, machine_json) FROM runs ORDER BY measured_at, run_id", database=database)
    if not runs:
        raise BenchError(f"{database}: holds no run yet: `invoke bench --model minilm` measures one")
    if run_id is None:
        return runs[-1]
    by_id = {run["run_id"]: run for run in runs}
    if run_id not in by_id:
        near = difflib.get_close_matches(run_id, by_id, n=1, cutoff=0)
        raise BenchError(f"unknown run {run_id!r}: did you mean {near[0]!r}?")
    return by_id[run_id]


def _board_runs(database: Path) -> list[Row]:
    """The newest run, then the others behind the leaderboard, newest first."""
    newest = _run(database, None)
    others = [_run(database, row["run_id"]) for row in store.rows(BOARD_RUNS, database=database)]
    return [newest, *(run for run in others if run["run_id"] != newest["run_id"])]


def _rows(database: Path, run_id: str) -> list[Row]:
    """A run's rows as the board shows them: by scenario, ranked ones first, floors last."""
    return store.rows(
        """
        SELECT * FROM leaderboard WHERE run_id = ?
        ORDER BY coalesce(served_scenario, scenario), served_scenario IS NOT NULL, clients, role <> 'measured', role, tie_group NULLS LAST,
                 rank_lo NULLS LAST, requests_per_s DESC NULLS LAST, framework, variant
        """,
        [run_id],
        database,
    )


def _told(database: Path, run: Row) -> RunText:
    """A run as text."""
    rows = _rows(database, run["run_id"])
    served = {row["scenario"] for row in rows if row["served_scenario"] is None}
    scenarios = [name for name in _scenarios(database, run["run_id"]) if name in served]
    of = {name: [row for row in rows if row["scenario"] == name] for name in scenarios}
    skipped = [name for name in scenarios if all(row["status"] in NOT_MEASURED for row in of[name])]
    sheets: list[Sheet] = []
    for name in scenarios:
        if name in skipped and len(skipped) < len(scenarios):
            continue
        sheets.append(_sheet(name, of[name]))
        derived = {(row["arm_id"], row["clients"]): row for row in rows if row["served_scenario"] == name}
        if any(row["p50_ms"] is not None for row in derived.values()):
            sheets.append(_clients(name, of[name], derived))
    answers = [answer for name in scenarios if (answer := _answer(name, of[name]))]
    return RunText(answers[0] if answers else "", tuple(sheets), _skipped(skipped, of) if len(skipped) < len(scenarios) else "")


def _scenarios(database: Path, run_id: str) -> list[str]:
    """Names of the scenarios of a run, in its order."""
    (run,) = store.rows("SELECT run_json FROM runs WHERE run_id = ?", [run_id], database)
    return [scenario["name"] for scenario in json.loads(run["run_json"])["scenarios"]]


def _answer(scenario: str, rows: Sequence[Row]) -> str:
    """The leading arms of a scenario in one line, level ones together; empty where no arm has a throughput."""
    measured = [row for row in rows if row["role"] == "measured" and row["status"] in PROVEN and row["requests_per_s"] is not None]
    if not measured:
        return ""
    first = measured[0]
    level = [row for row in measured if row["tie_group"] is not None and row["tie_group"] == first["tie_group"]] or [first]
    names = ", ".join(_name(row) for row in level)
    latency = f", p50 {compact(first['p50_ms'])} ms" if first["p50_ms"] is not None else ""
    verb = "lead together" if len(level) > 1 else "leads"
    rank = "" if first["ranked"] else f" (not ranked: {first['rank_note']})" if first["rank_note"] else " (not ranked)"
    return f"{scenario}: {names} {verb} with {compact(first['requests_per_s'])} requests/s{latency}{rank}"


def _skipped(names: Sequence[str], rows: Mapping[str, Sequence[Row]]) -> str:
    """The loads that were not measured, in one line, with the reason of the last: its budget covers the others too."""
    if not names:
        return ""
    reason = next((row["reason"] for row in rows[names[-1]] if row["reason"]), None)
    return f"not measured: {', '.join(names)}" + (f"; {names[-1]}: {reason}" if reason else "")


def _sheet(scenario: str, own: Sequence[Row]) -> Sheet:
    """The arms of one served scenario."""
    header = ("rank", "framework", "n", "requests/s [95 %]", "× best [95 %]", "p50 ms", "p95 ms", "p99 ms", "with text ms")
    lines = []
    for row in own:
        if row["requests_per_s"] is None:
            continue
        rate = compact(row["requests_per_s"])
        if row["requests_per_s_lo"] is not None:
            rate += f" [{compact(row['requests_per_s_lo'])}, {compact(row['requests_per_s_hi'])}]"
        lines.append((_rank(row), _name(row), f"{row['n']:,}", rate, _ratio(row),
                      *(compact(row[column]) for column in ("p50_ms", "p95_ms", "p99_ms", "text_p50_ms"))))  # fmt: skip
    failed: dict[str, list[str]] = {}
    for row in own:
        if row["status"] != "OK":
            failed.setdefault(f"{row['status']}: {row['reason']}", []).append(_name(row))
    return Sheet(scenario, header, tuple(lines), tuple((", ".join(names), why) for why, names in failed.items()), tuple(_notes(own)))


def _clients(scenario: str, own: Sequence[Row], derived: Mapping[tuple[str, int], Row]) -> Sheet:
    """The closed loops that follow from the scenario's service sequence: the median latency by number of clients."""
    clients = sorted({count for _, count in derived})
    title = f"{scenario}: closed-loop latency by clients, p50 ms (throughput stays the same)"
    arms = [row for row in own if row["role"] == "measured" and row["p50_ms"] is not None]
    lines = [("", _name(row), *(compact(derived[row["arm_id"], count]["p50_ms"]) for count in clients)) for row in arms]
    return Sheet(title, ("", "framework", *map(str, clients)), tuple(lines), (), ())


def _notes(own: Sequence[Row]) -> list[str]:
    """Under a table: why nothing is ranked, and which percentiles the samples could not carry."""
    measured = [row for row in own if row["role"] == "measured" and row["status"] in PROVEN]
    notes = [f"not ranked: {note}" for note in dict.fromkeys(row["rank_note"] for row in measured if row["rank_note"])]
    if any(row["rank_lo"] is not None and not row["ranked"] for row in measured):
        notes.append("ranks in brackets are provisional; an interval that spans several ranks is a tie that the data do not break")
    if any(row["p99_ms"] is None for row in measured):
        notes.append(f"– : {next(row['tail_note'] for row in measured if row['p99_ms'] is None)}")
    if any(row["noisy_blocks"] for row in measured):
        notes.append("noisy: " + ", ".join(f"{row['framework']} {row['noisy_blocks']} of {row['blocks']} blocks" for row in measured))
    return notes


def _name(row: Row) -> str:
    """The framework with its version, and what sets the arm apart from its default."""
    framework = f"{row['framework']} {row['framework_version'] or ''}".rstrip()
    return arm_label(framework, row["precision"], row["variant"], row["sessions"], row["threads"])


def _rank(row: Row) -> str:
    """The rank interval, in brackets if it is provisional; the role of an arm that is not ranked by nature."""
    if row["rank_lo"] is None:
        return row["role"] if row["role"] != "measured" else DASH
    rank = span(row["rank_lo"], row["rank_hi"])
    return rank if row["ranked"] else f"({rank})"


def _ratio(row: Row) -> str:
    ratio = number(row["ratio_to_best"], 3)
    return ratio if row["ratio_lo"] == row["ratio_hi"] else f"{ratio} {interval(row['ratio_lo'], row['ratio_hi'], 3)}".rstrip()
