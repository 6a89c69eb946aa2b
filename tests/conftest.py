"""What several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import catalog
from bench.artefacts import export
from bench.model import weights


@pytest.fixture(scope="session")
def artefact() -> Path:
    """The safetensors artefact of MiniLM's real weights."""
    model = catalog.load().models["minilm"]
    return export.ensure(model, weights.resolve(model), "safetensors").folder
