"""OpenVINO with its defaults, except that precision f32 is set and read back (on CPUs with bf16 units the default is bf16), and for the
knobs that are set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import openvino as ov

from bench.worker import PROCESSES, Array, Loaded, NotApplicable, Options, Session, padded_to, run

#: Inference precision by precision. Layers of an int8 or int4 model that are not quantised compute in f32, so that such an arm differs
#: from fp32 by its quantisation alone.
HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32", "int4": "f32"}
NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
#: Types of the weights of a compiled model → precision; the lowest that occurs counts.
QUANTISED = {"int4": ("i4", "u4"), "int8": ("i8", "u8")}
#: Layers that multiply by weights, and those that only change the layout of the weights before.
PRODUCTS = ("FullyConnected", "MatMul", "Convolution")
LAYOUTS = ("Transpose", "Reshape", "Reorder", "Convert")


KNOBS = {
    "hint": ("LATENCY", "THROUGHPUT"),
    "streams": ("1", "2", "4"),
    "pinning": ("0", "1"),
    "cache": ("0", "1"),
    "buckets": ("8", "16", "32", "64"),
    PROCESSES: ("0", "1"),
}
#: Relative to the build folder, where a worker runs.
CACHE = "openvino-cache"


def version() -> Mapping[str, str]:
    return {
        "framework": "openvino",
        "language": "python",
        "runtime": "openvino",
        "version": ov.__version__.split("-")[0],
        "build": ov.get_version(),
    }


def load(options: Options) -> Loaded:
    if options.precision not in HINTS:
        raise NotApplicable(f"precision {options.precision}: this worker serves {', '.join(HINTS)}")
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": HINTS[options.precision],
        "INFERENCE_NUM_THREADS": options.sessions * options.threads,
    }
    if options.sessions > 1:
        config["NUM_STREAMS"] = options.sessions
    knobs = options.settings
    if "hint" in knobs:
        config["PERFORMANCE_HINT"] = knobs["hint"]
    if "streams" in knobs:
        config["NUM_STREAMS"] = int(knobs["streams"])
    if "pinning" in knobs:
        config["ENABLE_CPU_PINNING"] = knobs["pinning"] == "1"
    if knobs.get("cache") == "1":
        config["CACHE_DIR"] = CACHE
    model = ov.Core().compile_model(options.folder / "model.xml", "CPU", config)
    inputs = {node.get_any_name(): node.get_partial_shape() for node in model.inputs}
    computed = precision_of(model)
    if computed["precision"] != options.precision:
        raise NotApplicable(f"precision {options.precision}: compiled for this CPU the model computes in {computed['precision']}")
    read_back = {
        **computed,
        "dynamic_quantization_group_size": model.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE"),
        "inference_num_threads": model.get_property("INFERENCE_NUM_THREADS"),
        "num_streams": str(model.get_property("NUM_STREAMS")),
        "performance_hint": str(model.get_property("PERFORMANCE_HINT")),
        "execution_mode": str(model.get_property("EXECUTION_MODE_HINT")),
        "enable_cpu_pinning": str(model.get_property("ENABLE_CPU_PINNING")),
    }
    pixels = inputs.get("pixel_values")
    width = None if pixels is not None else inputs["input_ids"][1]
    sessions = [make_session(model, list(inputs)) for _ in range(options.sessions)]
    if "buckets" in knobs:
        most = json.loads((options.folder / "config.json").read_text())["max_tokens"]
        sessions = [padded_to(session, int(knobs["buckets"]), most) for session in sessions]
    return Loaded(
        sessions,
        model.output(0).get_partial_shape()[1].get_length(),
        read_back,
        fixed_tokens=width.get_length() if width is not None and width.is_static else None,
        image_size=pixels[2].get_length() if pixels is not None else None,
    )


def precision_of(model: ov.CompiledModel) -> dict[str, str]:
    """The precision that the compiled model computes in: the type of its quantised weights, else the hint; and the types of its products.

    Without units for bf16 the plugin computes in f32 whatever the hint says; the types of the products show it.
    """
    weights: set[str] = set()
    products: Counter[str] = Counter()
    for node in model.get_runtime_model().get_ops():
        if _runtime_info(node, "layerType") in PRODUCTS:
            products[_runtime_info(node, "runtimePrecision")] += 1
            weights |= {kind for value in node.input_values() for kind in _constant(value.get_node())}
    hint = NAMES.get(model.get_property("INFERENCE_PRECISION_HINT").get_type_name(), "other")
    quantised = next((precision for precision, kinds in QUANTISED.items() if weights & set(kinds)), None)
    if not quantised and hint == "bf16" and products and "bf16" not in products:
        hint = "fp32"
    return {"precision": quantised or hint, "products": " ".join(f"{kind}:{count}" for kind, count in sorted(products.items()))}


def _constant(node: ov.Node) -> list[str]:
    """The element types of the constant that a layer's input comes from; empty where it is computed from the request."""
    while _runtime_info(node, "layerType") in LAYOUTS:
        node = node.input_value(0).get_node()
    return _runtime_info(node, "outputPrecisions").split(",") if _runtime_info(node, "layerType") == "Const" else []


def _runtime_info(node: ov.Node, key: str) -> str:
    info = node.get_rt_info()
    return str(info[key].astype(str)) if key in info else ""


def make_session(model: ov.CompiledModel, names: list[str]) -> Session:
    request = model.create_infer_request()
    # A graph that fixes the length of its texts may take no mask.
    text_inputs = ("input_ids", "attention_mask")[: len(names)]

    def serve(*arrays: Array) -> Array:
        feed = dict(zip(text_inputs, arrays, strict=False)) if len(arrays) == 2 else {"pixel_values": arrays[0]}
        # Inputs and the output are shared, not copied: the loop copies the vectors after `end`, before the next call.
        request.infer(feed, share_inputs=True)
        vectors: Array = request.get_output_tensor(0).data
        return vectors

    return serve


if __name__ == "__main__":
    run(version, load, KNOBS)
