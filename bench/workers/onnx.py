"""ONNX Runtime from Python: everything as the runtime sets it, but for the thread count and the knobs that are asked for."""

from __future__ import annotations

from collections.abc import Mapping

import onnxruntime as ort

from bench.worker import PROCESSES, Array, Loaded, NotApplicable, Options, Session, run

OUTPUT = "sentence_embedding"
LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
SWITCH = ("0", "1")
KNOBS = {"spinning": SWITCH, "arena": SWITCH, "mem_pattern": SWITCH, "optimization": tuple(LEVELS), "shared": SWITCH, PROCESSES: SWITCH}


def version() -> Mapping[str, str]:
    build = " ".join(ort.get_build_info().split()) if hasattr(ort, "get_build_info") else ""
    return {
        "framework": "onnx-python",
        "language": "python",
        "runtime": "onnxruntime",
        "version": ort.__version__,
        "build": build or ",".join(ort.get_available_providers()),
    }


def load(options: Options) -> Loaded:
    ort_options = session_options(options)
    shared = options.settings.get("shared") == "1"
    graphs = [
        ort.InferenceSession(str(options.folder / "model.onnx"), ort_options, providers=["CPUExecutionProvider"])
        for _ in range(1 if shared else options.sessions)
    ]
    graphs *= options.sessions if shared else 1
    graph = graphs[0]
    inputs = {node.name: node for node in graph.get_inputs()}
    output = next(node for node in graph.get_outputs() if node.name == OUTPUT)
    if output.type != "tensor(float)":
        raise NotApplicable(f"graph output is {output.type}, asked for float32 vectors")
    # A converted graph says in its metadata what its census found; the plain export says nothing.
    precision = graph.get_modelmeta().custom_metadata_map.get("precision", "fp32")
    if precision != options.precision:
        raise NotApplicable(f"precision {options.precision}: the graph is {precision}")
    pixels = inputs.get("pixel_values")
    read_back = {
        "precision": precision,
        "threads": graph.get_session_options().intra_op_num_threads,
        "output_type": output.type,
        "graph_optimization_level": graph.get_session_options().graph_optimization_level.name,
        "execution_mode": graph.get_session_options().execution_mode.name,
        "enable_cpu_mem_arena": graph.get_session_options().enable_cpu_mem_arena,
        "enable_mem_pattern": graph.get_session_options().enable_mem_pattern,
        "providers": ",".join(graph.get_providers()),
    }
    width = None if pixels is not None else inputs["input_ids"].shape[1]
    return Loaded(
        [make_session(graph) for graph in graphs],
        int(output.shape[1]),
        read_back,
        fixed_tokens=width if isinstance(width, int) else None,
        image_size=int(pixels.shape[2]) if pixels is not None else None,
    )


def session_options(options: Options) -> ort.SessionOptions:
    """The runtime's default options, except for the thread count and the knobs that are set."""
    ort_options, knobs = ort.SessionOptions(), options.settings
    ort_options.intra_op_num_threads = options.threads
    if "spinning" in knobs:
        ort_options.add_session_config_entry("session.intra_op.allow_spinning", knobs["spinning"])
    if "arena" in knobs:
        ort_options.enable_cpu_mem_arena = knobs["arena"] == "1"
    if "mem_pattern" in knobs:
        ort_options.enable_mem_pattern = knobs["mem_pattern"] == "1"
    if "optimization" in knobs:
        ort_options.graph_optimization_level = LEVELS[knobs["optimization"]]
    return ort_options


def make_session(graph: ort.InferenceSession) -> Session:
    names = [node.name for node in graph.get_inputs()]

    if names == ["pixel_values"]:

        def serve_pixels(pixel_values: Array) -> Array:
            vectors: Array = graph.run([OUTPUT], {"pixel_values": pixel_values})[0]
            return vectors

        return serve_pixels

    takes_mask = "attention_mask" in names

    def serve_tokens(input_ids: Array, attention_mask: Array) -> Array:
        feed = {"input_ids": input_ids, "attention_mask": attention_mask} if takes_mask else {"input_ids": input_ids}
        vectors: Array = graph.run([OUTPUT], feed)[0]
        return vectors

    return serve_tokens


if __name__ == "__main__":
    run(version, load, KNOBS)
