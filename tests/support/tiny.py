"""Every architecture at a size that exports in seconds: the published layout with drawn weights, and its three artefacts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import catalog
from bench.artefacts import convert
from bench.catalog import ImageInput, Model, SyntheticWeights, Weights
from bench.core import jobs
from bench.model import embedder, synthetic
from bench.prepare import launch
from bench.workers.client import Launch, Order, Worker

VOCABULARY = 300
TOKENS_AT_MOST = 40

CONFIGS: dict[str, dict[str, Any]] = {
    "bert": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "gelu",
        "max_position_embeddings": 64, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "vocab_size": VOCABULARY, "pad_token_id": 0,
        "model_type": "bert",
    },
    "xlm_roberta": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "gelu",
        "max_position_embeddings": 64, "type_vocab_size": 1, "layer_norm_eps": 1e-5, "vocab_size": VOCABULARY, "pad_token_id": 1,
        "bos_token_id": 0, "eos_token_id": 2, "model_type": "xlm-roberta",
    },
    "gemma3_embedding": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
        "query_pre_attn_scalar": 24, "sliding_window": 8, "use_bidirectional_attention": True, "rope_theta": 1000000.0,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"], "rope_local_base_freq": 10000.0,
        "vocab_size": VOCABULARY, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2, "model_type": "gemma3_text",
    },
    "qwen3": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 16, "hidden_act": "silu", "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 1000000,
        "attention_bias": False, "tie_word_embeddings": True, "vocab_size": VOCABULARY, "model_type": "qwen3",
    },
    "clip_text": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "quick_gelu",
        "max_position_embeddings": TOKENS_AT_MOST, "layer_norm_eps": 1e-5, "projection_dim": 24, "vocab_size": VOCABULARY,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "model_type": "clip_text_model",
    },
    "clip_vision": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "quick_gelu",
        "image_size": 32, "patch_size": 8, "layer_norm_eps": 1e-5, "projection_dim": 24, "num_channels": 3,
        "model_type": "clip_vision_model",
    },
    "siglip_text": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "gelu_pytorch_tanh",
        "max_position_embeddings": 16, "layer_norm_eps": 1e-6, "projection_size": 32, "vocab_size": VOCABULARY, "pad_token_id": 1,
        "bos_token_id": 0, "eos_token_id": 1, "model_type": "siglip_text_model",
    },
    "siglip_vision": {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "gelu_pytorch_tanh",
        "image_size": 32, "patch_size": 8, "layer_norm_eps": 1e-6, "num_channels": 3, "model_type": "siglip_vision_model",
    },
}  # fmt: skip
ARCHITECTURES = tuple(CONFIGS)
PAD_IDS = {"xlm_roberta": 1, "siglip_text": 1, "qwen3": VOCABULARY - 1, "clip_text": VOCABULARY - 1}


def model(architecture: str, **changes: int) -> Model:
    """The catalogue's model of this architecture, with the small config in place of the published one, and these changes to it."""
    full = next(model for model in catalog.load().models.values() if model.architecture == architecture)
    published: dict[str, Any] = CONFIGS[architecture] | changes
    if architecture.startswith(("clip", "siglip")):
        family, tower = architecture.split("_")
        published = {"model_type": family, "projection_dim": 24, f"{tower}_config": published}
    drawn = full.weights.synthetic or SyntheticWeights(config={}, gain=1.2, qk_gain=4.0)
    image = ImageInput(32, "exact", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) if full.modality == "image" else None
    return dataclasses.replace(
        full,
        name=f"tiny-{architecture}",
        dim=24 if architecture.startswith("clip") else 32,
        max_tokens=TOKENS_AT_MOST,
        fixed_tokens=16 if full.fixed_tokens else None,
        pad_id=PAD_IDS.get(architecture, 0),
        image=image,
        weights=Weights(synthetic=dataclasses.replace(drawn, config=published)),
    )


def published(model: Model, folder: Path) -> Path:
    """The checkpoint as its authors would publish it, without a tokenizer."""
    assert model.weights.synthetic is not None
    folder.mkdir(parents=True)
    synthetic.write(model, model.weights.synthetic, folder, tokenizer=False)
    return folder


def artefacts(model: Model, source: Path, folder: Path) -> dict[str, Path]:
    """The three artefact folders, made in this process by the code that `export.ensure` runs in another."""
    made = {kind: folder / kind for kind in ("safetensors", "onnx", "openvino")}
    before = source
    for kind, target in made.items():
        target.mkdir()
        convert.work({"kind": kind, "model": jobs.plain(model), "input": str(before), "output": str(target)})
        before = target
    return made


def with_config(artefact: Path, folder: Path, change: Mapping[str, Any]) -> Path:
    """The same weights under another config, in a new folder; `change` replaces top-level keys."""
    folder.mkdir()
    (folder / embedder.WEIGHTS).symlink_to(artefact / embedder.WEIGHTS)
    config = json.loads((artefact / embedder.CONFIG).read_text())
    (folder / embedder.CONFIG).write_text(json.dumps({**config, **change}))
    return folder


def batch(model: Model, seed: int, lengths: list[int], left: bool = False) -> dict[str, npt.NDArray[Any]]:
    """Inputs by name. Rows of ids end with the end token where the model pools it, and are padded to the longest (or the fixed length)."""
    random = np.random.default_rng(seed)
    if model.image:
        return {"pixel_values": random.standard_normal((len(lengths), 3, model.image.size, model.image.size)).astype(np.float32)}
    width = model.fixed_tokens or max(lengths)
    ids = np.full((len(lengths), width), model.pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, length in enumerate(lengths):
        own = slice(width - length, width) if left else slice(0, length)
        ids[row, own] = random.integers(4, VOCABULARY - 2, length)
        mask[row, own] = 1
        if model.architecture == "xlm_roberta" and length > 3:
            ids[row, own.start + 2] = model.pad_id  # "<pad>" written out in a text: positions are counted by ids, not by the mask
        if model.architecture == "clip_text":
            ids[row, own.stop - 1] = VOCABULARY - 1
    return {"input_ids": ids, "attention_mask": np.ones_like(mask) if model.fixed_tokens else mask}


def write_plan(folder: Path, rows: list[npt.NDArray[Any]]) -> None:
    """A plan folder of these rows, each the ids of a text or the pixels of an image."""
    offsets = np.cumsum([0, *(row.size for row in rows)])
    lines = [f"1.000000000,{offset},{row.size}" for offset, row in zip(offsets, rows, strict=False)]
    folder.mkdir()
    (folder / "rows.csv").write_text("\n".join(["gap,offset,length", *lines]) + "\n")
    name = "tokens.i64" if rows[0].dtype == np.int64 else "pixels.f32"
    (folder / name).write_bytes(b"".join(row.tobytes() for row in rows))


def serve(
    framework: str, model: Model, artefact: Path, plan: Path, batch: int, sessions: int = 1, precision: str = "fp32"
) -> npt.NDArray[np.float32]:
    """The vectors of all rows of a plan by the real worker of a framework, `batch` rows at a time."""
    return serve_each(framework, model, artefact, plan, (batch,), sessions, precision)[0]


def serve_each(
    framework: str, model: Model, artefact: Path, plan: Path, batches: Sequence[int], sessions: int = 1, precision: str = "fp32"
) -> list[npt.NDArray[np.float32]]:
    """The same for each of several batches, by one worker."""
    command, env = launch.command_and_env(catalog.load().frameworks[framework], sessions, 2)
    folder = plan.parent
    rows = len((plan / "rows.csv").read_text(encoding="utf-8").splitlines()) - 1
    worker = Worker(Launch(command, env, artefact, model.pad_id, precision, sessions, 2), folder / "worker.log", folder)
    try:
        worker.wait_ready(300)
        answers = [worker.serve(Order(plan, 0, rows, batch, 300), folder, 300) for batch in batches]
    finally:
        worker.kill()
    assert [len(served.samples) for served in answers] == [rows] * len(batches)
    return [served.vectors for served in answers]
