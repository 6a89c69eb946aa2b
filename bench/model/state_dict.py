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
class Tensors:
    """Tensors of the Embedder whose names begin with `prefix`, published in `file` under names with one of the prefixes `published`."""

    prefix: str
    published: tuple[str, ...]
    file: str = "model.safetensors"


@dataclass(frozen=True)
class CheckpointLayout:
    """How an architecture is published: where its tensors are, and the section of config.json that describes its tower."""

    groups: tuple[Tensors, ...]
    section: str | None = None


LAYOUTS: Mapping[str, CheckpointLayout] = {
    "bert": CheckpointLayout((Tensors("backbone.", ("", "bert.")),)),
    "xlm_roberta": CheckpointLayout((Tensors("backbone.", ("", "roberta.")),)),
    "gemma3_embedding": CheckpointLayout(
        (
            Tensors("backbone.", ("", "model.")),
            Tensors("projection.0.", ("linear.",), "2_Dense/model.safetensors"),
            Tensors("projection.1.", ("linear.",), "3_Dense/model.safetensors"),
        )
    ),
    "qwen3": CheckpointLayout((Tensors("backbone.", ("", "model.")),)),
    "clip_text": CheckpointLayout((Tensors("backbone.", ("text_model.",)), Tensors("projection.0.", ("text_projection.",))), "text_config"),
    "clip_vision": CheckpointLayout(
        (Tensors("backbone.", ("vision_model.",)), Tensors("projection.0.", ("visual_projection.",))), "vision_config"
    ),
    "siglip_text": CheckpointLayout((Tensors("backbone.", ("text_model.",)),), "text_config"),
    "siglip_vision": CheckpointLayout((Tensors("backbone.", ("vision_model.",)),), "vision_config"),
}


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
    complete = config_class(**published)
    # Rotary parameters are those of `rope_theta` in another form, made while the config is read.
    declared = set(config_class.__annotations__) - {"rope_parameters"}
    defaults = {name: getattr(complete, name) for name in sorted(declared) if name not in published and hasattr(complete, name)}
    plain = {name: value for name, value in defaults.items() if value is None or isinstance(value, bool | int | float | str)}
    return {**published, **plain}


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The Embedder's tensors by name."""
    with torch.device("meta"):
        embedder = build(config)
    return {name: tuple(parameter.shape) for name, parameter in embedder.named_parameters()}


def published(model: Model, name: str) -> tuple[str, list[str]]:
    """The file that holds one of the Embedder's tensors, and the names under which it may stand there."""
    for group in LAYOUTS[model.architecture].groups:
        if name.startswith(group.prefix):
            return group.file, [prefix + name.removeprefix(group.prefix) for prefix in group.published]
    raise KeyError(name)


def tensors(model: Model, folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The Embedder's tensors by name, in fp32, read from the checkpoint as they are asked for.

    Raises:
        BenchError: the checkpoint lacks one, or has it in another shape than its config says.
    """
    from safetensors import SafetensorError, safe_open

    with ExitStack() as stack:
        opened: dict[str, dict[str, Any]] = {}  # for each file of weights: the shard, opened, that holds a tensor
        for name, shape in shapes(config(model, folder)).items():
            file, candidates = published(model, name)
            if file not in opened:
                opened[file] = {}
                for shard in checkpoint.shards(folder, file):
                    try:
                        handle = stack.enter_context(safe_open(folder / shard, framework="pt"))
                    except (OSError, SafetensorError) as error:
                        raise BenchError(f"weights of {model.name}: {folder / shard} cannot be read ({error}); fetch it again") from None
                    opened[file] |= dict.fromkeys(handle.keys(), handle)
            published_name = next((candidate for candidate in candidates if candidate in opened[file]), None)
            if published_name is None:
                raise BenchError(f"weights of {model.name}: {folder / file} holds no tensor {candidates[0]!r}; it is not {model.title}")
            tensor = opened[file][published_name].get_tensor(published_name)
            if tuple(tensor.shape) != shape:
                shapes_differ = f"{published_name} has the shape {tuple(tensor.shape)}, by config.json it should have {shape}"
                raise BenchError(f"weights of {model.name}: {folder / file}: {shapes_differ}; mend config.json or save the model again")
            yield name, tensor.float()


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
