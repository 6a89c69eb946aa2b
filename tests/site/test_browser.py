"""The site in a real headless Chromium: both colour schemes, wide and on a phone, with and without JavaScript."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from site_src import generate
from tests.support import browser, site_fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of the fixture's site, and its folder."""
    browser.programs()
    folder = tmp_path_factory.mktemp("site")
    database = site_fixture.build(folder / "results.duckdb", hostile=True)
    with duckdb.connect(str(database)) as con:  # one model with every kind of load, so that each section of a page is there
        site_fixture.add_run(
            con, "bge-m3-20261121-100000", "bge-m3", day=1.1, samples=600, loads=site_fixture.STANDARD, twin=True,
            variants=(site_fixture.DEFAULT, ("bf16", "default", 0.5), ("fp32", "knob:spinning=0", 1.2)),
        )  # fmt: skip
    generate.build(database, folder / "site", folder / "pages")
    with browser.serve(folder / "site") as address:
        yield address, folder / "site"


def pages(folder: Path) -> list[str]:
    return sorted(str(page.parent.relative_to(folder)).removeprefix(".") for page in folder.rglob("index.html"))


def kinds(folder: Path) -> list[str]:
    """One page of each kind."""
    found: dict[str, str] = {}
    for page in pages(folder):
        found.setdefault("/".join(part if place != 1 else "*" for place, part in enumerate(page.split("/")[:3])).replace("/x-", "/*"), page)
    return sorted({*found.values(), "models/bge-m3", "models/fixture-large"})


def requested(window: Any) -> list[str]:
    """Every address that was asked for over the network since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in window.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)])
def test_every_page_opens_without_an_error(site: tuple[str, Path], width: int, dark: bool) -> None:
    address, folder = site
    with browser.open_browser(width, dark=dark) as window:
        for page in pages(folder) if width == 1280 and not dark else kinds(folder):
            window.get(f"{address}/{page}/")
            # Give the deferred scripts one turn of the event loop.
            window.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 50))")
            assert browser.console_errors(window) == [], page
            assert window.execute_script("return window.pwned") is None, f"{page}: a name from the database ran as a script"
            scheme = window.execute_script("return document.body.dataset.mdColorScheme")
            assert scheme == ("slate" if dark else "default"), page
            overflow = window.execute_script("return document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, f"{page}: {overflow} px wider than a screen of {width}"
        foreign = [url for url in requested(window) if not url.startswith((address, "data:", "blob:", "chrome:"))]
        assert foreign == []


def test_a_model_page_is_complete_without_javascript(site: tuple[str, Path]) -> None:
    address, _folder = site
    with browser.open_browser(javascript=False) as window:
        window.get(f"{address}/models/minilm/")
        rows = window.find_elements("css selector", "#closed-1-fp32 + * tbody tr, h2#closed-1-fp32 ~ .table-wrap:first-of-type tbody tr")
        text = " ".join(row.text for row in rows)
        for title in ("PyTorch", "ONNX Runtime (Python)", "ONNX Runtime (Rust)", "ONNX Runtime (C++)", "Candle", "OpenVINO"):
            assert title in text
        charts = window.find_elements("css selector", "figure.chart .chart-wide > svg")
        assert len(charts) >= 4
        assert all(chart.size["width"] > 300 and chart.size["height"] > 100 for chart in charts)


def test_on_a_phone_the_narrow_charts_are_shown(site: tuple[str, Path]) -> None:
    address, _folder = site
    with browser.open_browser(390, 844) as window:
        window.get(f"{address}/models/minilm/")
        assert all(not chart.is_displayed() for chart in window.find_elements("css selector", ".chart-wide"))
        narrow = window.find_elements("css selector", ".chart-narrow > svg")
        assert narrow
        assert all(0 < chart.size["width"] <= 390 for chart in narrow)


def test_a_table_sorts_by_its_numbers_and_by_keyboard(site: tuple[str, Path]) -> None:
    address, _folder = site
    with browser.open_browser() as window:
        window.get(f"{address}/models/minilm/")
        table = window.find_element("css selector", "table.board.sortable")
        heads = table.find_elements("css selector", "thead button.sort")
        memory = next(head for head in heads if head.text.startswith("Peak RSS"))
        for order, keys in (("ascending", sorted), ("descending", lambda values: sorted(values, reverse=True))):
            memory.send_keys("\n")
            column = [head.get_attribute("aria-sort") for head in table.find_elements("css selector", "thead th")].index(order)
            cells = [row.find_elements("css selector", "th, td")[column] for row in table.find_elements("css selector", "tbody tr")]
            values = [float(cell.get_attribute("data-sort")) for cell in cells]
            assert values == keys(values)
            assert len(set(values)) > 1


def test_a_link_to_a_raw_row_opens_it(site: tuple[str, Path]) -> None:
    address, _folder = site
    with browser.open_browser() as window:
        window.get(f"{address}/models/minilm/")
        window.execute_script("arguments[0].click()", window.find_element("css selector", "table.board tbody tr td:last-child a"))
        raw = window.find_element("css selector", "details.raw:target")
        assert raw.get_attribute("open") is not None
        assert json.loads(raw.find_element("css selector", "pre").text)["model"] == "minilm"


def test_search_finds_a_framework(site: tuple[str, Path]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    address, _folder = site
    with browser.open_browser() as window:
        window.get(f"{address}/")
        box = window.find_element("css selector", "input.md-search__input")
        window.execute_script("arguments[0].focus()", box)
        box.send_keys("OpenVINO")
        WebDriverWait(window, 20).until(lambda w: w.find_elements("css selector", ".md-search-result__item"))
        assert browser.console_errors(window) == []


def test_the_picker_compares_any_two_and_keeps_the_choice_in_the_address(site: tuple[str, Path]) -> None:
    from selenium.webdriver.support.ui import Select, WebDriverWait

    address, folder = site
    stored = json.loads((folder / "data" / "compare.json").read_text(encoding="utf-8"))
    pair = next(p for p in stored if (p["a"], p["b"]) == ("candle", "openvino") and p["load"].startswith("single"))
    with browser.open_browser() as window:
        window.get(f"{address}/compare/?a=openvino&b=candle")
        WebDriverWait(window, 20).until(lambda w: w.find_elements("css selector", "#picked tbody tr"))
        board = window.find_element("css selector", "#picked tbody tr").text
        assert f"{1 / pair['ratio']:.3f}" in board
        assert "faster" in board
        Select(window.find_element("css selector", "#pick select[name=b]")).select_by_value("pytorch")
        assert window.current_url.endswith("?a=openvino&b=pytorch")
        assert browser.console_errors(window) == []


def test_the_scheme_follows_the_switch_without_drawing_again(site: tuple[str, Path]) -> None:
    address, _folder = site
    with browser.open_browser() as window:
        window.get(f"{address}/models/minilm/")
        mark = window.find_element("css selector", ".chart-wide svg .mark-symbol path")
        light = mark.value_of_css_property("fill")
        window.execute_script("document.body.dataset.mdColorScheme = 'slate'")
        assert mark.value_of_css_property("fill") != light


def test_a_chart_wakes_up_under_the_pointer_and_tells_its_rows(site: tuple[str, Path]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    address, _folder = site
    with browser.open_browser() as window:
        window.get(f"{address}/models/minilm/")
        assert not [url for url in requested(window) if url.endswith("vega.js")], "Vega was loaded before anyone asked for it"
        figure = window.find_element("css selector", "figure.chart")
        window.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
        ActionChains(window).move_to_element(figure).perform()
        WebDriverWait(window, 60).until(lambda w: figure.get_attribute("data-live") not in (None, "loading"))
        assert figure.get_attribute("data-live") == "yes"
        mark = figure.find_element("css selector", ".mark-symbol path")
        ActionChains(window).move_to_element(mark).perform()
        WebDriverWait(window, 20).until(lambda w: w.find_elements("css selector", "#vg-tooltip-element.visible"))
        assert "p50_ms" in window.find_element("css selector", "#vg-tooltip-element").text
        assert browser.console_errors(window) == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_axe_finds_nothing_serious(site: tuple[str, Path], width: int, dark: bool) -> None:
    address, folder = site
    script = browser.axe()
    with browser.open_browser(width, dark=dark) as window:
        for page in kinds(folder):
            window.get(f"{address}/{page}/")
            window.execute_script(script)
            window.execute_script("document.querySelectorAll('details').forEach((part) => (part.open = true))")
            found = window.execute_async_script("axe.run({resultTypes: ['violations']}).then(arguments[0])")
            serious = [
                (entry["id"], node["html"][:160], node["failureSummary"][:200])
                for entry in found["violations"]
                if entry["impact"] in ("serious", "critical")
                for node in entry["nodes"][:2]
            ]
            assert serious == [], page


@pytest.mark.parametrize("dark", [False, True])
def test_without_javascript_the_scheme_is_the_readers(site: tuple[str, Path], dark: bool) -> None:
    address, _folder = site
    with browser.open_browser(dark=dark, javascript=False) as window:
        window.get(f"{address}/models/minilm/")
        body, mark = window.find_element("css selector", "body"), window.find_element("css selector", "tr[data-fw=openvino] .fw-icon")
        red, green, blue = (int(part) for part in body.value_of_css_property("background-color").strip("rgba()").split(",")[:3])
        assert (red + green + blue < 200) == dark
        assert mark.value_of_css_property("color") == ("rgba(226, 154, 234, 1)" if dark else "rgba(155, 63, 165, 1)")  # as in marks.py


def test_filters_are_kept_in_a_short_address_and_work_by_keyboard(site: tuple[str, Path]) -> None:
    address, _folder = site
    with browser.open_browser() as window:
        window.get(f"{address}/models/bge-m3/?fw=candle")

        def board() -> set[str]:
            rows = window.find_elements("css selector", "table.board tbody tr[data-fw]")
            return {row.get_attribute("data-fw") for row in rows if row.is_displayed()}

        assert board() == {"candle"}
        button = next(b for b in window.find_elements("css selector", ".filter button") if b.text == "OpenVINO")
        button.send_keys(" ")
        assert button.get_attribute("aria-pressed") == "true"
        assert window.current_url.endswith("/models/bge-m3/?fw=candle,openvino")
        assert board() == {"candle", "openvino"}
        assert browser.console_errors(window) == []


def test_by_keyboard_alone_a_reader_gets_from_the_start_page_to_a_raw_row(site: tuple[str, Path]) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    address, _folder = site
    with browser.open_browser() as window:

        def tab_to(wanted: str) -> None:
            for _ in range(150):
                ActionChains(window).send_keys(Keys.TAB).perform()
                if wanted in (window.execute_script("return document.activeElement.getAttribute('href')") or ""):
                    assert window.execute_script("return document.activeElement.matches(':focus-visible')")
                    ActionChains(window).send_keys(Keys.ENTER).perform()
                    return
            raise AssertionError(f"no way to {wanted} by the tab key")

        window.get(f"{address}/")
        tab_to("models/minilm/")
        tab_to("runs/minilm-20261121-090000/closed-1/#row-")
        assert window.find_element("css selector", "details.raw:target").get_attribute("open") is not None
