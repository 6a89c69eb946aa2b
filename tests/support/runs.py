"""Builds small synthetic run folders (bench/RUNS.md) whose truth is known, for tests of whatever reads them.

    folder = runs.write(tmp_path / "runs", runs.Spec(arms=(runs.Fake("pytorch", service_ms=6.0), runs.Fake("openvino", service_ms=3.0))))

A fake arm has a constant or random service time, vectors that agree or not, and may fail; nothing in a folder was measured.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.catalog import Arm
from bench.runs.schema import Block, ProbeSeconds

LANGUAGE = {"onnx-rust": "rust", "candle": "rust", "null-rust": "rust", "onnx-cpp": "cpp", "null-cpp": "cpp"}
STARTED = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
SIX = ("pytorch", "onnx-python", "onnx-rust", "onnx-cpp", "candle", "openvino")
Service = Callable[[np.random.Generator, int], Any]


@dataclass(frozen=True)
class Fake:
    """An arm with a known truth.

    `service_ms` is its time per request (per batch, where a scenario has batches); `block_noise` the standard deviation of ln(time)
    between blocks, of this arm alone; `jitter` that between requests. `service` draws whole samples in its place: (generator, n) → ms.
    """

    framework: str
    service_ms: float = 5.0
    jitter: float = 0.0
    block_noise: float = 0.0
    variant: str = "default"
    role: str = "measured"
    precision: str = "fp32"
    sessions: int = 1
    threads: int = 2
    cosine: float = 1.0
    max_abs_diff: float = 1e-7
    blocks: int | None = None
    cut_block: int | None = None
    service: Service | None = None
    headline: bool = False
    failures: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    broken_checks: Mapping[str, str] = field(default_factory=dict)
    fault: str | None = None


@dataclass(frozen=True)
class Load:
    """A scenario of the run: `rows` per slice, `rounds` slices per block. An open loop (load="open") is Poisson at `rate_per_s`."""

    name: str = "closed-1"
    load: str = "closed"
    batch: int = 1
    clients: tuple[int, ...] = (1, 4, 16, 64, 128)
    rate_per_s: float | None = None
    rows: int = 20
    rounds: int = 2


SINGLE, OFFLINE = Load(), Load("offline-32", "offline", 32, (1,), rows=64, rounds=1)


@dataclass(frozen=True)
class Spec:
    """A run. `day` moves its time; `shared_noise` is ln-noise of a slice-round that all arms feel alike."""

    arms: tuple[Fake, ...] = tuple(Fake(name) for name in SIX)
    loads: tuple[Load, ...] = (SINGLE,)
    run_id: str = ""
    campaign_id: str = ""
    model: str = "minilm"
    model_bytes: int = 90_852_864
    weights: str = "wheel"
    machine_id: str = "fixture-machine"
    blocks: int = 12
    day: float = 0.0
    seed: int = 1
    shared_noise: float = 0.0
    controls_run_id: str | None = None
    complete: bool = True
    done: bool = True

    @property
    def name(self) -> str:
        moment = STARTED + timedelta(days=self.day)
        return self.run_id or f"{moment:%Y%m%d-%H%M%S}-{self.model}-{self.seed:04d}"


def arm_id(spec: Spec, fake: Fake) -> str:
    """The arm's id, as the catalogue makes it."""
    return arm_of(spec, fake).id


def arm_of(spec: Spec, fake: Fake) -> Arm:
    return Arm(
        fake.framework, LANGUAGE.get(fake.framework, "python"), spec.model, spec.weights, fake.precision, fake.variant, fake.sessions,
        fake.threads, fake.role,  # type: ignore[arg-type]
    )  # fmt: skip


def empty_block(scenario: str, block: int, measured_s: float = 0.0, seconds: float = 1.0) -> Block:
    """A block of `seconds` in which no arm served anything."""
    ended = STARTED + timedelta(seconds=seconds)
    return Block(scenario, block, STARTED, ended, None, (), {}, ProbeSeconds((0.01,) * 3, (0.003,) * 3), measured_s=measured_s)


def write(runs: Path, spec: Spec) -> Path:
    """Write the run folder under `runs` and return it."""
    folder = runs / spec.name
    moment = STARTED + timedelta(days=spec.day)
    arms = [{**_arm(spec, fake), "artefact": f"{fake.framework}-artefact", "artefact_hash": f"hash-{fake.framework}"} for fake in spec.arms]
    scenarios = [
        {"name": load.name, "title": f"fixture {load.name}", "load": load.load, "batch": load.batch, "clients": list(load.clients),
         "rate_per_s": load.rate_per_s, "plan": f"{spec.model}-{load.name}", "plan_hash": f"plan-{load.name}", "rows": 8192,
         "arrivals": "constant"}
        for load in spec.loads
    ]  # fmt: skip
    _json(folder / "run.json", {
        "run_id": spec.name, "campaign_id": spec.campaign_id or spec.name, "experiment_hash": "fixture", "boot_id": "fixture",
        "measured_at": moment.isoformat(), "command": f"invoke bench --model {spec.model}", "model": spec.model,
        "model_title": spec.model, "model_bytes": spec.model_bytes, "dim": 384, "weights": spec.weights, "revision": "fixture",
        "source_sha256": {}, "seed": spec.seed, "corpus": "fixture", "budget_s": 180.0, "requests": None, "code_commit": None,
        "code_dirty": None, "complete": spec.complete, "suite": "quick", "arms": arms, "scenarios": scenarios,
        "controls_run_id": spec.controls_run_id,
    })  # fmt: skip
    _json(folder / "probe.json", {"fma_s": 0.01, "copy_s": 0.003})
    _json(folder / "machine.json", {"machine_id": spec.machine_id, "machine": "Fixture CPU, 2 cores, 8 GiB"})
    for fake in spec.arms:
        _write_arm(folder, spec, fake)
    clock_ns = 1_000_000_000
    for load in spec.loads:
        for block in range(spec.blocks):
            clock_ns = _write_block(folder, spec, load, block, clock_ns)
    if spec.done:
        _json(folder / "done.json", {"ended_at": (moment + timedelta(minutes=3)).isoformat(), "stages": {"measuring": 120.0}})
    return folder


def _arm(spec: Spec, fake: Fake) -> dict[str, Any]:
    arm = arm_of(spec, fake)
    return {
        "arm_id": arm.id, "framework": arm.framework, "language": arm.language, "precision": arm.precision, "variant": arm.variant,
        "sessions": arm.sessions, "threads": arm.threads, "role": arm.role, "headline": fake.headline, "fault": fake.fault,
    }  # fmt: skip


def _write_arm(folder: Path, spec: Spec, fake: Fake) -> None:
    me = arm_id(spec, fake)
    starts = () if "*" in fake.failures else (0, 1, 2)
    for start in starts:
        _json(folder / "starts" / f"{me}-{start}.json", {
            "arm_id": me, "start": start, "spawn_ns": 10**9, "load_ns": (100 + start) * 10**6, "first_ns": (10 + start) * 10**6,
            "second_ns": 5 * 10**6, "dim": 384, "settings": {"precision": fake.precision, "sessions": "1", "threads": "2"},
            "version": {"framework": fake.framework, "language": LANGUAGE.get(fake.framework, "python"), "runtime": "fixture",
                        "version": "1.2.3", "build": "fixture"},
        })  # fmt: skip
    if fake.role != "floor" and starts:
        found = {"hard inputs": None, **fake.broken_checks}
        _json(folder / "checks" / f"{me}.json", [
            {"name": name, "n": 256, "value": 1.0, "lo": None, "hi": None, "held": broken is None, "detail": broken or "fixture"}
            for name, broken in found.items()
        ])  # fmt: skip
    for scenario, (status, reason) in fake.failures.items():
        file = folder / "failures" / f"{me}--{'all' if scenario == '*' else scenario}.json"
        _json(file, {"arm_id": me, "scenario": scenario, "status": status, "reason": reason, "at": STARTED.isoformat()})


def _write_block(folder: Path, spec: Spec, load: Load, block: int, clock_ns: int) -> int:
    """One block of one scenario; returns the clock at its end."""
    moment = STARTED + timedelta(days=spec.day, seconds=clock_ns / 1e9)
    shared = np.random.default_rng([spec.seed, block, 7]).normal(0, spec.shared_noise, load.rounds)
    frames, slices, resources = [], [], {}
    for round_number in range(load.rounds):
        for place, fake in enumerate(spec.arms):
            if "*" in fake.failures or load.name in fake.failures or (fake.blocks is not None and block >= fake.blocks):
                continue
            chance = np.random.default_rng([spec.seed, block, round_number, place])
            own = np.random.default_rng([spec.seed, block, place, 99]).normal(0, fake.block_noise)
            served = load.rows // 2 if fake.cut_block == block and round_number == 0 else load.rows
            batches = -(-served // load.batch)
            ms = fake.service(chance, batches) if fake.service else fake.service_ms * np.exp(chance.normal(0, fake.jitter, batches))
            ns = np.maximum(np.round(np.asarray(ms) * np.exp(own + shared[round_number]) * 1e6), 1).astype(np.int64)
            end = clock_ns + np.cumsum(ns)
            start = due = end - ns
            if load.load == "open":
                due, start, end = _open_loop(np.random.default_rng([spec.seed, block, 5]), load, clock_ns, ns)
            rows = np.repeat(np.arange(batches), load.batch)[:served]
            first = 64 + (block * load.rounds + round_number) * load.rows
            request = first + np.arange(served)
            floor = fake.role == "floor"
            frames.append(pd.DataFrame({
                "arm_id": arm_id(spec, fake), "slice": round_number, "request": request, "tokens": 8 + request % 32,
                "preprocess_ns": 100_000 + 1000 * (request % 32), "due_ns": due[rows], "start_ns": start[rows],
                "end_ns": end[rows], "cosine": np.nan if floor else fake.cosine,
                "max_abs_diff": np.nan if floor else fake.max_abs_diff,
            }))  # fmt: skip
            slices.append({"arm_id": arm_id(spec, fake), "slice": round_number, "start": 0, "first": first, "count": load.rows,
                           "served": served, "wall_ns": int(ns.sum()), "cpu_ns": int(2 * ns.sum()), "error": None})  # fmt: skip
            resources[arm_id(spec, fake)] = {"peak_rss_bytes": 300_000_000, "rss_bytes": 250_000_000, "threads": 3}
            clock_ns = int(end[-1]) + 5_000_000
    path = folder / "blocks" / load.name / f"{block:03d}"
    path.mkdir(parents=True)
    if frames:
        pd.concat(frames, ignore_index=True).to_parquet(path / "samples.parquet", index=False)
        _json(path / "block.json", {
            "scenario": load.name, "block": block, "started_at": moment.isoformat(), "noisy": False, "note": None, "slices": slices,
            "probe": {"fma_s": [0.01] * 3, "copy_s": [0.003] * 3},
            "ended_at": (STARTED + timedelta(days=spec.day, seconds=clock_ns / 1e9)).isoformat(), "resources": resources,
            "resident": True, "measured_s": round(clock_ns / 1e9, 3), "discard": 0.0,
        })  # fmt: skip
    else:
        path.rmdir()
    return clock_ns


def _open_loop(chance: np.random.Generator, load: Load, clock_ns: int, ns: Any) -> tuple[Any, Any, Any]:
    """(due, start, end) of Poisson arrivals at the load's rate, served one at a time."""
    due = clock_ns + np.cumsum(chance.exponential(1e9 / (load.rate_per_s or 1.0), len(ns))).astype(np.int64)
    done = np.cumsum(ns)
    end = np.maximum.accumulate(due - (done - ns)) + done
    return due, end - ns, end


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")
