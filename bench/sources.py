"""A published checkpoint → the Embedder's config and weights, under the names of WORKER.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from bench.catalog import Model

# Tensors of published checkpoints that are no weights of the Embedder: old position buffers, heads that it does not use.
UNUSED = ("embeddings.position_ids", "pooler.")


def config(model: Model, folder: Path) -> dict[str, Any]:
    """config.json of the artefact, from the checkpoint's own config.json."""
    published = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {
        "model_type": model.architecture,
        "modality": model.modality,
        "pooling": model.pooling,
        "dim": model.dim,
        "max_tokens": model.max_tokens,
        "fixed_tokens": model.fixed_tokens,
        "image_size": model.image.size if model.image else None,
        "backbone": published,
    }


def tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The checkpoint's tensors in fp32 under the Embedder's names."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            if not name.startswith(UNUSED):
                yield f"backbone.{name}", file.get_tensor(name).float()
