"""One conversion, in a process of its own: `python -m bench.artefacts.convert`, the job as JSON on stdin.

This file and what it imports decide the bytes of an artefact; bench/artefacts/export.py says when it is made.
"""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from bench.artefacts import onnx_graph
from bench.catalog import Model
from bench.core import files, jobs
from bench.core.errors import BenchError

OPSET = 23
LOWER_PRECISIONS = {"FLOAT16", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "INT8", "UINT8", "INT4", "UINT4"}
OUTPUT = "sentence_embedding"  # `embedding` is the exporter's own name for a look-up


def work(job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Do one conversion. `job` has `kind`, `model` and the folders `input` and `output`; with a `recipe` what that wants too."""
    if "recipe" in job:
        converted: Mapping[str, Any] = importlib.import_module(job["module"]).convert(job)
        return converted
    model = TypeAdapter(Model).validate_python(job["model"])
    step = {"safetensors": _to_safetensors, "onnx": _to_onnx, "openvino": _to_openvino}[job["kind"]]
    return step(model, Path(job["input"]), Path(job["output"]))


def _to_safetensors(model: Model, source: Path, target: Path) -> None:
    from bench.model import state_dict

    config = state_dict.config(model, source)
    files.write_json(target / "config.json", config)
    tensors = (tensor.numpy() for _, tensor in state_dict.tensors(model, source))
    state_dict.write(target / "model.safetensors", state_dict.shapes(config), tensors)


def _to_onnx(_model: Model, source: Path, target: Path) -> Mapping[str, Any]:
    import torch

    from bench.model import embedder

    module = embedder.load(source)
    inputs, dynamic = embedder.example(module)
    program = torch.onnx.export(
        module,
        tuple(inputs.values()),
        input_names=list(inputs),
        output_names=[OUTPUT],
        dynamic_shapes=dynamic,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    size = sum(parameter.nbytes for parameter in module.parameters())
    program.save(target / "model.onnx", external_data=size >= onnx_graph.EXTERNAL_DATA_BYTES)
    shutil.copyfile(source / "config.json", target / "config.json")
    return {"census": fp32_census(target / "model.onnx")}


def fp32_census(graph: Path) -> onnx_graph.Census:
    """The census of a graph that should hold fp32 weights alone.

    This is the read-back of a graph's precision: a session of ONNX Runtime shows only the types of inputs and outputs.

    Raises:
        BenchError: weights of an fp32 graph are of a lower precision.
    """
    census = onnx_graph.census(graph)
    lower = sorted(set(census["initializer_elements"]) & LOWER_PRECISIONS)
    if lower:
        raise BenchError(f"{graph}: weights of {', '.join(lower)} in an fp32 graph; export the model again from fp32 weights")
    return census


def _to_openvino(_model: Model, source: Path, target: Path) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(source / "model.onnx"), target / "model.xml", compress_to_fp16=False)
    shutil.copyfile(source / "config.json", target / "config.json")


if __name__ == "__main__":
    jobs.main(work)
