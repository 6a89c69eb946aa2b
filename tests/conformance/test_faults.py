"""What may go wrong while measuring: nothing finished is lost, nothing is doubled, nothing is left behind, and no traceback is shown.

One run lives through it all: another bench beside it, Ctrl-C, a kill of the harness, a kill of a worker.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import pytest

from tests.support.sandbox import Sandbox, finish

pytestmark = pytest.mark.slow

WORDS = ("bench", "--model", "minilm", "--framework", "null-python,onnx-python", "--scenario", "closed-1", "--requests", "1600")
#: Only a bound on waiting for what must come: nothing is said about how fast it does.
PATIENCE_S = 1200.0
Finished = subprocess.CompletedProcess[str]


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def stop_after_blocks(sandbox: Sandbox, count: int, process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait for so many finished blocks and stop the harness there, so that it finishes nothing while the test looks; its workers."""
    wait_for(lambda: sandbox.runs and len(sandbox.block_names()) >= count, process)
    os.kill(process.pid, signal.SIGSTOP)
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "bench.workers" in " ".join(child.cmdline())]


def alive(workers: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended some seconds later."""
    return psutil.wait_procs(workers, timeout=30)[1]


def written(sandbox: Sandbox) -> dict[str, int]:
    """When each finished block was written."""
    return {name: (sandbox.runs[0].parent / name / "samples.parquet").stat().st_mtime_ns for name in sandbox.block_names()}


@dataclass(frozen=True)
class Life:
    """What was seen of one run. Workers are those of the harness that was interrupted or killed, and those of them that outlived it."""

    sandbox: Sandbox
    first: int
    beside: Finished
    interrupted: Finished
    interrupted_workers: tuple[int, int]
    killed_workers: tuple[int, int]
    written: dict[str, int]
    finished: Finished


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    sandbox = Sandbox(tmp_path_factory.mktemp("life"))
    with sandbox.running(*WORDS) as process:
        first = process.pid
        workers = stop_after_blocks(sandbox, 1, process)
        beside = sandbox.invoke("bench", "--model", "minilm", "--framework", "null-python", "--scenario", "closed-1", "--requests", "60")
        os.kill(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGINT)
        interrupted = finish(process)
        interrupted_workers = len(workers), len(alive(workers))
    with sandbox.running(*WORDS) as process:
        workers = stop_after_blocks(sandbox, len(sandbox.block_names()) + 1, process)
        process.kill()
        process.wait()
        killed_workers = len(workers), len(alive(workers))
    before = written(sandbox)
    with sandbox.running(*WORDS) as process:
        workers = stop_after_blocks(sandbox, len(before) + 1, process)
        next(worker for worker in workers if "bench.workers.onnx" in " ".join(worker.cmdline())).kill()
        os.kill(process.pid, signal.SIGCONT)
        finished = finish(process)
    return Life(sandbox, first, beside, interrupted, interrupted_workers, killed_workers, before, finished)


def test_a_second_bench_is_told_who_holds_the_machine(life: Life) -> None:
    assert life.beside.returncode == 1 and f"process {life.first}" in life.beside.stderr


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(life: Life) -> None:
    assert life.interrupted.returncode == 130 and "interrupted" in life.interrupted.stderr, life.interrupted.stderr
    assert life.interrupted_workers == (2, 0)


def test_a_kill_of_the_harness_leaves_no_worker(life: Life) -> None:
    assert life.killed_workers == (2, 0)


def test_the_next_bench_goes_on_and_measures_nothing_again(life: Life) -> None:
    assert life.finished.returncode == 0 and "resuming run" in life.finished.stderr, life.finished.stderr
    assert len(life.sandbox.runs) == 1, "the interrupted run goes on, it is not begun again"
    after = written(life.sandbox)
    assert len(after) > len(life.written) >= 2 and life.written.items() <= after.items(), "a finished block was measured again"
    assert not life.sandbox.rows("SELECT arm_id, block, slice, request, count(*) AS n FROM samples GROUP BY ALL HAVING n > 1")


def test_a_killed_worker_is_a_row_and_the_others_go_on(life: Life) -> None:
    rows = {row["framework"]: row for row in life.sandbox.rows("SELECT * FROM leaderboard WHERE scenario = 'closed-1'")}
    assert rows["onnx-python"]["status"] == "CRASH" and "SIGKILL" in rows["onnx-python"]["reason"]
    assert rows["null-python"]["status"] == "OK" and rows["null-python"]["n"] >= 1600


def test_a_database_open_elsewhere_is_found_before_measuring(sandbox: Sandbox) -> None:
    sandbox.database.parent.mkdir(parents=True)
    code = f"import duckdb, time; c = duckdb.connect({str(sandbox.database)!r}); print('open', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout and holder.stdout.readline() == "open\n"
            done = sandbox.invoke(*WORDS)
        finally:
            holder.kill()
    assert done.returncode == 1 and "results.duckdb" in done.stderr and not sandbox.runs
