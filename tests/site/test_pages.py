"""Where a page is made: a module beside each template, and every one of them is written."""

from __future__ import annotations

import ast

from site_src import generate
from site_src.page_writer import HERE, reason


def test_each_template_has_its_module() -> None:
    templates = {file.name.partition(".")[0] for file in (HERE / "pages").glob("*.j2")} - {"_macros"}
    modules = {file.stem for file in (HERE / "pages").glob("*.py")} - {"__init__"}
    assert templates == modules
    for name in modules:
        tree = ast.parse((HERE / "pages" / f"{name}.py").read_text(encoding="utf-8"))
        used = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and str(node.value).endswith(".j2")}
        assert {template.partition(".")[0] for template in used} == {name}, f"{name}.py renders {used}"


def test_every_page_is_written() -> None:
    listed = {page.__name__.rsplit(".", 1)[-1] for page in generate.PAGES}
    below = {"framework": "frameworks", "run_scenario": "run"}  # written by the page above them
    modules = {file.stem for file in (HERE / "pages").glob("*.py")} - {"__init__"}
    assert listed == modules - set(below)
    for child, parent in below.items():
        assert f"{child}.write(" in (HERE / "pages" / f"{parent}.py").read_text(encoding="utf-8")


def test_a_recorded_budget_in_seconds_is_shown_as_a_duration() -> None:
    assert reason("3 blocks need 9 s: `--budget 86803s` would do").endswith("<code>--budget 24h10m</code> (about a day) would do")
