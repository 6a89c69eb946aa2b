"""Check results of the hard inputs, kept under build/ while nothing that decides them has changed.

An arm's vectors follow from its artefact, its worker, its library and this CPU. Where all of these, the hard inputs, the reference and the
judging code are the same, so are the results; a check that was taken over says so. Only checks that all held are kept, and only of workers
whose whole code is known here. The vectors of timed requests are compared in every run.
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

#: The code that judges and that makes the reference: a changed gate or rule judges anew.
JUDGES = ("bench.correctness.checks", "bench.correctness.reference", "bench.correctness.determinism")


def key(experiment: Experiment, prepared: PreparedArm) -> str | None:
    """A hash over all that decides the results; None for a worker that is not ours, or a library of another environment: a part of those
    may change unseen."""
    ours = prepared.framework.build or any(part.startswith("bench.workers.") for part in prepared.command)
    if not ours or prepared.framework.release:
        return None
    return files.short_hash(
        *(identity.machine_id(), experiment.hard.hash, experiment.reference.hash, content_hash.of_code(*JUDGES)),
        *(prepared.artefact.hash, binary_hash(prepared), prepared.version, list(_library(prepared))),
        *(prepared.command, prepared.env, prepared.settings, asdict(prepared.arm)),
    )


def load(cache_key: str | None) -> list[Check] | None:
    """The kept results under a key, each naming the run that it comes from; None where there are none."""
    if cache_key is None:
        return None
    try:
        kept: dict[str, Any] = files.read_json(_file(cache_key))
        checks = [codec.check_from_json(check) for check in kept["checks"]]
        return [replace(check, detail=f"{check.detail} (found in run {kept['run_id']}; nothing changed since)") for check in checks]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(cache_key: str | None, run_id: str, checks: Sequence[Check]) -> None:
    """Keep results if every check held."""
    if cache_key is not None and all(check.held is not False for check in checks):
        files.write_json(_file(cache_key), {"run_id": run_id, "checks": [asdict(check) for check in checks]})


def _library(prepared: PreparedArm) -> Iterator[str]:
    """Hashes of the library: of wheels their record, which lists the hash of every file, else of the file itself."""
    if prepared.framework.build:
        for path in footprint.library_files(prepared):
            yield content_hash.of_files(path.parent, [path.name])[path.name]
        return
    for name in prepared.framework.libraries:
        distribution = importlib.metadata.distribution(name)
        yield files.short_hash(name, distribution.version, distribution.read_text("RECORD"))


def _file(cache_key: str) -> Path:
    return paths.BUILD / "verdicts" / f"{cache_key}.json"
