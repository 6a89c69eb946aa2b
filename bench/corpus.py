"""Where texts and images come from: our own seeded generator, the installed Python's documentation, or the user's files.

Text i of the generated corpus is a pure function of (seed, i): integer arithmetic on a SHAKE-256 stream over our own word lists, so it
is the same on every machine and Python version. Two different i never give the same text (see `_topic`).
"""

from __future__ import annotations

import ast
import csv
import hashlib
import inspect
import io
import json
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench import paths, schedule, words
from bench.errors import BenchError

Modality = Literal["text", "image"]

TEXT_SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
PASSAGE_CHARACTERS = 240  # where a paragraph of --corpus docs is parted
SLOT_BITS = 20  # a named part of the generated sequence holds 2²⁰ items
ITEM_BITS = 20


@dataclass(frozen=True)
class Corpus:
    """A source of distinct texts or images.

    Attributes:
        name: `generated`, `docs` or the user's path.
        id: changes when the content does; part of a plan's key.
        seed: of the order (and of the content, where generated).
        size: number of items, None where endless.
    """

    name: str
    id: str
    seed: int
    size: int | None
    has_texts: bool
    has_images: bool
    _texts: Callable[[str], Iterator[str]]
    _images: Callable[[str], Iterator[bytes]]

    def texts(self, part: str) -> Iterator[str]:
        """Distinct texts in a fixed order. An endless corpus gives each `part` texts of its own; a finite one gives all its texts."""
        if not self.has_texts:
            raise BenchError(f"corpus {self.name}: holds no texts; give a text file or a folder of them, or leave --corpus away")
        return self._texts(part)

    def images(self, part: str) -> Iterator[bytes]:
        """Distinct encoded images (JPEG, PNG …) in a fixed order, by `part` as in `texts`."""
        if not self.has_images:
            raise BenchError(f"corpus {self.name}: holds no images; give a folder of images, or leave --corpus away")
        return self._images(part)


def resolve(spec: str | None, seed: int) -> Corpus:
    """The corpus that `--corpus` names: None or `generated`, `docs`, or a file or folder.

    Raises:
        BenchError: names the path and what it should be.
    """
    if spec in (None, "", "generated"):
        return generated(seed)
    if spec == "docs":
        return docs(seed)
    return folder_or_file(Path(str(spec)).expanduser(), seed)


# ------------------------------------------------------------------------------------------------------------------- generated


def generated(seed: int) -> Corpus:
    """The project's own corpus: endless English-like texts and text-free images."""
    return Corpus(
        name="generated",
        id=f"generated {seed}",
        seed=seed,
        size=None,
        has_texts=True,
        has_images=True,
        _texts=lambda part: (text(seed, index(part, k)) for k in range(1 << ITEM_BITS)),
        _images=lambda part: (image(seed, index(part, k)) for k in range(1 << ITEM_BITS)),
    )


def index(part: str, k: int) -> int:
    """Item k of a named part of the generated sequence: 20 bits of the part's hash, then 20 bits of k."""
    slot = int.from_bytes(hashlib.sha256(part.encode()).digest()[:4], "little") >> (32 - SLOT_BITS)
    return slot << ITEM_BITS | k


class _Dice:
    """Integers from a SHAKE-256 stream, 16 bits a throw."""

    def __init__(self, key: str) -> None:
        self._hash = hashlib.shake_256(key.encode())
        self._bytes = self._hash.digest(512)
        self._at = 0

    def below(self, n: int) -> int:
        if self._at == len(self._bytes):
            self._bytes = self._hash.digest(2 * len(self._bytes))
        throw = self._bytes[self._at] | self._bytes[self._at + 1] << 8
        self._at += 2
        return throw * n >> 16

    def pick(self, options: tuple[str, ...]) -> str:
        return options[self.below(len(options))]


# Words of a text at the 64-quantiles of a log-normal with median 24 words and σ = 0.88, held to 5 … 300: about 30 tokens for a WordPiece
# or BPE vocabulary, 1 % above 256. A table, so that no logarithm decides where a text ends.
WORD_QUANTILES = (
    5, 5, 5, 5, 6, 7, 8, 8, 9, 9, 10, 10, 11, 12, 12, 13, 13, 14, 14, 15, 16, 16, 17, 17, 18, 19, 19, 20, 21, 22, 22, 23, 24,
    25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 36, 37, 38, 40, 42, 43, 45, 48, 50, 52, 55, 58, 62, 66, 71, 77, 84, 93, 105, 124, 160, 300,
)  # fmt: skip

NAMES = ("Anna", "Bruno", "Clara", "David", "Elena", "Felix", "Grace", "Henry", "Irene", "Jonas", "Karen", "Louis", "Maria", "Nils", "Olga",
         "Peter", "Rosa", "Simon", "Tara", "Victor", "Wanda", "Yusuf")  # fmt: skip
OPENERS = ("In the end,", "At first,", "For most people,", "According to the report,", "After a while,", "On the other hand,", "As a rule,",
           "In practice,", "By contrast,", "Last year,", "Every spring,", "Some time later,", "Without doubt,", "For example,")  # fmt: skip
LINKS = ("and", "but", "while", "because", "although", "so", "since", "until", "whereas", "unless", "once", "as soon as")
PLACES = ("near", "behind", "beside", "above", "inside", "outside", "beyond", "under", "around", "opposite", "in", "at", "next to")
MODALS = ("can", "will", "must", "should", "might", "could", "did not", "tried to", "began to", "wanted to", "had to", "used to")
ADVERBS = ("often", "rarely", "slowly", "quickly", "still", "never", "always", "finally", "usually", "soon", "almost", "carefully")
QUESTIONS = ("how to {v} {a}", "why does nobody {v} the", "what happens if you {v} the", "when should we {v} {a}",
             "is it possible to {v} every", "best way to {v} the", "who can {v} {a}", "where to {v} the")  # fmt: skip


def text(seed: int, i: int) -> str:
    """Text `i` of the generated corpus of `seed`; 0 ≤ i < 2⁴⁰, and no two i give the same text."""
    dice = _Dice(f"text {seed} {i}")
    verb, adjective, noun, second, topic = _topic(seed, i)
    step, fraction = dice.below(64), dice.below(64)
    target = WORD_QUANTILES[step] + (WORD_QUANTILES[step + 1] - WORD_QUANTILES[step]) * fraction // 64
    if target <= 6:
        return f"{verb} {adjective} {noun} {second} {topic}"
    if target <= 15:
        question = dice.pick(QUESTIONS).format(v=verb, a=words.article(adjective))
        query = f"{question} {adjective} {noun} {dice.pick(PLACES)} the {second} {topic}"
        return _with_tail(query, target, dice)
    first = f"The {adjective} {noun} {words.past(verb)} the {second} {topic}"
    sentences = [_with_tail(first, min(target, 10 + dice.below(12)), dice) + "."]
    count = len(sentences[0].split())
    while count < target - 3:
        sentence = _sentence(dice, target - count)
        sentences.append(sentence)
        count += len(sentence.split())
    return " ".join(sentences)


def _topic(seed: int, i: int) -> tuple[str, str, str, str, str]:
    """Five words that no other i has: `i` through a keyed permutation of 40 bits, eight bits a word.

    Every text of one shape holds the five at fixed places, and the shapes begin differently, so texts are distinct by construction.
    """
    if not 0 <= i < 1 << 40:
        raise ValueError(f"text {i}: wants 0 ≤ i < 2**40")
    left, right = i >> 20, i & 0xFFFFF
    for turn in range(4):
        digest = hashlib.sha256(f"topic {seed} {turn} {right}".encode()).digest()
        left, right = right, left ^ (int.from_bytes(digest[:4], "little") & 0xFFFFF)
    code = left << 20 | right
    lists = (words.VERBS, words.ADJECTIVES, words.NOUNS, words.ADJECTIVES, words.TOPICS)
    verb, adjective, noun, second, topic = (entries[code >> 8 * place & 0xFF] for place, entries in enumerate(lists))
    return verb, adjective, noun, second, topic


def _with_tail(start: str, target: int, dice: _Dice) -> str:
    """`start` with phrases of place and purpose until it has about `target` words."""
    missing = target - len(start.split())
    while missing >= 3:
        if missing >= 6 and dice.below(2):
            phrase = f"to {dice.pick(words.VERBS)} {_noun_phrase(dice)}"
        else:
            phrase = f"{dice.pick(PLACES)} {_noun_phrase(dice)}"
        start = f"{start} {phrase}"
        missing -= len(phrase.split())
    return start


def _sentence(dice: _Dice, room: int) -> str:
    """One sentence of five to about thirty words, two clauses where there is room."""
    body = _clause(dice)
    if room > 18 and dice.below(3):
        body = f"{body}{', ' if dice.below(2) else ' '}{dice.pick(LINKS)} {_clause(dice)}"
    elif room > 12:
        body = _with_tail(body, min(room, 14), dice)
    if dice.below(5) == 0:
        body = f"{dice.pick(OPENERS)} {body}"
    end = "?" if dice.below(25) == 0 else "."
    return body[0].upper() + body[1:] + end


def _clause(dice: _Dice) -> str:
    shape = dice.below(6)
    verb = dice.pick(words.VERBS)
    subject = dice.pick(NAMES) if dice.below(8) == 0 else _noun_phrase(dice)
    if shape == 0:
        return f"{subject} {dice.pick(MODALS)} {verb} {_noun_phrase(dice)}"
    if shape == 1:
        return f"{subject} {dice.pick(ADVERBS)} {words.past(verb)} {_noun_phrase(dice)} {dice.pick(PLACES)} {_noun_phrase(dice)}"
    if shape == 2:
        return f"{words.gerund(verb)} {_noun_phrase(dice)} was {dice.pick(ADVERBS)} {dice.pick(words.ADJECTIVES)}"
    if shape == 3:
        return f"there were {2 + dice.below(998)} {words.plural(dice.pick(words.NOUNS))} {dice.pick(PLACES)} {_noun_phrase(dice)}"
    if shape == 4:
        return f"the {dice.pick(words.TOPICS)} of {_noun_phrase(dice)} {words.past(verb)} {subject}"
    return f"{subject} {words.past(verb)} {_noun_phrase(dice)}"


def _noun_phrase(dice: _Dice) -> str:
    noun = dice.pick(words.NOUNS if dice.below(2) else words.TOPICS)
    kind = dice.below(8)
    if kind < 2:
        return f"the {noun}"
    adjective = dice.pick(words.ADJECTIVES)
    if kind == 2:
        return f"{adjective} {words.plural(noun)}"
    if kind == 3:
        return f"{words.article(noun)} {noun}"
    if kind == 4:
        return f"the {noun} of the {dice.pick(words.TOPICS)}"
    return f"{words.article(adjective)} {adjective} {noun}" if kind < 7 else f"the {adjective} {noun}"


# ---------------------------------------------------------------------------------------------------------------------- images

PHOTO_SIZES = ((640, 480), (480, 640), (640, 427), (500, 375), (612, 612), (800, 600), (1024, 683), (400, 300), (640, 360), (320, 240))


def pixels(seed: int, i: int) -> NDArray[np.uint8]:
    """The H×W×3 pixels of generated image `i`: a gradient, discs, stripes, boxes and sensor noise. Integer arithmetic only."""
    dice = _Dice(f"image {seed} {i}")
    width, height = PHOTO_SIZES[dice.below(len(PHOTO_SIZES))]
    y, x = np.mgrid[0:height, 0:width].astype(np.int32)

    def colour() -> NDArray[np.int32]:
        return np.array([dice.below(256) for _ in range(3)], dtype=np.int32)

    one, other = colour(), colour()
    a, b = dice.below(512) - 256, dice.below(512) - 256
    ramp = a * x * 256 // width + b * y * 256 // height
    ramp = (ramp - ramp.min()) * 256 // max(1, int(ramp.max() - ramp.min()))
    picture = one + (other - one) * ramp[..., None] // 256
    for _ in range(4 + dice.below(12)):
        cx, cy = dice.below(width), dice.below(height)
        size = 8 + dice.below(min(width, height) // 3)
        shape, paint, opacity = dice.below(3), colour(), 64 + dice.below(192)
        if shape == 0:
            stretch = 1 + dice.below(3)
            mask = (x - cx) ** 2 + stretch * (y - cy) ** 2 < size * size
        elif shape == 1:
            mask = (abs(x - cx) < size) & (abs(y - cy) < 8 + dice.below(size))
        else:
            p, q = 1 + dice.below(5), dice.below(11) - 5
            mask = ((p * x + q * y) // size % 2 == 0) & (abs(x - cx) < 2 * size) & (abs(y - cy) < 2 * size)
        picture[mask] += (paint - picture[mask]) * opacity // 256
    strength = 1 + dice.below(24)
    noise = schedule.bits(f"image noise {i}", seed, (height * width * 3 + 7) // 8).astype("<u8").view(np.uint8)[: height * width * 3]
    picture += (noise.reshape(height, width, 3).astype(np.int32) - 128) * strength // 128
    result: NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return result


def image(seed: int, i: int) -> bytes:
    """Generated image `i` as a file: three of four are JPEG (quality 75–95), the others PNG; 320×240 to 1024×683."""
    dice = _Dice(f"image file {seed} {i}")
    picture = Image.fromarray(pixels(seed, i))
    out = io.BytesIO()
    if dice.below(4):
        picture.save(out, "JPEG", quality=75 + dice.below(21))
    else:
        picture.save(out, "PNG", compress_level=1)
    return out.getvalue()


# ------------------------------------------------------------------------------------------------------------------------ docs


def docs(seed: int = 0) -> Corpus:
    """Real prose without a download: the installed Python's `pydoc_data.topics` and the docstrings of its standard library.

    It differs between Python versions, so its id holds the hash of all passages.
    """
    passages = _docs_passages()
    return _finite("docs", passages, [], seed)


@lru_cache(maxsize=1)
def _docs_passages() -> tuple[str, ...]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise BenchError("corpus docs: this Python has no pydoc_data.topics; install its documentation or leave --corpus away") from None
    found: dict[str, None] = {}
    for name in sorted(topics):
        found.update(dict.fromkeys(_passages(topics[name])))
    skipped = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__", "pydoc_data"}
    root = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(root.rglob("*.py")):
        if skipped.isdisjoint(file.relative_to(root).parts):
            found.update(dict.fromkeys(_docstring_passages(file)))
    return tuple(found)


def _docstring_passages(file: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):  # a file of the library that this Python cannot read holds no prose for us
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _passages(ast.get_docstring(node) or "")


def _passages(prose: str) -> Iterator[str]:
    """Paragraphs with white space folded, of at least 3 words and 15 characters; long ones are parted at ends of sentences."""
    for paragraph in inspect.cleandoc(prose).replace("\r", "").split("\n\n"):
        passage = ""
        for sentence in re.split(r"(?<=[.;:?!]) ", " ".join(paragraph.split())):
            if passage and len(passage) + len(sentence) > PASSAGE_CHARACTERS:
                yield from _if_prose(passage)
                passage = ""
            passage = f"{passage} {sentence}".lstrip()
        yield from _if_prose(passage)


def _if_prose(passage: str) -> Iterator[str]:
    if len(passage) >= 15 and passage.count(" ") >= 2:
        yield passage


# ---------------------------------------------------------------------------------------------------------------- user's files


def folder_or_file(path: Path, seed: int = 0) -> Corpus:
    """The user's own texts or images.

    `.txt`: a text per line. `.jsonl`: a string or an object with the key `text` per line. `.csv`, `.parquet`: the column `text`, or the
    only column. A folder: all such files in the order of their names, and its images.

    Raises:
        BenchError: names the file (and line) and the cure.
    """
    if not path.exists():
        raise BenchError(f"corpus {path}: not found; --corpus wants 'generated', 'docs', a file or a folder")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in (*TEXT_SUFFIXES, *IMAGE_SUFFIXES) and file.is_file())
    else:
        files = [path]
        if path.suffix.lower() not in (*TEXT_SUFFIXES, *IMAGE_SUFFIXES):
            raise BenchError(
                f"corpus {path}: unknown kind of file; use {', '.join(TEXT_SUFFIXES)}, or images ({', '.join(IMAGE_SUFFIXES)})"
            )
    texts: dict[str, None] = {}
    images: list[Path] = []
    for file in files:
        if file.suffix.lower() in IMAGE_SUFFIXES:
            images.append(file)
            continue
        try:
            texts.update(dict.fromkeys(_read_texts(file)))
        except OSError as error:
            raise BenchError(f"corpus {file}: {error.strerror or error}; make it readable") from None
        except UnicodeDecodeError:
            raise BenchError(f"corpus {file}: not UTF-8 text; convert it, for example with iconv -t utf-8") from None
    texts.pop("", None)
    if not texts and not images:
        raise BenchError(
            f"corpus {path}: holds no text and no image; use {', '.join(TEXT_SUFFIXES)}, or images ({', '.join(IMAGE_SUFFIXES)})"
        )
    return _finite(str(path), tuple(texts), images, seed)


def _read_texts(file: Path) -> Iterator[str]:
    suffix = file.suffix.lower()
    if suffix == ".txt":
        yield from (line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines())
    elif suffix == ".jsonl":
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), start=1):
            if line.strip():
                yield _json_text(file, number, line)
    elif suffix == ".csv":
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.reader(lines)
            try:
                column = _text_column(file, next(rows, []))
                for row in rows:
                    if row:
                        if len(row) <= column:
                            raise BenchError(f"corpus {file}:{rows.line_num}: has {len(row)} cells; the texts are in column {column + 1}")
                        yield row[column].strip()
            except csv.Error as error:
                raise BenchError(f"corpus {file}:{rows.line_num}: {error}; mend that line") from None
    else:
        yield from _parquet_texts(file)


def _json_text(file: Path, number: int, line: str) -> str:
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise BenchError(f"corpus {file}:{number}: not valid JSON ({error.msg}); mend that line") from None
    if isinstance(value, dict):
        value = value.get("text")
    if not isinstance(value, str):
        raise BenchError(f"corpus {file}:{number}: wants a string, or an object whose key 'text' is a string")
    return value.strip()


def _text_column(file: Path, names: Iterable[str]) -> int:
    names = [name.strip() for name in names]
    if "text" in names:
        return names.index("text")
    if len(names) == 1:
        return 0
    raise BenchError(f"corpus {file}:1: no column 'text' among {', '.join(names) or 'none'}; name the column that holds the texts 'text'")


def _parquet_texts(file: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
        names = table.schema_arrow.names
        column = names[_text_column(file, names)]
        values = table.read(columns=[column]).column(0).to_pylist()
    except pa.ArrowException as error:
        raise BenchError(f"corpus {file}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
    for value in values:
        if value is not None and not isinstance(value, str):
            raise BenchError(f"corpus {file}: column {column!r} holds {type(value).__name__}; it should hold texts")
        yield (value or "").strip()


def _finite(name: str, texts: tuple[str, ...], images: list[Path], seed: int) -> Corpus:
    """A corpus of given items, in an order drawn from the seed."""
    digest = hashlib.sha256()
    for item in texts:
        digest.update(item.encode("utf-8", "surrogatepass") + b"\0")
    distinct: dict[str, Path] = {}
    for file in images:
        try:
            distinct.setdefault(hashlib.sha256(file.read_bytes()).hexdigest(), file)
        except OSError as error:
            raise BenchError(f"corpus {file}: {error.strerror or error}; make it readable") from None
    digest.update(" ".join(sorted(distinct)).encode())
    pictures = list(distinct.values())

    def order(n: int) -> NDArray[np.int64]:
        return np.asarray(np.argsort(schedule.bits("order", seed, n), kind="stable"), dtype=np.int64)

    return Corpus(
        name=name,
        id=f"{digest.hexdigest()[:16]} {seed}",
        seed=seed,
        size=max(len(texts), len(pictures)),
        has_texts=bool(texts),
        has_images=bool(pictures),
        _texts=lambda part: (texts[k] for k in order(len(texts))),
        _images=lambda part: (pictures[k].read_bytes() for k in order(len(pictures))),
    )


# ------------------------------------------------------------------------------------------------------------------------ hard

# Words that are one token in every vocabulary of the catalogue, so that a text of k of them comes near k tokens whatever the tokenizer.
ONE_TOKEN = ("the", "of", "and", "in", "to", "is", "was", "for", "on", "with", "as", "by", "at", "from")
NEAR_LIMIT = (0, -2, 1, -1, 2, -3, 3, -4, 4, -5, 5, -6, 6)


def hard(seed: int, max_tokens: int, wanted: int) -> list[str]:
    """The hard texts of the parity gate: at least `wanted`, all distinct, of every kind that `data/hard` has.

    The texts of `data/hard` (empty, one token, white space, many scripts, emoji, code, special tokens as text …) come with texts of
    `max_tokens` ± a few tokens, of far more than that, and generated prose. Where `wanted` is small, each kind gives its first ones in turn.

    Raises:
        BenchError: `data/hard` is missing or broken.
    """
    kinds: dict[str, list[str]] = {}
    for kind, written in _written_hard():
        kinds.setdefault(kind, []).append(written)
    kinds["limit"] = [_one_token_words(seed, k, max_tokens + off) for k, off in enumerate(NEAR_LIMIT)]
    kinds["over limit"] = [_one_token_words(seed, 100 + k, max_tokens * times) for k, times in enumerate((2, 5))]
    lengths = sorted({max(1, max_tokens * part // 16) for part in range(1, 16)})
    kinds["length"] = [_one_token_words(seed, 200 + k, length) for k, length in enumerate(lengths)]
    turns = max(len(texts) for texts in kinds.values())
    in_turn = [texts[turn] for turn in range(turns) for texts in kinds.values() if turn < len(texts)]
    if wanted < 256:
        # some more than wanted, as different texts may have the same tokens (white space, an uncased vocabulary)
        return list(dict.fromkeys(in_turn))[: wanted * 3 // 2]
    missing = max(32, wanted * 5 // 4 - len(in_turn))
    return list(dict.fromkeys([*in_turn, *(text(seed, index("hard", k)) for k in range(missing))]))


def _written_hard() -> Iterator[tuple[str, str]]:
    file = paths.ROOT / "data" / "hard" / "texts.jsonl"
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise BenchError(f"{file}: {error.strerror or error}; it belongs to the repository: restore it (git checkout data/hard)") from None
    for number, line in enumerate(lines, start=1):
        if line:
            try:
                entry = json.loads(line)
                yield str(entry["kind"]), str(entry["text"])
            except (ValueError, KeyError, TypeError):
                raise BenchError(f"{file}:{number}: wants an object with the keys 'kind' and 'text'; mend that line") from None


def _one_token_words(seed: int, k: int, count: int) -> str:
    dice = _Dice(f"one token {seed} {k}")
    return " ".join(dice.pick(ONE_TOKEN) for _ in range(count))


def hard_images(seed: int, wanted: int) -> Iterator[bytes]:
    """`wanted` images for the parity gate: extreme sizes and ratios, one colour, noise, every colour mode, then ordinary ones."""
    special = _special_images(seed)
    yield from special[:wanted]
    yield from (image(seed, index("hard", k)) for k in range(wanted - len(special)))


def _special_images(seed: int) -> list[bytes]:
    def stored(picture: Image.Image, kind: str = "PNG") -> bytes:
        out = io.BytesIO()
        picture.save(out, kind)
        return out.getvalue()

    photo = Image.fromarray(pixels(seed, index("hard photo", 0)))
    noise = schedule.bits("hard noise", seed, 256 * 256 * 3 // 8).astype("<u8").view(np.uint8).reshape(256, 256, 3)
    y, x = np.mgrid[0:224, 0:224]
    chequered = ((x + y) % 2 * 255).astype(np.uint8)
    return [
        *(stored(Image.new("RGB", size, (200, 30, 90))) for size in ((1, 1), (224, 224))),
        *(stored(Image.new("RGB", (256, 256), (level, level, level))) for level in (0, 255, 128)),
        *(stored(photo.resize(size)) for size in ((2, 3), (900, 20), (20, 900), (223, 225), (224, 224), (225, 224), (2000, 1500))),
        *(stored(photo.convert(mode)) for mode in ("L", "LA", "RGBA", "P", "1")),
        *(stored(photo.convert(mode), "JPEG") for mode in ("L", "CMYK")),
        stored(photo.rotate(180)),
        stored(Image.fromarray(255 - np.asarray(photo))),
        stored(Image.fromarray(noise)),
        stored(Image.fromarray(chequered)),
    ]
