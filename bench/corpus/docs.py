"""Real prose without a download: passages of the installed Python's topics and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import lru_cache

from bench.corpus import standard_library

#: A longer paragraph is parted at ends of sentences.
PASSAGE_CHARACTERS = 240


@lru_cache(maxsize=1)
def passages() -> tuple[str, ...]:
    """All distinct passages, in the order of topics and files.

    Raises:
        BenchError: this Python was installed without its documentation topics.
    """
    passages: dict[str, None] = {}
    for topic in standard_library.topics():
        passages.update(dict.fromkeys(_parted(topic)))
    for file in standard_library.files():
        for _, docstring in standard_library.documented(file):
            passages.update(dict.fromkeys(_parted(docstring)))
    return tuple(passages)


def _parted(prose: str) -> Iterator[str]:
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
