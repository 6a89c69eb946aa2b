"""OpenVINO: precision f32 is set and read back (on CPUs with bf16 units the runtime would choose bf16); the rest is untouched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openvino as ov

from bench.worker import Array, Loaded, NotApplicable, Options, Session, run

HINTS = {"fp32": "f32"}
NAMES = {hint: precision for precision, hint in HINTS.items()}


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
    if "hint" in options.settings:
        config["PERFORMANCE_HINT"] = options.settings["hint"]
    model = ov.Core().compile_model(options.folder / "model.xml", "CPU", config)
    inputs = {node.get_any_name(): node.get_partial_shape() for node in model.inputs}
    read_back = {
        "precision": NAMES.get(model.get_property("INFERENCE_PRECISION_HINT").get_type_name(), "other"),
        "inference_num_threads": model.get_property("INFERENCE_NUM_THREADS"),
        "num_streams": str(model.get_property("NUM_STREAMS")),
        "performance_hint": str(model.get_property("PERFORMANCE_HINT")),
        "execution_mode": str(model.get_property("EXECUTION_MODE_HINT")),
        "enable_cpu_pinning": str(model.get_property("ENABLE_CPU_PINNING")),
    }
    pixels = inputs.get("pixel_values")
    width = None if pixels is not None else inputs["input_ids"][1]
    return Loaded(
        [session(model, list(inputs)) for _ in range(options.sessions)],
        model.output(0).get_partial_shape()[1].get_length(),
        read_back,
        fixed_tokens=width.get_length() if width is not None and width.is_static else None,
        image_size=pixels[2].get_length() if pixels is not None else None,
    )


def session(model: ov.CompiledModel, names: list[str]) -> Session:
    request = model.create_infer_request()
    takes = len(names)

    def serve(*arrays: Array) -> Array:
        feed = dict(zip(("input_ids", "attention_mask")[:takes], arrays, strict=False)) if len(arrays) == 2 else {"pixel_values": arrays[0]}
        # Inputs and the output are shared, not copied: the loop copies the vectors after `end`, before the next call.
        request.infer(feed, share_inputs=True)
        vectors: Array = request.get_output_tensor(0).data
        return vectors

    return serve


if __name__ == "__main__":
    run(version, load, {"hint": ("LATENCY", "THROUGHPUT")})
