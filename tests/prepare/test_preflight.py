"""Needs are named before anything is loaded or written, and room is made where that is allowed."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest

from bench import catalog
from bench.core import paths
from bench.core.errors import BenchError
from bench.prepare import preflight

MODELS = catalog.load().models
KINDS = ("safetensors", "onnx", "openvino")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("ARTEFACTS", "WEIGHTS"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    return tmp_path


def test_what_is_there_already_need_not_be_written_again() -> None:
    model = MODELS["minilm"]
    whole = preflight.disk_needed(model, KINDS)
    (paths.ARTEFACTS / "minilm" / "onnx-fp32").mkdir(parents=True)
    (paths.ARTEFACTS / "minilm" / "onnx-fp32" / "model.onnx").write_bytes(bytes(1_000_000))
    assert preflight.disk_needed(model, KINDS) == whole - 1_000_000


def test_too_little_disk_is_refused_with_the_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: Usage(0, 0, 10))
    with pytest.raises(BenchError, match=r"minilm: needs about 0\.\d GiB of disk .*invoke clean"):
        preflight.make_room(MODELS["minilm"], KINDS, [], print)


def test_artefacts_of_models_that_are_done_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = paths.ARTEFACTS / "qwen3"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"x" * 1000)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: Usage(0, 0, 10 if folder.exists() else 10**12))
    said: list[str] = []
    preflight.make_room(MODELS["minilm"], KINDS, [MODELS["qwen3"]], said.append)
    assert not folder.exists() and "freed" in said[-1]


def test_too_little_memory_is_refused_with_the_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: Usage(0, 0, 10**12))
    monkeypatch.setattr(preflight.identity, "available_memory_bytes", lambda: 2**30)
    with pytest.raises(BenchError, match=r"qwen3: its export needs about \d\.\d GiB of memory, 1\.0 GiB are free"):
        preflight.make_room(MODELS["qwen3"], KINDS, [], print)
