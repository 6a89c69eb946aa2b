"""The Embedder straight from a published checkpoint, without an artefact on disk."""

from __future__ import annotations

from bench.catalog import Model
from bench.model import embedder, state_dict
from bench.model.weights import Source


def embedder_of(model: Model, source: Source, dtype: str = "fp32") -> embedder.Embedder:
    """Its tensors renamed and assembled as an export would, in this process."""
    return embedder.assemble(state_dict.config(model, source.folder), dict(state_dict.tensors(model, source.folder)), dtype)
