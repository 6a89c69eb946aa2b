"""`invoke clean`: free what can be made again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.catalog import one_of
from bench.core import paths
from bench.prepare import preflight


@dataclass(frozen=True)
class Freed:
    """A folder that is no more, and the bytes that its files had."""

    folder: Path
    bytes: int


def parts() -> Mapping[str, Sequence[Path]]:
    """The folders under build/ behind each value of `--what`."""
    return {
        "artefacts": [paths.ARTEFACTS, paths.WEIGHTS],
        "plans": [paths.PLANS, paths.BUILD / "reference"],
        "all": [paths.BUILD],
    }


def free(part: str) -> Iterator[Freed]:
    """Delete the folders of a part, one after another.

    Raises:
        BenchError: there is no such part.
    """
    folders = parts()
    for folder in folders[one_of("part", part, folders)]:
        size = preflight.folder_bytes(folder)
        shutil.rmtree(folder, ignore_errors=True)
        yield Freed(folder, size)
