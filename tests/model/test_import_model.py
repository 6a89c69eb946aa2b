"""Models that the catalogue does not have: read from what their own libraries wrote, equal to these libraries, refused by name."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from bench import catalog
from bench.catalog import Model, Weights
from bench.core import paths
from bench.core.errors import BenchError
from bench.corpus import hard
from bench.model import hub_metadata, import_model, weights
from bench.plan import preprocess
from tests.support import checkpoints, reference_models
from tests.support.hub import Hub

Vectors = npt.NDArray[np.float32]
TEXT_MODELS = tuple(reference_models.POOLING)
NAMED = Model("new", "new", "text", "bert", "mean", 1, 0, "mit", "https://example.org", Weights())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every family on disk; qwen3's weights in shards."""
    folder = tmp_path_factory.mktemp("theirs")
    shards = {"qwen3": {"max_shard_size": "20KB"}}
    texts = {name: reference_models.text_model(name, folder / name, **shards.get(name, {})) for name in TEXT_MODELS}
    return texts | {family: reference_models.two_towers(family, folder / family) for family in ("clip", "siglip")}


def embed_texts(model: Model, folder: Path, texts: list[str], prompt: str = "") -> Vectors:
    """By ours, all in one batch padded on the right."""
    tokenizer = preprocess.Tokenizer(model, folder)
    rows = [tokenizer.encode(prompt + text) for text in texts]
    ids = torch.full((len(rows), max(map(len, rows))), model.pad_id, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = torch.from_numpy(row), 1
    module = checkpoints.embedder_of(model, weights.Source("folder", folder, "r", {}))
    with torch.inference_mode():
        vectors: Vectors = module(ids, mask).numpy()
    return vectors


def embed_images(model: Model, folder: Path, images: list[bytes]) -> Vectors:
    assert model.image is not None
    pixels = torch.from_numpy(np.stack([preprocess.prepare_image(encoded, model.image) for encoded in images]))
    module = checkpoints.embedder_of(model, weights.Source("folder", folder, "r", {}))
    with torch.inference_mode():
        vectors: Vectors = module(pixels).numpy()
    return vectors


def assert_same(ours: Vectors, expected: Any) -> None:
    expected = np.asarray(expected)
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    cosines = (expected @ expected.T)[np.triu_indices(len(expected), 1)]
    assert np.median(cosines) < 0.95, "vectors this close would hide a mistake"
    assert np.abs(ours - expected).max() <= 1e-6


# Read right, and the same vectors


@pytest.mark.parametrize("name", TEXT_MODELS)
@pytest.mark.parametrize("kind", ["document", "query"])
def test_text_vectors_are_those_of_sentence_transformers(saved: dict[str, Path], name: str, kind: str) -> None:
    from sentence_transformers import SentenceTransformer

    library = SentenceTransformer(str(saved[name]), device="cpu")
    (model,) = hub_metadata.read(saved[name], NAMED)
    if kind == "document":
        ours, expected = embed_texts(model, saved[name], reference_models.TEXTS), library.encode_document(reference_models.TEXTS)
    else:
        bare = {**model.__dict__, "prompts": {}}
        ours = embed_texts(Model(**bare), saved[name], reference_models.TEXTS, model.prompts.get("query", ""))
        expected = library.encode_query(reference_models.TEXTS)
    assert_same(ours, expected)


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_two_towers_are_those_of_transformers(saved: dict[str, Path], family: str) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = saved[family]
    image, text = hub_metadata.read(folder, NAMED)
    assert (image.modality, text.modality, image.group, text.group) == ("image", "text", "new", "new")
    library = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    padding = "max_length" if family == "siglip" else True
    batch = tokenizer(reference_models.TEXTS, padding=padding, truncation=True, max_length=text.max_tokens, return_tensors="pt")
    given = {"input_ids": batch["input_ids"]} | ({"attention_mask": batch["attention_mask"]} if family == "clip" else {})
    with torch.inference_mode():
        expected = library.get_text_features(**given)
    assert_same(embed_texts(text, folder, reference_models.TEXTS), getattr(expected, "pooler_output", expected).numpy())

    pictures = list(hard.images(1, 12))
    processor = processor_of(family, folder)
    pixels = processor([Image.open(io.BytesIO(each)).convert("RGB") for each in pictures], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        features = library.get_image_features(pixel_values=pixels)
    assert_same(embed_images(image, folder, pictures), getattr(features, "pooler_output", features).numpy())


def processor_of(family: str, folder: Path) -> Any:
    """The authors' preparation of images, with the settings that are stored beside the weights."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    return {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil}[family].from_pretrained(folder)


def test_what_is_read_is_what_is_stored(saved: dict[str, Path]) -> None:
    (qwen3,) = hub_metadata.read(saved["qwen3"], NAMED)
    assert (qwen3.architecture, qwen3.pooling, qwen3.dim, qwen3.pad_id, qwen3.max_tokens) == (
        "qwen3",
        "last",
        32,
        reference_models.END,
        reference_models.LENGTH,
    )
    assert qwen3.prompts == reference_models.PROMPTS["qwen3"] and (qwen3.license, qwen3.name) == ("mit", "new")
    assert not (saved["qwen3"] / "model.safetensors").exists() and len(list(saved["qwen3"].glob("model-*.safetensors"))) > 2
    (gemma,) = hub_metadata.read(saved["gemma3_embedding"], NAMED)
    assert (gemma.dim, gemma.prompts) == (24, reference_models.PROMPTS["gemma3_embedding"])
    image, text = hub_metadata.read(saved["siglip"], NAMED)
    assert image.image == catalog.ImageInput(32, "exact", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (text.fixed_tokens, text.pad_id, image.dim, text.dim) == (16, 1, 32, 32)
    image, text = hub_metadata.read(saved["clip"], NAMED)
    assert image.image is not None and (image.image.resize, image.dim, text.max_tokens, text.pad_id) == (
        "short",
        24,
        40,
        reference_models.END,
    )


def test_older_files_are_read_too() -> None:
    """MiniLM's own, which sentence-transformers 2 wrote: a flag for each pooling, the length beside the Transformer."""
    listed = catalog.load().models["minilm"]
    (model,) = hub_metadata.read(weights.resolve(listed).folder, NAMED)
    for key in ("architecture", "pooling", "dim", "max_tokens", "pad_id", "prompts"):
        assert getattr(model, key) == getattr(listed, key), key
    pooler = 384 * 384 + 384  # published, and part of no vector
    assert model.parameters == listed.parameters - pooler


# Refused by name


def change_config(**changes: Any) -> Any:
    return lambda folder: reference_models.edit(folder / "config.json", **changes)


def change_modules(change: Any) -> Any:
    def apply(folder: Path) -> None:
        file = folder / "modules.json"
        modules = json.loads(file.read_text())
        file.write_text(json.dumps(change(modules)))

    return apply


def renamed(modules: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [modules[0], {**modules[1], "type": kind}, *modules[2:]]


REFUSALS: dict[str, tuple[str, Any, str]] = {
    "architecture": ("bert", change_config(model_type="mamba"), "architecture 'mamba' is not one of ours"),
    "remote code": ("bert", change_config(auto_map={"AutoModel": "modeling.X"}), "code of its own"),
    "quantised": ("bert", change_config(quantization_config={"bits": 4}), "quantised"),
    "relative positions": ("bert", change_config(position_embedding_type="relative_key"), "positions other than absolute"),
    "causal gemma": ("gemma3_embedding", change_config(use_bidirectional_attention=False), "causal attention"),
    "sliding qwen3": ("qwen3", change_config(use_sliding_window=True), "sliding windows"),
    "no modules": ("bert", lambda folder: (folder / "modules.json").unlink(), "its pooling is not stated"),
    "pooling module": ("bert", change_modules(lambda m: renamed(m, "sentence_transformers.models.LSTM")), r"models\.LSTM"),
    "module of its own": ("bert", change_modules(lambda m: renamed(m, "custom_st.Pooling")), r"custom_st\.Pooling"),
    "order": ("bert", change_modules(lambda m: [m[0], m[2], m[1]]), "in the order"),
    "max pooling": ("bert", lambda f: reference_models.edit(f / "1_Pooling" / "config.json", pooling_mode="max"), "pooling max"),
    "two poolings": (
        "bert",
        lambda f: reference_models.edit(f / "1_Pooling" / "config.json", pooling_mode=["cls", "mean"]),
        r"cls \+ mean",
    ),
    "no prompt in pooling": (
        "bert",
        lambda f: reference_models.edit(f / "1_Pooling" / "config.json", include_prompt=False),
        "include_prompt",
    ),
    "dense bias": ("gemma3_embedding", lambda f: reference_models.edit(f / "2_Dense" / "config.json", bias=True), "2_Dense with a bias"),
    "dense tanh": (
        "gemma3_embedding",
        lambda f: reference_models.edit(f / "3_Dense" / "config.json", activation_function="torch.nn.modules.activation.Tanh"),
        "activation Tanh",
    ),
    "dense widths": ("gemma3_embedding", lambda f: reference_models.edit(f / "2_Dense" / "config.json", out_features=90), "of widths"),
    "cut vectors": ("bert", lambda f: reference_models.edit(f / "config_sentence_transformers.json", truncate_dim=16), "truncate_dim"),
    "lower case": ("bert", lambda f: reference_models.edit(f / "sentence_bert_config.json", do_lower_case=True), "do_lower_case"),
    "cut on the left": (
        "bert",
        lambda f: reference_models.edit(f / "tokenizer_config.json", truncation_side="left"),
        r"tokenizer_config\.json: truncation_side: .* cut on the left",
    ),
    "cut on the left by tokenizer.json": (
        "bert",
        lambda f: reference_models.edit(
            f / "tokenizer.json", truncation={"direction": "Left", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
        ),
        r"tokenizer\.json: truncation\.direction: .* cut on the left",
    ),
    "no such prompt": (
        "bert",
        lambda f: reference_models.edit(
            f / "config_sentence_transformers.json", default_prompt_name="query", prompts={"web_search": "Search: "}
        ),
        r"'query' is not among its prompts \('web_search'\)",
    ),
    "no tokenizer": ("bert", lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
    "other image size": (
        "clip",
        lambda f: reference_models.edit(f / "preprocessor_config.json", crop_size={"shortest_edge": 24}),
        "another way",
    ),
    "other filter": ("siglip", lambda f: reference_models.edit(f / "preprocessor_config.json", resample=1), "filter 1"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_is_not_ours_is_refused_by_name(saved: dict[str, Path], tmp_path: Path, what: str) -> None:
    name, change, message = REFUSALS[what]
    folder = tmp_path / "copy"
    shutil.copytree(saved[name], folder)
    change(folder)
    with pytest.raises(BenchError, match=message) as refused:
        hub_metadata.read(folder, NAMED)
    assert "\n" not in str(refused.value) and str(folder) in str(refused.value)


def test_a_tokenizer_class_that_does_more_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    """transformers adds what the class adds; tokenizer.json alone would give other tokens."""
    folder = tmp_path / "copy"
    shutil.copytree(saved["bert"], folder)
    reference_models.edit(folder / "tokenizer_config.json", additional_special_tokens=["w8 nonsense"], extra_special_tokens=["word"])
    with pytest.raises(BenchError, match=r"other tokens than its tokenizer\.json"):
        hub_metadata.read(folder, NAMED)


# The entry that is printed


def test_a_printed_entry_is_a_catalogue_entry(saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.core import jobs

    monkeypatch.setattr(jobs, "run", lambda _module, _title, job, _log: import_model._work(job))
    known = catalog.load()
    names = ",".join(str(saved[name]) for name in ("qwen3", "clip"))
    listed, made = import_model.pick(known, f"minilm,{names}")
    assert [model.name for model in listed] == ["minilm"]
    assert [model.name for model in made] == ["saved", "clip-own-image", "clip-own-text"], "a name that is taken is not taken twice"
    (tmp_path / "models.yaml").write_text(import_model.as_yaml(made), encoding="utf-8")
    again = catalog.load(tmp_path)
    assert [again.models[model.name] for model in made] == made
    assert len(again.models) == len(known.models) + 3
    source = weights.resolve(again.models["saved"])
    assert (source.kind, source.folder) == ("folder", saved["qwen3"])
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} <= set(source.files)
    assert source == weights.resolve(again.models["saved"], "synthetic"), "real weights that are here need no Hub"


def test_a_folder_that_has_changed_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved["bert"], folder)
    _, named = import_model._of_folder(folder)
    reference_models.edit(folder / "1_Pooling" / "config.json", pooling_mode="cls")
    with pytest.raises(BenchError, match=r"1_Pooling/config.json has changed .*invoke export --model"):
        weights.resolve(named)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BenchError, match=r"model\.safetensors is missing"):
        weights.resolve(named)


PICK = """
import sys
from bench import catalog
from bench.core.errors import BenchError
from bench.model import import_model
try:
    print(import_model.as_yaml(import_model.pick(catalog.load(), sys.argv[1])[1]), end="")
except BenchError as error:
    print("error:", error)
print("torch" in sys.modules, file=sys.stderr)
"""


def pick_from_hub(name: str, hub: Hub, home: Path, **env: str) -> str:
    """In a process of its own, because huggingface_hub reads its environment once."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    environment = {**clean, "HF_HOME": str(home), "HF_ENDPOINT": hub.endpoint, "BENCH_BUILD": str(home / "build"), "NO_PROXY": "*", **env}
    done = subprocess.run([sys.executable, "-c", PICK, name], capture_output=True, text=True, cwd=paths.ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "False", "the parent needs no framework"
    return done.stdout


def test_a_model_of_the_hub_is_pinned_and_read_before_its_weights_are_fetched(saved: dict[str, Path], tmp_path: Path) -> None:
    folder, home, own = tmp_path / "repository", tmp_path / "home", tmp_path / "catalog"
    shutil.copytree(saved["bert"], folder)
    (folder / "modeling_own.py").write_text("raise SystemExit('remote code')")
    (folder / "README.md").write_text("---\ntags: [a]\nlicense: apache-2.0\n---\n# Own\n")
    hub = Hub(folder, repo="org/Own-Model")
    own.mkdir()
    with hub.serving():
        printed = pick_from_hub("org/Own-Model", hub, home)
        assert not any(call.endswith((".safetensors", ".py")) for call in hub.calls), hub.calls
        assert printed == pick_from_hub(f"org/Own-Model@{hub.revision}", hub, home)
    (own / "models.yaml").write_text(printed, encoding="utf-8")
    model = catalog.load(own).pick_models("org/own-model")[0]
    assert (model.name, model.title, model.license) == ("own-model", "Own-Model", "apache-2.0")
    assert model.weights.hub == catalog.HubWeights("org/Own-Model", hub.revision)
    assert (model.pooling, model.prompts) == ("mean", {"document": "", **reference_models.PROMPTS["bert"]}), "as the library stored them"
    # Without a network, what was fetched before is enough.
    assert pick_from_hub(f"org/Own-Model@{hub.revision}", hub, home, HF_HUB_OFFLINE="1") == printed
    reference_models.edit(folder / "config.json", model_type="mamba")
    with hub.serving():
        assert "architecture 'mamba' is not one of ours" in pick_from_hub("org/Own-Model", hub, tmp_path / "other home")
        assert "org/Other" in (said := pick_from_hub("org/Other", hub, home)) and "hf auth login" in said


@pytest.mark.parametrize(("name", "message"), [
    ("./no/such", "no such folder"), ("minilmm", "did you mean 'minilm'"),
])  # fmt: skip
def test_a_name_that_is_nothing_is_said(name: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        import_model.pick(catalog.load(), name)


def test_a_folder_without_safetensors_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved["bert"], folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BenchError, match=r"has no model\.safetensors, and only safetensors"):
        import_model.pick(catalog.load(), str(folder))


def test_a_missing_shard_is_named(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved["qwen3"], folder)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(BenchError, match=r"has no model-00002-of-\d+\.safetensors"):
        import_model.pick(catalog.load(), str(folder))
    index = folder / "model.safetensors.index.json"
    for broken in ("{}", "[", json.dumps({"weight_map": {"a": "../../elsewhere.safetensors"}})):
        index.write_text(broken)
        with pytest.raises(BenchError, match="not an index of safetensors shards"):
            import_model.pick(catalog.load(), str(folder))


@pytest.mark.parametrize(("name", "expected"), [("bge", "bge-own"), ("bge-m3", "bge-m3-own"), ("all", "all-own"), ("mine", "mine")])
def test_a_folder_named_as_a_model_an_alias_or_all_gets_a_name_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, expected: str
) -> None:
    from bench.core import jobs

    monkeypatch.setattr(jobs, "run", lambda _module, _title, job, _log: {"models": [job["named"]]})
    (model,) = import_model.entries(catalog.load().models.values(), tmp_path, dataclasses.replace(NAMED, name=name))
    assert model.name == expected
