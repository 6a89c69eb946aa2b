"""The site from a fixture database: same bytes twice, links that resolve, names that stay inert, and numbers that equal a query."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import re
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urljoin, urlparse
from urllib.request import urlopen

import duckdb
import pytest

from bench import catalog
from bench.core import formatting, paths
from bench.core.errors import BenchError
from bench.store import connection
from site_src import generate, markup, page_writer, preview, records, sentences
from site_src.charts import framework_style, many_loads, one_load
from site_src.charts.chart import plain_colours
from site_src.charts.parts import Selection, spread
from site_src.data import operating_points
from site_src.pages import model as model_page
from tests.support import site_fixture

pytestmark = pytest.mark.slow

MODEL = "models/minilm"


class Page(HTMLParser):
    """What a test asks of a page: its links, the addresses it loads, its ids, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.inside = tag if tag in ("script", "style") else ""
        if tag == "a":
            self.links += [names["href"]] if names.get("href") else []
        else:
            self.loads += [value for name in ("src", "href") if (value := names.get(name))]
        self.ids += [value for value in (names.get("id"), names.get("name") if tag == "a" else None) if value]
        assert not [name for name in names if name.startswith("on")], f"an inline handler in <{tag}>"

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)
        elif not self.inside:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with results.duckdb, pages/ and site/ of the fixture, hostile names in it."""
    folder = tmp_path_factory.mktemp("built")
    site_fixture.build(folder / "results.duckdb", hostile=True)
    generate.build(folder / "results.duckdb", folder / "site", folder / "pages")
    return folder


def page(built: Path, path: str) -> Page:
    return Page((built / "site" / path / "index.html").read_text(encoding="utf-8"))


def html_files(built: Path) -> list[Path]:
    return sorted((built / "site").rglob("*.html"))


def digest(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.rglob("*")) if f.is_file()}


def ask(built: Path, sql: str) -> list[tuple[object, ...]]:
    with duckdb.connect(str(built / "results.duckdb"), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_built_twice_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    generate.build(built / "results.duckdb", tmp_path / "site", tmp_path / "pages")
    assert digest(tmp_path / "pages") == digest(built / "pages")
    assert digest(tmp_path / "site") == digest(built / "site")


def test_building_again_replaces_the_old_site(built: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "stale.html").write_text("old")
    generate.build(built / "results.duckdb", tmp_path / "site", tmp_path / "pages")
    assert not (tmp_path / "site" / "stale.html").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pages", "site"]


def test_internal_links_and_files_resolve(built: Path) -> None:
    site = built / "site"
    known = {file: Page(file.read_text(encoding="utf-8")) for file in html_files(built)}
    for file, content in known.items():
        if file.name == "404.html":  # its links start at the address the site is served from
            continue
        here = f"http://site/{file.relative_to(site).as_posix().removesuffix('index.html')}"
        for link in (*content.links, *content.loads):
            target = urlparse(urljoin(here, link))
            if target.netloc != "site":
                continue
            goal = site / unquote(target.path).lstrip("/")
            goal = goal / "index.html" if goal.is_dir() else goal
            assert goal.is_file(), f"{file.relative_to(site)} leads to {link}, which is not there"
            if target.fragment and goal.suffix == ".html":
                assert unquote(target.fragment) in known[goal].ids, f"{file.relative_to(site)} leads to {link}: no such id"


def test_nothing_is_loaded_from_another_host(built: Path) -> None:
    for file in html_files(built):
        for address in Page(file.read_text(encoding="utf-8")).loads:
            assert not urlparse(address).netloc, f"{file.name} loads {address}"
    for file in (built / "site" / "assets").rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", file.read_text(encoding="utf-8")), f"{file.name} loads from another host"


def test_only_scripts_named_by_hash_may_run(built: Path) -> None:
    for file in html_files(built):
        text = file.read_text(encoding="utf-8")
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
        assert policy, file
        assert "'unsafe-eval'" not in policy.group(1)
        assert "script-src 'self' 'sha256-" in policy.group(1)
        assert "CSP-SCRIPT-HASHES" not in text


def test_names_are_inert(built: Path) -> None:
    for file in html_files(built):
        content = Page(file.read_text(encoding="utf-8"))
        assert not [script for script in content.scripts if "pwned" in script], file
    hostile = next(file for file in html_files(built) if "x-script" in str(file))
    assert "<script>window.pwned=1</script>" in Page(hostile.read_text(encoding="utf-8")).text


def test_ids_are_unique(built: Path) -> None:
    for file in html_files(built):
        ids = Page(file.read_text(encoding="utf-8")).ids
        assert sorted(ids) == sorted(set(ids)), file


def test_the_table_holds_what_the_database_holds(built: Path) -> None:
    text = page(built, MODEL).text
    rows = ask(built, "SELECT p50_ms, p99_ms, mean_ms, n, requests_per_s, min_cosine FROM leaderboard "
                      "WHERE run_id = 'minilm-20261121-090000' AND scenario = 'closed-1' AND role = 'measured'")  # fmt: skip
    assert len(rows) == 6
    medians = [row[0] for row in rows]
    rates = [row[4] for row in rows]
    for p50, p99, mean, n, rate, cosine in rows:
        assert formatting.number(p50, formatting.decimals(medians)) in text
        assert formatting.number(p99, formatting.decimals(medians)) in text
        assert formatting.number(rate, formatting.decimals(rates)) in text
        assert formatting.count(n) in text
        assert formatting.distance(cosine) in text
        assert mean != p99


def test_the_p99_column_is_the_p99(built: Path) -> None:
    """Others shipped a p99 column that held the mean, and seconds labelled ms."""
    html = (built / "site" / MODEL / "index.html").read_text(encoding="utf-8")
    table = re.search(r"<table class=\"board sortable\">(.*?)</table>", html, re.DOTALL)
    assert table
    heads = [re.sub(r"<[^>]+>", "", head).strip() for head in re.findall(r"<th[^>]*scope=\"col\">(.*?)</th>", table.group(1), re.DOTALL)]
    column = next(i for i, head in enumerate(heads) if head.startswith("p99"))
    assert heads[column].endswith("ms")
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", table.group(1).split("<tbody>")[1], re.DOTALL):
        cells = re.findall(r"<t[hd][^>]*?(?:data-sort=\"([^\"]*)\")?[^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        title = re.sub(r"<[^>]+>", " ", cells[1][1])
        shown = float(re.sub(r"<[^>]+>", "", cells[column][1]).replace(",", ""))
        found = [p99 for framework, p99 in ask(built, "SELECT framework, p99_ms FROM leaderboard WHERE run_id = 'minilm-20261121-090000' "
                 "AND scenario = 'closed-1'") if site_title(str(framework)) in title]  # fmt: skip
        assert abs(shown - float(str(found[0]))) < 0.006


def site_title(framework: str) -> str:

    return catalog.load().frameworks[framework].title


def test_a_run_of_two_frameworks_leaves_the_page_of_the_others(built: Path) -> None:
    text = page(built, MODEL).text
    newest = ask(built, "SELECT run_id FROM runs WHERE model = 'minilm' ORDER BY measured_at DESC LIMIT 1")[0][0]
    assert newest == "minilm-20261122-090000"
    for framework in site_fixture.FRAMEWORKS:
        assert site_title(framework) in text
    assert "run minilm-20261121-090000" in text
    assert str(newest) in text  # listed among the runs


def test_failures_synthetic_weights_and_withheld_tails_are_said(built: Path) -> None:
    text = page(built, "models/fixture-large").text
    for said in ("synthetic weights", "CRASH", "SKIPPED", "PARITY_FAIL", "invoke build --framework onnx-cpp", "quality needs real weights"):
        assert said in text, said
    assert "withheld" in text
    assert "p99 and p99.9 are withheld: 120 samples" in text
    assert "Not ranked" in text


def test_null_floors_stand_apart(built: Path) -> None:
    html = (built / "site" / MODEL / "index.html").read_text(encoding="utf-8")
    before, after = html.split('id="floor"', 1)
    assert "null (Python)" not in before.split('id="closed-1-fp32"', 1)[1]
    for title in ("null (Python)", "null (Rust)", "null (C++)"):
        assert title in after


def test_a_run_page_says_where_a_number_comes_from(built: Path) -> None:
    content = page(built, "runs/minilm-20261121-090000")
    for said in (
        "invoke bench --model minilm --budget 3m",
        "Fixture CPU 9000",
        "avx512f",
        "fixture build",
        "a1a1a1",
        "not exposed by the guest",
    ):
        assert said in content.text, said
    load = page(built, "runs/minilm-20261121-090000/closed-1").text
    assert '"min_cosine": 0.9999999999989' in load
    assert load.count('"scenario": "closed-128"') == 9
    rows = json.loads((built / "site/data/runs/minilm-20261121-090000/rows.json").read_text(encoding="utf-8"))
    assert len(rows) == ask(built, "SELECT count(*) FROM leaderboard WHERE run_id = 'minilm-20261121-090000'")[0][0]
    assert {"p50_ms", "min_cosine", "rank_lo", "stats_version"} <= rows[0].keys()


def test_every_chart_has_its_twin_its_query_and_its_files(built: Path) -> None:
    html = (built / "site" / MODEL / "index.html").read_text(encoding="utf-8")
    figures = re.findall(r'<figure class="chart".*?</figure>', html, re.DOTALL)
    assert 4 <= len(figures) <= 7
    with duckdb.connect(str(built / "results.duckdb"), read_only=True) as connection:
        for figure in figures:
            assert figure.count("<svg") >= 2
            assert re.search(r"\((?:lower|higher|left|up|further)[^)]*\)</b>", figure)
            sql = Page(re.search(r'<pre class="sql"><code>(.*?)</code>', figure, re.DOTALL).group(1)).text  # type: ignore[union-attr]
            assert connection.execute(sql).fetchone()
            for file in re.findall(r'href="\.\./\.\./(data/[^"]+)" download', figure):
                assert (built / "site" / file).stat().st_size > 100


def test_every_specification_validates(built: Path) -> None:
    import altair

    found = sorted((built / "site" / "data").rglob("*.vl.json"))
    assert found
    for file in found:
        altair.Chart.from_dict(json.loads(file.read_text(encoding="utf-8")))


def test_a_downloaded_picture_needs_no_stylesheet(built: Path) -> None:
    for file in (built / "site" / "data").rglob("*.svg"):
        assert "var(--" not in file.read_text(encoding="utf-8")
    assert plain_colours('<svg a="b"><path fill="var(--fw-pytorch)"/></svg>').count("#") == 2


def test_pages_are_small_enough(built: Path) -> None:
    for file in html_files(built):
        size = len(gzip.compress(file.read_bytes(), mtime=0))
        assert size <= 90_000, f"{file}: {size} bytes"


def test_an_empty_database_gives_a_site(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "empty.duckdb")) as connection:
        connection.execute((paths.ROOT / "bench" / "schema.sql").read_text(encoding="utf-8"))
    generate.build(tmp_path / "empty.duckdb", tmp_path / "site", tmp_path / "pages")
    assert "invoke bench --model minilm" in page(tmp_path, MODEL).text
    generate.build(tmp_path / "absent.duckdb", tmp_path / "site2", tmp_path / "pages2")
    assert digest(tmp_path / "site2") == digest(tmp_path / "site")


def test_one_framework_alone_and_an_incomplete_campaign(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "results.duckdb")) as connection:
        connection.execute(site_fixture.SCHEMA.read_text(encoding="utf-8"))
        site_fixture.add_run(connection, "one", "minilm", day=0, samples=60, only=("candle",), complete=False)
        site_fixture.add_run(connection, "two", "minilm", day=1, samples=60, only=("pytorch",), complete=False)
    generate.build(tmp_path / "results.duckdb", tmp_path / "site", tmp_path / "pages")
    text = page(tmp_path, MODEL).text
    assert "incomplete" in text
    assert "rows of different runs do not rank against each other" in text
    assert "Candle" in text
    assert "PyTorch" in text
    assert text.count("not yet run") >= 4


def test_a_database_in_use_or_of_another_kind_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.duckdb").write_text("this is no database, but it is long enough to look like a file of some kind" * 100)
    duckdb.connect(str(tmp_path / "other.duckdb")).close()
    for name in ("text.duckdb", "other.duckdb"):
        with pytest.raises(BenchError) as caught:
            generate.build(tmp_path / name, tmp_path / "site", tmp_path / "pages")
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "site").exists()


def test_two_names_never_share_a_folder() -> None:
    names = ["minilm", "Minilm", "mini lm", "mini/lm", "../x", "<x>", "é"]
    assert len({markup.slug(name) for name in names}) == len(names)
    assert all(re.fullmatch(r"[a-z0-9.-]+", markup.slug(name)) and not markup.slug(name).startswith(".") for name in names)


def test_every_framework_model_and_scenario_has_its_place(built: Path) -> None:

    known = catalog.load()
    for framework in known.frameworks.values():
        assert framework.title in page(built, f"frameworks/{markup.slug(framework.name)}").text
    coverage = page(built, "coverage").text
    for model in known.models.values():
        assert model.title in page(built, f"models/{markup.slug(model.name)}").text
        assert model.title in coverage
    method = page(built, "methodology").text
    for scenario in known.scenarios.values():
        assert scenario.name in method


def test_coverage_shows_gaps_and_reasons(built: Path) -> None:
    text = page(built, "coverage").text
    for said in (
        "not yet run",
        "CRASH",
        "SKIPPED",
        "PARITY_FAIL",
        "invoke build --framework onnx-cpp",
        "above the gate",
        "quality needs real weights",
    ):
        assert said in text, said


def test_the_verdict_is_a_query(built: Path) -> None:
    text = page(built, MODEL).text
    rows = ask(built, "SELECT requests_per_s, ratio_to_best FROM leaderboard WHERE run_id = 'minilm-20261121-090000' "
                      "AND scenario = 'closed-1' AND role = 'measured' ORDER BY requests_per_s DESC")  # fmt: skip
    (best, _), (_, second), (_, last) = rows[0], rows[1], rows[-1]
    verdict = text[text.index("Single requests, back to back, fp32: ") :]
    assert verdict.startswith(
        f"Single requests, back to back, fp32: OpenVINO serves the most, {formatting.number(float(str(best)))} per second"
    )
    assert f"reaches {float(str(second)):.2f} [" in verdict[:300]
    assert f"Candle {float(str(last)):.2f} [" in verdict[:300]


def test_without_controls_nothing_is_ranked_but_everything_is_shown(tmp_path: Path) -> None:
    database = site_fixture.build(tmp_path / "results.duckdb", samples_per_arm=60)
    with duckdb.connect(str(database)) as connection:
        connection.execute("UPDATE results SET ranked = false, rank_note = 'no controls' WHERE role = 'measured'")
    board = site_fixture.open_board(database)
    best = board.results["minilm"][0]
    assert sentences.verdict(board, best.served[0]).startswith("Not ranked (no controls). In this data: ")
    for answer in sentences.answers(board, best, None)[1:3]:
        assert answer
        assert (answer.flag, answer.why) == ("not ranked", "no controls")
    assert sentences.leaders(best.served[0]) == ()
    generate.write(board, tmp_path / "pages")
    assert "not ranked (no controls): the names below" in written(tmp_path, "index").text


def test_a_tie_is_said_as_a_tie(tmp_path: Path) -> None:
    database = site_fixture.build(tmp_path / "results.duckdb", samples_per_arm=60)
    with duckdb.connect(str(database)) as connection:
        connection.execute("UPDATE results SET rank_lo = 1, rank_hi = 2 WHERE framework IN ('openvino', 'onnx-cpp') AND role = 'measured'")
    board = site_fixture.open_board(database)
    table = board.results["minilm"][0].served[0]
    said = sentences.verdict(board, table)
    assert "OpenVINO and ONNX Runtime (C++) lead together" in said or "ONNX Runtime (C++) and OpenVINO lead together" in said
    assert "serves the most" not in said
    single = sentences.fastest("", table)
    assert single
    assert {"openvino", "onnx-cpp"} <= {row["framework"] for row in single.leaders}
    assert single.leaders[0]["p50_ms"] == min(row["p50_ms"] for row in table.rows)


def test_the_data_files_are_whole(built: Path) -> None:
    data = built / "site" / "data"
    for line in (data / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest_, name = line.split("  ")
        assert hashlib.sha256((data / name).read_bytes()).hexdigest() == digest_, name
    for table in connection.TABLES:
        rows = duckdb.sql(f"SELECT count(*) FROM '{data / table}.parquet'").fetchall()
        assert rows == ask(built, f"SELECT count(*) FROM {table}")


def test_rows_keep_their_schema(built: Path) -> None:
    import jsonschema

    schema = json.loads((built / "site/data/results.schema.json").read_text(encoding="utf-8"))
    rows = json.loads((built / "site/data/models/minilm/leaderboard.json").read_text(encoding="utf-8"))
    assert rows
    for row in rows:
        jsonschema.validate(row, schema)


def test_pairs_for_the_picker_are_those_of_the_database(built: Path) -> None:
    pairs = json.loads((built / "site/data/compare.json").read_text(encoding="utf-8"))
    found = [p for p in pairs if p["model"] == "all-MiniLM-L6-v2" and p["load"] == "single requests, back to back, fp32"]
    assert len(found) == 15
    ratio = ask(built, "SELECT ratio FROM comparisons WHERE run_id = 'minilm-20261121-090000' AND scenario = 'closed-1' "
                       "AND arm_a = 'candle-fp32' AND arm_b = 'openvino-fp32'")[0][0]  # fmt: skip
    assert next(p["ratio"] for p in found if (p["a"], p["b"]) == ("candle", "openvino")) == pytest.approx(ratio, rel=1e-5)


@pytest.mark.parametrize("gap", [5.0, 40.0])
def test_labels_never_cover_each_other(gap: float) -> None:
    places = spread({"a": 100.0, "b": 101.0, "c": 102.0, "d": 300.0, "e": 1.0}, gap)
    assert sorted(places, key=places.__getitem__) == ["e", "a", "b", "c", "d"]
    ordered = sorted(places.values())
    assert all(high - low >= gap - 1e-9 for low, high in itertools.pairwise(ordered))


def test_colours_are_told_apart_from_their_page() -> None:
    """WCAG's 3:1 for graphics, in both schemes."""
    for style in (*framework_style.STYLES.values(), framework_style.OTHER):
        assert contrast(style.light, "#ffffff") >= 3
        assert contrast(style.dark, "#171b22") >= 3
    assert len({style.shape for style in framework_style.STYLES.values()}) == len(framework_style.STYLES)
    assert len({style.dash for style in framework_style.STYLES.values()}) == len(framework_style.STYLES)


def contrast(one: str, two: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_an_open_loop_is_judged_by_its_tail_and_may_never_end(tmp_path: Path) -> None:
    database = site_fixture.build(tmp_path / "results.duckdb", samples_per_arm=60)
    with duckdb.connect(str(database)) as connection:
        connection.execute("UPDATE results SET rate_per_s = 40, p99_ms = 12.5, p99_lo_ms = 12, p99_hi_ms = 13 WHERE scenario = 'closed-1'")
        connection.execute(
            "UPDATE results SET p95_ms = 'Infinity', p99_ms = 'Infinity' WHERE scenario = 'closed-1' AND framework = 'candle'"
        )
    board = site_fixture.open_board(database)
    best = board.results["minilm"][0]
    table = best.served[0]
    assert "has the lowest p99, 12.5 ms [12.0, 13.0] at 40.0 requests per second" in sentences.verdict(board, table)
    arms = [row["arm_id"] for row in table.rows]
    chart = one_load.latency(Selection(board, [best.runs[0]["run_id"]], arms, "closed-1", table.title))
    assert chart is not None
    assert "NaN" not in chart.wide
    assert "Infinity" not in records.to_json(chart.spec).replace("nullif", "")


def test_controls_are_shown(tmp_path: Path) -> None:
    database = site_fixture.build(tmp_path / "results.duckdb", samples_per_arm=60)
    with duckdb.connect(str(database)) as connection:
        run = "minilm-20261121-090000"
        connection.execute(f"""INSERT INTO arms BY NAME SELECT * REPLACE ('twin' AS arm_id, 'twin' AS role, 'twin-2' AS variant)
                               FROM arms WHERE run_id = '{run}' AND framework = 'pytorch'""")
        connection.execute(f"""INSERT INTO comparisons BY NAME SELECT * REPLACE ('twin' AS arm_a, 'equivalent' AS verdict, 1.001 AS ratio)
                               FROM comparisons WHERE run_id = '{run}' AND scenario = 'closed-1' AND arm_b = 'pytorch-fp32' LIMIT 1""")
    board = site_fixture.open_board(database)
    found = model_page.controls(board, board.results["minilm"][0])
    assert [(pair["role"], pair["framework"], pair["verdict"]) for pair in found] == [("twin", "pytorch", "equivalent")]


class Looks:
    """Stands for the clock and the files of a preview: what each look finds, one after another, and then the end."""

    def __init__(self, *found: str) -> None:
        self.found = iter(found)
        self.now = ""

    def wait(self, timeout: float) -> bool:
        after = next(self.found, None)
        self.now = after or self.now
        return after is None

    def state(self, sources: object) -> str:
        return self.now


def test_a_preview_builds_again_when_a_source_changes_and_survives_a_failed_build(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, built = Looks("one", "two, broken", "two, broken", "thr", "three", "three", "three", "four"), list[str]()

    def build() -> None:
        built.append(looks.now)
        if len(built) == 1:
            raise BenchError("a template: broken")

    monkeypatch.setattr(preview, "state", looks.state)
    preview.watch([], cast(Any, "one"), build, cast(Any, looks))
    assert built == ["two, broken", "three"], "nothing that is still being written, and nothing twice"


def test_a_preview_sees_files_change(tmp_path: Path) -> None:
    source = tmp_path / "source.md"
    source.write_text("one")
    before = preview.state([tmp_path])
    assert preview.state([tmp_path]) == before
    source.write_text("three")
    assert preview.state([tmp_path]) != before != preview.state([source, tmp_path / "gone"])


def test_a_preview_serves_and_keeps_nothing_in_the_browser(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("here")
    with preview.server(0, tmp_path) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with urlopen(f"http://127.0.0.1:{server.server_port}/") as answer:
            assert (answer.read(), answer.headers["Cache-Control"]) == (b"here", "no-store")
        with pytest.raises(BenchError, match="--port"):
            preview.server(server.server_port, tmp_path)
        server.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pages of the whole catalogue under every kind of load: written, not rendered by MkDocs."""
    folder = tmp_path_factory.mktemp("whole")
    site_fixture.build_board(folder / "results.duckdb", samples_per_arm=120)
    board = site_fixture.open_board(folder / "results.duckdb")
    generate.write(board, folder / "pages")
    board.connection.close()
    return folder


def written(whole: Path, path: str) -> Page:
    return Page((whole / "pages" / f"{path}.md").read_text(encoding="utf-8"))


def test_no_page_has_more_than_seven_charts(whole: Path) -> None:
    counts = {file: file.read_text(encoding="utf-8").count('<figure class="chart"') for file in (whole / "pages").rglob("*.md")}
    assert max(counts.values()) == page_writer.MOST_CHARTS == 7
    assert counts[whole / "pages" / "compare.md"] >= 1
    assert counts[whole / "pages" / "index.md"] == 1


def test_pages_of_the_whole_catalogue_are_small_enough(whole: Path) -> None:
    for file in (whole / "pages").rglob("*.md"):
        assert len(gzip.compress(file.read_bytes(), mtime=0)) <= 85_000, file  # the theme's frame takes 5 kB more
    with_charts = sum(
        len(gzip.compress((whole / "pages" / file).read_bytes())) for file in ("assets/vega.js", "models/minilm.md", "assets/board.js")
    )
    assert with_charts <= 450_000


def test_the_start_page_asks_for_the_smallest_limit_that_some_arm_keeps(whole: Path) -> None:
    rows = ask(whole, "SELECT slo_ms, framework, rate_per_s FROM leaderboard WHERE model = 'qwen3' AND slo_ms IS NOT NULL "
                      "AND role = 'measured' AND rate_per_s IS NOT NULL ORDER BY slo_ms, rate_per_s DESC, framework LIMIT 1")  # fmt: skip
    limit, framework, rate = rows[0]
    text = written(whole, "index").text
    line = text[text.index("Qwen3-Embedding-0.6B") :][:200]
    assert f"{site_title(str(framework))} {formatting.number(float(str(rate)))}/s" in " ".join(line.replace("p99", " p99").split())
    assert f"p99 ≤ {float(str(limit)):g} ms" in line.replace("&#8804;", "≤")
    assert limit != 10


def test_the_table_of_limits_is_the_search(whole: Path) -> None:
    board = site_fixture.open_board(whole / "results.duckdb")
    found = operating_points.find(board, board.results["minilm"][0])
    assert found
    assert found.searched
    assert found.limits_ms == (10, 25, 50, 100, 250, 1000)
    stored = ask(whole, "SELECT arm_id, rate_per_s FROM leaderboard WHERE run_id = 'minilm-20261121-090000' AND scenario = 'slo-25ms' "
                        "AND precision = 'fp32' AND variant = 'default' AND role = 'measured'")  # fmt: skip
    assert {arm: point.rate_per_s for arm, point in found.points[25].items()} == dict(stored)
    assert all(point.why.startswith("no rate") for point in found.points[10].values() if point.rate_per_s is None)


def test_without_a_search_the_ladder_gives_a_lower_bound(tmp_path: Path) -> None:
    database = tmp_path / "results.duckdb"
    ladder = tuple(load for load in site_fixture.STANDARD if load.load == "open" and load.batch == 1)
    with duckdb.connect(str(database)) as con:
        con.execute(site_fixture.SCHEMA.read_text(encoding="utf-8"))
        site_fixture.add_run(con, "one", "minilm", day=0, samples=600, loads=(*site_fixture.BASIC, *ladder))
        con.execute("UPDATE results SET p99_ms = CASE rate_per_s WHEN 20 THEN 8 WHEN 60 THEN 24 ELSE 90 END WHERE framework = 'pytorch'")
        con.execute("UPDATE results SET p99_ms = NULL WHERE framework = 'candle'")
    board = site_fixture.open_board(database)
    found = operating_points.find(board, board.results["minilm"][0])
    assert found
    assert not found.searched
    assert [found.points[limit]["pytorch-fp32"].rate_per_s for limit in (10, 25, 50, 100)] == [20, 60, 60, 120]
    assert found.points[1000]["candle-fp32"].rate_per_s is None
    assert found.points[1000]["candle-fp32"].why == "p99 is withheld"


def test_requests_that_finish_late_are_not_in_the_rate(tmp_path: Path) -> None:
    """Others divided all requests by the window: under overload that is the offered rate. The page shows the column as stored."""
    database = site_fixture.build(tmp_path / "results.duckdb", samples_per_arm=60)
    with duckdb.connect(str(database)) as con:
        con.execute("UPDATE results SET rate_per_s = 500, requests_per_s = 84.25, p99_ms = 'Infinity', p50_ms = 4321 "
                    "WHERE framework = 'candle' AND scenario = 'closed-1'")  # fmt: skip
    board = site_fixture.open_board(database)
    writer = page_writer.PageWriter(board, tmp_path / "pages")
    model_page.write(writer)
    writer.flush()
    text = Page((tmp_path / "pages/models/minilm.md").read_text(encoding="utf-8")).text
    assert "84.2" in text
    assert "∞" in text
    assert "500.0" not in text


def test_a_campaign_that_only_skipped_hides_no_older_one(tmp_path: Path) -> None:
    database = site_fixture.build(tmp_path / "results.duckdb", samples_per_arm=60)
    skipped = dict.fromkeys(site_fixture.SIX, site_fixture.Failure("SKIPPED", "the budget holds no block of it: 90 s are needed"))
    with duckdb.connect(str(database)) as con:
        site_fixture.add_run(con, "minilm-20261201-090000", "minilm", day=11, samples=60, failures=skipped)
    board = site_fixture.open_board(database)
    assert [run["run_id"] for run in board.results["minilm"][0].runs] == ["minilm-20261121-090000"]
    board.connection.close()
    view = ask(tmp_path, "SELECT DISTINCT run_id FROM current_leaderboard WHERE model = 'minilm'")
    assert view == [("minilm-20261121-090000",)]
    with duckdb.connect(str(database)) as con:
        con.execute("UPDATE results SET status = 'OK', requests_per_s = 1 WHERE run_id = 'minilm-20261201-090000' AND framework = 'candle' "
                    "AND scenario = 'offline-32'")  # fmt: skip
    board = site_fixture.open_board(database)
    tables = {table.scenario: table for table in board.results["minilm"][0].served}
    assert tables["offline-32"].rows[0]["run_id"] == "minilm-20261201-090000"
    assert tables["closed-1"].rows[0]["run_id"] == "minilm-20261121-090000"
    assert not tables["closed-1"].mixed


def test_what_was_swapped_out_is_not_ranked_as_speed(tmp_path: Path) -> None:
    """Others ranked the speed of a swapping machine."""
    database = site_fixture.build(tmp_path / "results.duckdb", samples_per_arm=60)
    with duckdb.connect(str(database)) as con:
        con.execute("UPDATE results SET ranked = false, rank_note = 'swapped', rank_lo = NULL, rank_hi = NULL, requests_per_s = 9999 "
                    "WHERE framework = 'pytorch' AND role = 'measured'")  # fmt: skip
    board = site_fixture.open_board(database)
    table = board.results["minilm"][0].served[0]
    assert table.rows[-1]["framework"] == "pytorch"
    assert "pytorch" not in {row["framework"] for row in sentences.leaders(table)}
    assert "OpenVINO serves the most" in sentences.verdict(board, table)


def test_a_switch_is_compared_with_its_default_and_shown_nowhere_else(whole: Path) -> None:
    text = written(whole, "knobs").text
    sql = "SELECT ratio, ratio_lo, ratio_hi, verdict FROM comparisons WHERE run_id = ? AND scenario = 'closed-1' AND arm_a LIKE '%knob%'"
    ratio, lo, hi, verdict = ask(whole, sql.replace("?", "'minilm-20261123-090000'"))[0]
    assert "spinning=0" in text
    assert f"{float(str(ratio)):.3f} [{float(str(lo)):.3f}, {float(str(hi)):.3f}] {verdict}" in text
    assert "knob" not in written(whole, "models/minilm").text


def test_a_history_names_what_left_its_interval(built: Path) -> None:
    text = page(built, "history").text
    assert "faster than before: the intervals do not meet" in text


def test_the_swap_matrix_says_who_may_ask_whose_index(whole: Path) -> None:
    text = written(whole, "swap").text
    assert text.count("nearly") >= 2 * 6 * 12
    assert "re-index" in text


def test_the_card_of_a_model_is_a_picture_of_its_own(whole: Path, built: Path) -> None:
    from PIL import Image

    with Image.open(whole / "pages/data/models/minilm/card.png") as card:
        assert card.size == (1200, 630)
    html = (built / "site" / MODEL / "index.html").read_text(encoding="utf-8")
    assert re.search(r'property="og:image" content="[^"]*data/models/minilm/card\.png"', html)


def test_the_noise_floor_is_what_two_copies_differed_by(whole: Path) -> None:
    board = site_fixture.open_board(whole / "results.duckdb")
    best = board.results["minilm"][0]
    selection = Selection.of_table(board, best, best.served[0])
    lo, hi = ask(whole, "SELECT ratio_lo, ratio_hi FROM comparisons JOIN arms USING (run_id) WHERE arms.arm_id = arm_a AND role = 'twin' "
                        "AND scenario = 'closed-1' AND run_id = 'minilm-20261121-090000'")[0]  # fmt: skip
    low, high = float(str(lo)), float(str(hi))
    assert one_load.noise_of(selection) == [{"lo": pytest.approx(min(low, 1 / high), 1e-5), "hi": pytest.approx(max(high, 1 / low), 1e-5)}]
    assert selection.board.results["qwen3"][0].runs[0]["run_id"]
    other = board.results["qwen3"][0]
    assert one_load.noise_of(Selection.of_table(board, other, other.served[0])) == []


def test_times_over_length_and_batch_are_medians_of_calls(tmp_path: Path) -> None:
    """Two rows of 40 tokens in one call of 6 ms are 3 ms a row, in the column of 64 tokens."""
    database = site_fixture.build(tmp_path / "results.duckdb", samples_per_arm=60)
    with duckdb.connect(str(database)) as con:
        con.execute("DELETE FROM samples")
        for arm, ms in (("pytorch-fp32", 6), ("candle-fp32", 12)):
            for scenario, rows, tokens in (("offline-32", 2, 40), ("closed-1", 1, 40), ("closed-1", 1, 100), ("closed-1", 1, 500)):
                for call in range(3):
                    for row in range(rows):
                        begin = call * 10**9 + tokens
                        con.execute("INSERT INTO samples VALUES ('minilm-20261121-090000', ?, ?, 0, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)",
                                    [arm, scenario, tokens, call * 100 + row, tokens, begin, begin, begin + ms * 10**6])  # fmt: skip
    board = site_fixture.open_board(database)
    selection = Selection(board, ["minilm-20261121-090000"], ["pytorch-fp32", "candle-fp32"], "closed-1", "single")
    chart = many_loads.by_shape(selection)
    assert chart
    cells = {(row["arm_id"], row["batch"], row["up_to_tokens"]): (row["ms_per_row"], row["share_of_best"]) for row in chart.rows}
    assert cells["pytorch-fp32", 2, 64] == (3, 1)
    assert cells["candle-fp32", 1, 512] == (12, 0.5)
    assert len(cells) == 8
