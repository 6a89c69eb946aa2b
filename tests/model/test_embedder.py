"""The Embedder on MiniLM's real weights: sentence-transformers on the same folder, committed vectors, and how little it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bench import catalog
from bench.core import paths
from bench.core.errors import BenchError
from bench.model import embedder, weights
from bench.plan import preprocess
from tests.golden import minilm
from tests.support import checkpoints

pytestmark = pytest.mark.slow

Vectors = npt.NDArray[np.float32]
TOLERANCE = 1e-6

MODEL = catalog.load().models["minilm"]
HARD_TEXTS = [
    *minilm.TEXTS,
    " ",
    "\n\t",
    "?",
    "[MASK] [SEP] [PAD]",
    "a\u0301e\u0308 \u200b\ufeff \x00 \U0001f469\u200d\U0001f52c",
    "שלום עולם، مرحبا بالعالم، नमस्ते दुनिया",
    "supercalifragilisticexpialidocious" * 20,
    "SELECT p.id, count(*) FROM products AS p WHERE p.price < 10.5 GROUP BY 1; -- cheap ones",
    "word " * 253,  # with both special tokens, one below the most that the model takes
    "word " * 254,  # exactly
    "word " * 255,  # one above
    "A sentence that is repeated until it is much too long for the model. " * 100,
]


@pytest.fixture(scope="module")
def source() -> weights.Source:
    return weights.resolve(MODEL)


@pytest.fixture(scope="module")
def ours(artefact: Path) -> embedder.Embedder:
    return embedder.load(artefact)


def embed(module: embedder.Embedder, source: weights.Source, texts: Sequence[str]) -> Vectors:
    """One batch, padded right to its longest text."""
    tokenizer = preprocess.Tokenizer(MODEL, source.folder)
    rows = [tokenizer.encode(text) for text in texts]
    ids = torch.full((len(rows), max(map(len, rows))), MODEL.pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.from_numpy(row)
        mask[number, : len(row)] = 1
    with torch.inference_mode():
        vectors: Vectors = module(ids, mask).numpy()
    return vectors


@pytest.fixture(scope="module")
def reference(source: weights.Source) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(source.folder), device="cpu")


@pytest.mark.parametrize("at_once", [1, 5, len(HARD_TEXTS)])
def test_equals_sentence_transformers(ours: embedder.Embedder, reference: Any, source: weights.Source, at_once: int) -> None:
    theirs = reference.encode(HARD_TEXTS, batch_size=at_once, normalize_embeddings=True)
    found = np.concatenate([embed(ours, source, HARD_TEXTS[begin : begin + at_once]) for begin in range(0, len(HARD_TEXTS), at_once)])
    assert np.abs(found - theirs).max() <= TOLERANCE


def test_equals_committed_vectors(ours: embedder.Embedder, source: weights.Source) -> None:
    rows = json.loads(minilm.FILE.read_text(encoding="utf-8"))["rows"]
    assert [row["text"] for row in rows] == minilm.TEXTS
    expected = np.array([row["vector"] for row in rows])
    assert np.abs(embed(ours, source, minilm.TEXTS) - expected).max() <= TOLERANCE
    for text, vector in zip(minilm.TEXTS, expected, strict=True):
        assert np.abs(embed(ours, source, [text])[0] - vector).max() <= TOLERANCE


def test_from_source_is_the_artefact(ours: embedder.Embedder, source: weights.Source) -> None:
    straight = checkpoints.embedder_of(MODEL, source)
    assert straight.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, ours.state_dict()[name]) for name, tensor in straight.state_dict().items())


def test_is_what_a_user_of_pytorch_gets(ours: embedder.Embedder) -> None:
    assert ours.backbone.config._attn_implementation == "sdpa"
    assert not ours.training and not any(parameter.requires_grad for parameter in ours.parameters())
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    assert not any(tensor.is_meta for tensor in (*ours.parameters(), *ours.buffers()))


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_half_precision_is_near_and_not_nan(artefact: Path, source: weights.Source, ours: embedder.Embedder, dtype: str) -> None:
    texts = HARD_TEXTS[2:6]
    half = embed(embedder.load(artefact, dtype), source, texts)
    assert half.dtype == np.float32
    assert np.abs(half - embed(ours, source, texts)).max() <= 1e-2


def test_pooling_follows_the_mask_on_either_side() -> None:
    hidden = torch.arange(24, dtype=torch.float32).reshape(2, 4, 3)
    right, left = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]), torch.tensor([[0, 1, 1, 1], [0, 0, 0, 1]])
    assert torch.equal(embedder.pool(hidden, right, "last"), torch.stack([hidden[0, 2], hidden[1, 0]]))
    assert torch.equal(embedder.pool(hidden, left, "last"), torch.stack([hidden[0, 3], hidden[1, 3]]))
    assert torch.equal(embedder.pool(hidden, right, "cls"), torch.stack([hidden[0, 0], hidden[1, 0]]))
    assert torch.equal(embedder.pool(hidden, left, "cls"), torch.stack([hidden[0, 1], hidden[1, 3]]))
    assert torch.equal(embedder.pool(hidden, left, "mean"), torch.stack([hidden[0, 1:].mean(0), hidden[1, 3]]))
    with pytest.raises(BenchError, match="mean, cls or last"):
        embedder.pool(hidden, right, "max")


@pytest.mark.parametrize("broken", ["no folder", "no weights", "cut off", "other shape"])
def test_a_broken_artefact_is_one_line(artefact: Path, tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "artefact"
    if broken != "no folder":
        folder.mkdir()
        config = json.loads((artefact / "config.json").read_text())
        if broken == "other shape":
            config["backbone"]["hidden_size"] = 48
        (folder / "config.json").write_text(json.dumps(config))
        content = (artefact / "model.safetensors").read_bytes()
        if broken != "no weights":
            (folder / "model.safetensors").write_bytes(content[:1000] if broken == "cut off" else content)
    with pytest.raises(BenchError) as error:
        embedder.load(folder)
    assert "\n" not in str(error.value)


def test_loading_holds_the_weights_once(artefact: Path) -> None:
    """Resident growth while loading is under 1.6 times the file, the module's classes included before."""
    code = (
        "import sys, psutil, torch\nfrom pathlib import Path\nfrom bench.model import embedder\n"
        "embedder.ARCHITECTURES['bert'].load()\nbefore = psutil.Process().memory_info().rss\n"
        "module, one = embedder.load(Path(sys.argv[1])), torch.ones(1, 8, dtype=torch.int64)\nmodule(one, one)\n"
        "print(psutil.Process().memory_info().rss - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(artefact)], capture_output=True, text=True, cwd=paths.ROOT, check=True)
    assert int(done.stdout) < 1.6 * (artefact / "model.safetensors").stat().st_size
