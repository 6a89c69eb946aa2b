"""Real prose without a download: the installed Python's `pydoc_data.topics` and the docstrings of its standard library."""

from __future__ import annotations

import ast
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from bench.core.errors import BenchError

PASSAGE_CHARACTERS = 240  # where a long paragraph is parted
SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__", "pydoc_data"}  # folders of the library


@lru_cache(maxsize=1)
def passages() -> tuple[str, ...]:
    """All distinct passages, in the order of topics and files.

    Raises:
        BenchError: this Python was installed without its documentation topics.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise BenchError("corpus docs: this Python has no pydoc_data.topics; install its documentation or leave --corpus away") from None
    found: dict[str, None] = {}
    for name in sorted(topics):
        found.update(dict.fromkeys(_parted(topics[name])))
    root = Path(sysconfig.get_paths()["stdlib"])
    for file in sorted(root.rglob("*.py")):
        if SKIPPED.isdisjoint(file.relative_to(root).parts):
            found.update(dict.fromkeys(_of_docstrings(file)))
    return tuple(found)


def _of_docstrings(file: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):  # a file of the library that this Python cannot read holds no prose for us
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _parted(ast.get_docstring(node) or "")


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
