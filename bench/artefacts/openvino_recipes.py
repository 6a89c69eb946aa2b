"""OpenVINO models of lower precision: NNCF weight compression, NNCF post-training quantisation, and the QDQ graph of ONNX Runtime."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.artefacts.onnx_graph import BLOCK_SIZE
from bench.artefacts.onnx_recipes import feeds
from bench.core.errors import BenchError

LOWER_TYPES = ("i8", "u8", "i4", "u4")


def convert(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow one recipe; the keys of `job` and the result are those of `onnx_recipes.convert`.

    Raises:
        BenchError: no weight of the model is of the lower precision.
    """
    import openvino

    source, target = Path(job["input"]), Path(job["output"])
    if job["recipe"] == "qdq":
        model = openvino.convert_model(source / "model.onnx")
    else:
        model = openvino.Core().read_model(source / "model.xml")
        model = _compressed(model, job["precision"]) if job["recipe"] == "weights" else _quantised(model, job)
    openvino.save_model(model, target / "model.xml", compress_to_fp16=False)
    shutil.copyfile(source / "config.json", target / "config.json")
    counts = census(model)
    lower = sum(counts["constant_elements"].get(kind, 0) for kind in LOWER_TYPES)
    if not lower and not counts["operators"].get("FakeQuantize"):
        raise BenchError(f"recipe {job['recipe']}: quantised nothing in {source}; convert it again with another version of NNCF")
    return {"census": counts}


def census(model: Any) -> dict[str, dict[str, int]]:
    """How often each operator stands in a model, and how many elements its constants of each type hold."""
    operators: Counter[str] = Counter()
    elements: Counter[str] = Counter()
    for node in model.get_ops():
        operators[node.get_type_name()] += 1
        if node.get_type_name() == "Constant":
            elements[node.get_element_type().to_string()] += math.prod(int(width) for width in node.get_output_shape(0))
    return {"operators": dict(sorted(operators.items())), "constant_elements": dict(sorted(elements.items()))}


def _compressed(model: Any, precision: str) -> Any:
    """int8: one scale per output channel, asymmetric, NNCF's own default. int4: every weight, a scale per BLOCK_SIZE columns."""
    import nncf

    if precision == "int8":
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT4_SYM, group_size=BLOCK_SIZE, ratio=1.0)


def _quantised(model: Any, job: Mapping[str, Any]) -> Any:
    """int8 weights and activations, calibrated; NNCF leaves the range of transformers' weights whole unless told otherwise."""
    import nncf

    names = {node.get_any_name() for node in model.inputs}
    rows = [{name: array for name, array in feed.items() if name in names} for feed in feeds(Path(job["calibration"]), job["pad_id"])]
    fix = nncf.OverflowFix.ENABLE if job["reduce_range"] else nncf.OverflowFix.DISABLE
    return nncf.quantize(
        model,
        nncf.Dataset(rows),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(rows),
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=fix),
    )
