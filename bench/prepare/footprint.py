"""The sizes of an arm on disk, and the files that a start of it reads: artefact, library, binary."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from bench.prepare.spec import PreparedArm
from bench.runs.schema import Footprint

#: A library that requires a package of these names is a build for another device; for CPU use another one would be installed.
OTHER_DEVICES = ("nvidia-", "cuda-", "amd-", "rocm-", "intel-sycl-")


def of(prepared: PreparedArm) -> Footprint:
    """Sizes on disk: the artefact's files, the library as installed, the worker's own binary (none where an interpreter runs it).

    A Python arm's library is its wheels; a native one's the shared library it loads, or nothing where all is in the binary. A build
    for another device has neither a size nor an import time that says anything about CPU use.
    """
    reason = next(filter(None, map(_other_device, prepared.framework.libraries)), None) if not prepared.framework.build else None
    if prepared.framework.release:
        reason = "another release stands in an environment of its own"
    return Footprint(
        artefact_bytes=prepared.artefact.bytes,
        library_bytes=None if reason else sum(map(_size, library_files(prepared))),
        binary_bytes=_size(Path(prepared.command[0])) if prepared.framework.build else None,
        note=reason and f"size and import time withheld: {reason}",
        import_note=reason,
    )


def start_files(prepared: PreparedArm) -> list[Path]:
    """All files that a process start of this arm may read: artefact, binary, library and what that requires."""
    artefact = [path for path in prepared.artefact.folder.rglob("*") if path.is_file()]
    if prepared.framework.build:
        return [*artefact, Path(prepared.command[0]), *library_files(prepared)]
    wheels = dict.fromkeys(required for library in prepared.framework.libraries for required in _closure(library))
    return [*artefact, *(file for wheel in wheels for file in _wheel_files(wheel))]


def artefact_files(prepared: PreparedArm) -> list[Path]:
    """The files of its artefact, beside which whatever else a worker reads is small."""
    return [path for path in prepared.artefact.folder.rglob("*") if path.is_file()]


def library_files(prepared: PreparedArm) -> Iterator[Path]:
    """The files of its libraries: wheels for a Python worker, else the shared libraries that its environment names."""
    if prepared.framework.build:
        # A native worker is told which shared library to load by an environment variable of the catalogue.
        yield from (path for path in map(Path, prepared.env.values()) if path.is_absolute() and path.is_file())
    else:
        for library in prepared.framework.libraries:
            yield from _wheel_files(library)


@cache
def _wheel_files(name: str) -> tuple[Path, ...]:
    """The files of an installed wheel, by its own record."""
    try:
        listed = importlib.metadata.distribution(name).files or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(path for path in (Path(str(file.locate())) for file in listed) if path.is_file())


@cache
def _closure(name: str) -> tuple[str, ...]:
    """A wheel and all that it requires, directly or not, by name."""
    closure: dict[str, None] = {}
    waiting = [name]
    while waiting:
        wheel = waiting.pop()
        if wheel not in closure:
            closure[wheel] = None
            waiting += _requires(wheel)
    return tuple(closure)


def _requires(name: str) -> list[str]:
    """Names of the wheels that a wheel requires, without its extras."""
    try:
        lines: Iterable[str] = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [re.split(r"[ ;<>=!~\[(]", line, maxsplit=1)[0].lower() for line in lines if "extra ==" not in line]


def _other_device(name: str) -> str | None:
    """Why a wheel's size says nothing about CPU use; None where it is a build for CPUs."""
    foreign = next((wheel for wheel in _requires(name) if wheel.startswith(OTHER_DEVICES)), None)
    return f"{name} {importlib.metadata.version(name)} is a build for another device (it requires {foreign})" if foreign else None


def _size(file: Path) -> int:
    return file.stat().st_size
