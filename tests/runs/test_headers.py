"""Runs are found by machine, newest first."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.errors import BenchError
from bench.runs.headers import runs_of_machine
from tests.support import runs
from tests.support.runs import Fake, Spec

PAIR = (Fake("pytorch"), Fake("pytorch", role="slow", variant="slow"))


def test_the_runs_of_a_machine_come_newest_first(tmp_path: Path) -> None:
    for day, machine_id, done in ((2, "here", True), (0, "here", True), (1, "there", True), (3, "here", False)):
        runs.write(tmp_path, Spec(arms=PAIR, day=day, machine_id=machine_id, done=done, blocks=1))
    headers = list(runs_of_machine(tmp_path, "here"))
    assert [header.done for header in headers] == [False, True, True]
    assert [header.run_id for header in headers] == [f"{day}-090000-minilm-0001" for day in (20261123, 20261122, 20261120)]
    assert set(headers[0].roles.values()) == {"measured", "slow"} and headers[0].folder == tmp_path / headers[0].run_id
    assert not list(runs_of_machine(tmp_path / "nowhere", "here"))


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    folder = runs.write(tmp_path, Spec(arms=PAIR, machine_id="here", blocks=1))
    (folder / "run.json").write_text("{")
    with pytest.raises(BenchError, match=f"{folder.name}/run.json: cannot be read"):
        list(runs_of_machine(tmp_path, "here"))
