"""Speed beside quality on a model's page: which arms nothing beats in both, and every recipe of a precision in one table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pytest

from site_src import page_writer
from site_src.charts import quality
from site_src.charts.chart import Chart
from site_src.charts.parts import Selection
from site_src.data import leaderboard
from site_src.pages import model
from tests.support import site_fixture

PRECISIONS = (site_fixture.DEFAULT, ("bf16", "default", 0.6), ("int8", "dynamic", 0.7), ("int8", "static", 0.5), ("fp32", "tuned", 0.3))


def made(folder: Path, variants: Sequence[tuple[str, str, float]], weights: str = "wheel") -> leaderboard.Leaderboard:
    """A board of one run of MiniLM."""
    path = folder / "results.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute(site_fixture.SCHEMA.read_text())
        site_fixture.add_run(con, "minilm-20261121-090000", "minilm", day=1, samples=60, variants=tuple(variants), weights=weights)
    return site_fixture.open_board(path)


def chart_of(board: leaderboard.Leaderboard) -> Chart | None:
    (best,) = board.results["minilm"]
    return quality.speed_and_quality(Selection.across_precisions(board, best, best.served[0]), "fp32")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> leaderboard.Leaderboard:
    return made(tmp_path_factory.mktemp("quality"), PRECISIONS)


def test_the_front_is_what_nothing_beats_in_both(board: leaderboard.Leaderboard) -> None:
    chart = chart_of(board)
    assert chart is not None
    assert "OpenVINO in int8 · static," in chart.sentence and "fp32, OpenVINO," in chart.sentence
    points = [(row["rows_per_s"], row["kept"]) for row in chart.rows]
    assert len(points) == 6 * 4, "six frameworks; fp32, bf16 and two recipes of int8, and no tuned settings"
    for row, (speed, kept) in zip(chart.rows, points, strict=True):
        beaten = any(fast >= speed and good >= kept and (fast, good) != (speed, kept) for fast, good in points)
        assert row["on_front"] != beaten
    front = [row["arm_id"] for row in chart.rows if row["on_front"]]
    assert front == ["openvino-fp32", "openvino-bf16", "openvino-int8-static"]
    assert [row["kept"] for row in chart.rows if row["arm_id"] in front] == [1.0, 0.9993, 0.9912]


@pytest.mark.parametrize(
    ("variants", "weights"),
    [((site_fixture.DEFAULT,), "wheel"), ((site_fixture.DEFAULT, ("fp32", "tuned", 0.5)), "wheel"), (PRECISIONS, "synthetic")],
)
def test_one_precision_and_synthetic_weights_draw_nothing(
    tmp_path: Path, variants: tuple[tuple[str, str, float], ...], weights: str
) -> None:
    assert chart_of(made(tmp_path, variants, weights)) is None


def test_the_table_holds_every_recipe_and_marks_the_front(board: leaderboard.Leaderboard, tmp_path: Path) -> None:
    writer = page_writer.PageWriter(board, tmp_path)
    model.write(writer)
    writer.flush()
    page = next(tmp_path.rglob("minilm.md")).read_text()
    table = page[page.index('aria-label="Precisions"') : page.index('aria-label="Variants"')]
    rows = re.findall(r"<tr data-fw=\"openvino\".*?</tr>", table, re.S)
    told = [re.search(r"<td>((?:fp32|bf16|int8)[^<]*)", row) for row in rows if "single" in row or "back to back" in row]
    assert [match[1].strip() for match in told if match] == ["fp32", "bf16", "int8 · dynamic", "int8 · static"]
    assert [">front<" in row for row in rows[: len(told)]] != [False] * len(told)
    assert "tuned" in page[page.index('aria-label="Variants"') :], "settings stand apart"
