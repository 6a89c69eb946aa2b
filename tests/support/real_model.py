"""MiniLM's real weights as each runtime wants them, exported once however many processes of a test run ask."""

from __future__ import annotations

import fcntl

from bench import catalog
from bench.artefacts import export
from bench.artefacts.export import Artefact
from bench.catalog import Kind
from bench.core import paths
from bench.model import weights

MINILM = catalog.load().models["minilm"]


def artefact(kind: Kind) -> Artefact:
    paths.BUILD.mkdir(parents=True, exist_ok=True)
    with (paths.BUILD / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return export.ensure(MINILM, weights.resolve(MINILM), kind)
