"""Embedder: backbone + projection + pooling + L2 norm, the reference for everything.

The backbone is transformers' own module, so the names of its weights are theirs under `backbone.`; what stands between pooling and
the norm is `projection`. Per `model_type` of an artefact's config.json:

| model_type | backbone | pooling | projection |
|---|---|---|---|
| bert | BertModel without pooler | mean | – |

An artefact folder of kind `safetensors` (see WORKER.md) is the one thing that is loaded here; `sources.py` knows how a published
checkpoint becomes one.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.errors import BenchError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True)
class Architecture:
    """Where transformers keeps a backbone, imported only when it is needed: its other modules take seconds."""

    package: str
    model: str
    config: str
    options: Mapping[str, Any]

    def load(self) -> tuple[type[Any], type[Any]]:
        """The classes of the model and of its config."""
        name = self.package.rsplit(".", 1)[-1]
        modeling = importlib.import_module(f"{self.package}.modeling_{name}")
        configuration = importlib.import_module(f"{self.package}.configuration_{name}")
        return getattr(modeling, self.model), getattr(configuration, self.config)


ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": Architecture("transformers.models.bert", "BertModel", "BertConfig", {"add_pooling_layer": False}),
}


class Embedder(nn.Module):
    """One tower of an embedding model, tensors in, unit vectors out.

    `forward(input_ids, attention_mask)` takes int64 tensors of shape (batch, tokens), the mask 1 on a row's own tokens;
    `forward(pixel_values)` takes float32 of shape (batch, 3, height, width). Both return float32 of shape (batch, dim), rows of
    length 1.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """`config` is an artefact's config.json. Weights are not set here: see `load`."""
        super().__init__()
        self.config = dict(config)
        self.model_type: str = config["model_type"]
        self.pooling: str = config["pooling"]
        architecture = ARCHITECTURES[self.model_type]
        model_class, config_class = architecture.load()
        backbone_config = config_class(**config["backbone"])
        backbone_config._attn_implementation = "sdpa"
        self.backbone = model_class(backbone_config, **architecture.options)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, tokens) ids and mask → (batch, dim), rows of length 1."""
        hidden = self.backbone(
            input_ids=input_ids,
            attention_mask=_additive_mask(attention_mask, self.dtype),
            token_type_ids=torch.zeros_like(input_ids),
        ).last_hidden_state
        pooled = _pool(hidden, attention_mask, self.pooling)
        return functional.normalize(pooled.float(), dim=-1)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype


def _additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor | None:
    """(batch, tokens) of 0 and 1 → (batch, 1, tokens, tokens) to add to the scores; None where eager PyTorch finds nothing to hide.

    Written out because transformers' own mask code leaves IsNaN nodes in an exported graph; finite because an infinite one gives
    NaN in half precision.
    """
    if not torch.compiler.is_exporting() and bool(mask.all()):
        return None
    hidden = (1 - mask[:, None, None, :]).to(dtype)
    return (hidden * torch.finfo(dtype).min).expand(-1, -1, mask.shape[1], -1)  # ONNX's Attention wants the queries' axis in full


def _pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """(batch, tokens, width) → (batch, width) over each row's own tokens."""
    if pooling == "mean":
        weights = mask[:, :, None].to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1)
    raise BenchError(f"pooling {pooling!r}: not one of mean, cls, last")


def load(folder: Path, dtype: str = "fp32") -> Embedder:
    """The Embedder of an artefact folder of kind `safetensors`, in eval mode.

    The module is made without memory and takes the file's tensors as they are, so that the weights are held once.

    Raises:
        BenchError: the folder is not such an artefact.
    """
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        state = load_file(folder / WEIGHTS)
    except (OSError, ValueError) as error:
        raise BenchError(f"artefact {folder}: cannot be read ({error}); delete it and run `invoke export` again") from None
    with torch.device("meta"):
        embedder = Embedder(config)
    embedder.load_state_dict(state, assign=True)
    _fill_buffers(embedder)
    return embedder.to(_dtype(dtype)).eval().requires_grad_(False)


def example(embedder: Embedder) -> tuple[dict[str, Tensor], tuple[dict[int, Any], ...]]:
    """Inputs by name to trace an export with, and which of their axes are free.

    More than one row, of mixed lengths: from a batch of one the exporter would conclude that there is only ever one.
    """
    input_ids = torch.ones(2, 16, dtype=torch.int64)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 9:] = 0
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    return {"input_ids": input_ids, "attention_mask": attention_mask}, (free, free)


def _dtype(precision: str) -> torch.dtype:
    try:
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    except KeyError:
        raise BenchError(f"precision {precision!r}: the Embedder takes fp32, bf16 or fp16") from None


def _fill_buffers(embedder: Embedder) -> None:
    """Compute the buffers that no checkpoint holds (positions, rotary frequencies), by transformers' own initialiser."""
    for parameter in embedder.parameters():
        parameter._is_hf_initialized = True  # type: ignore[attr-defined]
    for module in embedder.modules():
        missing = [name for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
        for name in missing:
            module._buffers[name] = torch.empty_like(module._buffers[name], device="cpu")  # type: ignore[arg-type]
        if missing:
            embedder.backbone._init_weights(module)
