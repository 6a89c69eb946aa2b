"""The README and CONTRIBUTING speak of what is there: every task, framework and scenario, and the two commands word for word."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest

from bench import catalog
from bench.catalog import Model
from bench.core import paths
from site_src import generate

README = (paths.ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (paths.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
KNOWN = catalog.load()
#: Pages that other pages lead to: one for each model and run, and files for programs.
NOT_IN_THE_MENU = ("model", "run", "llms", "feed")


def tasks() -> list[str]:
    listed = subprocess.run(
        [sys.executable, "-m", "invoke", "--list", "--list-format=json"], cwd=paths.ROOT, capture_output=True, text=True, check=True
    )
    return [task["name"] for task in json.loads(listed.stdout)["tasks"]]


def test_every_task_stands_in_the_readme() -> None:
    found = tasks()
    assert {"bench", "site", "doctor", "floor"} <= set(found)
    assert [name for name in found if f"`invoke {name}" not in README] == []


@pytest.mark.parametrize(
    "line", ["pip install -e . && invoke bench --model minilm && invoke site", "pip install -e '.[dev]' && invoke test"]
)
def test_the_two_commands_stand_each_on_a_line_of_its_own(line: str) -> None:
    assert f"\n    {line}\n" in README


@pytest.mark.parametrize("framework", [name for name, entry in KNOWN.frameworks.items() if entry.role == "measured"])
def test_every_framework_stands_in_the_readme(framework: str) -> None:
    assert f"`{framework}`" in README


def test_every_file_that_is_named_is_there() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        for name in re.findall(r"\]\(([^)#:]+)\)", (paths.ROOT / page).read_text(encoding="utf-8")):
            assert (paths.ROOT / name).exists(), f"{page} names {name}"
    for name in re.findall(r"`((?:bench|native|site_src|tests)/[\w/.*]+)`", (paths.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        wanted = name.replace("NAME", "*")
        assert list(paths.ROOT.glob(wanted.rstrip("/"))), f"CONTRIBUTING.md names {name}"


def text(name: str) -> str:
    return (paths.ROOT / name).read_text(encoding="utf-8")


def additions() -> dict[str, list[str]]:
    """What CONTRIBUTING says an addition edits: files by the first column."""
    table = CONTRIBUTING.split("| you add |")[1].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {cells[0]: re.findall(r"`([\w./-]+\.\w+)`", cells[-1]) for cells in rows}


def test_a_framework_edits_what_is_listed() -> None:
    for file in additions()["a framework"]:
        for name in (name for name, entry in KNOWN.frameworks.items() if entry.role == "measured"):
            assert name in text(file), f"{file} lacks {name}: is it still touched by a new framework?"


def test_an_architecture_edits_what_is_listed() -> None:
    files = additions()["an architecture"]
    assert "bench/catalog/schema.py" in files and len(files) >= 8
    for architecture in get_args(get_type_hints(Model)["architecture"]):
        for file in files:
            assert architecture in text(file), f"{file} lacks {architecture}"


def test_models_and_scenarios_edit_the_catalogue_alone() -> None:
    assert additions()["a model of an architecture that we have"] == ["bench/catalog/models.yaml"]
    assert additions()["a scenario or a suite"] == ["bench/catalog/scenarios.yaml"]
    # code may know architectures and kinds of load, and one model and one scenario have the name of theirs
    kinds = {model.architecture for model in KNOWN.models.values()} | {scenario.load for scenario in KNOWN.scenarios.values()}
    for name in {*KNOWN.models, *KNOWN.scenarios} - kinds:
        for file in (paths.ROOT / "bench").rglob("*.py"):
            if "verify" not in file.parts and "commands" not in file.parts:
                assert f'"{name}"' not in file.read_text(encoding="utf-8"), f"{file} knows {name}"


def test_a_page_edits_what_is_listed() -> None:
    assert additions()["a page"] == ["site_src/generate.py", "mkdocs.yml"]
    menu = {name for name in re.findall(r": ([\w/-]+)\.md$", text("mkdocs.yml"), re.MULTILINE)}
    for page in generate.PAGES:
        name = page.__name__.rpartition(".")[2]
        assert list((paths.ROOT / "site_src" / "pages").glob(f"{name}.*.j2")), f"{name} has no template beside it"
        url = name.replace("_", "-")
        assert {url, f"{url}/index"} & menu or name in NOT_IN_THE_MENU, f"{name} is not in the menu of mkdocs.yml"


def test_a_task_edits_what_is_listed() -> None:
    for file in additions()["a task"]:
        for name in tasks():
            assert name in text(file), f"{file} lacks {name}"


def test_environment_variables_are_explained() -> None:
    table = CONTRIBUTING.split("## Environment variables")[1]
    sources = [file for ending in ("py", "rs", "hpp", "cpp", "yml") for folder in ("bench", "site_src", "native")
               for file in (paths.ROOT / folder).rglob(f"*.{ending}")]  # fmt: skip
    used = {name for file in sources for name in re.findall(r"\bBENCH_[A-Z_]+\b", file.read_text(encoding="utf-8"))}
    assert used and sorted(name for name in used if f"`{name}`" not in table) == []


def test_references_to_the_method_lead_to_a_section_of_its_page() -> None:
    method = (paths.ROOT / "site_src" / "pages" / "methodology.md.j2").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## .*\{: #([\w-]+) \}$", method, re.MULTILINE))
    sources = {file: file.read_text(encoding="utf-8") for folder in ("bench", "site_src") for file in (paths.ROOT / folder).rglob("*.py")}
    named = {(file.name, section) for file, text in sources.items() for section in re.findall(r"methodology\.md\.j2#([\w-]+)", text)}
    assert len(named) >= 6
    assert [(file, section) for file, section in named if section not in sections] == []
    assert {"order", "blocks", "budget", "statistics", "gate", "faults"} <= sections


def test_code_refers_to_no_document_that_is_not_in_the_repository() -> None:
    for folder, endings in (("bench", ("py", "md", "yaml", "sql")), ("native", ("rs", "cpp", "hpp")), ("site_src", ("py", "j2"))):
        for ending in endings:
            for file in (paths.ROOT / folder).rglob(f"*.{ending}"):
                assert not re.search(r"\b(MEASUREMENT|DESIGN|HOUSE)\b", file.read_text(encoding="utf-8")), file
