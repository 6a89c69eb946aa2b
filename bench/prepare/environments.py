"""Other releases of a runtime, each in a virtual environment of its own.

`--framework onnx-python,onnx-python@1.30.0` measures both, paired.
The environment has the framework's first library at the release that is asked for, the others as they are installed here. It is made
once, under build/, by an ordinary `pip install`. The worker's own code stays ours.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

from bench.catalog.frameworks import Framework
from bench.core import files, paths
from bench.core.errors import BenchError, NotApplicable

FOLDER = paths.BUILD / "releases"


def python(framework: Framework) -> Path:
    """The interpreter of the environment of `framework.release`, made now if it is not there.

    Raises:
        NotApplicable: the framework is no wheel that could be another one.
        BenchError: pip does not install it; its last line is the reason.
    """
    if framework.release is None:
        return Path(sys.executable)
    if not framework.libraries:
        raise NotApplicable(f"{framework.title} is built from its lock file: another release cannot stand beside it")
    library, *others = framework.libraries
    requirements = [f"{library}=={framework.release}", *(f"{other}=={importlib.metadata.version(other)}" for other in others)]
    if "numpy" not in others:
        requirements.append(f"numpy=={importlib.metadata.version('numpy')}")
    folder = FOLDER / f"{library}-{framework.release}-{files.short_hash(requirements, sys.version)}"
    if not folder.exists():
        _make(folder, requirements)
    return folder / "bin" / "python"


def shared_library(framework: Framework) -> Path:
    """The onnxruntime library of that environment, which Rust and C++ load.

    Raises:
        BenchError: the wheel holds no such file.
    """
    root = python(framework).parent.parent
    libraries = sorted(root.glob("lib/python*/site-packages/onnxruntime/capi/libonnxruntime.so.1.*"))
    if len(libraries) != 1:
        raise BenchError(f"{root} holds {len(libraries)} files libonnxruntime.so.1.*, not one: delete the folder, it is made again")
    return libraries[0]


def _make(folder: Path, requirements: list[str]) -> None:
    # Not under a temporary name, since an environment knows its own path; a failed one is deleted.
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    steps = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements],
    )
    try:
        for step in steps:
            process = subprocess.run(step, capture_output=True, text=True, check=False)
            if process.returncode:
                lines = [line for line in process.stderr.splitlines() if line.strip() and not line.startswith(("WARNING", "[notice]"))]
                reason = re.sub(r"^ERROR:\s*", "", lines[-1].strip()) if lines else f"exit status {process.returncode}"
                raise BenchError(f"{' '.join(requirements)}: {reason}; name a release that is published for this Python")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
