"""The corpus that `--corpus` names: our own seeded generator, the installed Python's documentation, or the user's files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bench.core import random
from bench.core.errors import BenchError
from bench.corpus import docs, files
from bench.corpus.generated import ITEM_BITS, index, text
from bench.corpus.images import image

Modality = Literal["text", "image"]


@dataclass(frozen=True)
class Corpus:
    """A source of distinct texts or images.

    Attributes:
        name: `generated`, `docs` or the user's path.
        id: changes when the content does; part of a plan's key.
        seed: of the order (and of the content, where generated).
        size: number of texts or images, whichever are more; None where endless.
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
        return documentation(seed)
    return folder_or_file(Path(str(spec)).expanduser(), seed)


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


def documentation(seed: int) -> Corpus:
    """Real prose from the installed Python; it differs between Python versions, so its id holds the hash of all passages."""
    return _finite("docs", docs.passages(), [], seed)


def folder_or_file(path: Path, seed: int) -> Corpus:
    """The user's own texts or images (see bench/corpus/files.py), in an order drawn from the seed."""
    texts, images = files.read(path)
    return _finite(str(path), texts, images, seed)


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
    image_files = list(distinct.values())

    def order(n: int) -> NDArray[np.int64]:
        return np.asarray(np.argsort(random.bits("order", seed, n), kind="stable"), dtype=np.int64)

    return Corpus(
        name=name,
        id=f"{digest.hexdigest()[:16]} {seed}",
        seed=seed,
        size=max(len(texts), len(image_files)),
        has_texts=bool(texts),
        has_images=bool(image_files),
        _texts=lambda part: (texts[k] for k in order(len(texts))),
        _images=lambda part: (files.read_image(image_files[k]) for k in order(len(image_files))),
    )
