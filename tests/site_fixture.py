"""A small database with believable fixture rows for the tests of the site. No number in it was measured.

Every state that a page must survive is in it: a complete campaign and an older one of the same model, a newer run of two frameworks
only, a model on synthetic weights with a crashed, a skipped and a parity-failed arm, withheld tails, null floors and controls.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from bench import paths

SCHEMA = Path(paths.__file__).with_name("schema.sql")
START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
MACHINE = "Fixture CPU 9000, 2 cores, 8 GB (fixture)"

FRAMEWORKS: dict[str, tuple[str, str, float]] = {
    # framework: language, version, milliseconds a request
    "pytorch": ("python", "2.15.0", 6.3),
    "onnx-python": ("python", "1.31.1", 3.72),
    "onnx-rust": ("rust", "1.31.1", 3.70),
    "onnx-cpp": ("cpp", "1.31.1", 3.69),
    "candle": ("rust", "0.11.1", 11.9),
    "openvino": ("python", "2026.4.1", 3.4),
}
NULLS = {"null-python": ("python", 0.004), "null-rust": ("rust", 0.0006), "null-cpp": ("cpp", 0.0005)}
SIX = tuple(FRAMEWORKS)


@dataclass(frozen=True)
class Failure:
    status: str
    reason: str


FAILURES = {
    "candle": Failure("CRASH", "CRASH(SIGSEGV) in block 2 of closed-1: <script>window.pwned = 1</script> & exit -11"),
    "onnx-cpp": Failure("SKIPPED", "the ONNX Runtime headers are missing: invoke build --framework onnx-cpp"),
    "openvino": Failure("PARITY_FAIL", "1 − min cos 0.0021 is above the gate of 1e-7 (fixture)"),
}


def build(path: Path, *, samples_per_arm: int = 600, hostile: bool = False) -> Path:
    """Write the fixture database to `path`. `hostile` adds a model whose every text holds a script."""
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as con:
        con.execute(SCHEMA.read_text(encoding="utf-8"))
        add_run(con, "minilm-20261120-090000", "minilm", day=0, samples=samples_per_arm, drift=1.03)
        add_run(con, "minilm-20261121-090000", "minilm", day=1, samples=samples_per_arm)
        add_run(con, "minilm-20261122-090000", "minilm", day=2, samples=120, only=("onnx-rust", "openvino"), complete=False, drift=0.7)
        add_run(
            con,
            "fixture-large-20261121-120000",
            "fixture-large",
            day=1.2,
            samples=120,
            scale=40,
            weights="synthetic",
            failures=FAILURES,
            rank_note="quality needs real weights",
        )
        if hostile:
            evil = "<script>window.pwned=1</script>"
            add_run(con, f"x{evil}", f"m*{evil}_|`", day=3, samples=60, machine=f"cpu {evil} *x*", only=("pytorch", evil), complete=False)
    return path


def add_run(
    con: duckdb.DuckDBPyConnection,
    run_id: str,
    model: str,
    *,
    day: float,
    samples: int,
    scale: float = 1.0,
    drift: float = 1.0,
    weights: str = "wheel",
    only: tuple[str, ...] = SIX,
    complete: bool = True,
    failures: dict[str, Failure] | None = None,
    rank_note: str | None = None,
    machine: str = MACHINE,
) -> None:
    """One run of one model: its arms, starts, samples, results, comparisons and checks."""
    failures = failures or {}
    at = START + timedelta(days=day)
    random = np.random.default_rng(abs(hash((day, samples))) % 2**32)
    names = {name: FRAMEWORKS.get(name, ("python", "0.0.1", 5.0)) for name in only}
    names |= {name: (language, "0.1.0", ms) for name, (language, ms) in NULLS.items()} if complete else {}
    arms, starts, results, sample_frames, checks = [], [], [], [], []
    scenarios = [
        {
            "name": "closed-1",
            "title": "single requests, back to back",
            "load": "closed",
            "batch": 1,
            "clients": [1, 4, 16, 64, 128],
            "rate_per_s": None,
            "plan": "closed-1",
            "plan_hash": "a1" * 32,
        },
        {
            "name": "offline-32",
            "title": "batches of 32",
            "load": "offline",
            "batch": 32,
            "clients": [1],
            "rate_per_s": None,
            "plan": "offline-32",
            "plan_hash": "b2" * 32,
        },
    ]
    for name, (language, version, ms) in names.items():
        floor = name in NULLS
        arm_id = f"{name}-fp32".replace("<", "").replace(">", "").replace("/", "")[:24]
        role = "floor" if floor else "measured"
        failure = failures.get(name)
        arms.append(
            {
                "run_id": run_id,
                "arm_id": arm_id,
                "framework": name,
                "language": language,
                "precision": "fp32",
                "variant": "default",
                "sessions": 1,
                "threads": 2,
                "role": role,
                "artefact_hash": "c3" * 32,
                "version_json": json.dumps({"framework": name, "runtime": name, "version": version, "build": "fixture build"}),
                "settings_json": json.dumps({"precision": "fp32", "sessions": 1, "threads": 2}),
            }
        )
        base = {
            "run_id": run_id,
            "campaign_id": f"campaign-{run_id}",
            "arm_id": arm_id,
            "role": role,
            "measured_at": at,
            "machine_id": "fixture-machine",
            "machine": machine,
            "model": model,
            "weights": weights,
            "framework": name,
            "framework_version": version,
            "language": language,
            "precision": "fp32",
            "variant": "default",
            "sessions": 1,
            "threads": 2,
            "errors": 0,
            "ranked": False,
            "status": "OK",
            "stats_version": 1,
            "plan_hash": "a1" * 32,
            "artefact_hash": "c3" * 32,
        }
        if failure:
            for scenario, served, clients, batch in scenario_rows():
                results.append(
                    {
                        **base,
                        "scenario": scenario,
                        "served_scenario": served,
                        "clients": clients,
                        "batch": batch,
                        "status": failure.status,
                        "reason": failure.reason,
                        "rank_note": failure.reason,
                        "framework_version": None if failure.status == "SKIPPED" else version,
                        "min_cosine": 0.9979 if failure.status == "PARITY_FAIL" else None,
                    }
                )
            continue
        starts += [
            {
                "run_id": run_id,
                "arm_id": arm_id,
                "start": start,
                "spawn_ns": int((60 + 30 * start) * scale * 1e6 + ms * scale * 5e6 + 4e7),
                "load_ns": int((60 + 30 * start) * scale * 1e6),
                "first_ns": int(ms * scale * 4e6),
                "second_ns": int(ms * scale * 1.1e6),
            }
            for start in range(3)
        ]
        service = ms * scale * (1 if floor else drift) * random.lognormal(0, 0.05, samples)
        service[:: max(40, samples // 8)] *= 1.8
        batch_ms = np.repeat(ms * scale * 22 * random.lognormal(0, 0.02, max(3, samples // 32)), 32)
        for scenario, values in (("closed-1", service), ("offline-32", batch_ms)):
            ends = np.cumsum(values if scenario == "closed-1" else np.where(np.arange(len(values)) % 32 == 0, values, 0))
            ends_ns = (ends * 1e6).astype("int64") + 10**12
            rows = len(values)
            sample_frames.append(
                pd.DataFrame(
                    {
                        "run_id": run_id,
                        "arm_id": arm_id,
                        "scenario": scenario,
                        "block": np.arange(rows) * 12 // rows,
                        "slice": 0,
                        "request": np.arange(rows),
                        "tokens": random.integers(8, 64, rows),
                        "due_ns": ends_ns - (values * 1e6).astype("int64"),
                        "start_ns": ends_ns - (values * 1e6).astype("int64"),
                        "end_ns": ends_ns,
                        "preprocess_ns": 120_000,
                        "cosine": None if floor else 1 - 1e-12,
                        "max_abs_diff": None if floor else 2.4e-7,
                    }
                )
            )
        for scenario, served, clients, batch in scenario_rows():
            values = batch_ms if scenario == "offline-32" else service * clients
            rate = len(values) / (values[::32].sum() if scenario == "offline-32" else service.sum()) * 1e3
            n, shown99 = len(values), samples >= 600
            results.append(
                {
                    **base,
                    "scenario": scenario,
                    "served_scenario": served,
                    "clients": clients,
                    "batch": batch,
                    "blocks": 12,
                    "n": n,
                    "n_eff": n * 0.9,
                    "mean_ms": values.mean(),
                    "stdev_ms": values.std(),
                    "max_ms": values.max(),
                    **{
                        f"p{name}_ms": float(np.quantile(values, p, method="inverted_cdf"))
                        for name, p in (("50", 0.5), ("90", 0.9), ("95", 0.95), ("99", 0.99))
                        if name != "99" or shown99
                    },
                    "p50_lo_ms": np.quantile(values, 0.5) * 0.99,
                    "p50_hi_ms": np.quantile(values, 0.5) * 1.01,
                    "p99_lo_ms": np.quantile(values, 0.97) if shown99 else None,
                    "p99_hi_ms": values.max() if shown99 else None,
                    "tail_note": None if shown99 else f"p99 and p99.9 are withheld: {n} samples, about 1000 and 10000 are needed",
                    "service_p50_ms": float(np.median(values)),
                    "wait_p50_ms": 0.0,
                    "preprocess_p50_ms": None if floor else 0.12,
                    "text_p50_ms": None if floor else float(np.median(values)) + 0.12,
                    "requests_per_s": rate,
                    "requests_per_s_lo": rate * 0.985,
                    "requests_per_s_hi": rate * 1.016,
                    "embeddings_per_s": rate,
                    "tokens_per_s": rate * 34,
                    "load_ms": 90.0 * scale,
                    "first_ms": ms * scale * 4,
                    "peak_rss_bytes": int((90 + 12 * ms) * 1e6 * max(1, scale / 4)),
                    "rss_bytes": int((80 + 12 * ms) * 1e6),
                    "cpu_percent": 198.0,
                    "cpu_s_per_1000": 2 * ms * scale,
                    "min_cosine": None if floor else 1 - 1.1e-12,
                    "max_abs_diff": None if floor else 2.9e-7,
                    "ranked": not floor and rank_note is None,
                    "rank_note": "the harness's own floor" if floor else rank_note,
                }
            )
        checks.append(
            {
                "run_id": run_id,
                "arm_id": arm_id,
                "name": "hard-inputs",
                "n": 256,
                "value": 1.1e-12,
                "lo": None,
                "hi": None,
                "held": True,
                "detail": "1 − min cos over the hard inputs",
            }
        )
    rank(results)
    comparisons = compare(results, run_id)
    run_json = {
        "run_id": run_id,
        "campaign_id": f"campaign-{run_id}",
        "model": model,
        "model_title": "all-MiniLM-L6-v2" if model == "minilm" else model,
        "model_bytes": 90852864,
        "suite": "quick",
        "scenarios": scenarios,
        "arms": [{"framework": name} for name in names],
    }
    machine_json: dict[str, Any] = {
        "cpu": {"model": "Fixture CPU 9000", "flags": ["avx2", "avx512f"], "cores": 2, "numa": {"unavailable": "not exposed by the guest"}},
        "os": {"kernel": "6.1.0-fixture"},
        "memory": {"total_bytes": 8 * 10**9},
    }
    runs = [
        {
            "run_id": run_id,
            "campaign_id": f"campaign-{run_id}",
            "experiment_hash": "e5" * 16,
            "measured_at": at,
            "ended_at": at + timedelta(minutes=4),
            "machine_id": "fixture-machine",
            "machine": machine,
            "model": model,
            "weights": weights,
            "corpus": "generated",
            "seed": 1,
            "budget_s": 180.0,
            "command": f"invoke bench --model {model} --budget 3m",
            "code_commit": "f" * 40,
            "code_dirty": False,
            "complete": complete,
            "run_json": json.dumps(run_json),
            "machine_json": json.dumps(machine_json),
        }
    ]
    insert(con, "runs", pd.DataFrame(runs))
    insert(con, "arms", pd.DataFrame(arms))
    insert(con, "starts", pd.DataFrame(starts))
    insert(con, "results", pd.DataFrame(results))
    insert(con, "comparisons", pd.DataFrame(comparisons))
    insert(con, "checks", pd.DataFrame(checks))
    insert(con, "samples", pd.concat(sample_frames, ignore_index=True))


def scenario_rows() -> list[tuple[str, str | None, int, int]]:
    """(scenario, served scenario, clients, batch)"""
    return [("closed-1", None, 1, 1), *((f"closed-{c}", "closed-1", c, 1) for c in (4, 16, 64, 128)), ("offline-32", None, 1, 32)]


def rank(results: list[dict[str, Any]]) -> None:
    """Rank intervals by gaps of 2 %: a stand-in for bench/stats.py, good enough to lay out a page."""
    for scenario, *_ in scenario_rows():
        rows = [r for r in results if r["scenario"] == scenario and r["role"] == "measured" and r.get("requests_per_s")]
        rates = sorted((r["requests_per_s"] for r in rows), reverse=True)
        for row in rows:
            ratio = row["requests_per_s"] / rates[0]
            row |= {"ratio_to_best": ratio, "ratio_lo": ratio * 0.985, "ratio_hi": ratio * 1.015}
            if row["ranked"]:
                row["rank_lo"] = 1 + sum(rate > row["requests_per_s"] * 1.02 for rate in rates)
                row["rank_hi"] = len(rates) - sum(rate < row["requests_per_s"] * 0.98 for rate in rates)
                row["tie_group"] = row["rank_lo"]


def compare(results: list[dict[str, Any]], run_id: str) -> list[dict[str, Any]]:
    pairs = []
    measured = [r for r in results if r["role"] == "measured" and r.get("requests_per_s")]
    for a in measured:
        for b in measured:
            if a["scenario"] == b["scenario"] and a["arm_id"] < b["arm_id"]:
                ratio = a["requests_per_s"] / b["requests_per_s"]
                verdict = (
                    "equivalent" if abs(ratio - 1) < 0.015 else "faster" if ratio > 1.03 else "slower" if ratio < 0.97 else "unresolved"
                )
                pairs.append(
                    {
                        "run_id": run_id,
                        "scenario": a["scenario"],
                        "arm_a": a["arm_id"],
                        "arm_b": b["arm_id"],
                        "quantity": "requests_per_s",
                        "blocks": 12,
                        "ratio": ratio,
                        "ratio_lo": ratio * 0.985,
                        "ratio_hi": ratio * 1.015,
                        "p_value": 0.0005,
                        "p_holm": 0.0075,
                        "verdict": verdict,
                        "note": None,
                        "stats_version": 1,
                    }
                )
    return pairs


def insert(con: duckdb.DuckDBPyConnection, table: str, frame: pd.DataFrame) -> None:
    if len(frame):
        con.register("frame", frame)
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM frame")
        con.unregister("frame")
