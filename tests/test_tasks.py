"""The command line as a user meets it: one line and a cure for bad input, and no traceback beside any terminal or pipe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke import Collection, Program

import tasks
from bench.core import paths
from tests.support import runs
from tests.support.runs import Fake, Spec
from tests.support.sandbox import Sandbox

DRY_RUN = ("bench", "--model", "minilm", "--framework", "null-python", "--dry-run")
MINILM = ("bench", "--model", "minilm", "--framework", "null-python")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """For commands run in this process: data/ and the lock are the test's own, and tasks leave no signal handler behind."""
    for name, place in (("DATA", "data"), ("RUNS", "data/runs"), ("DATABASE", "data/results.duckdb")):
        monkeypatch.setattr(paths, name, tmp_path / place)
    monkeypatch.setenv("BENCH_LOCK", str(tmp_path / "lock"))
    for task in Collection.from_module(tasks).tasks.values():
        monkeypatch.setattr(task, "help", dict(task.help))  # invoke empties it while it reads a command line
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)


def invoke(*words: str) -> int:
    """The exit status of `invoke WORDS`, run in this process."""
    try:
        Program(namespace=Collection.from_module(tasks), name="invoke", binary="invoke").run(["invoke", *words], exit=False)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


# --- bad input ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bench", "--model", "minlm"), "unknown model 'minlm'"),
        (("bench", "--model", "minilm", "--framework", "torch"), "unknown framework 'torch'"),
        ((*MINILM, "--scenario", "open-10"), "unknown scenario"),
        ((*MINILM, "--precision", "fp33"), "unknown precision 'fp33'"),
        ((*MINILM, "--weights", "disk"), "unknown weights 'disk'"),
        ((*MINILM, "--budget", "soon"), "bad duration 'soon'"),
        ((*MINILM, "--corpus", "/nowhere/at/all"), "/nowhere/at/all"),
        ((*MINILM, "--catalog", "/nowhere"), "catalogue folder /nowhere"),
        (("report", "--format", "pdf"), "pdf"),
        (("clean", "--what", "everything"), "unknown part 'everything'"),
        (("verify", "--only", "nonsense"), "promise nonsense: not known"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[-2:]),
)
def test_bad_input_is_one_line_and_exit_1(here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str) -> None:
    assert invoke(*words) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0]
    assert not list(here.glob("data/runs/*"))


def test_the_program_itself_ends_with_that_status(sandbox: Sandbox) -> None:
    done = sandbox.invoke("bench", "--model", "minlm")
    assert done.returncode == 1 and done.stderr.startswith("error: unknown model 'minlm'") and done.stderr.count("\n") == 1


def test_dry_run_measures_and_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke("bench", "--model", "minilm", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "nothing is measured" in printed and "offline-32" in printed
    assert not (here / "data").exists()


# --- terminals and pipes -------------------------------------------------------------------------------------------------------------


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
