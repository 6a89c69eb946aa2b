"""The results of checks are taken over where nothing that decides them has changed, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.catalog import Arm
from bench.core import content_hash, paths
from bench.correctness import check_cache
from bench.machine import identity
from bench.prepare import spec
from bench.runs.schema import Check


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
