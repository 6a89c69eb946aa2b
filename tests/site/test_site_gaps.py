"""Loads without a throughput, and what was not run: pages say what is known, and why the rest is not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import duckdb
import pytest

from bench.core import formatting
from site_src import generate, sentences
from site_src.charts import many_loads, one_load
from site_src.charts.chart import Chart
from site_src.charts.parts import Selection
from site_src.data import operating_points
from tests.support import site_fixture

RUN = "minilm-20261121-090000"
NEW_LENGTHS = tuple(load for load in site_fixture.STANDARD if not load.has_rate)


def pages(database: Path, folder: Path) -> Path:
    """The pages of a database: written, not rendered by MkDocs."""
    board = site_fixture.open_board(database)
    generate.write(board, folder)
    board.connection.close()
    return folder


def one_run(path: Path, loads: tuple[site_fixture.Load, ...]) -> Path:
    with duckdb.connect(str(path)) as con:
        con.execute(site_fixture.SCHEMA.read_text(encoding="utf-8"))
        site_fixture.add_run(con, RUN, "minilm", day=1, samples=60, loads=loads)
    return path


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_run(tmp_path_factory.mktemp("gaps") / "results.duckdb", site_fixture.STANDARD)


@pytest.fixture(scope="module")
def written(database: Path) -> Path:
    return pages(database, database.parent / "pages")


def line_of(page: Path, title: str, after: str = "") -> str:
    """The first table row that names something, without its tags."""
    text = page.read_text(encoding="utf-8").partition(after)[2] if after else page.read_text(encoding="utf-8")
    row = next(row for row in re.findall(r"<tr.*?</tr>", text, re.DOTALL) if title in row)
    return " ".join(re.sub(r"<[^>]+>", " ", row).split())


def test_lengths_that_come_once_are_shown_and_ranked_by_their_median(database: Path, written: Path) -> None:
    board = site_fixture.open_board(database)
    table = next(table for table in board.results["minilm"][0].served if table.scenario == "new-shape")
    assert not table.has_rate
    assert not table.failed
    assert [row["p50_ms"] for row in table.rows] == sorted(row["p50_ms"] for row in table.rows)
    said = sentences.verdict(board, table)
    assert f"p50, {formatting.number(table.rows[0]['p50_ms'])} ms" in said
    assert "per second" not in said
    line = line_of(written / "models" / "minilm.md", "text lengths that the process has not seen", after="## Every load")
    assert "p50 in ms" in line
    assert formatting.number(table.rows[0]["p50_ms"]) in line


def test_a_measured_row_never_says_that_no_reason_was_recorded(written: Path) -> None:
    for file in written.rglob("*.md"):
        text = file.read_text(encoding="utf-8")
        assert "no reason was recorded" not in text, file
        assert not re.search(r'class="flag flag--bad"[^>]*>(OK|PARTIAL)<', text), file


def test_a_model_of_which_only_that_was_measured_has_its_pages(tmp_path: Path) -> None:
    written = pages(one_run(tmp_path / "results.duckdb", NEW_LENGTHS), tmp_path / "pages")
    page = (written / "models" / "minilm.md").read_text(encoding="utf-8")
    assert "has the lowest p50" in page or "lead together" in page
    assert "not measured" in line_of(written / "index.md", "all-MiniLM-L6-v2")
    assert (written / "data" / "models" / "minilm" / "card.png").stat().st_size > 5000


def test_coverage_counts_the_search_and_the_new_lengths(written: Path) -> None:
    text = (written / "coverage.md").read_text(encoding="utf-8")
    assert text.count(f'class="ok">all {len(site_fixture.STANDARD)}</a>') == len(site_fixture.SIX)


def test_what_is_fitted_is_said_in_words(database: Path, written: Path) -> None:
    page = (written / "models" / "minilm.md").read_text(encoding="utf-8")
    with duckdb.connect(str(database), read_only=True) as con:
        terms = {term for (term,) in con.execute("SELECT DISTINCT term FROM fits").fetchall()}
    assert terms == set(sentences.TERMS)
    for term in terms:
        assert sentences.TERMS[term] in page


def test_a_search_without_a_turn_is_no_limit_that_fails(tmp_path: Path) -> None:
    database = one_run(tmp_path / "results.duckdb", site_fixture.STANDARD)
    why = "4 s are left of the budget; 3 blocks need about 24 s"
    with duckdb.connect(str(database)) as con:
        con.execute(
            "UPDATE results SET status = 'SKIPPED', reason = ?, rate_per_s = NULL, n = 0, blocks = 0, requests_per_s = NULL, p50_ms = NULL"
            " WHERE scenario LIKE 'slo%' OR scenario LIKE 'poisson%'",
            [why],
        )
    board = site_fixture.open_board(database)
    results = board.results["minilm"][0]
    assert operating_points.find(board, results) is None
    assert operating_points.why_unknown(results) == why
    board.connection.close()
    written = pages(database, tmp_path / "pages")
    assert why in line_of(written / "slo.md", "all-MiniLM-L6-v2")
    assert 'class="withheld" title="4 s' not in (written / "slo.md").read_text(encoding="utf-8")
    assert "not measured" in line_of(written / "index.md", "all-MiniLM-L6-v2")
    assert results.headline


def test_an_arm_without_its_turn_says_so_beside_those_that_keep_a_limit(tmp_path: Path) -> None:
    database = one_run(tmp_path / "results.duckdb", site_fixture.STANDARD)
    with duckdb.connect(str(database)) as con:
        con.execute(
            "UPDATE results SET status = 'CRASH', reason = 'it died', rate_per_s = NULL WHERE scenario LIKE 'slo%' AND framework = 'candle'"
        )
    board = site_fixture.open_board(database)
    found = operating_points.find(board, board.results["minilm"][0])
    assert found
    assert {found.points[limit]["candle-fp32"].state for limit in found.limits_ms} == {"CRASH"}
    assert {point.state for point in found.points[10].values() if point.row["framework"] != "candle"} == {"none"}


def test_arrivals_are_compared_by_one_percentile_and_at_random_only(tmp_path: Path) -> None:
    """p99 of one arm is never drawn beside p50 of another, nor are bursts beside Poisson arrivals of the same rate."""
    database = one_run(tmp_path / "results.duckdb", site_fixture.STANDARD)
    with duckdb.connect(str(database)) as con:
        con.execute("UPDATE results SET p99_ms = 2 * p95_ms WHERE scenario LIKE 'poisson%' AND framework <> 'candle'")
        (text,) = con.execute("SELECT run_json FROM runs").fetchall()[0]
        record = json.loads(text)
        for scenario in record["scenarios"]:
            scenario["arrivals"] = "gamma" if scenario["name"] == "poisson-middle" else "poisson"
        con.execute("UPDATE runs SET run_json = ?", [json.dumps(record)])

    def drawn() -> Chart:
        board = site_fixture.open_board(database)
        results = board.results["minilm"][0]
        tables = [table for table in results.served if board.is_poisson(table) and table.batch == 1]
        assert {table.scenario for table in tables} == {"poisson-low", "poisson-high"}
        assert {table.tail for table in tables} == {tail}
        arms = [row["arm_id"] for row in results.served[0].rows]
        selection = Selection(board, [RUN], arms, "closed-1", "")
        chart = many_loads.open_loop(selection, [table.scenario for table in tables], "one at a time")
        assert chart is not None
        return chart

    tail = "p50_ms"
    chart = drawn()
    assert {name for row in chart.rows for name in row if name.endswith("_ms")} == {"p50_ms"}
    assert "p99 is withheld for some" in chart.note
    written = pages(database, tmp_path / "pages")
    assert "p50 in ms" in line_of(written / "models" / "minilm.md", "Poisson arrivals, low rate", after="## Every load")
    with duckdb.connect(str(database)) as con:
        con.execute("UPDATE results SET p99_ms = 2 * p95_ms WHERE framework = 'candle'")
    tail = "p99_ms"
    chart = drawn()
    assert {name for row in chart.rows for name in row if name.endswith("_ms")} == {"p99_ms"}


def test_a_backlog_without_end_is_said_whatever_percentile_is_shown(tmp_path: Path) -> None:
    database = one_run(tmp_path / "results.duckdb", site_fixture.STANDARD)
    with duckdb.connect(str(database)) as con:
        con.execute("UPDATE results SET p50_ms = 514, p99_ms = 'Infinity' WHERE scenario = 'poisson-low' AND framework = 'candle'")
    board = site_fixture.open_board(database)
    results = board.results["minilm"][0]
    table = next(table for table in results.served if table.scenario == "poisson-low")
    assert table.tail == "p50_ms"
    selection = Selection(board, [RUN], [row["arm_id"] for row in table.rows], "closed-1", "")
    chart = many_loads.open_loop(selection, [f"poisson-{rate}" for rate in ("low", "middle", "high")], "one at a time")
    assert chart is not None
    assert not [row for row in chart.rows if row["framework"] == "candle" and row["rate_per_s"] == 20]
    board.connection.close()
    written = pages(database, tmp_path / "pages")
    line = line_of(written / "models" / "minilm.md", "Poisson arrivals, low rate", after="## Every load")
    assert "∞" in line
    assert "514" not in line


def test_every_number_of_clients_has_its_own_n(tmp_path: Path) -> None:
    database = one_run(tmp_path / "results.duckdb", site_fixture.BASIC)
    with duckdb.connect(str(database)) as con:
        con.execute("UPDATE results SET n = 1000 - clients WHERE scenario LIKE 'closed-%'")
        counts = con.execute("SELECT DISTINCT n FROM results WHERE scenario LIKE 'closed-%' AND framework = 'openvino' ORDER BY n DESC")
        expected = [f"n {count:,.0f}" for (count,) in counts.fetchall()]
    written = pages(database, tmp_path / "pages")
    line = line_of(written / "models" / "minilm.md", "OpenVINO", after="### Closed-loop latency by clients")
    assert re.findall(r"n [\d,]+", line) == expected
    assert len(expected) == 5


def test_clients_served_together_are_drawn_without_those_that_wait_one_behind_another(tmp_path: Path) -> None:
    database = one_run(tmp_path / "results.duckdb", site_fixture.STANDARD)
    board = site_fixture.open_board(database)
    results = board.results["minilm"][0]
    first = results.served[0]
    together = [table.scenario for table in results.batched("fp32") if table.served is None]
    selection = Selection(board, [RUN], [row["arm_id"] for row in first.rows], first.scenario, "")
    chart = one_load.load_curve(selection, [first.scenario, *together], "batched")
    assert chart is not None
    assert [row["clients"] for row in chart.rows if row["framework"] == "openvino"] == [1, 4, 32, 64, 128]
    stored = {row["clients"]: row["p50_ms"] for table in results.batched("fp32") for row in table.rows if row["framework"] == "openvino"}
    assert all(row["p50_ms"] == stored[row["clients"]] for row in chart.rows if row["framework"] == "openvino" and row["clients"] > 1)


def test_the_swap_matrix_is_that_of_a_whole_run(tmp_path: Path) -> None:
    """A newer run of two arms, such as one of controls, hides no matrix of six."""
    database = one_run(tmp_path / "results.duckdb", site_fixture.STANDARD)
    with duckdb.connect(str(database)) as con:
        site_fixture.add_run(
            con,
            "newer",
            "minilm",
            day=2,
            samples=60,
            only=("pytorch",),
            complete=False,
            loads=(site_fixture.BASIC[0], site_fixture.BASIC[1]),
        )
    text = (pages(database, tmp_path / "pages") / "swap.md").read_text(encoding="utf-8")
    assert RUN in text
    assert "newer" not in text
