"""What has its final name is whole; one measurement at a time; nothing is left of a harness that was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.core import files
from bench.core.errors import BenchError
from bench.machine import lock

SLEEPER = "import time; time.sleep(60)"


def test_a_folder_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "block"
    with pytest.raises(RuntimeError), files.whole_folder(target) as temporary:
        (temporary / "half").write_text("x")
        raise RuntimeError
    assert not target.exists()
    with files.whole_folder(target) as temporary:
        (temporary / "all").write_text("x")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["all"]


def test_a_full_disk_is_one_line_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"disk full while writing .*finished blocks are kept"), files.disk_full_is_said(tmp_path):
        Path("/dev/full").write_text("x" * 10)


def test_the_second_one_is_told_who_holds_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_LOCK", str(tmp_path / "lock"))
    with lock.hold("minilm"), pytest.raises(BenchError, match=rf"process {os.getpid()} in .*, measuring minilm since"), lock.hold("qwen3"):
        pass
    with lock.hold("qwen3"):
        pass


def test_leftovers_of_a_killed_holder_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_LOCK", str(tmp_path / "lock"))
    left = subprocess.Popen([sys.executable, "-c", SLEEPER])
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER])
    try:
        os.kill(left.pid, signal.SIGSTOP)
        workers = [[left.pid, lock._started(left.pid)], [stranger.pid, lock._started(stranger.pid) + 1]]
        (tmp_path / "lock").write_text(json.dumps({"workers": workers}))
        with lock.hold("minilm"):
            assert left.wait(5) == -signal.SIGKILL
            time.sleep(0.05)
            assert stranger.poll() is None, "a pid that was given to another process since must be left alone"
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()
