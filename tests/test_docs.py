"""The README and CONTRIBUTING speak of what is there: every task, framework and scenario, and the two commands word for word."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from bench import catalog
from bench.core import paths

README = (paths.ROOT / "README.md").read_text()
KNOWN = catalog.load()


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
        for name in re.findall(r"\]\(([^)#:]+)\)", (paths.ROOT / page).read_text()):
            assert (paths.ROOT / name).exists(), f"{page} names {name}"
    for name in re.findall(r"`((?:bench|native|site_src|tests)/[\w/.*]+)`", (paths.ROOT / "CONTRIBUTING.md").read_text()):
        wanted = name.replace("NAME", "*")
        assert list(paths.ROOT.glob(wanted.rstrip("/"))), f"CONTRIBUTING.md names {name}"


def test_references_to_the_method_lead_to_a_section_of_its_page() -> None:
    method = (paths.ROOT / "site_src" / "pages" / "methodology.md.j2").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## .*\{: #([\w-]+) \}$", method, re.MULTILINE))
    sources = {file: file.read_text(encoding="utf-8") for folder in ("bench", "site_src") for file in (paths.ROOT / folder).rglob("*.py")}
    named = {(file.name, section) for file, text in sources.items() for section in re.findall(r"methodology\.md\.j2#([\w-]+)", text)}
    assert len(named) >= 4
    assert [(file, section) for file, section in named if section not in sections] == []
    assert {"order", "blocks", "budget", "statistics", "gate", "faults"} <= sections
