"""PyTorch: the Embedder in eager mode with scaled-dot-product attention, or compiled by AOTInductor."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping

import torch
import transformers

from bench.model import embedder
from bench.worker import PROCESSES, Array, Loaded, NotApplicable, Options, Session, padded_to, run

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}
NAMES = {dtype: precision for precision, dtype in DTYPES.items()}
#: The file of a compiled artefact, in place of weights.
PACKAGE = "model.pt2"
KNOBS = {"buckets": ("8", "16", "32", "64"), "channels_last": ("0", "1"), "int8": ("torchao",), PROCESSES: ("0", "1")}


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
    if (options.folder / PACKAGE).is_file():
        return load_package(options)
    if options.precision == "int8":
        model, dtypes = quantised(options)
    else:
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
    channels_last = options.settings.get("channels_last") == "1"
    if channels_last:
        if config["modality"] != "image":
            raise NotApplicable("channels_last: only images have channels")
        model = model.to(memory_format=torch.channels_last)
    # The sessions share one module: its weights are read only.
    sessions = [make_session(model, options.threads, channels_last) for _ in range(options.sessions)]
    return loaded(options, sessions, read_back)


def loaded(options: Options, sessions: list[Session], read_back: Mapping[str, object]) -> Loaded:
    """The parts of loading that an eager and a compiled model share."""
    config = json.loads((options.folder / "config.json").read_text())
    if "buckets" in options.settings:
        sessions = [padded_to(session, int(options.settings["buckets"]), config["max_tokens"]) for session in sessions]
    return Loaded(sessions, config["dim"], read_back, config.get("fixed_tokens"), config.get("image_size"))


def quantised(options: Options) -> tuple[torch.nn.Module, set[torch.dtype]]:
    """The Embedder with its linear layers in int8 by torchao, and the dtypes that their weights have then."""
    if options.settings.get("int8") != "torchao":
        raise NotApplicable("precision int8: eager PyTorch has no int8 layers of its own (--set int8=torchao)")
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    model = embedder.load(options.folder).eval()
    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    layers = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
    return model, {getattr(weight, "qdata", weight).dtype for weight in layers}


def load_package(options: Options) -> Loaded:
    """The Embedder compiled by AOTInductor. Its precision cannot be read back; the parity gate on its vectors checks it."""
    if options.settings.get("channels_last") == "1":
        raise NotApplicable("channels_last: a compiled model has its own memory formats")
    model = torch._inductor.aoti_load_package(str(options.folder / PACKAGE))
    read_back = {
        "precision": options.precision,
        "threads": torch.get_num_threads(),
        "compiled": "AOTInductor",
        "constants": len(model.get_constant_fqns()),
    }
    return loaded(options, [make_session(model, options.threads) for _ in range(options.sessions)], read_back)


def make_session(model: Callable[..., torch.Tensor], threads: int, channels_last: bool = False) -> Session:
    tensor = _channels_last if channels_last else torch.from_numpy
    caller: int | None = None

    def serve(*arrays: Array) -> Array:
        nonlocal caller
        if caller != threading.get_ident():  # the intra-op thread count belongs to the calling thread
            torch.set_num_threads(threads)
            caller = threading.get_ident()
        with torch.inference_mode():
            vectors: Array = model(*(tensor(array) for array in arrays)).numpy()
        return vectors

    return serve


def _channels_last(array: Array) -> torch.Tensor:
    return torch.from_numpy(array).contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    run(version, load, KNOBS)
