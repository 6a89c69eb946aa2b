"""Every architecture in the Candle worker against the Embedder, on tiny random models and batches of mixed lengths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file

from bench import build, catalog, embedder, experiment, parity, sources, synthetic
from bench.catalog import SyntheticWeights
from bench.process import Worker, WorkerFailed

pytestmark = pytest.mark.native

Vectors = npt.NDArray[np.float32]
PAD = 1
#: Own lengths in one batch; the longest is longer than Gemma's window below and shorter than any table of positions.
LENGTHS = (1, 23, 2, 9, 40, 17)
IMAGES = 5
DRAWN = SyntheticWeights(config={}, gain=1.0, qk_gain=3.0)

SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
ROBERTA = {
    **SIZES,
    "vocab_size": 90,
    "hidden_act": "gelu",
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
}
DECODER = {**SIZES, "vocab_size": 90, "head_dim": 16, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "num_key_value_heads": 2}
VISION = {**SIZES, "image_size": 24, "patch_size": 8}


@dataclass(frozen=True)
class Tiny:
    """A model of an architecture at toy size, and mistakes in its config that the parity gate has to catch."""

    model_type: str
    backbone: Mapping[str, Any]
    mistakes: Mapping[str, Mapping[str, Any]]
    pooling: str = "last"
    wrong_pooling: str | None = None
    projection: tuple[int, ...] = ()
    modality: str = "text"
    fixed_tokens: int | None = None

    def config(self) -> dict[str, Any]:
        return {
            "model_type": self.model_type,
            "modality": self.modality,
            "pooling": self.pooling,
            "dim": (self.projection or (SIZES["hidden_size"],))[-1],
            "max_tokens": 64,
            "fixed_tokens": self.fixed_tokens,
            "image_size": VISION["image_size"] if self.modality == "image" else None,
            "projection": list(self.projection),
            "backbone": dict(self.backbone),
        }


MODELS = {
    tiny.model_type: tiny
    for tiny in (
        Tiny(
            "bert",
            {**ROBERTA, "layer_norm_eps": 1e-12, "type_vocab_size": 2, "pad_token_id": 0},
            {"eps": {"layer_norm_eps": 1e-4}, "heads": {"num_attention_heads": 2}},
            pooling="mean",
            wrong_pooling="cls",
        ),
        Tiny(
            "xlm_roberta",
            {**ROBERTA, "layer_norm_eps": 1e-5, "type_vocab_size": 1, "pad_token_id": PAD},
            {"positions": {"pad_token_id": 3}, "heads": {"num_attention_heads": 2}},
            pooling="cls",
            wrong_pooling="mean",
        ),
        Tiny(
            "gemma3_embedding",
            {
                **DECODER,
                "attention_bias": False,
                "attn_logit_softcapping": None,
                "hidden_activation": "gelu_pytorch_tanh",
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
                "query_pre_attn_scalar": 24,
                "rope_local_base_freq": 100.0,
                "rope_theta": 10000.0,
                "sliding_window": 16,
                "use_bidirectional_attention": True,
            },
            {"window": {"sliding_window": 18}, "rope": {"rope_local_base_freq": 10000.0}, "scale": {"query_pre_attn_scalar": 16}},
            pooling="mean",
            wrong_pooling="last",
            projection=(32, 96, 24),
        ),
        Tiny(
            "qwen3",
            {**DECODER, "attention_bias": False, "hidden_act": "silu", "rope_theta": 1000.0, "use_sliding_window": False},
            {"rope": {"rope_theta": 1001.0}, "eps": {"rms_norm_eps": 1e-4}},
            wrong_pooling="mean",
        ),
        Tiny(
            "clip_text",
            {**SIZES, "vocab_size": 90, "max_position_embeddings": 64, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
            {"heads": {"num_attention_heads": 2}},
            wrong_pooling="mean",
            projection=(32, 24),
        ),
        Tiny(
            "clip_vision",
            {**VISION, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
            {"heads": {"num_attention_heads": 2}, "layers": {"num_hidden_layers": 2}},
            pooling="projection",
            projection=(32, 24),
            modality="image",
        ),
        Tiny(
            "siglip_text",
            {**SIZES, "vocab_size": 90, "max_position_embeddings": 40, "projection_size": 32},
            {"heads": {"num_attention_heads": 2}, "gelu": {"hidden_act": "gelu"}},
            pooling="attention",
            fixed_tokens=40,
        ),
        Tiny(
            "siglip_vision",
            VISION,
            {"heads": {"num_attention_heads": 2}, "gelu": {"hidden_act": "gelu"}},
            pooling="attention",
            modality="image",
        ),
    )
}


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    build.ensure(catalog.load().frameworks["candle"])


def write_artefact(folder: Path, tiny: Tiny) -> Path:
    config = tiny.config()
    centre = 0.0 if tiny.model_type == "gemma3_embedding" else 1.0
    shapes = sources.shapes(config)
    folder.mkdir()
    save_file(
        {name: torch.from_numpy(synthetic.draw(name, shape, DRAWN, centre)) for name, shape in shapes.items()}, folder / embedder.WEIGHTS
    )
    (folder / embedder.CONFIG).write_text(json.dumps(config))
    return folder


def write_plan(folder: Path, tiny: Tiny) -> list[npt.NDArray[Any]]:
    """A plan of random rows, which are also returned."""
    random = np.random.default_rng(7)
    rows: list[npt.NDArray[Any]]
    if tiny.modality == "image":
        size = VISION["image_size"]
        rows, file = [random.standard_normal((3, size, size), dtype=np.float32) for _ in range(IMAGES)], "pixels.f32"
    else:
        lengths = [tiny.fixed_tokens or length for length in LENGTHS]
        # 0 and 1 are pad ids, and an own token of the pad's id has another position in transformers' RoBERTa
        rows, file = [random.integers(2, 90, length, dtype=np.int64) for length in lengths], "tokens.i64"
    offsets = np.cumsum([0, *(row.size for row in rows)])
    lines = [f"1.000000000,{offset},{row.size}" for offset, row in zip(offsets, rows, strict=False)]
    folder.mkdir()
    (folder / "rows.csv").write_text("\n".join(["gap,offset,length", *lines]) + "\n")
    (folder / file).write_bytes(b"".join(row.tobytes() for row in rows))
    return rows


def reference(folder: Path, rows: list[npt.NDArray[Any]]) -> Vectors:
    """The Embedder, row by row: without a batch there is no padding to get wrong."""
    model = embedder.load(folder)
    vectors = []
    with torch.inference_mode():
        for row in rows:
            tensor = torch.from_numpy(row)[None]
            inputs = (tensor,) if row.ndim == 3 else (tensor, torch.ones_like(tensor))
            vectors.append(model(*inputs).numpy())
    return np.concatenate(vectors)


def serve(artefact: Path, plan: Path, batches: tuple[int, ...], sessions: int = 1) -> list[Vectors]:
    """The vectors of all rows of a plan, once for each size of batch."""
    command, env = experiment.command_and_env(catalog.load().frameworks["candle"], sessions, 2)
    flags = ["--model", str(artefact), "--precision", "fp32", "--sessions", str(sessions), "--threads", "2", "--pad-id", str(PAD)]
    worker = Worker(command, flags, env, plan.parent, plan.parent / "worker.log")
    try:
        ready = worker.wait_ready(60)
        rows = len((plan / "rows.csv").read_text().splitlines()) - 1
        vectors = []
        for batch in batches:
            out = plan.parent / f"out-{artefact.name}-{sessions}-{batch}"
            assert worker.serve(str(plan), 0, rows, 0, batch, 60, str(out), 60) == rows
            vectors.append(np.fromfile(out / "vectors.bin", dtype="<f4").reshape(rows, ready.dim))
        return vectors
    finally:
        worker.kill()


def complaint(vectors: Vectors, wanted: Vectors) -> str | None:
    agreement = parity.compare(vectors, wanted)
    assert agreement.norm_error.max() <= parity.NORM_GATE
    return parity.gate("fp32", float(agreement.cosine.min()), float(agreement.max_abs_diff.max()))


@pytest.mark.parametrize("name", MODELS)
def test_vectors_are_those_of_the_embedder_alone_and_in_padded_batches(name: str, tmp_path: Path) -> None:
    tiny = MODELS[name]
    artefact, plan = write_artefact(tmp_path / "artefact", tiny), tmp_path / "plan"
    wanted = reference(artefact, write_plan(plan, tiny))
    others = np.abs(wanted @ wanted.T - np.eye(len(wanted)))
    assert others.max() < 0.9, "vectors this close would hide a mistake"
    for sessions in (1, 2):
        for vectors in serve(artefact, plan, (1, 4, len(wanted)), sessions):
            assert complaint(vectors, wanted) is None


@pytest.mark.parametrize("name", MODELS)
def test_a_mistake_is_caught_by_the_gate(name: str, tmp_path: Path) -> None:
    tiny = MODELS[name]
    artefact, plan = write_artefact(tmp_path / "artefact", tiny), tmp_path / "plan"
    wanted = reference(artefact, write_plan(plan, tiny))
    wrong = {mistake: {**tiny.config(), "backbone": {**tiny.backbone, **change}} for mistake, change in tiny.mistakes.items()}
    if tiny.wrong_pooling:
        wrong["pooling"] = {**tiny.config(), "pooling": tiny.wrong_pooling}
    assert len(wrong) >= 2
    for mistake, config in wrong.items():
        folder = tmp_path / mistake
        folder.mkdir()
        (folder / embedder.WEIGHTS).symlink_to(artefact / embedder.WEIGHTS)
        (folder / embedder.CONFIG).write_text(json.dumps(config))
        (vectors,) = serve(folder, plan, (len(wanted),))
        assert complaint(vectors, wanted), f"{mistake} went unseen"


def test_an_unknown_architecture_is_not_applicable(tmp_path: Path) -> None:
    tiny = MODELS["bert"]
    artefact, plan = write_artefact(tmp_path / "artefact", tiny), tmp_path / "plan"
    write_plan(plan, tiny)
    (artefact / embedder.CONFIG).write_text(json.dumps({**tiny.config(), "model_type": "mamba"}))
    with pytest.raises(WorkerFailed, match="mamba") as failed:
        serve(artefact, plan, (1,))
    assert failed.value.status == "NOT_APPLICABLE"
