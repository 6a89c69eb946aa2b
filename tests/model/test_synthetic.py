"""Synthetic weights at full width and depth: far enough apart for a parity gate to see, calm enough for it not to see rounding."""

from __future__ import annotations

import dataclasses
from itertools import islice

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bench import catalog
from bench.catalog import Model
from bench.corpus import resolve
from bench.model import embedder, state_dict, synthetic
from bench.plan import preprocess

pytestmark = pytest.mark.slow

MODELS = {name: model for name, model in catalog.load().models.items() if model.weights.synthetic}
ROWS, TOKENS = 8, 24
# The embedding table is most of a text model's size and none of its depth: fewer rows of it are drawn here.
VOCABULARY = 2048
COSINE_AT_MOST = 0.9
MOVED_AT_LEAST = 1e-3  # fifty times the gate of fp32 parity
# Larger gains part the vectors further but blow rounding up (CLIP at 3.0: 3e-5); the gate of 2e-5 is to judge runtimes, not weights.
ROUNDING_AT_MOST = 4e-6
# Sharp attention tips over in bf16: 1 − cosine of rows like these, with room below the gate of 1e-3 for the hard inputs.
BF16_AT_MOST = 7e-4


def drawn(model: Model) -> embedder.Embedder:
    weights = model.weights.synthetic
    assert weights is not None
    config = state_dict.config_of(model, weights.config)
    if model.modality == "text":
        ends = {key: None for key in ("bos_token_id", "eos_token_id", "pad_token_id") if (config["backbone"].get(key) or 0) >= VOCABULARY}
        config["backbone"] = {**config["backbone"], **ends, "vocab_size": VOCABULARY}
    centre = 0.0 if model.architecture == "gemma3_embedding" else 1.0
    state = {name: torch.from_numpy(synthetic.draw(name, shape, weights, centre)) for name, shape in state_dict.shapes(config).items()}
    return embedder.assemble(config, state)


def embed(module: embedder.Embedder, first: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    arrays = [first] if first.ndim == 4 else [first, np.ones_like(first)]
    with torch.inference_mode():
        vectors: npt.NDArray[np.float32] = module(*(torch.from_numpy(array) for array in arrays)).float().numpy()
    return vectors


@pytest.mark.parametrize("name", MODELS)
def test_vectors_differ_and_every_part_of_the_input_counts(name: str) -> None:
    model = MODELS[name]
    module = drawn(model)
    if model.image:
        pictures = islice(resolve.generated(seed=1).images("diversity"), ROWS)
        first: npt.NDArray[np.generic] = np.stack([preprocess.prepare_image(encoded, model.image) for encoded in pictures])
        changed = first.copy()
        changed[:, :, 32:48, 32:48] *= -1  # one patch of 196
    else:
        random = np.random.default_rng(1)
        first = random.integers(10, VOCABULARY, (ROWS, model.fixed_tokens or TOKENS))
        changed = first.copy()
        changed[:, 5] = (changed[:, 5] - 10 + 17) % (VOCABULARY - 10) + 10
    vectors, moved = embed(module, first), embed(module, changed)
    cosines = (vectors @ vectors.T)[np.triu_indices(ROWS, 1)]
    assert cosines.max() < COSINE_AT_MOST
    assert np.abs(moved - vectors).max(axis=1).min() > MOVED_AT_LEAST
    exact = embed(module.double(), first)
    assert np.abs(exact - vectors).max() < ROUNDING_AT_MOST
    lower = embed(module.to(torch.bfloat16), first)
    assert 1 - (lower * vectors).sum(axis=1).min() < BF16_AT_MOST


def test_every_model_states_its_size() -> None:
    for model in MODELS.values():
        assert model.weights.synthetic is not None
        shapes = state_dict.shapes(state_dict.config_of(model, model.weights.synthetic.config))
        assert sum(int(np.prod(shape)) for shape in shapes.values()) == model.parameters, model.name
        assert state_dict.config_of(model, model.weights.synthetic.config)["dim"] == model.dim


def test_towers_of_one_checkpoint_share_its_weights_entry() -> None:
    for group in ("clip", "siglip"):
        first, second = catalog.load().pick_models(group)
        assert first.weights == second.weights
        assert {first.modality, second.modality} == {"text", "image"}


def test_a_smaller_gain_collapses_them() -> None:
    """The test above can fail: small numbers, such as those that training begins with, give nearly one vector for all images."""
    model = MODELS["siglip-image"]
    assert model.weights.synthetic is not None
    flat = dataclasses.replace(model.weights.synthetic, gain=0.3, qk_gain=1.0)
    module = drawn(dataclasses.replace(model, weights=dataclasses.replace(model.weights, synthetic=flat)))
    assert model.image is not None
    random = np.random.default_rng(2)
    vectors = embed(module, random.standard_normal((4, 3, 224, 224)).astype(np.float32))
    assert (vectors @ vectors.T).min() > COSINE_AT_MOST
