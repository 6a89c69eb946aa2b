"""The files of a published checkpoint: weights in one safetensors file or in shards, a tokenizer, configs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from bench.core.errors import BenchError

WEIGHTS = "model.safetensors"
#: Large exports for other runtimes that many repositories carry beside the weights.
OTHERS = ("onnx/", "openvino/")


def shards(folder: Path, file: str = WEIGHTS) -> list[str]:
    """The files over which the tensors of `file` are spread: itself where it is there or nothing else is said, else the shards that
    `file`.index.json lists. They need not be there.

    Raises:
        BenchError: the index is not one.
    """
    index = folder / f"{file}.index.json"
    if (folder / file).is_file() or not index.is_file():
        return [file]
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        names = []
    if not names or any(not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors") for name in names):
        raise BenchError(f"{index}: is not an index of safetensors shards; fetch it again")
    parent = Path(file).parent
    return [(parent / name).as_posix() for name in names]


def lacking(folder: Path, parts: Iterable[str], tokenizer: bool) -> str | None:
    """The first file that a checkpoint must have and this one lacks; None where it is whole. `parts` are files of weights."""
    needed = ["config.json", *(name for part in parts for name in shards(folder, part)), *(["tokenizer.json"] if tokenizer else [])]
    return next((name for name in needed if not (folder / name).is_file()), None)


def names(folder: Path) -> list[str]:
    """The files of a folder that hold weights, configuration or a tokenizer."""
    files = (path.relative_to(folder).as_posix() for suffix in ("json", "safetensors") for path in folder.rglob(f"*.{suffix}"))
    return sorted(name for name in files if not name.startswith(OTHERS))
