"""Reference vectors are computed once: what is on disk from earlier runs is used, only the rows between are new."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core import paths
from bench.correctness import reference


@pytest.mark.parametrize(
    ("have", "first", "end", "missing"),
    [
        ([], 5, 9, [(5, 9)]),
        ([(0, 20)], 5, 9, []),
        ([(5, 7)], 5, 9, [(7, 9)]),
        ([(7, 20)], 5, 9, [(5, 7)]),
        ([(6, 7)], 5, 9, [(5, 6), (7, 9)]),
        ([(7, 8), (0, 6), (5, 7)], 4, 10, [(8, 10)]),
        ([(20, 30), (0, 3)], 5, 9, [(5, 9)]),
        ([(0, 5), (9, 12)], 5, 9, [(5, 9)]),
    ],
)
def test_only_what_is_missing_is_asked_for(have: Any, first: int, end: int, missing: Any) -> None:
    assert reference.gaps(have, first, end) == missing


def test_rows_from_several_files_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the reference process whose vector of row k is (k, k)."""
    asked: list[tuple[int, int]] = []

    def process(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        first, count, out = int(command[5]), int(command[6]), Path(command[8])
        asked.append((first, count))
        np.repeat(np.arange(first, first + count, dtype="<f4"), 2).tofile(out)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(subprocess, "run", process)

    def rows(first: int, count: int) -> list[float]:
        found = reference.ensure(tmp_path / "artefact", "a", tmp_path / "plan", "p", first, count, 0)
        assert found.shape == (count, 2)
        return [float(row[0]) for row in found]

    assert rows(64, 4) == [64, 65, 66, 67]
    assert rows(64, 8) == [64, 65, 66, 67, 68, 69, 70, 71], "a longer run takes over what is there"
    assert rows(62, 12) == [float(row) for row in range(62, 74)]
    assert rows(66, 2) == [66, 67]
    assert asked == [(64, 4), (68, 4), (62, 2), (72, 2)]
    monkeypatch.setattr(reference.content_hash, "of_code", lambda *_: "another Embedder")
    assert rows(66, 2) == [66, 67] and asked[4:] == [(66, 2)], "vectors of the Embedder as it was are no reference for it as it is"
    about = next((tmp_path / "reference").glob("*/about.json"))
    assert json.loads(about.read_text())["plan_hash"] == "p"
