"""Sets that quality is judged by: queries and the documents that answer them, pairs of texts and their similarity by people.

    docstrings     qualified name → first paragraph of its docstring, from the installed standard library: real text, more than 1 000
    multilingual   data/hard/pairs.jsonl: six topics in fifteen languages, in near-twin pairs; all languages of a topic answer it
    augmented      a generated image, flipped, cut and dimmed → the image itself
    STS-B          sentence pairs with human scores, where the hub can be reached

Plans, calibration and hard inputs have none of these.
"""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import io
import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.core import paths
from bench.core.errors import BenchError
from bench.corpus import resolve, standard_library
from bench.corpus.files import without_surrogates

HARD_PAIRS = paths.ROOT / "data" / "hard" / "pairs.jsonl"
DOCSTRINGS, IMAGES = 1024, 256
DOCUMENT_CHARACTERS = (40, 400)
STS_REPO, STS_REVISION, STS_FILE = "mteb/stsbenchmark-sts", "b0fddb56ed78048fa8b90373c8a3cfc37b684831", "test.jsonl.gz"


@dataclass(frozen=True)
class Retrieval:
    """Queries, documents, and for each query the documents (by place) that answer it. Texts, or encoded images."""

    name: str
    queries: tuple[str | bytes, ...]
    documents: tuple[str | bytes, ...]
    relevant: tuple[frozenset[int], ...]

    def part(self, queries: int, documents: int) -> Retrieval:
        """A smaller set: the first `queries` queries, all documents that answer them, and the first others up to `documents`."""
        relevant = self.relevant[:queries]
        needed = set[int]().union(*relevant)
        others = [place for place in range(len(self.documents)) if place not in needed]
        places = sorted([*needed, *others[: max(0, documents - len(needed))]])
        new_place = {place: number for number, place in enumerate(places)}
        return Retrieval(
            self.name,
            self.queries[:queries],
            tuple(self.documents[place] for place in places),
            tuple(frozenset(new_place[place] for place in answers) for answers in relevant),
        )


@dataclass(frozen=True)
class Similarity:
    """Pairs of texts, and how alike people found them (0 to 5)."""

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    gold: tuple[float, ...]


@lru_cache(maxsize=1)
def docstrings(count: int = DOCSTRINGS) -> Retrieval:
    """Public names of the installed standard library as queries, the first paragraphs of their docstrings as documents.

    `count` of them are drawn by a hash of the name.

    Raises:
        BenchError: this Python has too few of them.
    """
    by_document: dict[str, str] = {}
    for file in standard_library.files():
        place = file.relative_to(standard_library.FOLDER)
        if not any(part.startswith("_") for part in place.parts):
            for name, document in _documented(file, ".".join(place.with_suffix("").parts)):
                by_document.setdefault(document, name)
    drawn = sorted(by_document.items(), key=lambda pair: hashlib.sha256(pair[1].encode()).digest())[:count]
    if len(drawn) < count:
        raise BenchError(
            f"quality set docstrings: this Python has {len(drawn)} of {count} documented names; install its standard library whole"
        )
    names, documents = tuple(name for _, name in drawn), tuple(document for document, _ in drawn)
    return Retrieval("docstrings", names, documents, tuple(frozenset({place}) for place in range(len(drawn))))


def _documented(file: Path, module: str) -> Iterator[tuple[str, str]]:
    """(qualified name, first paragraph of the docstring) of the public classes and functions of a file."""
    waiting: list[tuple[str, ast.AST | None]] = [(module, standard_library.parse(file))]
    while waiting:
        name, node = waiting.pop()
        for child in getattr(node, "body", ()):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
                qualified = f"{name}.{child.name}"
                paragraph = " ".join((ast.get_docstring(child) or "").split("\n\n")[0].split())
                if DOCUMENT_CHARACTERS[0] <= len(paragraph) <= DOCUMENT_CHARACTERS[1]:
                    yield qualified, paragraph
                if isinstance(child, ast.ClassDef):
                    waiting.append((qualified, child))


def multilingual() -> Retrieval:
    """The pairs of data/hard. A query is answered by its topic's text in every language.

    Raises:
        BenchError: the file is missing or broken.
    """
    return _retrieval("multilingual", [(str(row["query"]), str(row["text"]), str(row["topic"])) for row in _lines(HARD_PAIRS)])


def own(file: Path) -> Retrieval:
    """The user's pairs: `.jsonl` with the keys `query` and `text`, or `.csv` with columns of these names.

    A text that several queries name is one document; a query that names several texts is answered by each of them.

    Raises:
        BenchError: names the file and what it should hold.
    """
    if not file.is_file():
        raise BenchError(f"quality set {file}: not found; --quality-set wants a .jsonl or .csv file with `query` and `text`")
    rows: list[dict[str, Any]] = list(_table(file) if file.suffix == ".csv" else _lines(file))
    if not rows or any(not row.get("query") or not row.get("text") for row in rows):
        raise BenchError(f"quality set {file}: every row wants a `query` and a relevant `text`; mend or fill them")
    rows = [{key: without_surrogates(str(row[key])) for key in ("query", "text")} for row in rows]
    queries = list(dict.fromkeys(str(row["query"]) for row in rows))
    documents = list(dict.fromkeys(str(row["text"]) for row in rows))
    at = {text: place for place, text in enumerate(documents)}
    answers: dict[str, set[int]] = {query: set() for query in queries}
    for row in rows:
        answers[str(row["query"])].add(at[str(row["text"])])
    if len(documents) < 2 * 10:
        raise BenchError(f"quality set {file}: {len(documents)} distinct texts; the ten best of at least 20 are wanted: add texts")
    return Retrieval(file.name, tuple(queries), tuple(documents), tuple(frozenset(answers[query]) for query in queries))


def _retrieval(name: str, rows: Sequence[tuple[str, str, str]]) -> Retrieval:
    topics: dict[str, set[int]] = {}
    for place, (_, _, topic) in enumerate(rows):
        topics.setdefault(topic, set()).add(place)
    return Retrieval(
        name,
        tuple(query for query, _, _ in rows),
        tuple(text for _, text, _ in rows),
        tuple(frozenset(topics[topic]) for _, _, topic in rows),
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"quality set {file}: cannot be read ({error}); make it UTF-8 text and readable") from None


def _table(file: Path) -> Iterator[dict[str, Any]]:
    yield from csv.DictReader(io.StringIO(_text(file), newline=""))


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("not an object")
            except ValueError as error:
                raise BenchError(
                    f"quality set {file}:{number}: wants an object with `query` and `text` ({error}); mend that line"
                ) from None
            yield row


def augmented(count: int = IMAGES) -> Retrieval:
    """Generated images, each asked for by a changed copy of itself."""
    originals = list(islice(resolve.generated(seed=1).images("quality"), count))
    changed = tuple(_changed(image) for image in originals)
    return Retrieval("augmented", changed, tuple(originals), tuple(frozenset({place}) for place in range(count)))


def _changed(encoded: bytes) -> bytes:
    """Mirrored, a tenth cut off each side, dimmed by a quarter; PNG."""
    from PIL import Image, ImageEnhance, ImageOps

    with Image.open(io.BytesIO(encoded)) as opened:
        picture = ImageOps.mirror(opened.convert("RGB"))
    width, height = picture.size
    picture = picture.crop((width // 10, height // 10, width - width // 10, height - height // 10))
    out = io.BytesIO()
    ImageEnhance.Brightness(picture).enhance(0.75).save(out, format="PNG")
    return out.getvalue()


def sts() -> Similarity | str:
    """The test part of STS-B, from the Hub's cache on this machine or from the Hub; or a line that says why it cannot be had."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    try:
        file = try_to_load_from_cache(STS_REPO, STS_FILE, revision=STS_REVISION, repo_type="dataset")
        if not isinstance(file, str):
            if reason := _unreachable():
                return f"STS-B: {reason}"
            file = hf_hub_download(STS_REPO, STS_FILE, repo_type="dataset", revision=STS_REVISION, etag_timeout=5)
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        first, second = (tuple(str(row[key]) for row in rows) for key in ("sentence1", "sentence2"))
        return Similarity("STS-B", first, second, tuple(float(row["score"]) for row in rows))
    except Exception as error:  # the hub's library raises many kinds; whatever it is, the set is not here and the rest goes on
        return f"STS-B: not fetched from the hub ({' '.join(str(error).split())[:120]})"


def _unreachable() -> str | None:
    """Why the Hub cannot be reached, found in 5 s where its library would retry for half a minute; None where it can, or behind a proxy."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return "HF_HUB_OFFLINE is set"
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return None
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    try:
        with socket.create_connection((hub.hostname or "", hub.port or (80 if hub.scheme == "http" else 443)), timeout=5):
            return None
    except OSError as error:
        return f"the hub is not reached ({error.strerror or error})"
