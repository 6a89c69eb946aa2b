"""The command line is public: names of tasks and options, defaults, help, exit status, and the line that a run records."""

from __future__ import annotations

import json
import sys

import pytest
from invoke import Context

import tasks
from bench.core.errors import BenchError
from tests.golden.tasks import FILE, command_line


def test_tasks_options_and_help_are_as_published() -> None:
    """A task or an option more is a line more here (`python -m tests.golden.tasks`); one that is gone breaks somebody's script."""
    assert command_line() == json.loads(FILE.read_text(encoding="utf-8"))


def test_every_option_has_help() -> None:
    assert [(task, option["flags"]) for task, about in command_line().items() for option in about["options"] if not option["help"]] == []


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task sets handlers of signals, which are the test runner's here."""
    monkeypatch.setattr(tasks.signal, "signal", lambda *_: None)


@pytest.mark.parametrize(("failure", "status"), [(BenchError("cmake: not found: install it"), 1), (KeyboardInterrupt(), 130)])
def test_exit_status(failure: BaseException, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    @tasks.command()
    def failing(_: Context) -> None:
        raise failure

    with pytest.raises(SystemExit) as stopped:
        failing(Context())
    assert stopped.value.code == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: cmake: not found: install it" if status == 1 else "interrupted: ")


def test_a_task_of_a_dataclass_hands_on_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.commands import bench

    given = []
    monkeypatch.setattr(bench, "bench_models", lambda options, command: given.append((options, command)))
    monkeypatch.setattr(sys, "argv", ["invoke", "bench", "--model", "minilm", "--corpus", "my texts"])
    tasks.bench(Context(), model="minilm", corpus="my texts", requests=5)
    ((options, command),) = given
    assert command == "invoke bench --model minilm --corpus 'my texts'"
    assert (options.model, options.corpus, options.requests, options.weights, options.fresh) == ("minilm", "my texts", 5, "auto", False)
