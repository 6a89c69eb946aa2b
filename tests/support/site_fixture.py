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

from bench import catalog
from bench.core import paths
from bench.store.connection import open_for_reading
from site_src.data import leaderboard

SCHEMA = paths.SCHEMA
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


@dataclass(frozen=True)
class Load:
    """A served scenario of the fixture. `clients` above 1 are derived rows; `rate` makes it an open loop; without `has_rate` there is
    no throughput, as with text lengths of which each comes once."""

    name: str
    title: str
    load: str
    batch: int = 1
    clients: tuple[int, ...] = (1,)
    rate: float | None = None
    limits_ms: tuple[float, ...] = ()
    has_rate: bool = True


BASIC = (
    Load("closed-1", "single requests, back to back", "closed", 1, (1, 4, 16, 64, 128)),
    Load("offline-32", "batches of 32", "offline", 32),
)
STANDARD = (
    *BASIC,
    Load("closed-batched-4", "4 clients, batched", "closed", 4, (4,)),
    Load("closed-batched-32", "32 clients, batched", "closed", 32, (32, 64, 128)),
    Load("offline-1", "one by one, back to back", "offline", 1),
    Load("offline-8", "batches of 8", "offline", 8),
    *(
        Load(f"poisson-{name}{tail}", f"Poisson arrivals, {name} rate{said}", "open", batch, rate=rate)
        for tail, said, batch in (("", "", 1), ("-batched", ", batched", 32))
        for name, rate in (("low", 20.0), ("middle", 60.0), ("high", 120.0))
    ),
    Load("bulk-sorted", "a corpus in batches of 32, sorted by length", "offline", 32),
    Load("length-sweep", "texts of 16 to 512 tokens, one by one", "offline", 1),
    Load("new-shape", "text lengths that the process has not seen", "offline", 1, has_rate=False),
    Load("slo", "the largest Poisson rate within a latency limit", "slo", 1, limits_ms=(10, 25, 50, 100, 250, 1000)),
)

DEFAULT = ("fp32", "default", 1.0)
#: What is fitted to the times of a load: term, unit, and its value where a usual request takes 1 ms.
FITTED = {
    "length-sweep": (("base_ms", "ms", 0.4), ("per_token_us", "µs per token", 12.0), ("per_token2_ns", "ns per token²", 3.0)),
    "new-shape": (("new_shape_ratio", "×", 0.3),),
}
#: Quality kept by precision: ratio, lower and upper end.
KEPT = {"bf16": (0.9993, 0.9981, 1.0004), "int8": (0.9912, 0.9903, 0.9931)}

FAILURES = {
    "candle": Failure("CRASH", "CRASH(SIGSEGV) in block 2 of closed-1: <script>window.pwned = 1</script> & exit -11"),
    "onnx-cpp": Failure("SKIPPED", "the ONNX Runtime headers are missing: invoke build --framework onnx-cpp"),
    "openvino": Failure("PARITY_FAIL", "1 − min cos 0.0021 is above the gate of 1e-7 (fixture)"),
}


def open_board(database: Path) -> leaderboard.Leaderboard:
    """The leaderboard of a fixture database."""
    return leaderboard.Leaderboard(open_for_reading(database), catalog.load())


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


def build_board(path: Path, *, samples_per_arm: int = 600, loads: tuple[Load, ...] = STANDARD) -> Path:
    """The whole catalogue: three models under every load, the last with failed cells, precisions, controls and knobs of the first."""
    path.unlink(missing_ok=True)
    known = list(catalog.load().models)
    with duckdb.connect(str(path)) as con:
        con.execute(SCHEMA.read_text(encoding="utf-8"))
        add_run(con, "minilm-20261119-090000", "minilm", day=-1, samples=60, drift=1.05)
        for place, model in enumerate(known):
            small = model == "minilm"
            add_run(
                con,
                f"{model}-20261121-090000",
                model,
                day=1 + place / 24,
                samples=samples_per_arm if small else max(60, samples_per_arm // 4),
                scale=1 if small else 4 + 5 * place,
                weights="wheel" if small else "synthetic",
                loads=loads if place in (0, 2, len(known) - 1) else BASIC,
                twin=small,
                failures=FAILURES if place == len(known) - 1 else {},
                variants=(DEFAULT, ("bf16", "default", 0.55), ("int8", "dynamic", 0.5), ("fp32", "tuned", 0.9)) if small else (DEFAULT,),
            )
        knobs = (DEFAULT, ("fp32", "knob:spinning=0", 1.3))
        add_run(con, "minilm-20261123-090000", "minilm", day=3, samples=60, only=("onnx-python",), complete=False, variants=knobs)
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
    loads: tuple[Load, ...] = BASIC,
    variants: tuple[tuple[str, str, float], ...] = (DEFAULT,),
    twin: bool = False,
) -> None:
    """One run of one model: its arms, starts, samples, results, comparisons and checks.

    `variants` are (precision, variant, factor of the time) of every framework; `twin` adds a second copy of PyTorch as a control.
    """
    failures = failures or {}
    at = START + timedelta(days=day)
    random = np.random.default_rng(abs(hash((day, samples))) % 2**32)
    names = {name: FRAMEWORKS.get(name, ("python", "0.0.1", 5.0)) for name in only}
    names |= {name: (language, "0.1.0", ms) for name, (language, ms) in NULLS.items()} if complete else {}
    arms, starts, results, sample_frames, checks = [], [], [], [], []
    scenarios = [
        {
            "name": load.name,
            "title": load.title,
            "load": load.load,
            "batch": load.batch,
            "clients": list(load.clients),
            "rate_per_s": load.rate,
            "limits_ms": list(load.limits_ms),
            "plan": load.name,
            "plan_hash": "a1" * 32,
        }
        for load in loads
    ]
    lanes = [
        (name, language, version, ms * factor, precision, variant, "floor" if name in NULLS else "measured")
        for name, (language, version, ms) in names.items()
        for precision, variant, factor in (variants if name not in NULLS else variants[:1])
    ]
    if twin:
        lanes += [("pytorch", *FRAMEWORKS["pytorch"][:2], FRAMEWORKS["pytorch"][2] * 1.002, "fp32", "twin-2", "twin")]
    for name, language, version, ms, precision, variant, role in lanes:
        floor = role == "floor"
        known_as = "" if variant == "default" else "-" + variant.replace(":", "-")
        arm_id = f"{name}-{precision}{known_as}".replace("<", "").replace(">", "").replace("/", "")[:40]
        failure = failures.get(name)
        arms.append(
            {
                "run_id": run_id,
                "arm_id": arm_id,
                "framework": name,
                "language": language,
                "precision": precision,
                "variant": variant,
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
            "precision": precision,
            "variant": variant,
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
            for scenario, load, clients in scenario_rows(loads):
                results.append(
                    {
                        **base,
                        "scenario": scenario,
                        "served_scenario": None if scenario == load.name else load.name,
                        "clients": clients,
                        "batch": load.batch,
                        "rate_per_s": load.rate,
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
        factor = ms * scale * (1 if floor else drift)
        for load in loads:
            if load.load == "slo":
                if not floor:
                    results.append({**base, "scenario": load.name, "clients": 1, "batch": 1, "n": 4300, "blocks": 0})
                results += [limit_of(base, load, limit, factor) for limit in load.limits_ms if not floor]
                continue
            latency, rows_per_s, frame = served(load, factor, samples, random)
            if role != "twin":
                sample_frames.append(frame.assign(run_id=run_id, arm_id=arm_id, scenario=load.name, preprocess_ns=120_000,
                                                  cosine=None if floor else 1 - 1e-12, max_abs_diff=None if floor else 2.4e-7))  # fmt: skip
            for scenario, _, clients in scenario_rows((load,)):
                values = latency * (clients / max(1, load.clients[0]))
                rate, n, shown99, finite = rows_per_s, len(values), samples >= 600, bool(np.isfinite(values[0]))
                results.append(
                    {
                        **base,
                        "scenario": scenario,
                        "served_scenario": None if scenario == load.name else load.name,
                        "clients": clients,
                        "batch": load.batch,
                        "rate_per_s": load.rate,
                        "blocks": 12,
                        "n": n,
                        "n_eff": n * 0.9,
                        "mean_ms": values.mean() if finite else None,
                        "stdev_ms": values.std() if finite else None,
                        "max_ms": values.max(),
                        **{
                            f"p{name}_ms": float(np.quantile(values, p, method="inverted_cdf"))
                            for name, p in (("50", 0.5), ("90", 0.9), ("95", 0.95), ("99", 0.99))
                            if name != "99" or shown99
                        },
                        "p50_lo_ms": np.median(values) * 0.99 if finite else None,
                        "p50_hi_ms": np.median(values) * 1.01 if finite else None,
                        "p99_lo_ms": np.quantile(values, 0.97) if shown99 and finite else None,
                        "p99_hi_ms": values.max() if shown99 else None,
                        "tail_note": None if shown99 else f"p99 and p99.9 are withheld: {n} samples, about 1000 and 10000 are needed",
                        "service_p50_ms": float(np.median(values)) if finite else None,
                        "wait_p50_ms": 0.0,
                        "preprocess_p50_ms": None if floor else 0.12,
                        "text_p50_ms": None if floor else float(values[len(values) // 2]) + 0.12,
                        **(
                            {
                                "requests_per_s": rate,
                                "requests_per_s_lo": rate * 0.985,
                                "requests_per_s_hi": rate * 1.016,
                                "embeddings_per_s": rate,
                                "tokens_per_s": rate * 34,
                            }
                            if load.has_rate
                            else {}
                        ),
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
                        **dict(
                            zip(
                                ("quality", "quality_lo", "quality_hi"),
                                () if weights == "synthetic" else KEPT.get(precision, ()),
                                strict=False,
                            )
                        ),
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
    insert(con, "fits", pd.DataFrame(fits_of(results)))
    if loads is not BASIC:
        insert(con, "swaps", pd.DataFrame(swaps(run_id, arms)))
    insert(con, "samples", pd.concat(sample_frames, ignore_index=True))


def limit_of(base: dict[str, Any], load: Load, limit: float, factor: float) -> dict[str, Any]:
    """One limit of a search: kept at some rate by an arm whose usual request takes less than half of it."""
    row = {**base, "scenario": f"slo-{limit:g}ms", "slo_ms": limit, "served_scenario": load.name, "clients": 1, "batch": 1, "blocks": 0}
    if limit <= 2 * factor:
        return {**row, "n": 0, "reason": f"no rate: services alone take longer than {limit:g} ms too often"}
    rate = round(0.7e3 / factor, 1)
    return {**row, "n": 430, "rate_per_s": rate, "requests_per_s": rate, "p50_ms": factor, "p99_ms": limit * 0.9}


def scenario_rows(loads: tuple[Load, ...]) -> list[tuple[str, Load, int]]:
    """(scenario, the load it was served as, clients); the first client count of a load has the load's own name."""
    rows = []
    for load in loads:
        stem = load.name.rsplit("-", 1)[0]
        rows += [(load.name if i == 0 else f"{stem}-{c}", load, c) for i, c in enumerate(load.clients)]
    return rows


def served(load: Load, factor: float, samples: int, random: Any) -> tuple[Any, float, pd.DataFrame]:
    """Latencies in ms, rows a second and the samples of one arm under one load. `factor`: ms of a usual single request."""
    rows = max(3, samples // load.batch) * load.batch
    tokens = random.choice([16, 32, 64, 128, 256, 512], rows) if load.name == "length-sweep" else random.integers(8, 120, rows)
    longest = np.repeat(tokens.reshape(-1, load.batch).max(axis=1), load.batch)
    work = factor * (0.4 + longest / 80) * (0.55 + 0.45 / load.batch) * load.batch
    service = work * np.repeat(random.lognormal(0, 0.05, rows // load.batch), load.batch)
    service[:: max(40, rows // 8)] *= 1.8
    taken = np.where(np.arange(rows) % load.batch == 0, service, 0)
    rows_per_s = 1e3 * rows / taken.sum()
    ends = np.cumsum(taken)
    latency = service
    if load.rate:  # an M/D/1-like wait; beyond the knee the backlog never ends
        busy = load.rate / rows_per_s
        latency = service * (1 + busy / max(0.02, 1 - busy)) if busy < 1 else np.full(rows, np.inf)
        rows_per_s = min(rows_per_s, load.rate)
    ends_ns = (ends * 1e6).astype("int64") + 10**12
    start_ns = ends_ns - (service * 1e6).astype("int64")
    number = np.arange(rows)
    block = number * 12 // rows
    frame = pd.DataFrame({"block": block, "slice": 0, "request": number, "tokens": tokens, "due_ns": start_ns, "start_ns": start_ns,
                          "end_ns": ends_ns})  # fmt: skip
    return latency, rows_per_s, frame


def rank(results: list[dict[str, Any]]) -> None:
    """Rank intervals by gaps of 2 %: a stand-in for bench/stats/leaderboard.py, good enough to lay out a page."""
    for rows in families(results):

        def merit(row: dict[str, Any]) -> float:
            return float(1e3 / row["p50_ms"] if by_latency(row) else row["requests_per_s"])

        rates = sorted(map(merit, rows), reverse=True)
        for row in rows:
            ratio = merit(row) / rates[0] if rates[0] else 0.0
            if ratio:
                row.update(ratio_to_best=ratio, ratio_lo=ratio * 0.985, ratio_hi=ratio * 1.015)
            if row["ranked"]:
                row["rank_lo"] = 1 + sum(rate > merit(row) * 1.02 for rate in rates)
                row["rank_hi"] = len(rates) - sum(rate < merit(row) * 0.98 for rate in rates)
                row["tie_group"] = row["rank_lo"]


def by_latency(row: dict[str, Any]) -> bool:
    return row.get("rate_per_s") is not None or row.get("requests_per_s") is None


def families(results: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The rows that are ranked among each other: one scenario, precision and variant."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in results:
        if row["role"] == "measured" and row.get("p50_ms") and not row.get("slo_ms"):
            found.setdefault((row["scenario"], row["precision"], row["variant"]), []).append(row)
    return list(found.values())


def compare(results: list[dict[str, Any]], run_id: str) -> list[dict[str, Any]]:
    """Every pair of a family, every variant and control against its framework's own default."""
    pairs = [(a, b) for rows in families(results) for a in rows for b in rows if a["arm_id"] < b["arm_id"]]
    default = {(r["framework"], r["scenario"]): r for r in results if r["variant"] == "default" and r["precision"] == "fp32"}
    for row in results:
        other = default.get((row["framework"], row["scenario"]))
        if row is not other and other and not row.get("slo_ms") and row.get("p50_ms") and other.get("p50_ms"):
            pairs.append((row, other))
    return [pair_of(a, b, run_id) for a, b in pairs]


def pair_of(a: dict[str, Any], b: dict[str, Any], run_id: str) -> dict[str, Any]:
    ratio = b["p50_ms"] / a["p50_ms"] if a.get("requests_per_s") is None else a["requests_per_s"] / b["requests_per_s"]
    verdict = "equivalent" if abs(ratio - 1) < 0.015 else "faster" if ratio > 1.03 else "slower" if ratio < 0.97 else "unresolved"
    return {
        "run_id": run_id,
        "scenario": a["scenario"],
        "arm_a": a["arm_id"],
        "arm_b": b["arm_id"],
        "quantity": "p99_ms" if a.get("rate_per_s") is not None else "p50_ms" if by_latency(a) else "requests_per_s",
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


def fits_of(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is fitted to the times of the measured rows."""
    return [
        {
            "run_id": row["run_id"],
            "arm_id": row["arm_id"],
            "scenario": row["scenario"],
            "term": term,
            "unit": unit,
            "blocks": 12,
            "value": row["p50_ms"] * value,
            "lo": row["p50_ms"] * value * 0.9,
            "hi": row["p50_ms"] * value * 1.1,
            "note": None,
            "stats_version": 1,
        }
        for row in results
        if row["role"] == "measured" and row.get("p50_ms")
        for term, unit, value in FITTED.get(row["scenario"], ())
    ]


def swaps(run_id: str, arms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every measured arm as builder and asker: the same precision swaps freely, another one nearly."""
    names = [(arm["arm_id"], arm["precision"]) for arm in arms if arm["role"] == "measured"] + [("reference", "fp32")]
    return [
        {
            "run_id": run_id,
            "built_arm": built,
            "asked_arm": asked,
            "queries": 400,
            "overlap": 1.0 if one == two else 0.97,
            "overlap_lo": 0.999 if one == two else 0.961,
            "ndcg": 0.62,
            "ndcg_kept": 1.0 if one == two else 0.996,
            "ndcg_kept_lo": 0.999 if one == two else 0.991,
            "verdict": "yes" if one == two else "nearly",
        }
        for built, one in names
        for asked, two in names
    ]


def insert(con: duckdb.DuckDBPyConnection, table: str, frame: pd.DataFrame) -> None:
    if len(frame):
        con.register("frame", frame)
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM frame")
        con.unregister("frame")
