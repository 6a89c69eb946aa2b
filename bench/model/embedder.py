"""Embedder: backbone + pooling + projection + L2 norm, the reference for everything.

The backbone is transformers' own module, so its weights have transformers' names under `backbone.`. `projection` holds linear layers
without bias, applied in turn to the pooled vector: `projection.0.weight`, `projection.1.weight`. Per `model_type` of config.json:

| model_type       | backbone                   | attention                               | pooled                               | proj. |
|------------------|----------------------------|-----------------------------------------|--------------------------------------|-------|
| bert             | BertModel, no pooler       | own tokens                              | `pooling`                            | –     |
| xlm_roberta      | XLMRobertaModel, no pooler | own tokens                              | `pooling`                            | –     |
| gemma3_embedding | Gemma3TextModel            | own tokens; near ones in sliding layers | `pooling`                            | 0, 1  |
| qwen3            | Qwen3Model                 | own tokens up to it                     | `pooling`                            | –     |
| clip_text        | CLIPTextModel              | own tokens up to it                     | `pooling`                            | 0     |
| clip_vision      | CLIPVisionModel            | all patches                             | class token, `post_layernorm`        | 0     |
| siglip_text      | SiglipTextModel            | all 64 tokens (no mask)                 | last of the 64, then `backbone.head` | –     |
| siglip_vision    | SiglipVisionModel          | all patches                             | attention pooling, `backbone.head`   | –     |

`pooling` is over a row's own tokens (mask 1): `mean`, `cls` its first, `last` its last, under either padding side. Positions of
xlm_roberta count the tokens that are not the pad id from pad id + 1, those of the others are the columns. An artefact folder of kind
`safetensors` (WORKER.md) is what is loaded here; `state_dict.py` makes one of a published checkpoint.
"""

from __future__ import annotations

import importlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.core.errors import BenchError

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


@dataclass(frozen=True)
class Architecture:
    """The classes of a backbone in transformers, imported only when needed, since all of transformers takes seconds.

    Attributes:
        pooler: the backbone pools by itself.
    """

    package: str
    model: str
    config: str
    pooler: bool = True

    def load(self) -> tuple[type[Any], type[Any]]:
        """The classes of the model and of its config."""
        modeling = importlib.import_module(f"transformers.models.{self.package}.modeling_{self.package}")
        configuration = importlib.import_module(f"transformers.models.{self.package}.configuration_{self.package}")
        return getattr(modeling, self.model), getattr(configuration, self.config)


ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": Architecture("bert", "BertModel", "BertConfig", pooler=False),
    "xlm_roberta": Architecture("xlm_roberta", "XLMRobertaModel", "XLMRobertaConfig", pooler=False),
    "gemma3_embedding": Architecture("gemma3", "Gemma3TextModel", "Gemma3TextConfig", pooler=False),
    "qwen3": Architecture("qwen3", "Qwen3Model", "Qwen3Config", pooler=False),
    "clip_text": Architecture("clip", "CLIPTextModel", "CLIPTextConfig", pooler=False),
    "clip_vision": Architecture("clip", "CLIPVisionModel", "CLIPVisionConfig"),
    "siglip_text": Architecture("siglip", "SiglipTextModel", "SiglipTextConfig"),
    "siglip_vision": Architecture("siglip", "SiglipVisionModel", "SiglipVisionConfig"),
}


class Embedder(nn.Module):  # type: ignore[misc]  # mypy does not follow torch
    """One tower of an embedding model: tensors in, vectors of length 1 out, float32 of shape (batch, dim).

    Use `load`, which gives a `TextEmbedder` or an `ImageEmbedder`.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """`config` is an artefact's config.json."""
        super().__init__()
        self.config = dict(config)
        self.model_type: str = config["model_type"]
        self.pooling: str = config["pooling"]
        architecture = ARCHITECTURES[self.model_type]
        model_class, config_class = architecture.load()
        backbone_config = config_class(**config["backbone"])
        backbone_config._attn_implementation = "sdpa"
        options = {"add_pooling_layer": False} if self.model_type in ("bert", "xlm_roberta") else {}
        self.backbone = model_class(backbone_config, **options)
        widths = config.get("projection", [])
        layers = [nn.Linear(width, after, bias=False) for width, after in itertools.pairwise(widths)]
        self.projection = nn.Sequential(*layers)

    def finish(self, pooled: Tensor) -> Tensor:
        """Pooled vectors (batch, width) → projected, of length 1, float32 (batch, dim)."""
        return functional.normalize(self.projection(pooled).float(), dim=-1)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype


class ImageEmbedder(Embedder):
    """Images → vectors."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float32 (batch, 3, height, width), prepared as the model's authors do → float32 (batch, dim)."""
        return self.finish(self.backbone(pixel_values=pixel_values.to(self.dtype)).pooler_output)


class TextEmbedder(Embedder):
    """Tokens → vectors."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """int64 (batch, tokens), the mask 1 on a row's own tokens → float32 (batch, dim)."""
        if ARCHITECTURES[self.model_type].pooler:
            return self.finish(self.backbone(input_ids=input_ids).pooler_output)
        arguments = getattr(self, f"_{self.model_type}")(input_ids, attention_mask)
        hidden = self.backbone(input_ids=input_ids, **arguments).last_hidden_state
        return self.finish(pool(hidden, attention_mask, self.pooling))

    # What each backbone is given beside the ids. Masks are written out because transformers' own mask code leaves IsNaN nodes in an
    # exported graph, and position ids in full because ONNX Runtime fails at batch > 1 on ones that are broadcast.

    def _bert(self, input_ids: Tensor, mask: Tensor) -> dict[str, Any]:
        return {"attention_mask": self._mask(mask), "token_type_ids": torch.zeros_like(input_ids)}

    def _xlm_roberta(self, input_ids: Tensor, mask: Tensor) -> dict[str, Any]:
        # As transformers counts: by the ids, not by the mask, so that "<pad>" written out inside a text has no position of its own.
        pad_id = self.backbone.config.pad_token_id
        own = (input_ids != pad_id).to(torch.int64)
        positions = torch.cumsum(own, dim=1) * own + pad_id
        return {
            "attention_mask": self._mask(mask),
            "token_type_ids": torch.zeros_like(input_ids),
            "position_ids": positions,
        }

    def _gemma3_embedding(self, input_ids: Tensor, mask: Tensor) -> dict[str, Any]:
        # transformers has turned the published window (both sides together) into the first distance that is too far.
        window = self.backbone.config.sliding_window
        masks = {"full_attention": self._mask(mask), "sliding_attention": self._mask(mask, window=window)}
        return {"attention_mask": masks, "position_ids": _columns(input_ids), "use_cache": False}

    def _qwen3(self, input_ids: Tensor, mask: Tensor) -> dict[str, Any]:
        masks = {"full_attention": self._mask(mask, causal=True)}
        return {"attention_mask": masks, "position_ids": _columns(input_ids), "use_cache": False}

    def _clip_text(self, input_ids: Tensor, mask: Tensor) -> dict[str, Any]:
        return {"attention_mask": self._mask(mask, causal=True), "position_ids": _columns(input_ids)}

    def _mask(self, mask: Tensor, causal: bool = False, window: int | None = None) -> Tensor | None:
        """(batch, tokens) of 0 and 1 → (batch, 1, tokens, tokens) to add to the scores.

        Finite, since an infinite one gives NaN in half precision. None where PyTorch in eager mode finds nothing to hide: it then takes
        the faster kernel, as transformers does too (a causal backbone hides what comes later by itself).
        """
        tokens = mask.shape[1]
        if not torch.compiler.is_exporting() and (window is None or tokens <= window) and bool(mask.all()):
            return None
        seen = mask[:, None, None, :].to(torch.bool)
        if causal or window is not None:
            column = torch.arange(tokens, device=mask.device)
            distance = column[:, None] - column[None, :]
            seen = seen & (distance >= 0 if window is None else distance.abs() < window)
        hidden = torch.zeros_like(seen, dtype=self.dtype).masked_fill(~seen, torch.finfo(self.dtype).min)
        return hidden.expand(-1, -1, tokens, -1)  # ONNX's Attention wants the queries' axis in full


def _columns(input_ids: Tensor) -> Tensor:
    """(batch, tokens): 0, 1, 2 … in each row."""
    return torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape)


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """(batch, tokens, width) → (batch, width) over each row's own tokens, whichever side is padded.

    Raises:
        BenchError: `pooling` is none of mean, cls, last.
    """
    if pooling == "mean":
        own = mask[:, :, None].to(hidden.dtype)
        return (hidden * own).sum(1) / own.sum(1).clamp(min=1e-9)
    column = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    if pooling == "last":
        index = (mask * column).argmax(1)
    elif pooling == "cls":
        index = mask.argmax(1)
    else:
        raise BenchError(f"pooling {pooling!r}: text is pooled by mean, cls or last")
    index = index[:, None, None].expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, index).squeeze(1)


def build(config: Mapping[str, Any]) -> Embedder:
    """The Embedder of an artefact's config.json, its weights not set."""
    return (TextEmbedder if config["modality"] == "text" else ImageEmbedder)(config)


def load(folder: Path, dtype: str = "fp32") -> Embedder:
    """The Embedder of an artefact folder of kind `safetensors`, in eval mode.

    The module is made without memory and takes the file's tensors as they are, so that the weights are held once.

    Raises:
        BenchError: the folder is not such an artefact.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        state = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise BenchError(f"artefact {folder}: cannot be read ({error}); delete it and run `invoke export` again") from None
    return assemble(config, state, dtype)


def assemble(config: Mapping[str, Any], state: Mapping[str, Tensor], dtype: str = "fp32") -> Embedder:
    """The Embedder of a config and its weights, which it keeps without a copy, in eval mode."""
    with torch.device("meta"):
        embedder = build(config)
    try:
        embedder.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise BenchError(f"weights of {config['model_type']}: they do not fit its config: {' '.join(str(error).split())[:300]}") from None
    _fill_buffers(embedder)
    embedder.to(_dtype(dtype)).eval().requires_grad_(False)
    return embedder


def example(embedder: Embedder) -> tuple[dict[str, Tensor], tuple[dict[int, Any], ...]]:
    """Inputs by name to trace an export with, and which of their axes are free.

    More than one row, of mixed lengths: from a batch of one the exporter would conclude that there is only ever one.
    """
    free: dict[int, Any] = {0: torch.export.Dim("batch")}
    if isinstance(embedder, ImageEmbedder):
        size = embedder.config["image_size"]
        return {"pixel_values": torch.zeros(2, 3, size, size)}, (free,)
    fixed = embedder.config["fixed_tokens"]
    if not fixed:
        free[1] = torch.export.Dim("tokens")
    input_ids = torch.ones(2, fixed or 16, dtype=torch.int64)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 9:] = 0
    return {"input_ids": input_ids, "attention_mask": attention_mask}, (free, free)


def _dtype(precision: str) -> torch.dtype:
    try:
        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    except KeyError:
        raise BenchError(f"precision {precision!r}: the Embedder takes fp32, bf16 or fp16") from None


def _fill_buffers(embedder: Embedder) -> None:
    """Compute the buffers that no checkpoint holds (positions, rotary frequencies), by transformers' own initialiser."""
    for parameter in embedder.parameters():
        parameter._is_hf_initialized = True
    for module in embedder.modules():
        missing = [name for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta]
        for name in missing:
            module._buffers[name] = torch.empty_like(module._buffers[name], device="cpu")
        if missing:
            embedder.backbone._init_weights(module)
