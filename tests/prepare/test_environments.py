"""Two releases of a runtime in one campaign: named arms, an environment of its own, an error that says what pip said."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench import catalog
from bench.catalog import arms
from bench.core.errors import BenchError, NotApplicable
from bench.prepare import environments, launch, prepare

KNOWN = catalog.load()


def picked(names: str) -> list[tuple[str, str | None]]:
    return [(entry.name, entry.release) for entry in KNOWN.pick_frameworks(names)]


def test_names_with_a_release() -> None:
    assert picked("onnx-python@1.30.0,openvino,onnx-python") == [("onnx-python", None), ("openvino", None), ("onnx-python", "1.30.0")]
    assert picked("openvino@2026.3.1") == [("openvino", "2026.3.1")], "a release alone brings no other framework along"
    with pytest.raises(BenchError, match=r"unknown framework 'onnx-pyton': did you mean 'onnx-python'"):
        picked("onnx-pyton@1.30.0")
    assert len(picked("")) == len(KNOWN.frameworks)


def test_an_arm_of_another_release_is_a_variant_of_its_own() -> None:
    frameworks = KNOWN.pick_frameworks("onnx-python,onnx-python@1.30.0")
    found = arms.choose(frameworks, ("fp32", "int8"), ("default", "static"), (), 2)
    names = [(choice.framework.release, choice.precision, choice.variant.name) for choice in found if choice.reason is None]
    assert names == [
        (None, "fp32", "default"), (None, "int8", "dynamic"), (None, "int8", "static"),
        ("1.30.0", "fp32", "@1.30.0"), ("1.30.0", "int8", "dynamic@1.30.0"), ("1.30.0", "int8", "static@1.30.0"),
    ]  # fmt: skip
    assert not any(choice.variant.headline for choice in found if choice.framework.release)
    ids = {prepare.arm_of(choice, KNOWN.models["minilm"], "wheel").id for choice in found}
    assert len(ids) == len(found)


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every process that would be started; nothing is installed."""
    asked: list[list[str]] = []

    def run(words: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        if words[1:3] == ["-m", "venv"]:
            capi = Path(words[3]) / "lib" / "python3.11" / "site-packages" / "onnxruntime" / "capi"
            capi.mkdir(parents=True)
            (capi / "libonnxruntime.so.1.30.0").touch()
        wrong = any(word.endswith("==0.0.0") for word in words)
        said = "Looking for it\nERROR: No matching distribution found for onnxruntime==0.0.0\n[notice] a new release of pip\n"
        return subprocess.CompletedProcess(words, int(wrong), "", said if wrong else "")

    monkeypatch.setattr(environments, "FOLDER", tmp_path / "releases")
    monkeypatch.setattr(environments.subprocess, "run", run)
    return asked


def test_its_environment_is_made_once_and_its_worker_started_from_it(pip: list[list[str]], tmp_path: Path) -> None:
    (framework,) = KNOWN.pick_frameworks("onnx-python@1.30.0")
    for _ in range(2):
        command, env = launch.command_and_env(framework, 1, 2)
    assert Path(command[0]).parent.parent.parent == tmp_path / "releases" and command[1:] == ("-m", "bench.workers.onnx")
    assert "PYTHONPATH" in env
    venv, install = pip
    assert venv[1:3] == ["-m", "venv"] and install[5] == "onnxruntime==1.30.0" and any(word.startswith("numpy==") for word in install)


def test_native_workers_load_the_library_of_that_release(pip: list[list[str]]) -> None:
    (framework,) = KNOWN.pick_frameworks("onnx-cpp@1.30.0")
    _, env = launch.command_and_env(framework, 1, 2)
    assert env["ORT_DYLIB_PATH"].endswith("onnxruntime/capi/libonnxruntime.so.1.30.0") and "releases" in env["ORT_DYLIB_PATH"]


def test_a_release_that_is_not_there_leaves_nothing_behind(pip: list[list[str]]) -> None:
    (framework,) = KNOWN.pick_frameworks("onnx-python@0.0.0")
    with pytest.raises(BenchError, match=r"No matching distribution found for onnxruntime==0\.0\.0; name a release"):
        environments.python(framework)
    assert not list(environments.FOLDER.iterdir())


def test_a_framework_without_a_wheel_has_no_other_release() -> None:
    (framework,) = KNOWN.pick_frameworks("candle@0.10.0")
    with pytest.raises(NotApplicable, match="lock file"):
        launch.command_and_env(framework, 1, 2)
