"""What may go wrong while measuring: nothing finished is lost, nothing is doubled, nothing is left behind, and no traceback is shown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import psutil
import pytest

from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.alone

PAIR = ("--model", "minilm", "--framework", "null-python,onnx-python", "--scenario", "closed-1")
FLOOR = ("--model", "minilm", "--framework", "null-python", "--scenario", "closed-1")


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def wait_for(what: Callable[[], object], process: subprocess.Popen[str], timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children(recursive=True) if "bench.workers" in " ".join(child.cmdline())]


def test_kill_of_the_harness_leaves_no_worker_and_the_next_bench_resumes(sandbox: Sandbox) -> None:
    words = ("bench", *PAIR, "--requests", "1600")
    first = sandbox.start(*words)
    wait_for(lambda: sandbox.runs and len(sandbox.block_names()) >= 2, first)
    workers = workers_of(first)
    assert workers
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    psutil.wait_procs(workers, timeout=10)
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]
    before = {name: (sandbox.runs[0].parent / name / "samples.parquet").stat().st_mtime_ns for name in sandbox.block_names()}
    second = sandbox.invoke(*words)
    assert second.returncode == 0 and "resuming run" in second.stderr, second.stderr
    assert len(sandbox.runs) == 1, "the interrupted run goes on, it is not begun again"
    for name, written in before.items():
        assert (sandbox.runs[0].parent / name / "samples.parquet").stat().st_mtime_ns == written, "a finished block was measured again"
    twice = sandbox.rows("select arm_id, block, slice, request, count(*) as n from samples group by all having n > 1")
    assert not twice


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(sandbox: Sandbox) -> None:
    process = sandbox.start("bench", *PAIR, "--requests", "1600")
    wait_for(lambda: sandbox.runs and sandbox.block_names(), process)
    workers = workers_of(process)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err, err
    psutil.wait_procs(workers, timeout=10)
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]


def test_a_killed_worker_is_a_row_and_the_others_go_on(sandbox: Sandbox) -> None:
    process = sandbox.start(
        "bench", "--model", "minilm", "--framework", "null-python,onnx-python", "--scenario", "closed-1", "--requests", "2000"
    )
    wait_for(lambda: sandbox.runs and sandbox.block_names(), process)
    onnx = next(worker for worker in workers_of(process) if "bench.workers.onnx" in " ".join(worker.cmdline()))
    onnx.kill()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "Traceback" not in err, err
    rows = {row["framework"]: row for row in sandbox.rows("select * from leaderboard where scenario = 'closed-1'")}
    assert rows["onnx-python"]["status"] == "CRASH" and "SIGKILL" in rows["onnx-python"]["reason"]
    assert rows["null-python"]["status"] == "OK" and rows["null-python"]["n"] >= 2000


def test_a_second_bench_is_told_who_holds_the_machine(sandbox: Sandbox) -> None:
    first = sandbox.start("bench", *PAIR, "--requests", "1600")
    wait_for(lambda: sandbox.runs and sandbox.block_names(), first)
    second = sandbox.invoke("bench", *FLOOR, "--requests", "60")
    assert second.returncode == 1 and f"process {first.pid}" in second.stderr
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=60)


def test_a_database_open_elsewhere_is_found_before_measuring(sandbox: Sandbox) -> None:
    sandbox.database.parent.mkdir(parents=True)
    code = f"import duckdb, time; c = duckdb.connect({str(sandbox.database)!r}); print('open', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout and holder.stdout.readline() == "open\n"
        done = sandbox.invoke("bench", *FLOOR, "--requests", "60")
        assert done.returncode == 1 and "results.duckdb" in done.stderr and not sandbox.runs
    finally:
        holder.kill()
        holder.wait()


def test_a_second_run_changes_no_row_of_the_first_and_load_gives_the_same(sandbox: Sandbox) -> None:
    for _ in range(2):
        assert sandbox.invoke("bench", *FLOOR, "--requests", "300").returncode == 0
        time.sleep(1)
    first, second = sandbox.rows("select run_id, count(*) as n from leaderboard group by run_id order by run_id")
    assert first["n"] == second["n"]
    tables = ("runs", "arms", "starts", "samples", "results", "comparisons", "checks")
    before = {table: sandbox.rows(f"select * from {table} order by all") for table in tables}
    sandbox.database.unlink()
    assert sandbox.invoke("load").returncode == 0
    assert {table: sandbox.rows(f"select * from {table} order by all") for table in tables} == before


def test_a_hanging_worker_is_ended_by_its_deadline(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_SLICE_TIMEOUT_S", "3")
    done = sandbox.invoke(
        "bench", "--model", "minilm", "--framework", "null-python,mutant-hang", "--scenario", "closed-1", "--requests", "60",
        "--catalog", str(sandbox.catalog("hang")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["framework"]: row["status"] for row in sandbox.rows("select * from leaderboard where scenario = 'closed-1'")}
    assert rows["mutant-hang"] == "TIMEOUT" and rows["null-python"] != "TIMEOUT"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bench", "--model", "minlm"), "unknown model 'minlm'"),
        (("bench", "--model", "minilm", "--framework", "torch"), "unknown framework 'torch'"),
        (("bench", "--model", "minilm", "--scenario", "open-10"), "unknown scenario"),
        (("bench", "--model", "minilm", "--precision", "fp33"), "unknown precision 'fp33'"),
        (("bench", "--model", "minilm", "--weights", "disk"), "unknown weights 'disk'"),
        (("bench", "--model", "minilm", "--budget", "soon"), "bad duration 'soon'"),
        (("bench", "--model", "minilm", "--corpus", "/nowhere/at/all"), "/nowhere/at/all"),
        (("bench", "--model", "minilm", "--catalog", "/nowhere"), "catalogue folder /nowhere"),
        (("report", "--format", "pdf"), "pdf"),
        (("clean", "--what", "everything"), "unknown part 'everything'"),
    ],
)
def test_bad_input_is_one_line_and_exit_1(sandbox: Sandbox, words: tuple[str, ...], message: str) -> None:
    done = sandbox.invoke(*words)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0], done.stderr


def test_a_missing_framework_is_a_skipped_row_with_its_cure(sandbox: Sandbox) -> None:
    folder = sandbox.folder / "catalog"
    folder.mkdir()
    (folder / "frameworks.yaml").write_text(
        "absent:\n  title: Absent\n  language: python\n  command: [python]\n  artefact: onnx\n  precisions: [fp32]\n  note: x\n"
        "  libraries: [no-such-runtime]\n"
    )
    done = sandbox.invoke("bench", "--model", "minilm", "--framework", "null-python,absent", "--scenario", "closed-1", "--requests", "60",
                        "--catalog", str(folder))  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = sandbox.rows("select status, reason, p50_ms from leaderboard where framework = 'absent' and scenario = 'closed-1'")[0]
    assert row == {"status": "SKIPPED", "reason": "no-such-runtime is not installed: pip install -e .", "p50_ms": None}


def test_dry_run_measures_and_writes_nothing(sandbox: Sandbox) -> None:
    done = sandbox.invoke("bench", "--model", "minilm", "--dry-run")
    assert done.returncode == 0 and "nothing is measured" in done.stdout and "offline-32" in done.stdout
    assert not sandbox.runs and not sandbox.database.exists()


def test_a_block_cut_off_in_writing_is_ignored_by_load(sandbox: Sandbox) -> None:
    assert sandbox.invoke("bench", *FLOOR, "--requests", "100").returncode == 0
    before = sandbox.rows("select * from results order by all")
    half = sandbox.runs[0] / "blocks" / "closed-1" / "099.tmp"
    half.mkdir()
    (half / "samples.parquet").write_bytes(b"PAR1 half")
    (sandbox.runs[0].parent / "20990101-000000-minilm-dead.tmp").mkdir()
    assert sandbox.invoke("load").returncode == 0
    assert sandbox.rows("select * from results order by all") == before
    assert json.loads((sandbox.runs[0] / "run.json").read_text())["model"] == "minilm"
    with duckdb.connect(str(sandbox.database), read_only=True) as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (1,)
