"""Paths of the measuring machine become the catalogue's names, wherever the clone lies, and words stay words."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.core import paths, redact

#: A folder with an umlaut as this process spells it: surrogates where its locale has no UTF-8.
MINE = os.fsdecode("/home/me/mein Klon (ä)".encode())


@pytest.fixture(params=["/work/clone", "/home/me/clone", f"{MINE}/clone", "/tmp/clone"], ids=["elsewhere", "home", "umlaut", "tmp"])
def root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A clone there, of a user whose home is /home/me."""
    root = Path(request.param)
    folders = {"ROOT": root, "BUILD": root / "build", "BINARIES": root / "build" / "native", "DATA": root / "data"}
    for name, folder in folders.items():
        monkeypatch.setattr(paths, name, folder)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    redact.known_folders.cache_clear()
    yield root
    redact.known_folders.cache_clear()


def test_known_folders_become_names(root: Path) -> None:
    assert redact.portable(f"{root}/build/native/candle") == "{native}/candle"
    assert redact.portable(f"loads {sys.executable}: ok") == "loads {python}: ok"
    assert redact.portable([f"{root}/bench", {"env": f"x={root}"}, 3, None]) == ["{root}/bench", {"env": "x={root}"}, 3, None]


def test_another_folder_that_begins_alike_is_not_the_clone(root: Path) -> None:
    above = {"/work": "/work", "/tmp": "{tmp}", "/home/me": "{home}", MINE: MINE.replace("/home/me", "{home}")}[str(root.parent)]
    assert redact.portable(f"{root}shop/a") == f"{above}/cloneshop/a"


def test_the_middle_of_another_path_is_not_the_clone(root: Path) -> None:
    assert redact.portable(f"/elsewhere{root}/a") == f"/elsewhere{root}/a"


def test_a_command_keeps_its_options_and_the_last_names_of_paths(root: Path) -> None:
    line = shlex.join(["invoke", "bench", "--model", "minilm", "--corpus=/srv/my texts/a.txt", "--catalog", "/srv/c/", "--budget", "20s"])
    assert redact.command(line) == "invoke bench --model minilm --corpus={path}/a.txt --catalog {path}/c --budget 20s"
    assert redact.command("invoke bench --corpus '/a/b c.txt'") == "invoke bench --corpus '{path}/b c.txt'"
    assert redact.command(shlex.join(["invoke", "bench", "--catalog", f"{root}/own"])) == "invoke bench --catalog {root}/own"
