"""`invoke verify` itself: what it measures with is right by hand, and what does not hold is said and costs the exit status."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import catalog
from bench.core import paths
from bench.core.errors import BenchError
from bench.machine import lock
from bench.stats.load import Requests
from bench.store.controls import Verdict
from bench.verify import campaigns, clients, derived, fixed_service_worker, gate, live, live_bench, mutant_catalogue, record, replay
from bench.verify.claim import Claim, Outcome
from bench.verify.claims import CLAIMS, pick
from bench.workers.client import WorkerFailed
from site_src.data import verification
from tests.support.sandbox import Sandbox


def served(due: list[int], start: list[int], end: list[int]) -> Requests:
    none, zeros = np.zeros(len(due), dtype=np.int64), np.zeros(len(due))
    return Requests(none, none, np.arange(len(due)), none, np.array(due), np.array(start), np.array(end), zeros, zeros, zeros)


# --- the table ---------------------------------------------------------------------------------------------------------------


def test_promises_have_names_of_their_own_and_a_sentence() -> None:
    names = [claim.name for claim in CLAIMS]
    assert len(set(names)) == len(names) >= 17
    assert all(claim.text and claim.seconds > 0 for claim in CLAIMS)
    assert sum(claim.seconds for claim in CLAIMS) <= 15 * 60


def test_what_is_picked() -> None:
    assert [claim.name for claim in pick("stall, five-percent", quick=False)] == ["five-percent", "stall"]
    assert pick("", quick=False) == list(CLAIMS)
    assert {claim.quick for claim in pick("", quick=True)} == {True}
    assert not any(claim.needs for claim in pick("", quick=True))
    assert pick("none", quick=False) == []
    with pytest.raises(BenchError, match=r"promise nonsense: not known; there are identical-arms, "):
        pick("nonsense", quick=False)


def claim(name: str, outcome: Outcome | Exception) -> Claim:
    def measure(_: object) -> Outcome:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Claim(name, f"{name} holds", measure, frozenset(), True, 1.0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder and a lock of our own."""
    monkeypatch.setattr(paths, "DATA", tmp_path)
    monkeypatch.setenv("BENCH_LOCK", str(tmp_path / "lock"))
    return tmp_path


def test_what_does_not_hold_costs_the_exit_status_and_everything_is_kept(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [claim("good", Outcome("3 of 3", True)), claim("bad", Outcome("2 of 3", False)),
            claim("mended", BenchError("cmake: not found: install it")), claim("dead", WorkerFailed("CRASH", "signal 9"))]  # fmt: skip
    monkeypatch.setattr(replay, "CLAIMS", made)
    monkeypatch.setattr(replay.os, "getloadavg", lambda: (100.0, 0.0, 0.0))
    monkeypatch.setattr(replay, "pick", lambda only, quick: [each for each in made if not only or each.name in only])
    with pytest.raises(BenchError, match=r"3 of 4 promises do not hold here: bad, mended, dead \(load average 100\.0 on \d+ cores"):
        replay.prove("", False)
    kept = json.loads(record.machine_file().read_text())
    assert record.machine_file().parent == here / "verify"
    assert [(each["name"], each["held"]) for each in kept["promises"]] == [
        ("good", True),
        ("bad", False),
        ("mended", None),
        ("dead", False),
    ]
    assert set(kept["promises"][0]) == {"name", "promise", "measured", "held", "measured_at", "seconds", "stats_version"}
    out = capsys.readouterr().out
    assert "good holds" in out and "NO" in out and "not measured" in out

    made[1] = claim("bad", Outcome("3 of 3", True))
    replay.prove("bad", False)
    assert {name: entry.held for name, entry in record.read(record.machine_file()).items()} == {
        "good": True,
        "bad": True,
        "mended": None,
        "dead": False,
    }


def test_a_file_that_is_not_ours_is_named(tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    assert record.read(file) == {}
    file.write_text('{"promises": [{"name": "x"}]}')
    with pytest.raises(BenchError, match=r"machine\.json: not what `invoke verify` writes"):
        record.read(file)


def test_the_site_reads_what_is_written(here: Path) -> None:
    assert verification.read(here / "verify") == []
    kept = record.entry_of(claim("good", Outcome("3 of 3", True)), Outcome("3 of 3", True), 1.0)
    record.write(record.machine_file(), {"good": kept}, ["good"])
    (found,) = verification.read(here / "verify")
    assert [(row["promise"], row["measured"], row["held"]) for row in found.promises] == [("good holds", "3 of 3", True)]
    (here / "verify" / "other.json").write_text("[]")
    with pytest.raises(BenchError, match=r"other\.json: not what `invoke verify` writes"):
        verification.read(here / "verify")


@pytest.mark.slow
def test_the_command(sandbox: Sandbox) -> None:
    done = sandbox.invoke("verify", "--only", "fail-safe,pooled")
    assert done.returncode == 0 and "unresolved in all of" in done.stdout
    assert len(list((sandbox.data / "verify").glob("*.json"))) == 1


# --- what it measures with -----------------------------------------------------------------------------------------------------


def test_a_stalls_prediction_by_hand() -> None:
    """1 000 requests, one each 2 ms, of 1 ms each: T = 1.998 s, ρ = 0.5, so 0.5 − 0.01 · 0.5 · 1.998 + 0.001."""
    due = [2_000_000 * place for place in range(1000)]
    wanted = live.Stall(stall_s=0.5, rows=1000, rate_per_s=500.0)
    assert wanted.predicted_s(served(due, due, [moment + 1_000_000 for moment in due])) == pytest.approx(0.5 - 0.00999 + 0.001, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "held"),
    [({}, True), ({"open_ratio": 0.91}, True), ({"open_ratio": 1.11}, False), ({"open_ratio": 0.0}, False), ({"closed_share": 0.03}, False),
     ({"longest_share": 0.5}, False), ({"overrun": True}, False)],
)  # fmt: skip
def test_when_a_stall_counts_as_seen(change: dict[str, float], held: bool) -> None:
    assert replace(live.StallEffect(1.0, 0.001, 1.01, False), **change).held is held


def test_watched_little_by_hand() -> None:
    """Due at 0, 10, 20, answered at 5, 25, 30: inside the window of 20 ns one is there for 5 ns and one for 10, so L = 15/20.
    λ = 3/20 a ns and W = (5 + 15 + 10)/3 = 10 ns."""
    looks = np.arange(0, 2_000_001, dtype=np.int64) * 10
    piece = served([0, 10_000_000, 20_000_000], [0, 10_000_000, 25_000_000], [5_000_000, 25_000_000, 30_000_000])
    answered = np.searchsorted(piece.end_ns, looks, side="right")
    found = live.little_from_readings(piece, looks, answered)
    assert found.in_system == pytest.approx(0.75, rel=1e-5)
    assert found.rate_per_s * found.latency_s == pytest.approx(1.5)
    sparse = live.little_from_readings(piece, looks[::1000], answered[::1000])
    assert sparse.in_system == pytest.approx(0.75, rel=0.01)


def test_real_clients_wait_for_their_answers() -> None:
    """Never more under way than clients, each request answered once, and in the order sent."""
    lock_, under_way, most, rows = threading.Lock(), [0], [0], []

    def session(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        time.sleep(0.001)
        rows.append(int(ids[0, 0]))
        return ids

    real = threading.Event

    class Counted(real):  # type: ignore[valid-type, misc]
        def __init__(self) -> None:
            super().__init__()
            with lock_:
                under_way[0] += 1
                most[0] = max(most[0], under_way[0])

        def set(self) -> None:
            with lock_:
                under_way[0] -= 1
            super().set()

    request = clients.Request

    def counted(row: int, sent_ns: int) -> clients.Request:
        return request(row, sent_ns, Counted())

    inputs = [(np.full((1, 1), row), np.ones((1, 1))) for row in range(40)]
    try:
        clients.Request = counted  # type: ignore[assignment, misc]
        seen = clients.closed_loop(session, inputs, 3)
    finally:
        clients.Request = request  # type: ignore[misc]
    assert rows == list(range(40))
    assert len(seen) == 40 and all(answered > sent for sent, answered in seen)
    assert most[0] == 3


def test_the_fixed_service_worker_takes_its_time_and_counts(tmp_path: Path) -> None:
    file = tmp_path / "seen"
    file.write_bytes(bytes(8))
    session = fixed_service_worker.session(0.003, fixed_service_worker.counter(file))
    began = time.monotonic()
    vectors = session(np.zeros((2, 4), dtype=np.int64), np.ones((2, 4), dtype=np.int64))
    assert time.monotonic() - began >= 0.003
    assert vectors.shape == (2, fixed_service_worker.DIM)
    session(np.zeros((1, 4), dtype=np.int64), np.ones((1, 4), dtype=np.int64))
    assert int.from_bytes(file.read_bytes(), "little") == 3


@pytest.fixture
def live_bench_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[live_bench.LiveBench]:
    monkeypatch.setenv("BENCH_LOCK", str(tmp_path / "lock"))
    with lock.hold("a test") as held, live_bench.opened(held, catalog.load()) as opened:
        yield opened
    assert not opened.folder.exists()


@pytest.mark.alone
def test_a_real_worker_shows_a_stall_where_it_must(live_bench_open: live_bench.LiveBench) -> None:
    """Wide bounds: this machine may be busy. `invoke verify` holds the narrow ones."""
    found = live.measure_stall(live_bench_open, None, live.Stall(stall_s=0.4, rows=200, rate_per_s=250.0, at_s=0.1))
    assert found.open_ratio == pytest.approx(1, abs=0.3)
    assert found.longest_share >= 1
    assert found.closed_share < 0.2


@pytest.mark.alone
def test_real_clients_and_the_derived_loop_tell_the_same(live_bench_open: live_bench.LiveBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(derived, "WITHIN", 0.5)
    found = derived.fixed_service(live_bench_open, ms=3.0, rows=24, rounds=3)
    assert found.held, found.measured
    monkeypatch.setattr(derived, "WITHIN", 0.0)
    assert not derived.fixed_service(live_bench_open, ms=3.0, rows=12, rounds=1).held


# --- planted bugs, campaigns ----------------------------------------------------------------------------------------------------


def mutant_rows() -> dict[str, mutant_catalogue.Row]:
    rows = {bug: mutant_catalogue.Row("PARITY_FAIL", "1 − cosine", None, None, False) for bug in mutant_catalogue.WRONG}
    rows |= {bug: mutant_catalogue.Row("CRASH", f"it said {reason}", None, None, False) for bug, reason in mutant_catalogue.BROKEN.items()}
    return rows | {mutant_catalogue.HONEST: mutant_catalogue.Row("OK", None, 4.0, 250.0, False)}


def test_mutants_as_they_must_be() -> None:
    assert mutant_catalogue.outcome_of(mutant_rows()).held


@pytest.mark.parametrize(
    ("bug", "row"),
    [
        ("stale", mutant_catalogue.Row("OK", None, 4.0, 250.0, False)),
        ("stale", mutant_catalogue.Row("PARITY_FAIL", "x", 4.0, None, False)),
        ("stale", mutant_catalogue.Row("PARITY_FAIL", "x", None, 250.0, False)),
        ("crash", mutant_catalogue.Row("CRASH", "planted", None, None, False)),
        (mutant_catalogue.HONEST, mutant_catalogue.Row("PARITY_FAIL", "x", None, None, False)),
        ("nan", None),
    ],
)
def test_one_mutant_that_gets_through_breaks_the_promise(bug: str, row: mutant_catalogue.Row | None) -> None:
    rows = mutant_rows()
    if row is None:
        del rows[bug]
    else:
        rows[bug] = row
    found = mutant_catalogue.outcome_of(rows)
    assert not found.held and bug in found.measured


def test_the_gate_must_catch_every_bug_and_no_honest_model() -> None:
    judged = [gate.BugResult(bug, 1e-6, 1e-4, None if bug == gate.HONEST else "hard inputs: …", True) for bug in gate.BUGS]
    assert gate.outcome_of(judged).held
    assert not gate.outcome_of(judged[:-1]).held
    assert not gate.outcome_of([replace(judged[0], caught="unit norm: …"), *judged[1:]]).held
    assert not gate.outcome_of([*judged[:-1], replace(judged[-1], caught=None)]).held


def control(role: str, verdict: str, number: int) -> Verdict:
    return Verdict(f"run-{number}", "closed-1", "onnx-python", role, role, 12, 0, 1.0, 0.9, 1.1, verdict, None)


@pytest.mark.parametrize(("false", "missed", "held"), [(0, 0, True), (3, 5, True), (4, 0, False), (0, 6, False)])
def test_twenty_campaigns(false: int, missed: int, held: bool) -> None:
    """At most 3 false verdicts between the twins of 20 campaigns, at least 15 slower arms found."""
    twins = [control("twin", "faster" if number < false else "equivalent", number) for number in range(20)]
    slow = [control("slow", "unresolved" if number < missed else "slower", number) for number in range(20)]
    found = campaigns.outcome_of([*twins, *slow])
    assert found.held is held
    assert found.measured == (
        f"20 campaigns: {false} of 20 twins called different, {20 - missed} of 20 slower arms found ({missed} unresolved)"
    )


def test_no_campaign_proves_nothing() -> None:
    assert not campaigns.outcome_of([]).held
    assert not campaigns.outcome_of([control("slow", "slower", 1)]).held
