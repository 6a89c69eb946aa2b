"""Candle's quantised layers, on tiny random text models: near the float32 Embedder, by as much as their bits allow and no nearer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bench import catalog
from bench.artefacts import convert
from bench.core import jobs
from bench.model import embedder
from bench.prepare import native
from bench.stats import parity
from bench.workers.client import WorkerFailed
from tests.support import tiny
from tests.support.driver import Driver

pytestmark = [pytest.mark.native, pytest.mark.slow]

CANDLE = catalog.load().frameworks["candle"]
LENGTHS = (1, 23, 2, 9, 40, 17)
#: Linear layers of a tiny model: those of its encoder, and EmbeddingGemma's two after pooling.
LAYERS = {"bert": 2 * 6, "xlm_roberta": 2 * 6, "gemma3_embedding": 3 * 7 + 2, "qwen3": 2 * 7}
#: precision → the format that is read back, and how far 1 − cosine may and must lie from float32's.
FORMATS = {"int8": ("q8_0", 1e-6, 2e-3), "int4": ("q4_0", 1e-4, 0.15)}
#: Changes of a config that turn a vector further than eight bits do.
MISTAKES = {
    "bert": {"num_attention_heads": 2},
    "xlm_roberta": {"pad_token_id": 3},
    "gemma3_embedding": {"sliding_window": 40},
    "qwen3": {"rope_theta": 100},
}


class Case:
    """A tiny model as an artefact, rows for it, and their vectors from the Embedder."""

    def __init__(self, architecture: str, folder: Path) -> None:
        # Blocks of 32 weights lie along a row: widths are multiples of it.
        self.model = tiny.model(architecture, intermediate_size=64)
        self.artefact, self.plan, source = folder / "artefact", folder / "plan", tiny.published(self.model, folder / "published")
        self.artefact.mkdir()
        convert.work({"kind": "safetensors", "model": jobs.plain(self.model), "input": str(source), "output": str(self.artefact)})
        rows = [tiny.batch(self.model, seed, [self.model.fixed_tokens or length]) for seed, length in enumerate(LENGTHS)]
        tiny.write_plan(self.plan, [next(iter(row.values()))[0] for row in rows])
        ours = embedder.load(self.artefact)
        with torch.inference_mode():
            self.vectors = np.concatenate([ours(*map(torch.from_numpy, row.values())).numpy() for row in rows])

    def serve(self, precision: str, batch: int, artefact: Path | None = None) -> npt.NDArray[np.float32]:
        return tiny.serve("candle", self.model, artefact or self.artefact, self.plan, batch, precision=precision)

    def apart(self, vectors: npt.NDArray[np.float32]) -> float:
        """The largest 1 − cosine to the Embedder."""
        return 1 - float(parity.compare(vectors, self.vectors).cosine.min())


@pytest.fixture(scope="module", params=LAYERS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    native.ensure(CANDLE)
    return Case(request.param, tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("precision", FORMATS)
def test_vectors_are_as_near_as_their_bits_allow(case: Case, precision: str) -> None:
    _, least, most = FORMATS[precision]
    together, alone = case.serve(precision, len(LENGTHS)), case.serve(precision, 1)
    assert least < case.apart(alone) < most
    # every row of activations has scales of its own, so that padding and neighbours change nothing
    assert np.abs(together - alone).max() <= 1e-5


def test_a_mistake_turns_vectors_further_than_eight_bits(case: Case, tmp_path: Path) -> None:
    backbone = json.loads((case.artefact / embedder.CONFIG).read_text())["backbone"]
    wrong = tiny.with_config(case.artefact, tmp_path / "wrong", {"backbone": backbone | MISTAKES[case.model.architecture]})
    assert case.apart(case.serve("int8", len(LENGTHS), wrong)) > FORMATS["int8"][2]


@pytest.mark.parametrize("precision", FORMATS)
def test_the_format_of_every_layer_is_read_back(case: Case, tmp_path: Path, precision: str) -> None:
    with Driver(CANDLE, case.artefact, tmp_path, precision=precision) as driver:
        settings = driver.ready["settings"]
    assert (settings["precision"], settings["linear_layers"]) == (precision, f"{FORMATS[precision][0]}: {LAYERS[case.model.architecture]}")


def test_a_tower_has_none(tmp_path: Path) -> None:
    native.ensure(CANDLE)
    case = Case("clip_text", tmp_path)
    with pytest.raises(WorkerFailed, match="no quantised layers") as failed:
        case.serve("int8", 1)
    assert failed.value.status == "NOT_APPLICABLE"
