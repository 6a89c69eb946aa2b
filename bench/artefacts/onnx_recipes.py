"""ONNX graphs of lower precision, and the fused fp32 graph: one artefact for ONNX Runtime from Python, Rust and C++ alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.artefacts import onnx_graph
from bench.core.errors import BenchError
from bench.plan.folder import open_plan

BITS = {"int8": 8, "int4": 4}
CALIBRATION_BATCH = 8
#: Operators that compute in lower precision; the proof that a graph does.
LOWER_OPERATORS = ("MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm", "MatMulNBits", "QuantizeLinear")
Feed = dict[str, npt.NDArray[Any]]


def convert(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow one recipe.

    `job` has `recipe`, `precision` and the folders `input` and `output`; int8 recipes with quantised activations want `reduce_range`, those
    that calibrate the plan folder `calibration` and `pad_id`.

    Returns:
        `census`: how often each operator stands in the graph, and the elements of its weights by type.

    Raises:
        BenchError: no operator of the graph computes in the lower precision.
    """
    source, target = Path(job["input"]), Path(job["output"])
    {"dynamic": _dynamic, "static": _static, "weights": _weights, "fused": _fused}[job["recipe"]](job, source, target / "model.onnx")
    shutil.copyfile(source / "config.json", target / "config.json")
    census = onnx_graph.census(target / "model.onnx")
    if job["precision"] != "fp32" and not any(census["operators"].get(operator) for operator in LOWER_OPERATORS):
        raise BenchError(f"recipe {job['recipe']}: quantised nothing in {source / 'model.onnx'}; its operators are not those it looks for")
    _name_precision(target / "model.onnx", job["precision"], job["recipe"])
    return {"census": census}


def _name_precision(graph: Path, precision: str, recipe: str) -> None:
    """Write precision and recipe into the graph's own metadata, after its census, for the workers of every language to read back."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    onnx.helper.set_model_props(model, {"precision": precision, "recipe": recipe})
    onnx.save(model, graph)


def _without_shapes(folder: Path, scratch: Path) -> Path:
    """The graph without its value_info, at `scratch`: the quantisers take the exporter's symbolic shapes for contradictions."""
    import onnx

    model = onnx.load(folder / "model.onnx")
    del model.graph.value_info[:]
    onnx.save(model, scratch, save_as_external_data=model.ByteSize() >= onnx_graph.EXTERNAL_DATA_BYTES, location=f"{scratch.name}.data")
    return scratch


def _is_big(folder: Path) -> bool:
    """Whether weights have to lie beside the graph."""
    return sum(file.stat().st_size for file in folder.iterdir()) >= onnx_graph.EXTERNAL_DATA_BYTES


def _dynamic(job: Mapping[str, Any], source: Path, graph: Path) -> None:
    """MatMul and Gemm with constant weights, and look-up tables.

    `Attention` is left alone: the quantiser takes ONNX's own operator for the one of com.microsoft of the same name and writes a graph
    that does not load.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    clean = _without_shapes(source, graph.with_name("clean.onnx"))
    quantize_dynamic(
        clean, graph, op_types_to_quantize=["MatMul", "Gemm", "Gather"], per_channel=True, reduce_range=job["reduce_range"],
        weight_type=QuantType.QInt8, use_external_data_format=_is_big(source), extra_options={"MatMulConstBOnly": True},
    )  # fmt: skip
    _remove(clean)


def _static(job: Mapping[str, Any], source: Path, graph: Path) -> None:
    """Quantise–dequantise pairs around MatMul and Gemm with constant weights; activations uint8, their scales by calibration."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    clean = _without_shapes(source, graph.with_name("clean.onnx"))
    quantize_static(
        str(clean), str(graph), _reader(Path(job["calibration"]), int(job["pad_id"]), clean), quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, reduce_range=job["reduce_range"], activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, use_external_data_format=_is_big(source),
        extra_options={"ActivationSymmetric": False, "MatMulConstBOnly": True},
    )  # fmt: skip
    _remove(clean)


def _weights(job: Mapping[str, Any], source: Path, graph: Path) -> None:
    """MatMulNBits in place of MatMul with constant weights; activations stay fp32 outside of the operator."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(source / "model.onnx")
    del model.graph.value_info[:]
    quantiser = MatMulNBitsQuantizer(
        model, bits=BITS[job["precision"]], block_size=onnx_graph.BLOCK_SIZE, is_symmetric=True, accuracy_level=4
    )
    quantiser.process()
    quantiser.model.save_model_to_file(str(graph), _is_big(source))


def _fused(_job: Mapping[str, Any], source: Path, graph: Path) -> None:
    """The exported graph after onnxruntime.transformers' optimizer (what `optimum` runs), before any that the session itself does."""
    from onnxruntime.transformers import optimizer

    backbone = json.loads((source / "config.json").read_text(encoding="utf-8"))["backbone"]
    fused = optimizer.optimize_model(
        str(source / "model.onnx"), model_type="bert", num_heads=backbone["num_attention_heads"], hidden_size=backbone["hidden_size"],
        opt_level=0,
    )  # fmt: skip
    if not any(node.domain == "com.microsoft" for node in fused.model.graph.node):
        raise BenchError(f"recipe fused: the optimizer fused nothing in {source / 'model.onnx'}; convert it with another release")
    fused.save_model_to_file(str(graph), use_external_data_format=_is_big(source))


def _remove(file: Path) -> None:
    """A scratch graph and what lies beside it."""
    for path in file.parent.glob(f"{file.name}*"):
        path.unlink()


def feeds(folder: Path, pad_id: int) -> Iterator[Feed]:
    """The rows of a plan folder as batches of inputs by name, padded right as a worker pads them."""
    plan = open_plan(folder)
    for first in range(0, plan.rows, CALIBRATION_BATCH):
        count = min(CALIBRATION_BATCH, plan.rows - first)
        if plan.modality == "image":
            yield {"pixel_values": np.stack([plan.pixels(row) for row in range(first, first + count)])}
        else:
            ids, mask = plan.batch(first, count, pad_id)
            yield {"input_ids": ids, "attention_mask": mask}


def _reader(folder: Path, pad_id: int, graph: Path) -> Any:
    """A CalibrationDataReader over a plan folder."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader

    inputs = {value.name for value in onnx.load(graph, load_external_data=False).graph.input}

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # mypy does not follow onnxruntime
        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> Feed | None:
            feed = next(self._feeds, None)
            return None if feed is None else {name: array for name, array in feed.items() if name in inputs}

        def rewind(self) -> None:
            self._feeds = feeds(folder, pad_id)

    return Reader()
