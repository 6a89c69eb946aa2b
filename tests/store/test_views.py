"""The views and macros of bench/schema.sql, each held against a computation in Python over random rows."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from bench.core import paths
from bench.runs.schema import PROVEN

Row = dict[str, Any]
FRAMEWORKS = ("candle", "onnx-cpp", "onnx-rust", "openvino", "pytorch")
BEGAN = datetime(2026, 11, 20, tzinfo=UTC)


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(paths.SCHEMA.read_text(encoding="utf-8"))
        yield connection


def insert(con: duckdb.DuckDBPyConnection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    con.register("frame", pd.DataFrame(rows))
    con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM frame")
    con.unregister("frame")


def ask(con: duckdb.DuckDBPyConnection, sql: str) -> list[Row]:
    cursor = con.execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def run_of(name: str, day: float, *, model: str = "minilm", machine: str = "here", complete: bool = True) -> Row:
    return {
        "run_id": name, "campaign_id": name, "experiment_hash": "e5", "measured_at": BEGAN + timedelta(days=day), "machine_id": machine,
        "machine": machine, "model": model, "weights": "wheel", "corpus": "generated", "seed": 1, "command": "invoke bench",
        "complete": complete, "run_json": "{}", "machine_json": "{}",
    }  # fmt: skip


def result_of(run: Row, framework: str, scenario: str, **columns: Any) -> Row:
    arm = {"role": "measured", "precision": "fp32", "variant": "default", "sessions": 1, "threads": 2, **columns}
    return {
        **{name: run[name] for name in ("run_id", "campaign_id", "measured_at", "machine_id", "machine", "model", "weights")},
        "arm_id": f"{framework}-{arm['precision']}-{arm['variant']}-{arm['role']}", "framework": framework, "language": "python",
        "framework_version": "1.0", "scenario": scenario, "ranked": False, "status": "OK", "stats_version": 1, **arm,
    }  # fmt: skip


def test_measured_rows_are_those_that_passed_the_gate(con: duckdb.DuckDBPyConnection) -> None:
    run = run_of("run", 0)
    statuses = ("OK", "PARTIAL", "PARITY_FAIL", "CRASH", "OOM", "TIMEOUT", "ENV_INVALID", "SKIPPED", "NOT_APPLICABLE")
    rows = [result_of(run, "pytorch", status, status=status, role=role) for status in statuses for role in ("measured", "floor", "twin")]
    insert(con, "results", rows)
    assert {(row["status"], row["role"]) for row in ask(con, "FROM measured")} == {(status, "measured") for status in PROVEN}


def random_runs(random: np.random.Generator, complete: float) -> tuple[list[Row], list[Row]]:
    """Runs of two models on two machines, a share of them complete, and their results: tried or skipped, floors and knobs."""
    runs, results = [], []
    for number in range(14):
        model, machine = str(random.choice(["minilm", "bge-m3"])), str(random.choice(["here", "there"]))
        run = run_of(
            f"run-{number:02d}", float(random.integers(0, 9)), model=model, machine=machine, complete=bool(random.random() < complete)
        )
        runs.append(run)
        for precision, scenario in (("fp32", "closed-1"), ("fp32", "offline-32"), ("int8", "closed-1"), ("int8", "offline-32")):
            status = str(random.choice(["SKIPPED", "NOT_APPLICABLE", "OK", "OK"]))
            arms = [("floor", "null", "default"), ("measured", "openvino", "knob:streams=2")]
            arms += [("measured", str(framework), "default") for framework in random.choice(FRAMEWORKS, 3, replace=False)]
            results += [
                result_of(run, framework, scenario, precision=precision, role=role, variant=variant, status=status)
                for role, framework, variant in arms
                if random.random() < 0.6
            ]
    return runs, results


def identity(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("run_id", "arm_id", "precision", "scenario"))


def current(rows: Sequence[Row], complete: Mapping[str, bool]) -> tuple[list[Row], bool]:
    """The rows to show of one machine × model × weights × precision × scenario, and whether they are of a complete run."""
    tried = {row["run_id"] for row in rows if row["role"] == "measured" and row["status"] not in ("SKIPPED", "NOT_APPLICABLE")}
    whole = [row for row in rows if complete[row["run_id"]]]
    candidates = [row for row in whole if row["run_id"] in tried] or whole
    if candidates:
        newest = max(candidates, key=lambda row: (row["measured_at"], row["run_id"]))["run_id"]
        return [row for row in rows if row["run_id"] == newest], True
    newest_of = {row["arm_id"]: row["measured_at"] for row in sorted(rows, key=lambda row: row["measured_at"])}
    return [row for row in rows if row["measured_at"] == newest_of[row["arm_id"]]], False


@pytest.mark.parametrize("complete", [0.1, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_the_current_rows_are_those_of_the_newest_complete_run_that_tried(
    con: duckdb.DuckDBPyConnection, seed: int, complete: float
) -> None:
    runs, results = random_runs(np.random.default_rng(seed), complete)
    insert(con, "runs", runs)
    insert(con, "results", results)
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in results:
        if not row["variant"].startswith("knob:"):
            groups[tuple(row[name] for name in ("machine_id", "model", "weights", "precision", "scenario"))].append(row)
    expected: dict[bool, set[tuple[Any, ...]]] = {True: set(), False: set()}
    for rows in groups.values():
        shown, of_complete = current(rows, {run["run_id"]: run["complete"] for run in runs})
        expected[of_complete] |= set(map(identity, shown))
    assert expected[complete > 0.5]
    rows = ask(con, "FROM current_results")
    for of_complete, keys in expected.items():
        assert {identity(row) for row in rows if row["run_complete"] == of_complete} == keys
    assert len(rows) == sum(map(len, expected.values()))
    assert {identity(row) for row in ask(con, "FROM current_leaderboard")} == expected[True]


def comparison_of(run_id: str, scenario: str, arms: tuple[str, str], ratios: tuple[float, float, float], verdict: str) -> Row:
    lo, ratio, hi = ratios
    return {
        "run_id": run_id, "scenario": scenario, "arm_a": arms[0], "arm_b": arms[1], "quantity": "requests_per_s", "blocks": 12,
        "ratio": ratio, "ratio_lo": lo, "ratio_hi": hi, "verdict": verdict, "note": None, "stats_version": 1,
    }  # fmt: skip


def test_a_comparison_from_the_other_side_is_its_inverse(con: duckdb.DuckDBPyConnection) -> None:
    verdicts = {"faster": "slower", "slower": "faster", "equivalent": "equivalent", "unresolved": "unresolved"}
    insert(con, "comparisons", [comparison_of("run", name, ("a", "b"), (1.1, 1.25, 1.6), name) for name in verdicts])
    rows = {(row["scenario"], row["arm_id"], row["other_id"]): row for row in ask(con, "FROM comparisons_both_ways")}
    assert len(rows) == 2 * len(verdicts)
    for name, turned in verdicts.items():
        there, back = rows[name, "a", "b"], rows[name, "b", "a"]
        assert (there["ratio_lo"], there["ratio"], there["ratio_hi"], there["verdict"]) == (1.1, 1.25, 1.6, name)
        assert (back["ratio_lo"], back["ratio"], back["ratio_hi"]) == pytest.approx((1 / 1.6, 0.8, 1 / 1.1))
        assert back["verdict"] == turned


def test_the_noise_floor_is_the_widest_interval_of_a_twin_whichever_copy_is_the_first(con: duckdb.DuckDBPyConnection) -> None:
    arm = {"run_id": "run", "language": "python", "precision": "fp32", "variant": "default", "sessions": 1, "threads": 2}
    roles = {"t2": "twin", "t3": "twin", "s": "slow", "a": "measured"}
    insert(con, "arms", [{**arm, "arm_id": name, "framework": name, "role": role} for name, role in roles.items()])
    insert(con, "comparisons", [
        comparison_of("run", "closed-1", ("t2", "a"), (0.98, 1.0, 1.01), "equivalent"),
        comparison_of("run", "closed-1", ("t3", "a"), (0.99, 1.01, 1.05), "equivalent"),
        comparison_of("run", "closed-1", ("s", "a"), (0.90, 0.95, 0.96), "slower"),
        comparison_of("run", "offline-32", ("t2", "a"), (0.97, 1.0, 1.01), "equivalent"),
    ])  # fmt: skip
    rows = {row["scenario"]: (row["lo"], row["hi"]) for row in ask(con, "FROM noise_floor")}
    assert rows["closed-1"] == pytest.approx((min(0.98, 1 / 1.05), max(1.05, 1 / 0.98)))
    assert rows["offline-32"] == pytest.approx((0.97, 1 / 0.97))


def samples_of(arm_id: str, scenario: str, calls: Sequence[tuple[int, Sequence[int]]], run_id: str = "run") -> list[Row]:
    """Samples of calls, each (duration in ns, tokens of its rows), one after another."""
    rows = []
    for number, (duration_ns, tokens) in enumerate(calls):
        start_ns = number * 10**9
        rows += [
            {"run_id": run_id, "arm_id": arm_id, "scenario": scenario, "block": number % 3, "slice": number % 2,
             "request": number * 64 + place, "tokens": length, "due_ns": start_ns, "start_ns": start_ns, "end_ns": start_ns + duration_ns}
            for place, length in enumerate(tokens)
        ]  # fmt: skip
    return rows


@pytest.mark.parametrize("n", [1, 2, 7, 200, 1234])
def test_quantiles_are_nearest_ranks(con: duckdb.DuckDBPyConnection, n: int) -> None:
    random = np.random.default_rng(n)
    durations = {arm: random.lognormal(15, 0.4, n).astype(int).tolist() for arm in ("a", "b")}
    for arm, values in durations.items():
        insert(con, "samples", samples_of(arm, "closed-1", [(value, (20,)) for value in values]))
    for arm, values in durations.items():
        rows = ask(con, f"FROM service_quantiles WHERE arm_id = '{arm}' ORDER BY share")
        assert [row["share"] for row in rows] == pytest.approx([place / 200 for place in range(201)])
        assert {row["n"] for row in rows} == {n}
        ranked = sorted(values)
        nearest = [ranked[max(0, math.ceil(n * place / 200 - 1e-9) - 1)] / 1e6 for place in range(201)]
        assert [row["service_ms"] for row in rows] == pytest.approx(nearest, rel=1e-12)


def test_times_by_shape_are_medians_of_calls_and_shares_of_the_best(con: duckdb.DuckDBPyConnection) -> None:
    random = np.random.default_rng(3)
    older, newer, run = run_of("older", 0), run_of("newer", 1), run_of("run", 2)
    insert(con, "runs", [older, newer, run])
    calls: dict[tuple[str, str, str], list[tuple[int, list[int]]]] = defaultdict(list)
    for arm in ("pytorch", "candle", "openvino"):
        for scenario, batch in (("closed-1", 1), ("offline-8", 8), ("open", 1)):
            for _ in range(60):
                tokens = random.integers(3, 500 if arm == "candle" else 250, batch).tolist()
                calls["run", arm, scenario].append((int(random.integers(10**6, 10**8)), tokens))
        calls["older", arm, "closed-1"] += [(999, [40])] * 3
        calls["newer", arm, "rare"] += [(10**6, [2000])] * 2
    arm_ids = {name: result_of(run, name, "x")["arm_id"] for name in ("pytorch", "candle", "openvino")}
    for (run_id, arm, scenario), made in calls.items():
        owner = {"run": run, "older": older, "newer": newer}[run_id]
        insert(con, "samples", samples_of(arm_ids[arm], scenario, made, run_id))
        insert(con, "results", [result_of(owner, arm, scenario, rate_per_s=40.0 if scenario == "open" else None)])

    by_shape: dict[tuple[str, str, int, int], list[float]] = defaultdict(list)
    for (run_id, arm, scenario), made in calls.items():
        for duration_ns, tokens in made if scenario != "open" else []:
            longest = 2 ** max(4, math.ceil(math.log2(max(tokens))))
            by_shape[run_id, arm_ids[arm], len(tokens), longest].append(duration_ns / 1e6 / len(tokens))
    expected = {shape: (len(times), median(times)) for shape, times in by_shape.items() if len(times) >= 3}
    rows = ask(con, "FROM shape_times")
    assert len(rows) == len(expected) > 15
    for row in rows:
        count, time_ms = expected[row["run_id"], row["arm_id"], row["batch"], row["up_to_tokens"]]
        assert (row["calls"], row["ms_per_row"]) == (count, pytest.approx(time_ms, rel=1e-12))

    runs = ("older", "run")
    chosen = [arm_ids["pytorch"], arm_ids["candle"]]
    newest: dict[tuple[str, int, int], float] = {}
    for run_id in runs:  # the later one replaces the earlier one
        newest |= {shape[1:]: time_ms for shape, (_, time_ms) in expected.items() if shape[0] == run_id}
    common = {shape[1:] for shape in newest if all((arm, *shape[1:]) in newest for arm in chosen)}
    rows = ask(con, f"FROM shapes_compared({[*runs]}, {[*chosen, chosen[0]]})")
    assert {(row["arm_id"], row["batch"], row["up_to_tokens"]) for row in rows} == {(arm, *shape) for arm in chosen for shape in common}
    for row in rows:
        best = min(newest[arm, row["batch"], row["up_to_tokens"]] for arm in chosen)
        assert row["share_of_best"] == pytest.approx(best / newest[row["arm_id"], row["batch"], row["up_to_tokens"]], rel=1e-12)
        assert row["run_id"] == "run" or row["ms_per_row"] == pytest.approx(999 / 1e6)


def front(points: Mapping[str, tuple[float, float]]) -> set[str]:
    """The points that no other one matches in both coordinates and beats in one; larger is better."""
    return {
        name
        for name, (x, y) in points.items()
        if not any(other_x >= x and other_y >= y and (other_x, other_y) != (x, y) for other_x, other_y in points.values())
    }


@pytest.mark.parametrize("seed", range(5))
def test_the_front_of_speed_and_quality(con: duckdb.DuckDBPyConnection, seed: int) -> None:
    random = np.random.default_rng(seed)
    run = run_of("run", 0)
    rows = [
        result_of(run, framework, "closed-1", precision=precision, requests_per_s=float(random.integers(1, 8)),
                  quality=None if precision == "fp32" else float(random.choice([0.99, 0.995, 1.0, 1.01])))
        for framework in FRAMEWORKS for precision in ("fp32", "bf16", "int8")
    ]  # fmt: skip
    rows[4]["quality"] = None  # quality is not known
    outside = result_of(run, "openvino", "closed-1", precision="int8", variant="tuned", requests_per_s=99.0, quality=2.0)
    insert(con, "results", [*rows, outside, result_of(run, "openvino", "offline-32", requests_per_s=99.0)])
    arms = [row["arm_id"] for row in rows]
    found = {row["arm_id"]: row for row in ask(con, f"FROM speed_and_quality(['run'], {arms}, 'closed-1', 'fp32')")}
    points = {row["arm_id"]: (row["requests_per_s"], 1.0 if row["precision"] == "fp32" else row["quality"]) for row in rows}
    points = {name: point for name, point in points.items() if point[1] is not None}
    assert {name: (row["rows_per_s"], row["kept"]) for name, row in found.items()} == points
    assert {name for name, row in found.items() if row["on_front"]} == front(points)


@pytest.mark.parametrize("seed", range(5))
def test_the_front_of_single_requests_and_batches(con: duckdb.DuckDBPyConnection, seed: int) -> None:
    random = np.random.default_rng(seed)
    results, points = [], {}
    for model in ("minilm", "bge-m3"):
        run = run_of(f"run-{model}", 0, model=model)
        for framework in FRAMEWORKS:
            p50_ms, rows_per_s = float(random.integers(1, 5)), float(random.integers(1, 5))
            results += [
                result_of(run, framework, "closed-1", p50_ms=p50_ms),
                result_of(run, framework, "offline-32", requests_per_s=rows_per_s),
            ]
            results += [
                result_of(run, framework, scenario, precision="int8", p50_ms=0.1, requests_per_s=99.0)
                for scenario in ("closed-1", "offline-32")
            ]
            points[model, framework] = (-p50_ms, rows_per_s)
    results.append(result_of(run_of("older", -1), "pytorch", "closed-1", p50_ms=0.01, requests_per_s=999.0))
    insert(con, "results", results)
    single, batched = (
        [{"run_id": f"run-{model}", "scenario": scenario, "precision": "fp32"} for model in ("minilm", "bge-m3")]
        for scenario in ("closed-1", "offline-32")
    )
    rows = ask(con, f"FROM single_and_batched({single}, {batched})")
    assert {(row["model"], row["framework"]): (-row["p50_ms"], row["rows_per_s"]) for row in rows} == points
    for model in ("minilm", "bge-m3"):
        own = {framework: point for (of, framework), point in points.items() if of == model}
        assert {row["framework"] for row in rows if row["model"] == model and row["on_front"]} == front(own)


def test_history_calls_a_change_what_left_the_interval_before(con: duckdb.DuckDBPyConnection) -> None:
    random = np.random.default_rng(5)
    results = []
    for day in range(30):
        run = run_of(f"run-{day:02d}", day)
        for framework in FRAMEWORKS:
            rate, width = float(random.normal(100, 8)), float(random.uniform(1, 6))
            known = random.random() < 0.9
            results.append(result_of(run, framework, "closed-1", framework_version=f"1.{day // 9}", requests_per_s=rate,
                                     requests_per_s_lo=rate - width if known else None, requests_per_s_hi=rate + width if known else None,
                                     status=str(random.choice(["OK", "CRASH"], p=[0.9, 0.1]))))  # fmt: skip
            results.append(result_of(run, framework, "closed-1", variant="knob:x=1", requests_per_s=1.0, requests_per_s_lo=1.0))
            results.append(result_of(run, framework, "open", rate_per_s=40.0, requests_per_s=1.0))
    insert(con, "results", results)
    rows = {(row["framework"], row["run_id"]): row for row in ask(con, "FROM history")}
    seen = set()
    for framework in FRAMEWORKS:
        own = [row for row in results if row["framework"] == framework and row["scenario"] == "closed-1" and row["variant"] == "default"]
        own = [row for row in own if row["status"] == "OK"]
        for before, row in zip([None, *own], own, strict=False):
            found = rows.pop((framework, row["run_id"]))
            assert found["run_before"] == (before["run_id"] if before else None)
            assert found["version_before"] == (before["framework_version"] if before else None)
            change = None
            if before and None not in (row["requests_per_s_lo"], before["requests_per_s_lo"]):
                if row["requests_per_s_lo"] > before["requests_per_s_hi"]:
                    change = "faster"
                elif row["requests_per_s_hi"] < before["requests_per_s_lo"]:
                    change = "slower"
            assert found["change"] == change
            seen.add(change)
    assert not rows
    assert seen == {None, "faster", "slower"}
