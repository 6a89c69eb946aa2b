"""Files and folders written whole: under a temporary name, flushed to disk, then renamed. JSON and hashes of files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError


def sync(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_full_is_said(where: Path) -> Iterator[None]:
    """Turn ENOSPC and EDQUOT into a one-line error."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise BenchError(
            f"disk full while writing {where}: free some space (`invoke clean --what artefacts` helps) and run the same command "
            "again; finished blocks are kept"
        ) from None


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, in a folder that exists; the file written there takes the name `path` when the body ends well.

    Raises:
        BenchError: the disk is full.
    """
    temporary = path.with_name(path.name + ".tmp")
    with disk_full_is_said(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        temporary.rename(path)
        sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write one file whole, in UTF-8."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write one JSON file whole, keys sorted."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the name `path` when the body ends well; an older folder there is replaced."""
    temporary = path.with_name(path.name + ".tmp")
    with disk_full_is_said(path):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if not file.is_symlink():
                sync(file)
        sync(temporary)
        shutil.rmtree(path, ignore_errors=True)
        temporary.rename(path)
        sync(path.parent)


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_hash(*parts: Any) -> str:
    """12 hex digits over the JSON of `parts`."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
