"""Verdicts on the hard inputs, kept under build/ as long as nothing that they hang on has changed.

An arm's vectors follow from its artefact, its worker, its library and this CPU. Where all of these, the hard inputs, the reference and the
judging code are the same, so is the verdict; a check that was taken over says so. Only what held is kept, and only of workers whose
whole code is known here. The vectors of timed requests are compared in every run.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench.core import content_hash, files, paths
from bench.machine import identity
from bench.prepare import footprint
from bench.prepare.launch import binary_hash
from bench.prepare.spec import Experiment, PreparedArm
from bench.runs import codec
from bench.runs.schema import Check

#: What judges, and what makes the reference: a changed gate or rule asks anew.
JUDGES = ("bench.correctness.checks", "bench.correctness.reference", "bench.correctness.determinism")


def key(experiment: Experiment, prepared: PreparedArm) -> str | None:
    """What a verdict on the hard inputs hangs on, as a hash; None for a worker that is not ours, or a library of another environment, of
    which a part may change unseen."""
    ours = prepared.framework.build or any(part.startswith("bench.workers.") for part in prepared.command)
    if not ours or prepared.framework.release:
        return None
    return files.short_hash(
        *(identity.machine_id(), experiment.hard.hash, experiment.reference.hash, content_hash.of_code(*JUDGES)),
        *(prepared.artefact.hash, binary_hash(prepared), prepared.version, list(_library(prepared))),
        *(prepared.command, prepared.env, prepared.settings, asdict(prepared.arm)),
    )


def load(name: str | None) -> list[Check] | None:
    """The checks of a kept verdict, each saying where it comes from; None where there is none."""
    if name is None:
        return None
    try:
        kept: dict[str, Any] = files.read_json(_file(name))
        checks = [codec.check_from_json(check) for check in kept["checks"]]
        return [replace(check, detail=f"{check.detail} (found in run {kept['run_id']}; nothing changed since)") for check in checks]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(name: str | None, run_id: str, checks: Sequence[Check]) -> None:
    """Keep a verdict if everything held."""
    if name is not None and all(check.held is not False for check in checks):
        files.write_json(_file(name), {"run_id": run_id, "checks": [asdict(check) for check in checks]})


def _library(prepared: PreparedArm) -> Iterator[str]:
    """The content of the library: of wheels their record, which lists the hash of every file, else of the file itself."""
    if prepared.framework.build:
        for path in footprint.library_files(prepared):
            yield content_hash.of_files(path.parent, [path.name])[path.name]
        return
    for name in prepared.framework.libraries:
        distribution = importlib.metadata.distribution(name)
        yield files.short_hash(name, distribution.version, distribution.read_text("RECORD"))


def _file(name: str) -> Path:
    return paths.BUILD / "verdicts" / f"{name}.json"
