"""From a run folder to the rows of the leaderboard: statuses, what is shown of whom, families and ranks."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import duckdb
import numpy as np
import pytest

from bench.core import paths
from bench.runs import reader
from bench.runs.schema import Failure, RunData
from bench.stats import leaderboard
from bench.stats.arms import Controls
from bench.stats.tables import Comparison, Result
from tests.support import runs
from tests.support.runs import OFFLINE, SINGLE, Fake, Load, Spec

QUIET = {"jitter": 0.02, "block_noise": 0.01}
SIX = tuple(Fake(name, ms, **QUIET) for name, ms in zip(runs.SIX, (6.3, 3.7, 3.7, 3.7, 12.0, 3.4), strict=True))
FLOOR = Fake("null-python", 0.004, role="floor")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


class Made:
    """Rows of a synthetic run by (framework or framework variant, scenario)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arms: Fake, **about: object) -> RunData:
        return reader.read_run(runs.write(self.folder, Spec(arms=arms, **about)))  # type: ignore[arg-type]

    def rows(self, *arms: Fake, **about: object) -> dict[tuple[str, str], Result]:
        return by_name(self.run(*arms, **about))


def by_name(run: RunData) -> dict[tuple[str, str], Result]:
    found = {}
    for row in leaderboard.leaderboard(run)[0]:
        found[row.framework if row.variant == "default" else f"{row.framework} {row.variant}", row.scenario] = row
    return found


def timed(row: Result) -> list[str]:
    """The columns of a row that hold a time or a rate."""
    ends = ("_ms", "s_per_s", "per_s_lo", "per_s_hi", "_percent", "per_1000")
    return [field.name for field in fields(Result) if field.name.endswith(ends) and getattr(row, field.name) is not None]


def test_the_columns_are_the_schemas() -> None:
    with duckdb.connect() as connection:
        connection.execute(paths.SCHEMA.read_text(encoding="utf-8"))
        for kind, table in ((Result, "results"), (Comparison, "comparisons")):
            columns = [row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()]
            assert sorted(columns) == sorted(field.name for field in fields(kind))


def test_numbers_by_hand(made: Made) -> None:
    """240 requests of exactly 5 ms, in 12 blocks of 20, with 0.1 to 0.131 ms of preprocessing and 300 MB."""
    row = made.rows(Fake("pytorch"), loads=(replace(SINGLE, rounds=1),))["pytorch", "closed-1"]
    assert (row.status, row.reason, row.n, row.blocks, row.errors, row.clients, row.batch) == ("OK", None, 240, 12, 0, 1, 1)
    assert row.mean_ms == row.p50_ms == row.p90_ms == row.max_ms == row.service_p50_ms == 5.0
    assert (row.stdev_ms, row.wait_p50_ms) == (0.0, 0.0)
    assert row.requests_per_s == row.embeddings_per_s == pytest.approx(200.0)
    assert row.p99_ms is None
    assert row.tail_note == "withheld for too few effective samples: p99: 240 of 1000, p99.9: 240 of 10000"
    assert row.preprocess_p50_ms == pytest.approx(0.1155, abs=0.002)
    assert row.text_p50_ms == pytest.approx(5.1155, abs=0.002)
    assert (row.load_ms, row.first_ms) == (101.0, 11.0)
    assert (row.peak_rss_bytes, row.rss_bytes) == (300_000_000, 250_000_000)
    assert row.cpu_percent == pytest.approx(200.0)
    assert row.cpu_s_per_1000 == pytest.approx(10.0)
    assert (row.min_cosine, row.max_abs_diff) == (1.0, 1e-7)
    assert (row.framework_version, row.stats_version) == ("1.2.3", leaderboard.STATS_VERSION)


def test_clients_follow_from_the_one_service_sequence(made: Made) -> None:
    rows = made.rows(Fake("pytorch"))
    for clients in (4, 16, 64, 128):
        row = rows["pytorch", f"closed-{clients}"]
        assert (row.served_scenario, row.clients, row.status) == ("closed-1", clients, "OK")
        assert row.n == 480 - clients
        assert row.p50_ms == pytest.approx(5.0 * clients)
        assert row.wait_p50_ms == pytest.approx(5.0 * (clients - 1))
        assert row.requests_per_s == pytest.approx(200.0)
        assert row.p50_lo_ms is not None


def test_more_clients_than_requests_have_no_latency(made: Made) -> None:
    """The first request of each client is dropped: of 36 requests nothing is left for 64 clients, least of all the latency of one."""
    row = made.rows(Fake("pytorch"), blocks=3, loads=(replace(SINGLE, rounds=1, rows=12),))["pytorch", "closed-64"]
    assert row.n == 0 and row.tail_note == "no latency is left after the first of each client"
    assert [name for name in timed(row) if name not in ("load_ms", "first_ms", "second_ms", "start_to_first_ms")] == [
        name for name in timed(row) if "per_s" in name or "cpu" in name
    ]


def test_a_batch_is_one_draw_and_its_rows_wait_together(made: Made) -> None:
    row = made.rows(Fake("pytorch", 80.0), loads=(OFFLINE,))["pytorch", "offline-32"]
    assert (row.n, row.p50_ms, row.status, row.clients) == (768, 80.0, "OK", 1)
    assert row.requests_per_s == pytest.approx(400.0)
    assert row.n_eff == 24
    assert row.p90_ms is None


def test_a_derived_tail_counts_the_service_sequence(made: Made) -> None:
    """At 64 clients latencies are moving sums: what is printed follows from the services, and 2880 of them carry a p99."""
    spread = Fake("pytorch", service=lambda chance, n: np.exp(chance.normal(1.6, 0.3, n)))
    rows = made.rows(spread, loads=(replace(SINGLE, rows=120),))
    served, derived = rows["pytorch", "closed-1"], rows["pytorch", "closed-64"]
    assert served.p99_ms is not None
    assert derived.p99_ms is not None
    assert derived.n_eff == served.n_eff
    assert derived.p99_hi_ms is None or derived.p99_hi_ms >= derived.p99_ms


@pytest.mark.parametrize(
    ("arm", "about", "status", "reason"),
    [
        (Fake("pytorch", blocks=2), {}, "PARTIAL", "2 of 3 blocks; 80 of 200 requests"),
        (Fake("pytorch"), {"blocks": 4}, "PARTIAL", "160 of 200 requests"),
        (Fake("pytorch", 60.0), {"blocks": 4}, "OK", None),
        (Fake("pytorch"), {"blocks": 4, "model_bytes": 2_000_000_000}, "OK", None),
        (Fake("pytorch", cut_block=3), {}, "PARTIAL", "1 of 24 slices cut short"),
        (Fake("pytorch", blocks=0), {}, "SKIPPED", "no block was measured"),
        (Fake("pytorch", blocks=0), {"done": False}, "SKIPPED", "the run is not finished"),
        (Fake("pytorch", failures={"closed-1": ("CRASH", "signal 11")}), {}, "CRASH", "signal 11"),
        (Fake("pytorch", failures={"*": ("SKIPPED", "no compiler: install one")}), {}, "SKIPPED", "no compiler: install one"),
        (Fake("pytorch", cosine=0.999), {}, "PARITY_FAIL", "1 − cosine 1.00e-03"),
        (Fake("pytorch", max_abs_diff=1e-3), {}, "PARITY_FAIL", "max |Δ| 1.00e-03"),
        (Fake("pytorch", cosine=float("nan")), {}, "PARITY_FAIL", "NaN"),
        (Fake("pytorch", broken_checks={"repeat": "answers are cached"}), {}, "PARITY_FAIL", "repeat: answers are cached"),
    ],
)
def test_statuses(made: Made, arm: Fake, about: dict[str, object], status: str, reason: str | None) -> None:
    rows = made.rows(arm, Fake("openvino"), **about)
    row = rows["pytorch", "closed-1"]
    assert row.status == status
    assert (row.reason is None) if reason is None else (reason in str(row.reason))
    for clients in (4, 128):
        assert rows["pytorch", f"closed-{clients}"].status == status


def test_no_time_is_shown_before_the_vectors_are_proven(made: Made) -> None:
    rows = made.rows(Fake("pytorch", cosine=0.9), Fake("openvino"))
    for scenario in ("closed-1", "closed-64"):
        row = rows["pytorch", scenario]
        assert timed(row) == []
        assert (row.n, row.min_cosine, row.ranked, row.rank_lo, row.ratio_to_best) == (480, 0.9, False, None, None)


def test_a_wrong_worker_is_not_saved_by_a_recorded_crash(made: Made) -> None:
    run = made.run(Fake("pytorch", cosine=0.9), Fake("openvino"))
    crash = Failure(run.arms[0].arm_id, "closed-1", "CRASH", "signal 9")
    row = by_name(replace(run, failures=(crash,)))["pytorch", "closed-1"]
    assert row.status == "PARITY_FAIL"
    assert timed(row) == []


def test_a_crash_after_some_blocks_keeps_them(made: Made) -> None:
    run = made.run(Fake("pytorch", blocks=5), Fake("openvino"))
    arm_id = run.arms[0].arm_id
    rows = by_name(replace(run, failures=(Failure(arm_id, "closed-1", "CRASH", "signal 9"),)))
    assert (rows["pytorch", "closed-1"].status, rows["pytorch", "closed-1"].n, rows["pytorch", "closed-1"].ranked) == ("CRASH", 200, False)
    everywhere = by_name(replace(run, failures=(Failure(arm_id, "*", "SKIPPED", "gone"),)))
    assert everywhere["pytorch", "closed-1"].status == "OK"


def test_the_floor_has_no_parity_and_no_rank(made: Made) -> None:
    row = made.rows(*SIX, FLOOR)["null-python", "closed-1"]
    assert (row.status, row.min_cosine, row.ranked, row.rank_note, row.rank_lo) == ("OK", None, False, "harness floor", None)
    assert row.p50_ms == 0.004


def test_ranks_without_controls_are_provisional(made: Made) -> None:
    rows = made.rows(*SIX, FLOOR)
    standing = {name: rows[name, "closed-1"] for name in runs.SIX}
    assert {row.rank_note for row in standing.values()} == {"no controls"}
    assert not any(row.ranked for row in standing.values())
    ranks = {name: (row.rank_lo, row.rank_hi, row.tie_group) for name, row in standing.items()}
    assert ranks["openvino"] == (1, 1, 1)
    assert {ranks[name] for name in ("onnx-python", "onnx-rust", "onnx-cpp")} == {(2, 4, 2)}
    assert (ranks["pytorch"], ranks["candle"]) == ((5, 5, 3), (6, 6, 4))
    assert standing["openvino"].ratio_to_best == 1.0
    assert standing["pytorch"].ratio_to_best == pytest.approx(3.4 / 6.3, rel=0.03)
    assert standing["pytorch"].ratio_lo < 3.4 / 6.3 < standing["pytorch"].ratio_hi  # type: ignore[operator]
    assert rows["pytorch", "closed-64"].rank_lo == 5


def test_controls_decide_whether_ranks_count(made: Made) -> None:
    run = made.run(*SIX)
    assert all(row.ranked and row.rank_note is None for row in leaderboard.leaderboard(run, Controls(True))[0])
    failed = leaderboard.leaderboard(run, Controls(False, "a twin differs"))[0]
    assert {(row.ranked, row.rank_note) for row in failed} == {(False, "a twin differs")}


@pytest.mark.parametrize(
    ("twin_ms", "slow_ms", "ranked", "note"),
    [(3.4, 3.57, True, None), (3.7, 3.57, False, "twin differs"), (3.4, 3.35, False, "was not found")],
)
def test_the_runs_own_controls(made: Made, twin_ms: float, slow_ms: float, ranked: bool, note: str | None) -> None:
    twin = Fake("openvino", twin_ms, variant="twin-2", role="twin", **QUIET)
    slow = Fake("openvino", slow_ms, variant="slow-1.05", role="slow", **QUIET)
    rows = made.rows(*SIX, twin, slow)
    row = rows["pytorch", "closed-1"]
    assert row.ranked is ranked
    assert note is None or note in str(row.rank_note)
    assert rows["openvino twin-2", "closed-1"].rank_note == "control"
    assert rows["openvino twin-2", "closed-1"].rank_lo is None


def test_before_twelve_blocks_there_is_no_verdict_but_the_time_it_would_take(made: Made) -> None:
    rows, compared = leaderboard.leaderboard(made.run(*SIX, blocks=8))
    assert {found.verdict for found in compared} == {"unresolved"}
    assert {found.blocks for found in compared} == {8}
    assert all(found.note and found.note.startswith("8 of 12 blocks: about ") for found in compared)
    assert {(row.rank_lo, row.rank_hi, row.tie_group) for row in rows} == {(1, 6, 1)}
    assert {(row.ranked, row.rank_note) for row in rows} == {(False, "8 of 12 blocks: too few for a verdict")}


def test_a_cut_slice_is_compared_on_common_rows(made: Made) -> None:
    """Rows whose time grows with their place: without pairing on common rows the arm that was cut would look faster."""
    growing = {"service": lambda chance, n: np.linspace(1.0, 9.0, 40)[:n]}
    load = replace(SINGLE, rows=40, rounds=1)
    run = made.run(Fake("pytorch", cut_block=0, **growing), Fake("openvino", **growing), loads=(load,))
    compared = leaderboard.leaderboard(run)[1][0]
    assert compared.blocks == 12
    assert compared.ratio == compared.ratio_lo == compared.ratio_hi == pytest.approx(1.0)
    assert compared.verdict == "equivalent"


def test_families(made: Made) -> None:
    """Tuned arms are a family; own encoders too, unless their framework has no default; other variants meet their own default."""
    arms = (Fake("pytorch", 6.0, **QUIET), Fake("openvino", 3.0, **QUIET), Fake("pytorch", 5.0, variant="compiled", **QUIET),
            Fake("pytorch", 5.5, variant="own", **QUIET), Fake("candle", 9.0, variant="own", **QUIET),
            Fake("pytorch", 4.0, variant="tuned", **QUIET), Fake("openvino", 2.0, variant="tuned", **QUIET))  # fmt: skip
    run = made.run(*arms)
    rows, compared = leaderboard.leaderboard(run)
    names = {arm.arm_id: f"{arm.framework} {arm.variant}" for arm in run.arms}
    pairs = {frozenset((names[c.arm_a], names[c.arm_b])) for c in compared}
    assert frozenset(("pytorch default", "candle own")) in pairs
    assert frozenset(("pytorch tuned", "openvino tuned")) in pairs
    assert frozenset(("pytorch compiled", "pytorch default")) in pairs
    assert frozenset(("pytorch compiled", "openvino default")) not in pairs
    assert frozenset(("pytorch own", "candle own")) not in pairs
    best = {names[row.arm_id]: row.ratio_to_best for row in rows if row.scenario == "closed-1"}
    assert best["openvino default"] == best["openvino tuned"] == best["pytorch own"] == 1.0
    assert best["pytorch tuned"] == pytest.approx(0.5, rel=0.03)
    assert best["pytorch compiled"] is None


def test_a_headline_variant_stands_among_the_defaults_and_layouts_and_precisions_meet_their_own(made: Made) -> None:
    """bf16: onnx-python has a default, pytorch only `dynamic` (headline) and `weights`; every bf16 arm also meets its fp32 default."""
    bf16 = {**QUIET, "precision": "bf16"}
    arms = (Fake("onnx-python", 4.0, **QUIET), Fake("pytorch", 6.0, **QUIET), Fake("onnx-python", 2.0, **bf16),
            Fake("pytorch", 3.0, variant="dynamic", headline=True, **bf16), Fake("pytorch", 5.0, variant="weights", **bf16),
            Fake("pytorch", 7.0, sessions=2, threads=1, **QUIET),
            Fake("pytorch", 8.0, variant="knob:layout=2x1", sessions=2, threads=1, **QUIET),
            *(Fake(name, ms, variant="tuned:closed-1", **QUIET) for name, ms in [("onnx-python", 3.5), ("pytorch", 3.0)]))  # fmt: skip
    run = made.run(*arms, loads=(OFFLINE,))
    rows, compared = leaderboard.leaderboard(run)
    names = {arm.arm_id: f"{arm.framework} {arm.precision} {arm.variant} {arm.sessions}" for arm in run.arms}
    pairs = {(names[c.arm_a], names[c.arm_b]) for c in compared}
    assert pairs == {
        ("onnx-python fp32 default 1", "pytorch fp32 default 1"),
        ("onnx-python bf16 default 1", "pytorch bf16 dynamic 1"),
        ("onnx-python fp32 tuned:closed-1 1", "pytorch fp32 tuned:closed-1 1"),
        ("pytorch bf16 weights 1", "pytorch bf16 dynamic 1"),
        ("pytorch fp32 default 2", "pytorch fp32 default 1"),
        ("pytorch fp32 knob:layout=2x1 2", "pytorch fp32 default 2"),
        ("onnx-python fp32 tuned:closed-1 1", "onnx-python fp32 default 1"),
        ("pytorch fp32 tuned:closed-1 1", "pytorch fp32 default 1"),
        *((f"{name} bf16 {variant} 1", f"{name} fp32 default 1")
          for name, variant in [("onnx-python", "default"), ("pytorch", "dynamic"), ("pytorch", "weights")]),
    }  # fmt: skip
    best = {names[row.arm_id]: row.ratio_to_best for row in rows}
    assert best["onnx-python bf16 default 1"] == best["pytorch fp32 tuned:closed-1 1"] == best["pytorch fp32 default 2"] == 1.0
    assert best["pytorch bf16 dynamic 1"] == pytest.approx(2 / 3, rel=0.03)
    assert best["pytorch bf16 weights 1"] is None


def test_fewer_clients_than_sessions_do_not_apply(made: Made) -> None:
    rows = made.rows(Fake("pytorch", sessions=2, threads=1), loads=(replace(SINGLE, clients=(1, 2, 4)),))
    assert rows["pytorch", "closed-2"].status == "OK"
    assert (rows["pytorch", "closed-1"].status, timed(rows["pytorch", "closed-1"])) == ("NOT_APPLICABLE", [])
    assert rows["pytorch", "closed-1"].reason == "1 clients cannot keep 2 requests at work"
    load = Load("closed-8", "closed", 8, (1, 4, 8, 32), rows=32)
    rows = made.rows(Fake("pytorch"), loads=(load,), seed=2)
    assert rows["pytorch", "closed-4"].status == "NOT_APPLICABLE"
    assert timed(rows["pytorch", "closed-4"]) == []
    assert rows["pytorch", "closed-32"].p50_ms == pytest.approx(20.0)


OPEN = Load("open-100", "open", 1, (), 100.0, rows=1500, rounds=1)


def test_an_open_loop_counts_from_due_time(made: Made) -> None:
    """100 requests/s against 5 and 3 ms: the waits of M/D/1 are ρs/2(1 − ρ) on average; p99 decides, the faster arm wins."""
    rows = made.rows(Fake("pytorch", 5.0), Fake("openvino", 3.0), loads=(OPEN,))
    slow, fast = rows["pytorch", "open-100"], rows["openvino", "open-100"]
    assert (slow.rate_per_s, slow.clients, slow.status, slow.service_p50_ms) == (100.0, None, "OK", 5.0)
    assert slow.mean_ms == pytest.approx(5 + 5 * 0.5 / (2 * 0.5), rel=0.1)
    assert fast.mean_ms == pytest.approx(3 + 3 * 0.3 / (2 * 0.7), rel=0.1)
    assert slow.requests_per_s == pytest.approx(100, rel=0.03)
    assert slow.p99_ms is not None
    assert (fast.rank_lo, slow.rank_lo, fast.ratio_to_best) == (1, 2, 1.0)
    assert len(rows) == 2


def test_an_overrun_open_loop_has_an_infinite_tail_and_loses(made: Made) -> None:
    run = made.run(Fake("pytorch", 12.0), Fake("candle", 15.0), Fake("openvino", 3.0), loads=(OPEN,))
    results, compared = leaderboard.leaderboard(run)
    rows = {row.framework: row for row in results}
    assert rows["pytorch"].p99_ms == float("inf")
    assert rows["pytorch"].tail_note == "unsustainable: the backlog still grew at the end of 12 of 12 blocks"
    assert rows["pytorch"].requests_per_s == pytest.approx(1000 / 12, rel=0.05)
    assert (rows["openvino"].rank_lo, rows["pytorch"].rank_lo, rows["candle"].rank_lo) == (1, 2, 2)
    assert {found.quantity for found in compared} == {"p99_ms"}


def test_names_of_derived_scenarios() -> None:
    served = ("closed-1", "closed-batched-32", "closed")
    assert [leaderboard.derived_name(name, 16) for name in served] == ["closed-16", "closed-batched-16", "closed-16"]


def test_the_order_of_samples_on_disk_does_not_matter(made: Made) -> None:
    run = made.run(*SIX, loads=(SINGLE, OFFLINE))
    shuffled = replace(run, samples=run.samples.sample(frac=1, random_state=1))
    assert leaderboard.leaderboard(shuffled) == leaderboard.leaderboard(run)


def test_a_run_without_a_block_has_rows_all_the_same(made: Made) -> None:
    rows = made.rows(*(replace(arm, failures={"*": ("SKIPPED", "nothing here")}) for arm in SIX))
    assert {(row.status, row.n) for row in rows.values()} == {("SKIPPED", 0)}
    assert len(rows) == 6 * 5
