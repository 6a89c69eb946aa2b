"""Every architecture in the Candle worker against the Embedder, on tiny random models and batches of mixed lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bench import catalog
from bench.artefacts import convert
from bench.catalog import Model
from bench.core import jobs
from bench.model import embedder
from bench.prepare import native
from bench.stats import parity
from bench.workers.client import WorkerFailed
from tests.support import tiny

pytestmark = [pytest.mark.native, pytest.mark.slow]

Vectors = npt.NDArray[np.float32]
#: Own lengths of one batch: longer than Gemma's window, and down to one token.
LENGTHS = (1, 23, 2, 9, 40, 17)

#: Changes of a backbone's config that the gate has to see, by architecture.
HALF_THE_HEADS = {"num_attention_heads": 2}
MISTAKES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "bert": {"eps": {"layer_norm_eps": 1e-4}, "heads": HALF_THE_HEADS},
    "xlm_roberta": {"positions": {"pad_token_id": 3}, "heads": HALF_THE_HEADS},
    "gemma3_embedding": {
        "window": {"sliding_window": 10},
        "rope": {"rope_local_base_freq": 9000.0},
        "scale": {"query_pre_attn_scalar": 16},
    },
    "qwen3": {"rope": {"rope_theta": 900000}, "eps": {"rms_norm_eps": 1e-4}},
    "clip_text": {"heads": HALF_THE_HEADS, "layers": {"num_hidden_layers": 1}},
    "clip_vision": {"heads": HALF_THE_HEADS, "layers": {"num_hidden_layers": 1}},
    "siglip_text": {"heads": HALF_THE_HEADS, "gelu": {"hidden_act": "gelu"}},
    "siglip_vision": {"heads": HALF_THE_HEADS, "gelu": {"hidden_act": "gelu"}},
}
#: Poolings other than the right one, where the worker has a choice.
WRONG_POOLING = {"bert": "cls", "xlm_roberta": "mean", "gemma3_embedding": "last", "qwen3": "mean", "clip_text": "mean"}


@dataclass(frozen=True)
class Case:
    """A tiny model as an artefact, a plan of rows for it, and their vectors from the Embedder, one row at a time."""

    model: Model
    artefact: Path
    plan: Path
    vectors: Vectors

    def serve(self, batch: int, sessions: int = 1, artefact: Path | None = None) -> Vectors:
        """The vectors of all rows by the real worker."""
        return tiny.serve("candle", self.model, artefact or self.artefact, self.plan, batch, sessions)

    def complaint(self, vectors: Vectors) -> str | None:
        agreement = parity.compare(vectors, self.vectors)
        assert agreement.norm_error.max() <= parity.NORM_GATE
        return parity.gate("fp32", float(agreement.cosine.min()), float(agreement.max_abs_diff.max()))

    def with_config(self, name: str, change: Mapping[str, Any]) -> Path:
        """The same weights under another config."""
        return tiny.with_config(self.artefact, self.artefact.with_name(name), change)


@pytest.fixture(scope="module", params=tiny.ARCHITECTURES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(request.param, tmp_path_factory.mktemp(request.param))


def make_case(architecture: str, folder: Path) -> Case:
    native.ensure(catalog.load().frameworks["candle"])
    model = tiny.model(architecture)
    artefact, plan = folder / "artefact", folder / "plan"
    artefact.mkdir()
    source = tiny.published(model, folder / "published")
    convert.work({"kind": "safetensors", "model": jobs.plain(model), "input": str(source), "output": str(artefact)})
    lengths = [model.fixed_tokens or length for length in LENGTHS]
    rows = [tiny.batch(model, seed, [length]) for seed, length in enumerate(lengths)]
    tiny.write_plan(plan, [next(iter(row.values()))[0] for row in rows])
    ours = embedder.load(artefact)
    with torch.inference_mode():
        vectors = [ours(*(torch.from_numpy(array) for array in row.values())).numpy() for row in rows]
    return Case(model, artefact, plan, np.concatenate(vectors))


def test_vectors_are_those_of_the_embedder(case: Case) -> None:
    closeness = np.abs(case.vectors @ case.vectors.T - np.eye(len(case.vectors)))
    assert closeness.max() < 0.95, "vectors this close would hide a mistake"
    for batch, sessions in ((1, 1), (4, 1), (len(LENGTHS), 1), (2, 2)):
        assert case.complaint(case.serve(batch, sessions)) is None, f"{batch} rows together, {sessions} sessions"


def test_a_mistake_is_caught_by_the_gate(case: Case) -> None:
    architecture = case.model.architecture
    wrong: dict[str, Mapping[str, Any]] = {
        name: {"backbone": {**tiny.CONFIGS[architecture], **change}} for name, change in MISTAKES[architecture].items()
    }
    if architecture in WRONG_POOLING:
        wrong["pooling"] = {"pooling": WRONG_POOLING[architecture]}
    for name, change in wrong.items():
        vectors = case.serve(len(LENGTHS), artefact=case.with_config(name, change))
        assert case.complaint(vectors), f"{name} went unseen"


def test_an_unknown_architecture_is_not_applicable(tmp_path: Path) -> None:
    case = make_case("bert", tmp_path)
    with pytest.raises(WorkerFailed, match="mamba") as failed:
        case.serve(1, artefact=case.with_config("unknown", {"model_type": "mamba"}))
    assert failed.value.status == "NOT_APPLICABLE"
