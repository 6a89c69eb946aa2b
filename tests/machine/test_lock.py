"""One measurement at a time, and nothing is left of a harness that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.core.errors import BenchError
from bench.machine import lock

SLEEPER = "import time; time.sleep(60)"


@pytest.fixture(autouse=True)
def lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_LOCK", str(tmp_path / "lock"))
    return tmp_path / "lock"


def test_the_second_one_is_told_who_holds_the_machine() -> None:
    with lock.hold("minilm"), pytest.raises(BenchError, match=rf"process {os.getpid()} in .*, measuring minilm since"), lock.hold("qwen3"):
        pass
    with lock.hold("qwen3"):
        pass


def test_leftovers_of_a_killed_holder_are_ended(lock_file: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", SLEEPER])
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER])
    try:
        os.kill(left.pid, signal.SIGSTOP)
        workers = [[left.pid, lock._started(left.pid)], [stranger.pid, lock._started(stranger.pid) + 1]]
        lock_file.write_text(json.dumps({"workers": workers}), encoding="utf-8")
        with lock.hold("minilm"):
            assert left.wait(5) == -signal.SIGKILL
            time.sleep(0.05)
            assert stranger.poll() is None, "a pid that was given to another process since must be left alone"
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()
