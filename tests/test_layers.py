"""One way through the house: the packages in the order of the flow, no circles, and what each must not know."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from bench.core import paths

#: A package may import itself and those before it. `bench.worker` is the public face of `bench.workers`.
ORDER = (
    "bench.core", "bench.catalog", "bench.machine", "bench.corpus", "bench.plan", "bench.model", "bench.workers",
    "bench.artefacts", "bench.runs", "bench.stats", "bench.pricing", "bench.prepare",
    "bench.correctness", "bench.measure", "bench.store", "bench.report",
    "bench.commands", "bench.verify", "site_src", "tasks",
)  # fmt: skip
#: What of the harness the site may know: names, not how anything is measured.
SITE_KNOWS = {"bench.core", "bench.catalog", "bench.machine", "bench.runs"}
#: And one module of the store, which opens the database.
SITE_OPENS = "bench.store.connection"
SITE_ORDER = (
    "markup", "records", "data", "charts", "sentences", "page_writer", "pages", "social_card", "report_plots", "generate", "preview",
)  # fmt: skip
HEAVY = ("torch", "transformers", "onnxruntime", "openvino", "onnx", "onnxscript")


def modules() -> dict[str, Path]:
    files = [*(paths.ROOT / "bench").rglob("*.py"), *(paths.ROOT / "site_src").rglob("*.py"), paths.ROOT / "tasks.py"]
    return {".".join(file.relative_to(paths.ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


MODULES = modules()


def imports(module: str) -> Iterator[str]:
    """Modules of this project that a module imports, inside functions and for type checkers too."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {name if (name := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names}
            yield from names & set(MODULES)
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & set(MODULES)


GRAPH = {module: set(imports(module)) - {module} for module in MODULES}


def package(module: str) -> str:
    name = ".".join(module.split(".")[:2]) if module.startswith("bench.") else module.split(".", maxsplit=1)[0]
    return "bench.workers" if name == "bench.worker" else name


@pytest.mark.parametrize("module", [name for name in MODULES if name != "bench"])
def test_nothing_looks_back(module: str) -> None:
    assert package(module) in ORDER, f"{module} is in no package of the flow: add it to ORDER and to CONTRIBUTING.md"
    for other in GRAPH[module] - {"bench"}:
        assert ORDER.index(package(other)) <= ORDER.index(package(module)), f"{module} imports {other}, which comes after it"


def test_contributing_names_every_package_in_the_order_of_the_flow() -> None:
    table = (paths.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("| package |")[1].split("\n\n")[0]
    assert [name.replace("/", ".") for name in re.findall(r"^\| `([\w/]+)`", table, re.MULTILINE)] == [*ORDER[:-1]]
    folders = {f"bench.{init.parent.name}" for init in (paths.ROOT / "bench").glob("*/__init__.py")}
    assert folders == {name for name in ORDER if name.startswith("bench.")}


def test_no_module_needs_itself() -> None:
    TopologicalSorter(GRAPH).prepare()


def test_the_site_stands_on_names_alone() -> None:
    for module in (name for name in MODULES if package(name) == "site_src" and name != "site_src"):
        floor = SITE_ORDER.index(module.split(".")[1])
        for other in GRAPH[module] - {"site_src", "bench"}:
            if package(other) == "site_src":
                assert SITE_ORDER.index(other.split(".")[1]) <= floor, f"{module} imports {other}, which comes after it"
            else:
                assert package(other) in SITE_KNOWS or other == SITE_OPENS, f"{module} imports {other}"


def test_the_record_of_a_run_needs_nothing_of_the_harness() -> None:
    """A submission, a fleet or a notebook reads run folders without it."""
    for module in (name for name in MODULES if package(name) == "bench.runs"):
        assert {package(other) for other in GRAPH[module] - {"bench"}} <= {"bench.runs", "bench.core"}, module


def test_a_worker_knows_neither_catalogue_nor_statistics() -> None:
    programs = {name for name in MODULES if package(name) == "bench.workers"} - {"bench.workers", "bench.workers.client"}
    for module in programs:
        assert {package(other) for other in GRAPH[module]} <= {"bench.workers", "bench.model"}, module
        assert "bench.workers.client" not in GRAPH[module], f"{module} knows its parent"


#: Functions of SQL that are statistics, or compare a row with others. Counts, sums, extremes and sorting only select.
STATISTICS = re.compile(
    r"\b(quantile|percentile|median|mean|avg|favg|mode|mad|stddev|var|variance|covar|corr|regr|skewness|kurtosis|entropy|approx|histogram|geomean"
    r"|product|reservoir_quantile|lag|lead|cume_dist|percent_rank|ntile)\w*\s*\(|\bNOT\s+EXISTS\b",
    re.IGNORECASE,
)  # fmt: skip


def queries(source: str) -> Iterator[str]:
    """The SQL in a module: its strings, f-strings too, that select from something."""
    for node in ast.walk(ast.parse(source)):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        text = "".join(part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "…" for part in parts)
        if re.search(r"\bFROM\b", text):
            yield text


def test_a_page_computes_no_statistic() -> None:
    """Statistics are bench/stats', or views and macros of bench/schema.sql, which tests/store/test_views.py holds."""
    for file in (paths.ROOT / "site_src").rglob("*.py"):
        source = file.read_text(encoding="utf-8")
        for forbidden in ("bench.stats", "scipy", "numpy", "import statistics", "import pandas"):
            assert forbidden not in source, f"{file.name} uses {forbidden}"
        for query in queries(source):
            assert not STATISTICS.search(query), f"{file.name} computes in SQL: {query}"


@pytest.mark.parametrize(
    "sql", ['"SELECT median(x) FROM t"', 'f"""SELECT {a}, quantile_disc(x, 0.5)\nFROM t"""', '"FROM t WHERE NOT EXISTS (…)"']
)
def test_a_statistic_in_sql_would_be_seen(sql: str) -> None:
    assert [query for query in queries(f"rows = ask({sql})") if STATISTICS.search(query)]


def test_the_harness_imports_without_any_framework() -> None:
    everything = sorted(
        name for name in MODULES if not name.startswith(("bench.workers.", "bench.verify.", "bench.artefacts.", "bench.model."))
    )
    blocked = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f'{{name}} is blocked', name=name)
sys.meta_path.insert(0, Block())
import {", ".join(everything)}
"""
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, cwd=paths.ROOT, check=False)
    assert done.returncode == 0, done.stderr
