"""Texts and images → rows of tensors, and what that cost: the stage in front of the engine, timed item by item.

Texts go through the model's own tokenizer (`tokenizer.json`), images through the steps of the model authors' processor. Both are
measured here, once per plan, one item at a time on one thread, because that is what a single request pays.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from bench.catalog import ImageInput, Model
from bench.core.errors import BenchError

Ids = NDArray[np.int64]
Pixels = NDArray[np.float32]

WARM_UP_ENCODES = 32
DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # in the order in which sentence-transformers looks for them

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def document_prompt(model: Model) -> str:
    """What the model's authors put before a text that is stored: the prompt `document`, `passage` or `corpus`, else nothing.

    Plans use it for every text, because a service embeds far more documents than queries. A prompt that is only for queries is not used.
    """
    return next((model.prompts[name] for name in DOCUMENT_PROMPTS if name in model.prompts), "")


def query_prompt(model: Model) -> str:
    """What the model's authors put before a text that is looked for."""
    return model.prompts.get("query", "")


class Tokenizer:
    """The model's own tokenizer, with its prompt, its truncation (`max_tokens`) and, for fixed-length models, its padding."""

    def __init__(self, model: Model, folder: Path, prompt: str | None = None) -> None:
        """
        Args:
            folder: holds the weights' `tokenizer.json`.
            prompt: goes before every text; the model's document prompt without it.

        Raises:
            BenchError: the file is missing or not a tokenizer.
        """
        import tokenizers

        self.file = folder / "tokenizer.json"
        if not self.file.is_file():
            raise BenchError(
                f"{self.file}: not found; {model.name} needs its tokenizer beside its weights: fetch them again (invoke download)"
            )
        content = self.file.read_bytes()
        self.sha256 = hashlib.sha256(content).hexdigest()
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises plain Exception
            reason = " ".join(str(error).split())[:120]
            raise BenchError(f"{self.file}: not a tokenizer ({reason}); fetch it again (invoke download)") from None
        self._prompt = document_prompt(model) if prompt is None else prompt
        self._fixed = model.fixed_tokens
        self._pad_id = model.pad_id
        self.max_tokens = self._fixed or model.max_tokens
        self._tokenizer.no_padding()
        self._truncate_at(self.max_tokens)

    def encode(self, text: str) -> Ids:
        """Token ids, special tokens included, at most `max_tokens` (exactly `fixed_tokens`, where the model fixes them)."""
        ids = np.array(self._tokenizer.encode(self._prompt + text).ids, dtype=np.int64)
        if self._fixed is not None and len(ids) < self._fixed:
            ids = np.concatenate([ids, np.full(self._fixed - len(ids), self._pad_id, dtype=np.int64)])
        return ids

    def encode_to(self, texts: Iterator[str], length: int) -> tuple[Ids, str]:
        """Exactly `length` ids: as many texts as needed, joined, and cut by the tokenizer's own truncation, with that text.

        Raises:
            BenchError: the texts end first, or the tokenizer cannot make that length.
        """
        joined = ""
        self._truncate_at(length)
        try:
            for text in texts:
                joined = f"{joined} {text}".lstrip()
                ids = self.encode(joined)
                if len(ids) >= length:
                    break
            else:
                raise BenchError(f"corpus: ended while a text of {length} tokens was made; give a corpus with more texts")
        finally:
            self._truncate_at(self.max_tokens)
        if len(ids) != length:
            raise BenchError(f"{self.file}: cannot cut a text to {length} tokens (made {len(ids)})")
        return ids, joined

    def timed(self, texts: Iterable[str]) -> Iterator[tuple[Ids, int]]:
        """Ids and the nanoseconds of each text's own `encode`, on this thread, after a warm-up."""
        for _ in range(WARM_UP_ENCODES):
            self.encode("The first calls fill caches of the tokenizer and of the processor, so nobody counts them.")
        for text in texts:
            start = time.monotonic_ns()
            ids = self.encode(text)
            yield ids, time.monotonic_ns() - start

    def _truncate_at(self, length: int) -> None:
        self._tokenizer.enable_truncation(max_length=length)


def prepare_image(encoded: bytes, how: ImageInput) -> Pixels:
    """Decode, resize, crop, scale to [0, 1] and normalise as the model authors' processor does: float32, 3×size×size.

    `short`: the shorter side becomes `size`, then the centre is cut out (CLIP). `exact`: both sides become `size` (SigLIP).

    Raises:
        BenchError: the bytes are not an image that Pillow reads.
    """
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BenchError(f"an image of the corpus cannot be read ({' '.join(str(error).split())}); take it out of the folder") from None
    width, height = picture.size
    if how.resize == "exact":
        picture = picture.resize((how.size, how.size), FILTERS[how.filter])
    else:
        short, long = min(width, height), max(width, height)
        other = how.size * long // short
        target = (how.size, other) if width <= height else (other, how.size)
        picture = picture.resize(target, FILTERS[how.filter])
        left, top = (picture.width - how.size) // 2, (picture.height - how.size) // 2
        picture = picture.crop((left, top, left + how.size, top + how.size))
    values = (np.asarray(picture, dtype=np.float64) * (1.0 / 255.0)).astype(np.float32)
    normal = (values - np.array(how.mean, dtype=np.float32)) / np.array(how.std, dtype=np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1))


def timed_images(images: Iterable[bytes], how: ImageInput) -> Iterator[tuple[Pixels, int]]:
    """Pixels and the nanoseconds of each image's own decoding and preparation, on this thread, after a warm-up."""
    for number, encoded in enumerate(images):
        for _ in range(3 if number == 0 else 0):
            prepare_image(encoded, how)
        start = time.monotonic_ns()
        pixels = prepare_image(encoded, how)
        yield pixels, time.monotonic_ns() - start
