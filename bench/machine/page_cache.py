"""Evicts files from the page cache before a cold start, and proves it page by page; a file that a process has mapped is left alone.

The kernel keeps mapped pages whatever it is told, and evicting them would disturb another worker: then there is no cold
start, and the reason is given.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from bench.machine.cgroup import ROOT

#: At most this share of the bytes may still be in memory for the cache to count as cold.
COLD = 0.01
#: Only files of this size and more are checked: the others are thousands, and hold next to nothing.
CHECKED_BYTES = 1 << 20
#: At least this share must be in memory for a file set to count as warm.
WARM = 0.99


def evict(files: Sequence[Path], root: Path = ROOT) -> str | None:
    """Evict files from the page cache; None once that is proven, else the reason why they are not all out.

    Files that this process itself has mapped (the interpreter, its own libraries) are left out: they are warm for every worker alike.
    """
    own = mapped_files("self", root)
    unmapped = [file for file in map(Path.resolve, files) if str(file) not in own]
    names = {str(file) for file in unmapped}
    for process in sorted(root.glob("proc/[0-9]*")):
        mapped = names & mapped_files(process.name, root)
        if mapped and process.name != str(os.getpid()):
            return f"{_name(process)} has {Path(min(mapped)).name} mapped"
    for file in unmapped:
        with suppress(OSError):
            _drop(file)
    large = [file for file in unmapped if _size(file) >= CHECKED_BYTES]
    size, left = sum(map(_size, large)), sum(map(cached_bytes, large))
    if left > COLD * size:
        return f"the kernel keeps {left / 1e6:.0f} of {size / 1e6:.0f} MB in memory"
    return None


def is_warm(files: Iterable[Path]) -> bool:
    """Are (nearly) all bytes of the files in memory?"""
    listed = list(files)
    return sum(map(cached_bytes, listed)) >= WARM * sum(map(_size, listed))


def cached_bytes(file: Path) -> int:
    """How much of a file is in the page cache, in whole pages; 0 for a file that cannot be read."""
    try:
        with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as view:
            size = len(view)
            pages = (ctypes.c_ubyte * (-(-size // mmap.PAGESIZE)))()
            # The address of a view can be had only through a buffer, which must be gone before the view is closed.
            first = ctypes.c_char.from_buffer(view)
            failed = ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), pages)
            del first
            return 0 if failed else min(size, int((np.ctypeslib.as_array(pages) & 1).sum()) * mmap.PAGESIZE)
    except (OSError, ValueError):  # ValueError: an empty file has no page
        return 0


def mapped_files(process: str, root: Path = ROOT) -> frozenset[str]:
    """Paths that a process has mapped (`self`: this one); none for one that is gone or may not be asked."""
    try:
        text = (root / "proc" / process / "maps").read_text(errors="replace")
    except OSError:
        return frozenset()
    return frozenset(_paths(text))


def _paths(maps: str) -> Iterator[str]:
    for line in maps.splitlines():
        words = line.split(maxsplit=5)
        if len(words) == 6 and words[5].startswith("/"):
            yield words[5]


def _drop(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        if os.fstat(descriptor).st_size >= CHECKED_BYTES:
            os.fdatasync(descriptor)  # a page that is not on disk yet cannot be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0


def _name(process: Path) -> str:
    with suppress(OSError):
        return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return f"process {process.name}"
