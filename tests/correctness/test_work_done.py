"""What proves that the work was done: time that rises with the tokens, the same vectors in every process, verdicts taken over rightly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.catalog import Arm
from bench.core import content_hash, paths
from bench.correctness import check_cache, checks
from bench.correctness.determinism import RunToRun
from bench.machine import identity
from bench.prepare import spec
from bench.runs.schema import Check

LENGTHS = np.array([3, 250, 9, 130, 17, 60, 5, 256] * 8)


def samples(service_ms: Any) -> pd.DataFrame:
    ns = np.round(np.asarray(service_ms) * 1e6).astype(np.int64)
    start = np.cumsum(ns) - ns
    return pd.DataFrame({"request": np.arange(len(ns)), "start_ns": start, "end_ns": start + ns})


def over_tokens(service_ms: Any, lengths: Any = LENGTHS) -> Check:
    return checks.latency_over_tokens(samples(service_ms), np.asarray(lengths))[0]


def noise(seed: int, size: int = len(LENGTHS)) -> Any:
    return np.exp(np.random.default_rng(seed).normal(0, 0.3, size))


@pytest.mark.parametrize("seed", range(20))
def test_an_honest_worker_takes_longer_for_more_tokens(seed: int) -> None:
    """Also one with a large fixed cost, on a machine as noisy as they come."""
    found = over_tokens((3 + 0.05 * LENGTHS) * noise(seed))
    assert found.held and found.lo > 1


@pytest.mark.parametrize("seed", range(20))
def test_time_that_does_not_rise_with_the_tokens_is_caught(seed: int) -> None:
    found = over_tokens(4.0 * np.exp(np.random.default_rng(seed).normal(0, 0.03, len(LENGTHS))))
    assert found.held is False
    assert "not done in the time" in found.detail and found.hi < checks.LENGTH_GATE


def test_a_ratio_by_hand() -> None:
    """The shortest quarter has 3 and 5 tokens, the longest 250 and 256: 2 ms against 8 ms."""
    found = over_tokens(np.where(LENGTHS > 200, 8.0, 2.0))
    assert found.value == pytest.approx(4.0)
    assert found.detail.startswith("253 tokens take 4.00× the time of 4 ")


def test_noise_alone_condemns_nobody() -> None:
    """A few requests on a wild machine: the interval reaches over the gate."""
    wild = 10 * np.exp(np.random.default_rng(5).normal(0, 2.0, 24))
    assert over_tokens(wild, LENGTHS[:24]).held


def test_calls_that_are_all_fixed_cost_judge_nothing() -> None:
    assert over_tokens(np.full(len(LENGTHS), 0.2)).held is None


@pytest.mark.parametrize("lengths", [[64] * 64, [30, 40] * 32, LENGTHS[:16]])
def test_lengths_that_do_not_differ_judge_nothing(lengths: Any) -> None:
    found = over_tokens(np.full(len(lengths), 2.0), lengths)
    assert (found.held, found.value) == (None, None)


def accounted(spans: list[tuple[int, int]], wall_ms: int) -> Check:
    start, end = zip(*spans, strict=True)
    frame = pd.DataFrame({"request": range(len(spans)), "start_ns": start, "end_ns": end}) * [1, 10**6, 10**6]
    return checks.time_accounted(frame, wall_ms * 10**6)[0]


def test_time_within_requests_by_hand() -> None:
    """Three requests of 10 ms in 40; overlapping sessions and the rows of a batch count once."""
    found = accounted([(0, 10), (12, 22), (25, 35)], 40)
    assert found.value == 0.75 and found.held and found.detail.startswith("75.0% of the time")
    assert accounted([(0, 20), (5, 10), (15, 30), (15, 30)], 40).value == 0.75


def test_work_that_is_put_off_is_caught() -> None:
    found = accounted([(0, 1), (40, 41), (80, 81)], 120)
    assert found.held is False and found.value == 0.025
    tiny = accounted([(k, k) for k in range(50)], 40)
    assert tiny.held, "less than 1 ms a request: a worker that has next to nothing to do"


# --- run to run ------------------------------------------------------------------------------------------------------------------------


def unit(seed: int, rows: int = 8) -> Any:
    vectors = np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def see(known: RunToRun, start: int, vectors: Any, plan: str = "plan") -> Check | None:
    return known.see("arm", "fp32", start, plan, vectors)


def test_equal_vectors_in_two_processes() -> None:
    known, vectors = RunToRun(), unit(1)
    assert see(known, 0, vectors) is None
    assert see(known, 0, unit(2)) is None, "the same process again tells nothing"
    found = see(known, 1, vectors[:5])
    assert found and (found.held, found.n, found.value) == (True, 5, 0.0)
    assert found.detail == "5 rows in 2 processes: bit-equal"


def test_a_difference_is_told_and_the_worst_one_stays() -> None:
    known, vectors = RunToRun(), unit(1)
    see(known, 0, vectors)
    nudged = vectors.copy()
    nudged[3, 2] += np.float32(3e-7)
    found = see(known, 1, nudged)
    assert found and found.held and found.detail.startswith("8 rows in 2 processes: max |Δ| 3.")
    found = see(known, 2, vectors)
    assert found and found.value == pytest.approx(3e-7, rel=0.1) and "16 rows in 3 processes" in found.detail


def test_other_vectors_in_another_process_do_not_hold() -> None:
    known = RunToRun()
    see(known, 0, unit(1))
    found = see(known, 1, unit(2))
    assert found and found.held is False and "gate" in found.detail
    again = see(known, 2, unit(1), "another plan")
    assert again is None, "the first to serve that plan"


def test_zero_of_another_sign_is_not_bit_equal() -> None:
    known, vectors = RunToRun(), unit(1)
    vectors[0, 0] = 0.0
    see(known, 0, vectors)
    other = vectors.copy()
    other[0, 0] = -0.0
    found = see(known, 1, other)
    assert found and found.detail.endswith("max |Δ| 0.0e+00")


# --- verdicts --------------------------------------------------------------------------------------------------------------------------


class Thing:
    """An object with the attributes given; a prepared or an experiment as far as a verdict looks at one."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def but(self, **attributes: Any) -> Thing:
        return Thing(**{**self.__dict__, **attributes})


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    binary, library = tmp_path / "worker", tmp_path / "library.so"
    binary.write_bytes(b"binary")
    library.write_bytes(b"library")
    framework = Thing(build="cargo", libraries=("numpy",), release=None)
    arm = Arm("onnx-rust", "rust", "minilm", "wheel", "fp32", "default", 1, 2, "measured")
    return Thing(framework=framework, command=(str(binary),), env={"LIBRARY": str(library)}, arm=arm, settings={}, version={"version": "1"},
                 artefact=Thing(hash="artefact"))  # fmt: skip


EXPERIMENT: Any = Thing(hard=Thing(hash="hard"), reference=Thing(hash="reference"))
FOUND = [Check("hard inputs", 295, 1.0, None, None, True, "max |Δ| 2e-07")]


def test_a_verdict_is_taken_over_and_says_so(prepared: Any) -> None:
    key = check_cache.key(EXPERIMENT, prepared)
    assert check_cache.load(key) is None
    check_cache.save(key, "run-1", FOUND)
    found = check_cache.load(check_cache.key(EXPERIMENT, prepared))
    assert found == [replace(FOUND[0], detail="max |Δ| 2e-07 (found in run run-1; nothing changed since)")]


def test_anything_that_changes_asks_anew(prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = check_cache.key(EXPERIMENT, prepared)
    others = {
        "artefact": (EXPERIMENT, prepared.but(artefact=Thing(hash="new"))),
        "version": (EXPERIMENT, prepared.but(version={"version": "2"})),
        "knob": (EXPERIMENT, prepared.but(settings={"spinning": "0"})),
        "environment": (EXPERIMENT, prepared.but(env={**prepared.env, "OMP_NUM_THREADS": "1"})),
        "threads": (EXPERIMENT, prepared.but(arm=replace(prepared.arm, threads=1))),
        "hard inputs": (EXPERIMENT.but(hard=Thing(hash="new")), prepared),
        "reference": (EXPERIMENT.but(reference=Thing(hash="new")), prepared),
    }
    for what, (one, other) in others.items():
        assert check_cache.key(one, other) != key, f"a new {what} takes the old verdict over"
    monkeypatch.setattr(identity, "machine_id", lambda: "another machine")
    assert check_cache.key(EXPERIMENT, prepared) != key
    monkeypatch.undo()
    monkeypatch.setattr(content_hash, "of_code", lambda *_: "other gates")
    assert check_cache.key(EXPERIMENT, prepared) != key
    monkeypatch.undo()
    for file in ("worker", "library.so"):
        before = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(b"rebuilt!")
        assert check_cache.key(EXPERIMENT, prepared) != key, f"a new {file} takes the old verdict over"
        (tmp_path / file).write_bytes(before)


def test_a_new_wheel_of_the_same_version_asks_anew(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = prepared.but(framework=Thing(build=None, libraries=("numpy",), release=None), command=("python", "-m", "bench.workers.onnx"))
    key = check_cache.key(EXPERIMENT, ours)
    real = check_cache.importlib.metadata.distribution

    def rebuilt(name: str) -> Any:
        return Thing(version=real(name).version, read_text=lambda _: "other hashes")

    monkeypatch.setattr(check_cache.importlib.metadata, "distribution", rebuilt)
    assert check_cache.key(EXPERIMENT, ours) != key


def test_neither_a_failure_nor_a_stranger_is_kept(prepared: Any) -> None:
    key = check_cache.key(EXPERIMENT, prepared)
    check_cache.save(key, "run-1", [replace(FOUND[0], held=False)])
    assert check_cache.load(key) is None
    theirs = prepared.but(framework=Thing(build=None, libraries=(), release=None), command=("python", "their_worker.py"))
    assert check_cache.key(EXPERIMENT, theirs) is None
    assert check_cache.key(EXPERIMENT, prepared.but(framework=prepared.framework.but(release="1.30.0"))) is None
    check_cache.save(None, "run-1", FOUND)
    assert check_cache.load(None) is None
    check_cache.save(key, "run-1", FOUND)
    (paths.BUILD / "verdicts" / f"{key}.json").write_text("{")
    assert check_cache.load(key) is None


def test_the_names_that_a_verdict_looks_at_are_there() -> None:
    """The stand-ins above have the attributes of the real ones."""
    assert {"command", "env", "arm", "settings", "version", "artefact", "framework"} <= set(spec.PreparedArm.__dataclass_fields__)
    assert {"hard", "reference"} <= set(spec.Experiment.__dataclass_fields__)
    assert len(content_hash.of_code(*check_cache.JUDGES)) == 64
