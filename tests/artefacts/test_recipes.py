"""Converted artefacts: right kind of numbers inside, near the fp32 vectors, made from rows that no test set has."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import catalog
from bench.artefacts import convert, recipes
from bench.core import jobs, paths
from bench.core.errors import BenchError, NotApplicable
from bench.corpus import resolve
from bench.plan import arrivals
from bench.plan.folder import write_plan
from bench.plan.rows import Rows
from tests.support import tiny

MODEL = tiny.model("bert")
MINILM = catalog.load().models["minilm"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("recipes")
    return tiny.artefacts(MODEL, tiny.published(MODEL, folder / "published"), folder)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan folder with rows of the tiny vocabulary."""
    folder = tmp_path_factory.mktemp("calibration")
    drawn = tiny.batch(MODEL, 5, [8] * 16)["input_ids"]
    rows = Rows.one_each([(ids, 0) for ids in drawn])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "PLANS", folder)
        return write_plan("tiny-calibration", "key", MODEL, rows, arrivals.constant(16), about={}).folder


def converted(
    made: dict[str, Path], kind: Any, name: str, precision: str, calibration: Path, folder: Path, source: Path | None = None, **facts: bool
) -> Any:
    """The census of an artefact made by a recipe, with the facts of this machine or with those given."""
    recipe = recipes.named(kind, name, precision, MODEL)
    folder.mkdir(parents=True, exist_ok=True)
    job = {"kind": kind, "model": jobs.plain(MODEL), "input": str(source or made[recipe.made_from[0]]), "output": str(folder),
           "recipe": name, "module": recipe.module, "precision": precision, "pad_id": 0, "calibration": str(calibration),
           **recipes.facts(recipe), **facts}  # fmt: skip
    result = convert.work(job)
    assert result is not None
    return result["census"]


def onnx_vectors(folder: Path, seed: int = 3) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    return session.run(["sentence_embedding"], tiny.batch(MODEL, seed, [9, 4, 17]))[0]


def openvino_vectors(folder: Path, seed: int = 3) -> Any:
    import openvino

    model = openvino.Core().compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return model(tiny.batch(MODEL, seed, [9, 4, 17]))[0]


def worst_cosine(a: Any, b: Any) -> float:
    return float((np.asarray(a, np.float64) * np.asarray(b, np.float64)).sum(1).min())


@pytest.mark.parametrize(
    ("name", "precision", "operator", "least"),
    [("dynamic", "int8", "MatMulInteger", 0.98), ("static", "int8", "QuantizeLinear", 0.9), ("weights", "int8", "MatMulNBits", 0.99),
     ("weights", "int4", "MatMulNBits", 0.7)],
)  # fmt: skip
def test_onnx_graphs_compute_in_lower_precision(
    made: dict[str, Path], calibration: Path, tmp_path: Path, name: str, precision: str, operator: str, least: float
) -> None:
    census = converted(made, "onnx", name, precision, calibration, tmp_path / "out")
    assert census["operators"][operator] >= 12  # 2 layers × 6 products with weights
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.onnx"]
    expected, vectors = onnx_vectors(made["onnx"]), onnx_vectors(tmp_path / "out")
    assert vectors.dtype == np.float32 and least <= worst_cosine(vectors, expected) < 1 - 1e-7


def without_vnni(activations: Any, weights: Any) -> Any:
    """uint8 × int8 as AVX2 computes it (vpmaddubsw): products are added in pairs to 16 bits that saturate, then to 32 bits."""
    products = activations.astype(np.int32)[:, :, None] * weights.astype(np.int32)[None, :, :]
    pairs = (products[:, 0::2] + products[:, 1::2]).clip(-(2**15), 2**15 - 1)
    return pairs.sum(axis=1)


def int8_weights_of_onnx(folder: Path) -> list[Any]:
    """The weights of integer products, tokens and positions left out."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(folder / "model.onnx").graph
    factors = {name for node in graph.node if node.op_type in ("MatMulInteger", "DequantizeLinear") for name in node.input}
    looked_up = {name for node in graph.node if node.op_type == "Gather" for name in node.input}
    arrays = [numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name in factors - looked_up]
    return [array for array in arrays if array.dtype == np.int8 and array.ndim == 2]


def int8_weights_of_openvino(folder: Path) -> list[Any]:
    import openvino

    def consumer(node: Any) -> str:
        """The operator that a constant goes into, behind what turns it back into floats."""
        while node.get_type_name() in ("Constant", "Convert", "Subtract", "Multiply", "Reshape"):
            node = next(iter(node.output(0).get_target_inputs())).get_node()
        return str(node.get_type_name())

    nodes = openvino.Core().read_model(folder / "model.xml").get_ops()
    constants = [node for node in nodes if node.get_type_name() == "Constant" and node.get_element_type().to_string() == "i8"]
    return [node.data.T for node in constants if consumer(node) == "MatMul"]


@pytest.mark.parametrize(
    ("kind", "name", "weights_of"),
    [("onnx", "dynamic", int8_weights_of_onnx), ("onnx", "static", int8_weights_of_onnx), ("openvino", "nncf", int8_weights_of_openvino)],
)
def test_products_do_not_saturate_where_there_is_no_vnni(
    made: dict[str, Path], calibration: Path, tmp_path: Path, kind: str, name: str, weights_of: Any
) -> None:
    """The worst activations against the very weights of the graph, as a CPU with AVX2 alone multiplies them."""
    if name == "nncf":
        pytest.importorskip("nncf")
    worst = {}
    for reduced in (True, False):
        folder = tmp_path / f"{reduced}"
        converted(made, kind, name, "int8", calibration, folder, reduce_range=reduced)
        weights = weights_of(folder)
        assert len(weights) >= 12
        worst[reduced] = 0
        for array in weights:
            signs = np.sign(array[:, :1].astype(np.int32) + np.roll(array[:, :1].astype(np.int32), -1)).T
            for activations in (np.full((1, array.shape[0]), 255, np.uint8), np.where(signs > 0, 255, 0).astype(np.uint8)):
                exact = activations.astype(np.int64) @ array.astype(np.int64)
                worst[reduced] = max(worst[reduced], int(np.abs(without_vnni(activations, array) - exact).max()))
    assert worst[True] == 0 and worst[False] > 1000


def test_one_qdq_graph_serves_onnx_runtime_and_openvino(made: dict[str, Path], calibration: Path, tmp_path: Path) -> None:
    converted(made, "onnx", "static", "int8", calibration, tmp_path / "onnx")
    census = converted(made, "openvino", "qdq", "int8", calibration, tmp_path / "openvino", source=tmp_path / "onnx")
    assert census["operators"]["FakeQuantize"] >= 12 or census["constant_elements"].get("i8", 0) > 0
    assert worst_cosine(openvino_vectors(tmp_path / "openvino"), onnx_vectors(tmp_path / "onnx")) > 0.95


@pytest.mark.parametrize(("name", "least"), [("weights", 0.99), ("nncf", 0.8)])
def test_openvino_models_compute_in_lower_precision(
    made: dict[str, Path], calibration: Path, tmp_path: Path, name: str, least: float
) -> None:
    pytest.importorskip("nncf")
    census = converted(made, "openvino", name, "int8", calibration, tmp_path / "out")
    assert census["constant_elements"].get("u8", 0) + census["constant_elements"].get("i8", 0) > 10_000
    assert worst_cosine(openvino_vectors(tmp_path / "out"), openvino_vectors(made["openvino"])) >= least


def test_fused_graph_is_still_fp32(made: dict[str, Path], calibration: Path, tmp_path: Path) -> None:
    census = converted(made, "onnx", "fused", "fp32", calibration, tmp_path / "out")
    assert census["operators"]["BiasGelu"] == 2 and set(census["initializer_elements"]) <= {"FLOAT", "INT64", "INT32"}
    assert np.abs(onnx_vectors(tmp_path / "out") - onnx_vectors(made["onnx"])).max() <= 2e-5


def test_a_graph_in_which_nothing_is_quantised_is_refused(made: dict[str, Path], calibration: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(made["onnx"] / "model.onnx")
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gather", "Gemm"):
            node.op_type, node.domain = "Unknown", "test"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "config.json").write_text("{}")
    onnx.save(model, tmp_path / "in" / "model.onnx")
    with pytest.raises(BenchError, match="quantised nothing"):
        converted(made, "onnx", "weights", "int8", calibration, tmp_path / "out", source=tmp_path / "in")


def test_a_recipe_that_is_not_there_says_so() -> None:
    with pytest.raises(BenchError, match="choose from dynamic, static"):
        recipes.named("onnx", "dynamik", "int8", MODEL)
    with pytest.raises(NotApplicable, match="makes int8, not int4"):
        recipes.named("onnx", "dynamic", "int4", MODEL)
    with pytest.raises(NotApplicable, match="qwen3"):
        recipes.named("onnx", "fused", "fp32", dataclasses.replace(MODEL, architecture="qwen3"))


@pytest.mark.parametrize(
    ("flags", "int8", "bf16"),
    [(["avx2"], "no VNNI/AMX: emulated", "no AVX512-BF16/AMX: emulated"), (["avx512_vnni"], None, "no AVX512-BF16/AMX: emulated"),
     (["avx_vnni", "avx512_bf16"], None, None), (["asimddp", "bf16"], None, None)],
)  # fmt: skip
def test_what_a_cpu_has_no_instructions_for_is_said(flags: list[str], int8: str | None, bf16: str | None) -> None:
    assert (recipes.slow_path("int8", flags), recipes.slow_path("bf16", flags), recipes.slow_path("fp32", flags)) == (int8, bf16, None)


def test_reduced_range_only_without_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    dynamic = recipes.named("onnx", "dynamic", "int8", MODEL)
    for flags, reduced in ((["avx512f"], True), (["avx512f", "avx512_vnni"], False)):
        monkeypatch.setattr(recipes.identity, "cpu_flags", lambda flags=flags: flags)
        for recipe in (dynamic, recipes.named("onnx", "static", "int8", MODEL), recipes.named("openvino", "nncf", "int8", MODEL)):
            assert recipes.facts(recipe) == {"reduce_range": reduced}
        assert ("7 bits" in str(recipes.note(recipes.facts(dynamic)))) is reduced
    assert recipes.facts(recipes.named("onnx", "weights", "int4", MODEL)) == {}


def test_calibration_rows_are_in_no_scenario() -> None:
    source = resolve.generated(1)

    def first(part: str) -> set[str]:
        texts = source.texts(part)
        return {next(texts) for _ in range(128)}

    calibrating = first("calibration")
    for scenario in catalog.load().scenarios:
        assert not calibrating & first(scenario)
