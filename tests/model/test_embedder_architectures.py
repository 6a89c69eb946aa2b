"""Every architecture at a small size: ours against its authors' classes, then ONNX Runtime and OpenVINO against ours.

Batches are mixed in length and padded on either side; a runtime that leaks padding, or a wrong mask, position or pooling, shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bench import catalog
from bench.catalog import Framework, Model
from bench.model import embedder
from bench.prepare import native
from bench.stats import parity
from tests.support import tiny

# Both inputs of a text model name the same two axes, and the exporter says so each time.
pytestmark = [pytest.mark.filterwarnings("ignore:# The axis name"), pytest.mark.slow]

#: The Candle worker has a file of its own, with more batches and mistakes.
FRAMEWORKS = [
    pytest.param(framework, id=framework.name, marks=[pytest.mark.native] if framework.build else [])
    for framework in catalog.load().frameworks.values()
    if framework.role == "measured" and framework.name != "candle"
]

Vectors = npt.NDArray[np.float32]
LENGTHS = ([1], [40], [17, 3], [1, 5, 40, 2, 23], [9, 9, 9])
POOLING_MODES = {"mean": "mean", "cls": "cls", "last": "lasttoken"}


@dataclass(frozen=True)
class Case:
    model: Model
    source: Path
    artefacts: dict[str, Path]
    ours: embedder.Embedder

    def embed(self, inputs: dict[str, npt.NDArray[Any]]) -> Vectors:
        with torch.inference_mode():
            vectors: Vectors = self.ours(*(torch.from_numpy(array) for array in inputs.values())).numpy()
        return vectors

    def batches(self, left: bool = False) -> list[dict[str, npt.NDArray[Any]]]:
        fixed = self.model.fixed_tokens
        mixes = [[min(length, fixed) for length in lengths] for lengths in LENGTHS] if fixed else LENGTHS
        return [tiny.batch(self.model, seed, lengths, left) for seed, lengths in enumerate(mixes)]


@pytest.fixture(scope="module", params=tiny.ARCHITECTURES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    model = tiny.model(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    source = tiny.published(model, folder / "published")
    artefacts = tiny.artefacts(model, source, folder)
    return Case(model, source, artefacts, embedder.load(artefacts["safetensors"]))


def theirs(case: Case) -> Any:
    """inputs → vectors, by the classes that the model's authors tell users to load the checkpoint with."""
    import transformers
    from sentence_transformers.sentence_transformer import modules
    from torch.nn.functional import normalize

    architecture = case.model.architecture
    towers = {
        "clip_text": transformers.CLIPTextModelWithProjection,
        "clip_vision": transformers.CLIPVisionModelWithProjection,
        "siglip_text": transformers.SiglipTextModel,
        "siglip_vision": transformers.SiglipVisionModel,
    }
    if architecture in towers:
        tower = towers[architecture].from_pretrained(case.source).eval()

        def embed_by_tower(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
            if architecture == "siglip_text":
                inputs = {"input_ids": inputs["input_ids"]}  # its processor gives no mask
            outputs = tower(**inputs)
            names = {"clip_text": "text_embeds", "clip_vision": "image_embeds"}
            return normalize(getattr(outputs, names.get(architecture, "pooler_output")), dim=-1)

        return embed_by_tower
    backbone = transformers.AutoModel.from_pretrained(case.source).eval()
    pooling = modules.Pooling(case.model.dim, pooling_mode=POOLING_MODES[case.model.pooling])
    dense = []
    for folder in sorted(case.source.glob("*_Dense")):
        from safetensors.torch import load_file

        weight = load_file(folder / "model.safetensors")["linear.weight"]
        layer = modules.Dense(weight.shape[1], weight.shape[0], bias=False, activation_function=torch.nn.Identity())
        layer.linear.weight = torch.nn.Parameter(weight)
        dense.append(layer)

    def embed(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        features: dict[str, Any] = {"attention_mask": inputs["attention_mask"]}
        features["token_embeddings"] = backbone(**inputs).last_hidden_state
        for module in (pooling, *dense):
            features = module(features)
        return normalize(features["sentence_embedding"], dim=-1)

    return embed


@pytest.mark.parametrize("left", [False, True])
def test_ours_is_theirs(case: Case, left: bool) -> None:
    if left and case.model.architecture in ("clip_text", "clip_vision", "siglip_text", "siglip_vision", "bert", "xlm_roberta"):
        pytest.skip("this architecture is never padded on the left")
    embed = theirs(case)
    for inputs in case.batches(left):
        with torch.inference_mode():
            expected = embed({name: torch.from_numpy(array) for name, array in inputs.items()}).numpy()
        assert np.abs(case.embed(inputs) - expected).max() <= 1e-6


def test_padding_does_not_matter(case: Case) -> None:
    """A row alone is the row in a batch, bit for bit but for rounding."""
    for inputs in case.batches():
        together = case.embed(inputs)
        for row in range(len(together)):
            alone = {name: array[row : row + 1] for name, array in inputs.items()}
            if "attention_mask" in alone:
                own = int(alone["attention_mask"].sum())
                alone = {name: array[:, :own] for name, array in alone.items()}
            assert np.abs(case.embed(alone)[0] - together[row]).max() <= 1e-6


def test_vectors_have_length_one_and_differ(case: Case) -> None:
    """A parity gate on collapsed vectors is blind: different inputs are far apart, and one changed token or patch moves the vector."""
    inputs = tiny.batch(case.model, 7, [16] * 12)
    vectors = case.embed(inputs)
    assert vectors.dtype == np.float32 and vectors.shape == (12, case.model.dim)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() <= 1e-6
    cosines = (vectors @ vectors.T)[np.triu_indices(12, 1)]
    assert np.median(cosines) < 0.9 and cosines.max() < 0.97  # 32 dimensions are few: the bound of full-size models is 0.9
    name, array = next(iter(inputs.items()))
    for place in [3, 8] if name == "input_ids" else [0, 16]:
        changed = array.copy()
        if name == "input_ids":
            changed[0, place] = 4 if changed[0, place] != 4 else 5
        else:
            changed[0, :, place : place + 8, place : place + 8] *= -1
        moved = case.embed({**inputs, name: changed})
        assert np.abs(moved[0] - vectors[0]).max() > 1e-3
        assert np.abs(moved[1:] - vectors[1:]).max() <= 1e-6


def test_onnx_is_ours(case: Case) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(case.artefacts["onnx"] / "model.onnx"), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["sentence_embedding"]
    fixed, size = case.model.fixed_tokens, case.model.image.size if case.model.image else 0
    shape = ["batch", 3, size, size] if size else ["batch", fixed or "tokens"]
    assert {value.name: value.shape for value in session.get_inputs()} == dict.fromkeys(case.batches()[0], shape)
    for left in (False, True):
        for inputs in case.batches(left):
            assert_parity(session.run(None, inputs)[0], case.embed(inputs))


def test_openvino_is_ours(case: Case) -> None:
    import openvino

    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(case.artefacts["openvino"] / "model.xml", "CPU", hints)
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    for left in (False, True):
        for inputs in case.batches(left):
            assert_parity(compiled(inputs)["sentence_embedding"], case.embed(inputs))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_worker_is_ours(case: Case, framework: Framework) -> None:
    """Through the worker protocol: rows of mixed lengths alone, and all in one padded batch."""
    if framework.build:
        native.ensure(framework)
    lengths = [min(length, case.model.fixed_tokens or length) for length in (1, 23, 2, 9, 40, 17)]
    rows = [tiny.batch(case.model, seed, [length]) for seed, length in enumerate(lengths)]
    plan = case.source.parent / f"plan-{framework.name}"
    tiny.write_plan(plan, [next(iter(row.values()))[0] for row in rows])
    expected = np.concatenate([case.embed(row) for row in rows])
    for vectors in tiny.serve_each(framework.name, case.model, case.artefacts[framework.artefact], plan, (1, len(rows))):
        assert_parity(vectors, expected)


def assert_parity(found: Vectors, expected: Vectors) -> None:
    """By the gate that judges workers."""
    assert found.dtype == np.float32 and found.shape == expected.shape
    agreement = parity.compare(found, expected)
    assert parity.gate("fp32", float(agreement.cosine.min()), float(agreement.max_abs_diff.max())) is None
    assert agreement.norm_error.max() <= parity.NORM_GATE
