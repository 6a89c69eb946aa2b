"""A framework called in a plain loop, without the worker around it: `invoke floor` compares each Python worker with it.

    python -m bench.workers.baseline_loop FRAMEWORK ARTEFACT_FOLDER THREADS

prints `ready`, then answers `loop PLAN FIRST COUNT` with `looped ELAPSED_NS`: rows one at a time, tensors made beforehand, nothing
recorded. The native workers answer the same line themselves. Nothing of `bench.workers.loop` is used here, since its cost is what is
measured.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[Any, Any], Any]


def pytorch(folder: Path, threads: int) -> tuple[Call, Callable[[Any], Any]]:
    import torch

    from bench.model import embedder

    torch.set_num_threads(threads)
    model = embedder.load(folder, "fp32").eval()

    def call(ids: Any, mask: Any) -> Any:
        with torch.inference_mode():
            return model(ids, mask).numpy()

    return call, torch.from_numpy


def onnx(folder: Path, threads: int) -> tuple[Call, Callable[[Any], Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    graph = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: graph.run(None, {"input_ids": ids, "attention_mask": mask}), lambda array: array


def openvino(folder: Path, threads: int) -> tuple[Call, Callable[[Any], Any]]:
    import openvino as ov

    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = ov.Core().compile_model(folder / "model.xml", "CPU", config).create_infer_request()

    def call(ids: Any, mask: Any) -> Any:
        request.infer({"input_ids": ids, "attention_mask": mask}, share_inputs=True)
        return request.get_output_tensor(0).data

    return call, lambda array: array


FRAMEWORKS = {"pytorch": pytorch, "onnx-python": onnx, "openvino": openvino}


def main(framework: str, folder: Path, threads: int) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    call, tensor = FRAMEWORKS[framework](folder, threads)
    print("ready {}", file=answers)
    for line in sys.stdin:
        words = line.split()
        if words[0] != "loop":
            return
        plan, first, count = Path(words[1]), int(words[2]), int(words[3])
        rows = np.loadtxt(plan / "rows.csv", delimiter=",", skiprows=1, usecols=(1, 2), dtype=np.int64)[first : first + count]
        tokens = np.fromfile(plan / "tokens.i64", dtype="<i8")
        inputs = [tokens[offset : offset + length].reshape(1, -1) for offset, length in rows]
        pairs = [(tensor(ids), tensor(np.ones_like(ids))) for ids in inputs]
        began = time.monotonic_ns()
        for ids, mask in pairs:
            call(ids, mask)
        print("looped", time.monotonic_ns() - began, file=answers)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
