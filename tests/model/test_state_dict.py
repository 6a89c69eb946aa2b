"""A checkpoint whose tensors and config contradict each other is named, with both numbers and both files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.core.errors import BenchError
from bench.model import state_dict
from tests.support import tiny


def test_a_table_of_another_size_than_the_config_says(tmp_path: Path) -> None:
    model = tiny.model("bert")
    folder = tiny.published(model, tmp_path / "published")
    assert len(list(state_dict.tensors(model, folder))) > 10
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": tiny.VOCABULARY - 2}))
    shapes = (
        rf"word_embeddings\.weight has the shape \({tiny.VOCABULARY}, 32\), by config\.json it should have \({tiny.VOCABULARY - 2}, 32\)"
    )
    with pytest.raises(BenchError, match=shapes) as raised:
        list(state_dict.tensors(model, folder))
    assert "\n" not in str(raised.value) and "model.safetensors" in str(raised.value)
