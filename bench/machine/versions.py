"""Versions and build information of Python, libraries, workers and compilers."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

LIBRARIES = (
    "torch", "transformers", "tokenizers", "safetensors", "onnxruntime", "openvino", "onnx", "onnxscript", "numpy", "duckdb", "scipy",
    "pandas",
)  # fmt: skip
COMPILERS = ("rustc", "cargo", "g++", "cmake")


def versions(workers: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Part `versions` of machine.json.

    `workers` maps a framework to what its worker's `--version` printed; its `build` holds torch.__config__, ONNX Runtime's build info and
    the like.
    """
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}",
        "libraries": {name: _version(name) for name in LIBRARIES},
        "workers": {name: dict(stated) for name, stated in workers.items()},
        "compilers": {name: _compiler(name) for name in COMPILERS},
    }


def _version(name: str) -> Any:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return {"unavailable": "not installed"}


def _compiler(name: str) -> Any:
    """The first line that a compiler prints for `--version`."""
    try:
        done = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {"unavailable": "not installed"}
    lines = done.stdout.splitlines()
    return lines[0] if done.returncode == 0 and lines else {"unavailable": "gave no version"}
