"""PyTorch: the Embedder itself, eager, scaled-dot-product attention, inference mode."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
import transformers

from bench import embedder
from bench.worker import Array, Loaded, NotApplicable, Options, Session, run

DTYPES = {"fp32": torch.float32}
NAMES = {dtype: precision for precision, dtype in DTYPES.items()}


def version() -> Mapping[str, str]:
    return {
        "framework": "pytorch",
        "language": "python",
        "runtime": "torch",
        "version": torch.__version__,
        "build": f"transformers {transformers.__version__}; " + " ".join(torch.__config__.show().split()),
    }


def load(options: Options) -> Loaded:
    if options.precision not in DTYPES:
        raise NotApplicable(f"precision {options.precision}: this worker serves {', '.join(DTYPES)}")
    torch.set_num_threads(options.threads)
    model = embedder.load(options.folder, options.precision).eval()
    dtypes = {parameter.dtype for parameter in model.parameters()}
    config = json.loads((options.folder / "config.json").read_text())
    read_back = {
        "precision": NAMES.get(dtypes.pop(), "other") if len(dtypes) == 1 else "mixed",
        "threads": torch.get_num_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "attention": getattr(model.backbone.config, "_attn_implementation", "unknown"),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    # The sessions share one module: its weights are read only.
    sessions = [session(model, options.threads) for _ in range(options.sessions)]
    return Loaded(sessions, config["dim"], read_back, config.get("fixed_tokens"), config.get("image_size"))


def session(model: torch.nn.Module, threads: int) -> Session:
    tensor, started = torch.from_numpy, False

    def serve(*arrays: Array) -> Array:
        nonlocal started
        if not started:  # the intra-op thread count belongs to the calling thread
            torch.set_num_threads(threads)
            started = True
        with torch.inference_mode():
            vectors: Array = model(*(tensor(array) for array in arrays)).numpy()
        return vectors

    return serve


if __name__ == "__main__":
    run(version, load, {})
