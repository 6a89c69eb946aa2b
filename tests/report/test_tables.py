"""What is printed after a bench, and reports: every number is the database's."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.core.errors import BenchError
from bench.report import tables as report
from bench.store import database as store
from site_src import report_plots
from tests.support import runs
from tests.support.runs import OFFLINE, SINGLE, Fake, Spec

SPEC = Spec(
    arms=(Fake("pytorch", 6.0, block_noise=0.01), Fake("openvino", 3.0, block_noise=0.01), Fake("null-python", 0.004, role="floor"),
          Fake("candle", cosine=0.9), Fake("onnx-cpp", failures={"*": ("SKIPPED", "<script>|no headers|")})), loads=(SINGLE, OFFLINE),
)  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> Path:
    runs.write(tmp_path / "runs", SPEC)
    store.load(tmp_path / "results.duckdb")
    return tmp_path / "results.duckdb"


def test_the_table_says_who_is_faster_and_who_failed_and_why(database: Path) -> None:
    text = report.table(database, SPEC.name)
    lines = text.splitlines()
    ranked = [line for line in lines if line.strip().startswith("(")]
    assert [line.split()[:3] for line in ranked[:2]] == [["(1)", "openvino", "1.2.3"], ["(2)", "pytorch", "1.2.3"]]
    assert "480" in ranked[0]
    assert "candle 1.2.3: PARITY_FAIL: 1 − cosine 1.00e-01" in text
    assert "onnx-cpp: SKIPPED: <script>|no headers|" in text
    assert "not ranked: no controls" in text
    tail = store.rows("SELECT tail_note FROM leaderboard WHERE framework = 'openvino' AND scenario = 'closed-1'", database=database)
    assert f"– : {tail[0]['tail_note']}" in text
    assert "…" not in text
    assert any(line.strip().startswith("floor") for line in lines)


def test_the_newest_run_is_printed_without_a_name(database: Path) -> None:
    later = replace(SPEC, day=2.0, done=False)
    store.append(database, runs.write(database.parent / "runs", later))
    assert f"run {later.name} · not finished" in report.table(database)


def test_synthetic_weights_are_said(tmp_path: Path) -> None:
    runs.write(tmp_path / "runs", replace(SPEC, weights="synthetic"))
    assert "synthetic weights: speed is the same work, meaning is not" in report.table(tmp_path / "results.duckdb")
    assert "synthetic weights" in report.report(tmp_path / "results.duckdb", "md")


@pytest.mark.parametrize("format", ["csv", "json"])
def test_csv_and_json_hold_the_leaderboard(database: Path, format: str) -> None:
    text = report.report(database, format)
    found = json.loads(text) if format == "json" else list(csv.DictReader(io.StringIO(text)))
    stored = store.rows("SELECT * FROM leaderboard", database=database)
    assert list(found[0]) == list(stored[0])
    key = [(row["framework"], row["scenario"]) for row in found]
    assert sorted(key) == sorted((row["framework"], row["scenario"]) for row in stored)
    want = {(row["framework"], row["scenario"]): row["p50_ms"] for row in stored}
    for row in found:
        value = want[row["framework"], row["scenario"]]
        assert row["p50_ms"] in (value, "" if value is None else str(value))


def test_markdown_is_whole_and_inert(database: Path) -> None:
    text = report.report(database, "md", SPEC.name)
    assert "<script>" not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert tables[0].startswith("| rank | framework | n |")
    widths = {line.count("|") for line in tables[: 2 + 3]}
    assert len(widths) == 1
    assert "| (1) | openvino 1.2.3 | 480 | 333" in text


def test_a_report_with_its_plots_is_written_beside_them(database: Path, tmp_path: Path) -> None:
    def draw(_: Path, run: store.Row) -> list[report_plots.Plot]:
        return [report_plots.Plot(f"{run['run_id']}-latency.svg", "<svg/>", "openvino is fastest")]

    file = report.report(database, "md", None, tmp_path / "out", draw)
    assert file == str(tmp_path / "out" / "report.md")
    assert f"![openvino is fastest]({SPEC.name}-latency.svg)" in Path(file).read_text(encoding="utf-8")
    assert (tmp_path / "out" / f"{SPEC.name}-latency.svg").read_text(encoding="utf-8") == "<svg/>"
    named = report.report(database, "json", None, tmp_path / "mine.json")
    assert json.loads(Path(named).read_text(encoding="utf-8"))


def test_the_sites_charts_are_the_plots(database: Path, tmp_path: Path) -> None:
    report.report(database, "md", SPEC.name, tmp_path / "out", report_plots.draw)
    pictures = sorted((tmp_path / "out").glob("*.svg"))
    assert len(pictures) >= 4
    for picture in pictures:
        assert picture.read_text(encoding="utf-8").startswith("<svg")
        assert "var(" not in picture.read_text(encoding="utf-8")
        assert f"]({picture.name})" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_without_a_run_the_runs_behind_the_board_are_told(database: Path) -> None:
    pair = replace(SPEC, arms=SPEC.arms[:2], day=1.0, complete=False)
    other = replace(SPEC, model="bge-m3", day=2.0, complete=False)
    for spec in (pair, other):
        store.append(database, runs.write(database.parent / "runs", spec))
    assert {row["run_id"] for row in json.loads(report.report(database, "json"))} == {SPEC.name, other.name}


def test_the_newest_run_comes_first_with_its_answer_and_what_was_skipped_last(database: Path) -> None:
    """A run of two loads, of which the first in its order had no room, beside an older one behind the board."""
    skipped = {"closed-1": ("SKIPPED", "3 blocks need 90 s: `--budget 10m` would do")}
    arms = tuple(replace(arm, failures=skipped) for arm in SPEC.arms[:2])
    newest = replace(SPEC, model="bge-m3", arms=arms, day=3.0, complete=False)
    store.append(database, runs.write(database.parent / "runs", newest))
    text = report.report(database, "md")
    lines = [line for line in text.splitlines() if line]
    assert lines[0] == "# bge-m3" and text.index("# bge-m3") < text.index("# minilm")
    answer = next(place for place, line in enumerate(lines) if line.startswith("offline-32: openvino 1.2.3 lead"))
    assert answer == 2 and "requests/s" in lines[answer] and "(not ranked: no controls)" in lines[answer]
    own = text[: text.index("# minilm")]
    assert "## closed-1" not in own and own.count("SKIPPED") == 0
    last = [line for line in own.splitlines() if line][-1]
    assert last.startswith("not measured: closed-1; closed-1: 3 blocks need 90 s") and "--budget 10m" in last


def test_errors_name_the_cure(database: Path, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="unknown format 'xml': choose from md, csv, json"):
        report.report(database, "xml")
    with pytest.raises(BenchError, match=f"unknown run 'nonsense': did you mean '{SPEC.name}'"):
        report.report(database, "md", "nonsense")
    with pytest.raises(BenchError, match="invoke bench --model minilm"):
        report.table(tmp_path / "empty" / "results.duckdb")
