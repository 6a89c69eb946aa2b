"""`invoke load --recompute`: the same bytes from the stored samples; what the statistics changed is replaced, and nothing else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from bench.store import database
from bench.store import recompute as store_recompute
from tests.support import runs
from tests.support.runs import OFFLINE, SINGLE, Fake, Spec

FIRST = Spec(
    arms=(Fake("pytorch", 6.0, jitter=0.2, block_noise=0.02), Fake("openvino", 3.0, jitter=0.1), Fake("null-python", 0.01, role="floor"),
          Fake("candle", failures={"*": ("SKIPPED", "no compiler")}), Fake("onnx-rust", 4.0, cosine=0.99)),
    loads=(SINGLE, OFFLINE), shared_noise=0.01, blocks=6,
)  # fmt: skip
SECOND = replace(FIRST, day=1.0, seed=2)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two run folders and their database, made once."""
    folder = tmp_path_factory.mktemp("loaded")
    for spec in (FIRST, SECOND):
        runs.write(folder / "runs", spec)
    database.load(folder / "results.duckdb", folder / "runs")
    return folder


@pytest.fixture
def data(loaded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(loaded, tmp_path / "data"))


def exported(data: Path) -> dict[str, bytes]:
    """Every table, its rows in a fixed order, as the bytes of a CSV."""
    found = {}
    with duckdb.connect(str(data / "results.duckdb")) as connection:
        for table in database.TABLES:
            connection.execute(f"COPY (SELECT * FROM {table} ORDER BY ALL) TO '{data / 'table.csv'}'")
            found[table] = (data / "table.csv").read_bytes()
    return found


def recompute(data: Path) -> list[store_recompute.Recomputed]:
    return store_recompute.recompute(data / "results.duckdb", data / "runs")


def change(data: Path, sql: str) -> None:
    with duckdb.connect(str(data / "results.duckdb")) as connection:
        connection.execute(sql)


def test_recomputed_statistics_are_the_same_bytes(data: Path) -> None:
    before = exported(data)
    assert len(before["results"]) > 1000 and len(before["comparisons"]) > 300
    found = recompute(data)
    assert [(run.run_id, run.changed) for run in found] == [(FIRST.name, 0), (SECOND.name, 0)]
    assert all(run.rows > 20 for run in found)
    assert exported(data) == before
    assert store_recompute.in_words(found).endswith(" rows of statistics, 0 replaced")


def test_what_other_statistics_wrote_is_replaced_and_told(data: Path) -> None:
    before = exported(data)
    change(data, f"UPDATE results SET p50_ms = p50_ms * 1.0000001 WHERE framework = 'pytorch' AND run_id = '{FIRST.name}'")
    change(data, f"DELETE FROM comparisons WHERE run_id = '{FIRST.name}'")
    found = recompute(data)
    assert found[0].changed > 6 and found[1].changed == 0
    assert exported(data) == before
    assert f"{FIRST.name}: {found[0].changed} rows replaced though the statistics' version is the same" in store_recompute.in_words(found)


def test_a_new_version_replaces_every_row(data: Path) -> None:
    change(data, "UPDATE results SET stats_version = stats_version - 1; UPDATE comparisons SET stats_version = stats_version - 1")
    found = recompute(data)
    assert all(run.changed == run.rows and not run.same_version for run in found)
    assert "by a new version of the statistics" in store_recompute.in_words(found)


def test_the_samples_are_those_of_the_database(data: Path) -> None:
    """A sample that differs shows in the rows: they are not taken from the run folder."""
    change(data, f"UPDATE samples SET end_ns = end_ns + 1000000000 WHERE run_id = '{FIRST.name}' AND scenario = 'closed-1'")
    found = recompute(data)
    assert found[0].changed > 0 and found[1].changed == 0
    slowest = database.rows(
        "SELECT min(max_ms) AS ms FROM results WHERE run_id = ? AND scenario = 'closed-1' AND role = 'measured' AND n > 0 "
        "AND max_ms IS NOT NULL",
        [FIRST.name],
        data / "results.duckdb",
    )
    assert slowest[0]["ms"] > 1000


def test_a_run_without_its_folder_is_left_as_it_is(data: Path) -> None:
    shutil.rmtree(data / "runs" / FIRST.name)
    before = exported(data)
    found = recompute(data)
    assert found[0].note and found[1].changed == 0
    assert exported(data) == before
    assert f"{FIRST.name}: left as it is: its run folder is not here" in store_recompute.in_words(found)


def test_a_failure_in_between_leaves_the_run_as_it_was(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(data, "UPDATE results SET p50_ms = 1.0")
    before = exported(data)

    def broken(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(database, "put", broken)
    with pytest.raises(RuntimeError, match="planted"):
        recompute(data)
    assert exported(data) == before
