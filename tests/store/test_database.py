"""Run folders into the database: nothing lost, nothing twice, nothing of another run touched, and rebuilt to the same content."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from bench.core.errors import BenchError
from bench.runs import reader
from bench.store import database as store
from tests.support import runs
from tests.support.runs import OFFLINE, SINGLE, Fake, Spec

FIRST = Spec(arms=(Fake("pytorch", 6.0, jitter=0.1), Fake("openvino", 3.0), Fake("null-python", 0.01, role="floor"),
                   Fake("candle", failures={"*": ("SKIPPED", "no compiler: install Rust")})), loads=(SINGLE, OFFLINE))  # fmt: skip
SECOND = replace(FIRST, day=1.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    runs.write(tmp_path / "runs", FIRST)
    return tmp_path


def content(database: Path, run_id: str | None = None) -> dict[str, list[str]]:
    """Every row of every table as text, sorted."""
    found = {}
    with duckdb.connect(str(database), read_only=True) as connection:
        for table in store.TABLES:
            where = f"WHERE run_id = '{run_id}'" if run_id else ""
            found[table] = sorted(map(repr, connection.execute(f"SELECT * FROM {table} {where}").fetchall()))
    return found


def test_a_run_in_the_database_holds_what_its_folder_holds(data: Path) -> None:
    database = data / "results.duckdb"
    store.append(database, data / "runs" / FIRST.name)
    counts = {table: len(rows) for table, rows in content(database).items()}
    assert counts["runs"] == 1
    assert counts["arms"] == 4
    assert counts["starts"] == 9
    assert counts["blocks"] == 24
    assert counts["samples"] == 3 * 12 * (40 + 64)
    assert counts["results"] == 4 * (5 + 1)
    run = store.rows("SELECT * FROM runs", database=database)[0]
    assert (run["machine_id"], run["weights"], run["complete"]) == ("fixture-machine", "wheel", True)
    assert run["ended_at"] > run["measured_at"]
    assert run["measured_at"].isoformat() == "2026-11-20T09:00:00+00:00"
    assert json.loads(run["run_json"])["run_id"] == FIRST.name
    rows = store.rows("SELECT framework, status, reason FROM leaderboard WHERE scenario = 'closed-16' ORDER BY ALL", database=database)
    assert rows[0] == {"framework": "candle", "status": "SKIPPED", "reason": "no compiler: install Rust"}
    assert [row["status"] for row in rows[1:]] == ["OK"] * 3


def test_samples_are_exactly_what_the_workers_wrote(data: Path) -> None:
    database = data / "results.duckdb"
    store.load(database)
    where = [data / "runs" / FIRST.name / "blocks" / "*" / "*" / "samples.parquet"]
    sums = "count(*), sum(start_ns), sum(end_ns), sum(request), sum(preprocess_ns)"
    with duckdb.connect(str(database), read_only=True) as connection:
        stored = connection.execute(f"SELECT {sums} FROM samples").fetchone()
        written = connection.execute(f"SELECT {sums} FROM read_parquet('{where[0]}')").fetchone()
        assert stored == written
        assert connection.execute("SELECT count(*) FROM samples WHERE due_ns <> start_ns").fetchone() == (0,)


def test_the_same_run_twice_changes_nothing(data: Path) -> None:
    database = data / "results.duckdb"
    store.append(database, data / "runs" / FIRST.name)
    before = content(database)
    store.append(database, data / "runs" / FIRST.name)
    assert content(database) == before


def test_a_run_changes_no_row_of_another(data: Path) -> None:
    database = data / "results.duckdb"
    store.append(database, data / "runs" / FIRST.name)
    before = content(database)
    store.append(database, runs.write(data / "runs", SECOND))
    assert content(database, FIRST.name) == before
    assert len(content(database)["runs"]) == 2


def test_load_makes_the_same_content_as_appending(data: Path) -> None:
    appended, loaded = data / "results.duckdb", data / "loaded.duckdb"
    store.append(appended, data / "runs" / FIRST.name)
    store.append(appended, runs.write(data / "runs", SECOND))
    assert store.load(loaded, data / "runs") == 2
    assert content(loaded) == content(appended)
    assert store.load(appended, data / "runs") == 2
    assert content(loaded) == content(appended)


def test_an_absent_database_is_made_from_the_run_folders(data: Path) -> None:
    database = data / "results.duckdb"
    assert store.rows("SELECT count(*) AS n FROM runs", database=database) == [{"n": 1}]
    database.unlink()
    runs.write(data / "runs", SECOND)
    store.append(database, data / "runs" / SECOND.name)
    assert len(content(database)["runs"]) == 2


def test_runs_that_came_later_are_brought_in_once_they_are_finished(data: Path) -> None:
    database = data / "results.duckdb"
    store.load(database)
    first = content(database, FIRST.name)
    folder = runs.write(data / "runs", SECOND)
    done = (folder / "done.json").read_text(encoding="utf-8")
    (folder / "done.json").unlink()
    assert store.catch_up(database) == []
    (folder / "done.json").write_text(done, encoding="utf-8")
    assert store.catch_up(database) == [SECOND.name]
    assert store.catch_up(database) == []
    assert content(database, FIRST.name) == first
    assert len(content(database)["runs"]) == 2


def test_without_any_run_there_is_an_empty_database(tmp_path: Path) -> None:
    assert store.load(tmp_path / "results.duckdb") == 0
    assert store.rows("SELECT * FROM current_leaderboard", database=tmp_path / "results.duckdb") == []


def test_what_is_half_written_is_ignored(data: Path) -> None:
    folder = data / "runs" / FIRST.name
    shutil.copytree(folder, data / "runs" / "20270101-000000-minilm-dead.tmp")
    (data / "runs" / "empty").mkdir()
    shutil.copytree(folder / "blocks" / "closed-1" / "000", folder / "blocks" / "closed-1" / "012.tmp")
    (folder / "checks" / "x.json.tmp").write_text("{")
    assert store.load(data / "results.duckdb") == 1
    assert store.rows("SELECT max(block) AS last FROM blocks", database=data / "results.duckdb") == [{"last": 11}]


def test_an_unfinished_run_is_stored_and_replaced_when_it_is_finished(data: Path) -> None:
    database, folder = data / "results.duckdb", data / "runs" / FIRST.name
    whole = data / "whole"
    shutil.copytree(folder, whole)
    for block in range(4, 12):
        shutil.rmtree(folder / "blocks" / "closed-1" / f"{block:03d}")
    (folder / "done.json").unlink()
    store.append(database, folder)
    run = store.rows("SELECT ended_at, complete FROM runs", database=database)[0]
    assert run == {"ended_at": None, "complete": False}
    status = "SELECT status FROM leaderboard WHERE framework = 'pytorch' AND scenario = 'closed-1'"
    assert store.rows(status, database=database) == [{"status": "PARTIAL"}]
    assert store.rows("SELECT * FROM current_leaderboard", database=database) == []
    shutil.rmtree(folder)
    whole.rename(folder)
    store.append(database, folder)
    assert store.rows(status, database=database) == [{"status": "OK"}]
    assert len(content(database)["blocks"]) == 24


@pytest.mark.parametrize("file", ["run.json", "machine.json", "blocks/closed-1/003/samples.parquet", "blocks/closed-1/003/block.json"])
def test_a_broken_file_is_named(data: Path, file: str) -> None:
    path = data / "runs" / FIRST.name / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BenchError, match=r"invoke load") as caught:
        store.load(data / "results.duckdb")
    assert FIRST.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(data: Path) -> None:
    path = data / "runs" / FIRST.name / "run.json"
    path.write_text(path.read_text().replace('"campaign_id"', '"campaign"'))
    with pytest.raises(BenchError, match="campaign_id"):
        store.load(data / "results.duckdb")


@pytest.fixture
def holder(data: Path) -> subprocess.Popen[str]:
    """Another process that has the database open."""
    store.load(data / "results.duckdb")
    code = f"import duckdb, sys\nc = duckdb.connect({str(data / 'results.duckdb')!r})\nprint('open', flush=True)\nsys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    return process


def test_a_locked_database_is_found_before_measuring(data: Path, holder: subprocess.Popen[str]) -> None:
    database = data / "results.duckdb"
    try:
        with pytest.raises(BenchError, match=rf"process {holder.pid} .* has it open") as caught:
            store.check_writable(database)
        assert "\n" not in str(caught.value)
        with pytest.raises(BenchError, match="has it open"):
            store.load(database)
    finally:
        holder.communicate("")
    store.check_writable(database)


def test_a_database_that_locks_later_loses_nothing(data: Path, holder: subprocess.Popen[str]) -> None:
    folder = runs.write(data / "runs", SECOND)
    try:
        with pytest.raises(BenchError, match=rf"safe in {folder}: `invoke load` brings it in"):
            store.append(data / "results.duckdb", folder)
    finally:
        holder.communicate("")
    assert store.load(data / "results.duckdb") == 2


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.duckdb").write_text("not a database" * 100)
    with pytest.raises(BenchError, match=r"invoke load"):
        store.check_writable(tmp_path / "results.duckdb")


def test_a_database_of_an_older_schema_gains_the_new_columns(data: Path) -> None:
    database = data / "results.duckdb"
    store.load(database)
    with duckdb.connect(str(database)) as connection:
        connection.execute("DROP VIEW leaderboard; DROP VIEW current_leaderboard; ALTER TABLE results DROP COLUMN noisy_blocks")
        connection.execute("CREATE VIEW leaderboard AS SELECT * FROM results")
    found = store.rows("SELECT count(*) AS n, count(noisy_blocks) AS known FROM leaderboard", database=database)
    assert found == [{"n": 24, "known": 0}]
    store.append(database, runs.write(data / "runs", SECOND))
    assert store.rows("SELECT count(noisy_blocks) AS known FROM current_leaderboard", database=database) == [{"known": 24}]


def test_controls_of_another_run_decide_whether_ranks_count(data: Path) -> None:
    pair = tuple(Fake(name, ms, block_noise=0.01) for name, ms in (("pytorch", 6.0), ("openvino", 3.0)))
    twin = Fake("openvino", 3.0, variant="twin-2", role="twin", block_noise=0.01)
    slow = Fake("openvino", 3.15, variant="slow-1.05", role="slow", block_noise=0.01)
    held = runs.write(data / "runs", Spec(arms=(*pair, twin, slow), day=3.0)).name
    missed = runs.write(data / "runs", Spec(arms=(*pair, twin, replace(slow, service_ms=2.95)), day=4.0)).name
    for day, other in ((5.0, held), (6.0, missed), (7.0, FIRST.name), (8.0, "gone")):
        runs.write(data / "runs", Spec(arms=pair, day=day, controls_run_id=other))
    store.load(data / "results.duckdb")
    found = store.rows(
        "SELECT ranked, rank_note FROM leaderboard WHERE framework = 'pytorch' AND scenario = 'closed-1' AND day(measured_at) >= 25 "
        "ORDER BY measured_at", database=data / "results.duckdb",
    )  # fmt: skip
    assert [row["ranked"] for row in found] == [True, False, False, False]
    notes = [str(row["rank_note"]) for row in found]
    assert "was not found" in notes[1]
    assert notes[2] == f"run {FIRST.name} holds no controls"
    assert notes[3] == "the run of the controls is missing: gone"


def test_a_failed_append_leaves_the_database_as_it_was(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = data / "results.duckdb"
    store.load(database)
    before = content(database)
    monkeypatch.setattr(store, "TABLES", (*store.TABLES, "no_such_table"))
    with pytest.raises(BenchError, match="invoke load"):
        store.append(database, data / "runs" / FIRST.name)
    monkeypatch.undo()
    assert content(database) == before


def test_current_is_the_newest_complete_run_of_each_scenario(data: Path) -> None:
    """A newer run of two frameworks, and one of another scenario, take nothing away; another machine or model stands beside."""
    pair = replace(FIRST, arms=FIRST.arms[:2], day=2.0, complete=False)
    only_single = replace(FIRST, loads=(SINGLE,), day=3.0)
    elsewhere, synthetic = replace(FIRST, machine_id="other", day=0.5), replace(FIRST, weights="synthetic", day=0.7)
    for spec in (SECOND, pair, only_single, elsewhere, synthetic, replace(FIRST, day=9.0, done=False)):
        runs.write(data / "runs", spec)
    store.load(data / "results.duckdb")
    found = store.rows(
        "SELECT machine_id, weights, scenario, any_value(run_id) AS run_id, count(DISTINCT run_id) AS runs, count(*) AS n "
        "FROM current_leaderboard WHERE served_scenario IS NULL GROUP BY ALL ORDER BY ALL", database=data / "results.duckdb",
    )  # fmt: skip
    assert {(row["machine_id"], row["weights"], row["scenario"]): row["run_id"] for row in found} == {
        ("fixture-machine", "wheel", "closed-1"): only_single.name, ("fixture-machine", "wheel", "offline-32"): SECOND.name,
        ("other", "wheel", "closed-1"): elsewhere.name, ("other", "wheel", "offline-32"): elsewhere.name,
        ("fixture-machine", "synthetic", "closed-1"): synthetic.name, ("fixture-machine", "synthetic", "offline-32"): synthetic.name,
    }  # fmt: skip
    assert {(row["runs"], row["n"]) for row in found} == {(1, 4)}


def test_statistics_of_many_samples_take_seconds(data: Path) -> None:
    """Not a stopwatch (the machine is shared): the time may not grow much faster than the samples do."""

    def took(rows: int) -> float:
        spec = Spec(arms=tuple(Fake(name, 1.0, jitter=0.3) for name in runs.SIX), loads=(replace(SINGLE, rows=rows),), seed=rows)
        run = reader.read_run(runs.write(data / "big", spec))
        times = []
        for _ in range(3):
            began = time.process_time()
            store.leaderboard.leaderboard(run)
            times.append(time.process_time() - began)
        return min(times)

    assert took(2000) < 40 * took(100)
