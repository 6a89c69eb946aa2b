"""Tasks that print, beside the terminals and pipes that users have: none of them ends in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.core import paths
from tests.support import runs
from tests.support.runs import Fake, Spec
from tests.support.sandbox import Sandbox

DRY_RUN = ("bench", "--model", "minilm", "--framework", "null-python", "--dry-run")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A sandbox whose database holds one run of three frameworks, of which one failed."""
    sandbox = Sandbox(tmp_path_factory.mktemp("stored"))
    failed = Fake("candle", failures={"*": ("CRASH", "panicked — “Köln” · 日本")})
    runs.write(sandbox.data / "runs", Spec(arms=(Fake("pytorch", 6.0), Fake("openvino", 3.0), failed)))
    assert sandbox.invoke("load").returncode == 0
    return sandbox


@pytest.mark.parametrize(
    ("terminal", "is_ascii"),
    [
        ({"PYTHONIOENCODING": "ascii"}, True),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, True),
        ({"PYTHONIOENCODING": "utf-8", "COLUMNS": "20", "TERM": "dumb", "TZ": "Asia/Kathmandu"}, False),
    ],
    ids=["ascii", "C", "narrow"],
)
def test_no_terminal_ends_a_task_in_a_traceback(stored: Sandbox, terminal: dict[str, str], is_ascii: bool) -> None:
    """Stored results, a comparison, what would be measured, and an error, in one interpreter."""
    run = stored.runs[0].name
    words = ("report", "report", "--format=csv", "report", "--format=json", "compare", run, run, *DRY_RUN, "report", "--run=Köln—")
    done = Sandbox(stored.folder, more=terminal).invoke(*words)
    assert done.returncode == 1 and done.stderr.startswith("error: "), done.stderr
    for text in ("run_id,", '"run_id":', "nothing is measured"):
        assert text in done.stdout
    assert (done.stdout + done.stderr).isascii() == is_ascii


@pytest.mark.parametrize("words", [("report",), ("report", "--format", "csv"), DRY_RUN], ids=" ".join)
def test_a_reader_that_goes_away_ends_a_task_quietly(stored: Sandbox, words: tuple[str, ...]) -> None:
    """As `| head` does; here it is gone before the first line, so that the moment is the same on every machine."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "invoke", *words]
    done = subprocess.run(command, cwd=paths.ROOT, env=stored.env, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
