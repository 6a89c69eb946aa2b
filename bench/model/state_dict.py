"""A published checkpoint → the Embedder's config and weights, under the names of WORKER.md."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.catalog import Model
from bench.core.errors import BenchError
from bench.model import checkpoint
from bench.model.embedder import ARCHITECTURES, build


@dataclass(frozen=True)
class Part:
    """Tensors of the Embedder that begin with `ours`, published in `file` under names that begin with one of `theirs`."""

    ours: str
    theirs: tuple[str, ...]
    file: str = "model.safetensors"


@dataclass(frozen=True)
class Layout:
    """How an architecture is published: where its tensors are, and the section of config.json that describes its tower."""

    parts: tuple[Part, ...]
    section: str | None = None


LAYOUTS: Mapping[str, Layout] = {
    "bert": Layout((Part("backbone.", ("", "bert.")),)),
    "xlm_roberta": Layout((Part("backbone.", ("", "roberta.")),)),
    "gemma3_embedding": Layout((
        Part("backbone.", ("", "model.")),
        Part("projection.0.", ("linear.",), "2_Dense/model.safetensors"),
        Part("projection.1.", ("linear.",), "3_Dense/model.safetensors"),
    )),
    "qwen3": Layout((Part("backbone.", ("", "model.")),)),
    "clip_text": Layout((Part("backbone.", ("text_model.",)), Part("projection.0.", ("text_projection.",))), "text_config"),
    "clip_vision": Layout((Part("backbone.", ("vision_model.",)), Part("projection.0.", ("visual_projection.",))), "vision_config"),
    "siglip_text": Layout((Part("backbone.", ("text_model.",)),), "text_config"),
    "siglip_vision": Layout((Part("backbone.", ("vision_model.",)),), "vision_config"),
}  # fmt: skip


def config(model: Model, folder: Path) -> dict[str, Any]:
    """config.json of the artefact, from the checkpoint's own config.json."""
    return config_of(model, json.loads((folder / "config.json").read_text(encoding="utf-8")))


def config_of(model: Model, published: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of the artefact, from the published config."""
    section = LAYOUTS[model.architecture].section
    backbone = _complete(model.architecture, published[section] if section else published)
    width = backbone.get("hidden_size")
    projection = {"gemma3_embedding": [width, 4 * model.dim, model.dim], "clip_text": [width, model.dim], "clip_vision": [width, model.dim]}
    return {
        "model_type": model.architecture,
        "modality": model.modality,
        "pooling": model.pooling,
        "dim": model.dim,
        "max_tokens": model.max_tokens,
        "fixed_tokens": model.fixed_tokens,
        "image_size": model.image.size if model.image else None,
        "projection": projection.get(model.architecture, []),
        "backbone": backbone,
    }


def _complete(architecture: str, published: Mapping[str, Any]) -> dict[str, Any]:
    """The published config with what it leaves to transformers' defaults (SigLIP's says next to nothing): Candle knows no defaults."""
    _, config_class = ARCHITECTURES[architecture].load()
    made = config_class(**published)
    # Rotary parameters are those of `rope_theta` in another form, made while the config is read.
    declared = set(config_class.__annotations__) - {"rope_parameters"}
    defaults = {name: getattr(made, name) for name in sorted(declared) if name not in published and hasattr(made, name)}
    plain = {name: value for name, value in defaults.items() if value is None or isinstance(value, bool | int | float | str)}
    return {**published, **plain}


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The Embedder's tensors by name."""
    with torch.device("meta"):
        embedder = build(config)
    return {name: tuple(parameter.shape) for name, parameter in embedder.named_parameters()}


def published(model: Model, name: str) -> tuple[str, list[str]]:
    """The file that holds one of the Embedder's tensors, and the names under which it may stand there."""
    for part in LAYOUTS[model.architecture].parts:
        if name.startswith(part.ours):
            return part.file, [theirs + name.removeprefix(part.ours) for theirs in part.theirs]
    raise KeyError(name)


def tensors(model: Model, folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The Embedder's tensors by name, in fp32, read from the checkpoint as they are asked for.

    Raises:
        BenchError: the checkpoint lacks one.
    """
    from safetensors import SafetensorError, safe_open

    with ExitStack() as stack:
        opened: dict[str, dict[str, Any]] = {}  # for each file of weights: the shard, opened, that holds a tensor
        for ours in shapes(config(model, folder)):
            file, candidates = published(model, ours)
            if file not in opened:
                opened[file] = {}
                for shard in checkpoint.shards(folder, file):
                    try:
                        handle = stack.enter_context(safe_open(folder / shard, framework="pt"))
                    except (OSError, SafetensorError) as error:
                        raise BenchError(f"weights of {model.name}: {folder / shard} cannot be read ({error}); fetch it again") from None
                    opened[file] |= dict.fromkeys(handle.keys(), handle)
            theirs = next((name for name in candidates if name in opened[file]), None)
            if theirs is None:
                raise BenchError(f"weights of {model.name}: {folder / file} holds no tensor {candidates[0]!r}; it is not {model.title}")
            yield ours, opened[file][theirs].get_tensor(theirs).float()


def write(file: Path, shapes: Mapping[str, tuple[int, ...]], tensors: Iterable[npt.NDArray[np.float32]]) -> None:
    """A safetensors file of float32 tensors that come one by one in the order of `shapes`: no more than one is held at a time.

    The format is 8 bytes of header length, a JSON header of dtype, shape and byte range by name, then the bytes.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for tensor, shape in zip(tensors, shapes.values(), strict=True):
            assert tensor.shape == shape
            np.ascontiguousarray(tensor, dtype="<f4").tofile(stream)
