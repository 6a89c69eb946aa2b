"""How a framework's worker is started: its program, environment and libraries, and the hash of what runs."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
from pathlib import Path

from bench.catalog import DEFAULT, Framework, Variant
from bench.catalog.frameworks import Library
from bench.core import content_hash, files, paths
from bench.core.errors import NotApplicable
from bench.prepare import environments, native
from bench.prepare.spec import PreparedArm

CURE_PYTHON = "pip install -e ."


def missing(framework: Framework) -> str | None:
    """Why a framework cannot run here, with the one command that cures it; None where nothing is missing."""
    for library in framework.libraries if framework.release is None else ():
        try:
            importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            return f"{library} is not installed: {CURE_PYTHON}"
    return native.missing(framework) if framework.build else None


def command_and_env(
    framework: Framework, sessions: int, threads: int, variant: Variant = DEFAULT
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The worker's command and environment with their templates filled in; those of the variant's knobs, then its own, come last."""
    values: dict[str, str] = {
        "python": str(environments.python(framework)), "native": str(paths.BINARIES), "threads": str(threads), "sessions": str(sessions),
    }  # fmt: skip
    templates = dict(framework.env)
    for key, value in variant.settings.items():
        knob = framework.knobs[key]
        templates |= knob.env.get(value, {})
        if value in knob.libraries:
            values["library"] = _shared_library(knob.libraries[value])
    templates |= variant.env
    if any("{onnxruntime_library}" in value for value in templates.values()):
        library = environments.shared_library(framework) if framework.release else native.onnxruntime_library()
        values["onnxruntime_library"] = str(library)
    env = {key: value.format_map(values) for key, value in templates.items()}
    command = tuple(part.format_map(values) for part in program_of(framework, variant))
    if framework.language == "python":
        # The package is found from an editable install; a worker started in the build folder must find it too.
        env.setdefault("PYTHONPATH", str(paths.ROOT))
    return command, env


def program_of(framework: Framework, variant: Variant) -> tuple[str, ...]:
    """The command template of a variant: its own, or that of one of its knobs, or the framework's."""
    chosen = [framework.knobs[key].command.get(value) for key, value in variant.settings.items()]
    return variant.command or next(filter(None, chosen), framework.command)


def recipe_of(framework: Framework, variant: Variant) -> str:
    """How the artefact of a variant is converted: by its own recipe, or that of one of its knobs; empty for the plain one."""
    chosen = [framework.knobs[key].recipe.get(value) for key, value in variant.settings.items()]
    return variant.recipe or next(filter(None, chosen), "")


def _shared_library(library: Library) -> str:
    """The file name by which the loader finds it.

    Raises:
        NotApplicable: it is not installed; the package that has it is named.
    """
    found = ctypes.util.find_library(library.name)
    if found is None:
        raise NotApplicable(f"lib{library.name} is not installed: apt-get install {library.package}")
    return found


def binary_hash(prepared: PreparedArm) -> str:
    """The hash of what runs: the binary, or the code of the worker's module."""
    if prepared.framework.build:
        return files.sha256(Path(prepared.command[0]))
    ours = [part for part in prepared.command if part.startswith("bench.")]
    return files.short_hash(content_hash.of_code(*(ours or ["bench.worker"])))
