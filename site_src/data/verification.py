"""What `invoke verify` found on each machine, as it keeps it in `data/verify/<machine_id>.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError


@dataclass(frozen=True)
class Proof:
    """One machine's promises, in the order of the table: name, promise, measured, held (None: not measured), measured_at, stats_version."""

    machine: str
    code_commit: str | None
    promises: Sequence[Mapping[str, Any]]


def read(folder: Path) -> list[Proof]:
    """The proofs of all machines, by file name; none where nothing was verified yet.

    Raises:
        BenchError: a file is not what `invoke verify` writes.
    """
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            about = json.loads(file.read_text(encoding="utf-8"))
            found.append(Proof(about["machine"], about["code_commit"], about["promises"]))
        except (ValueError, KeyError, TypeError):
            raise BenchError(f"{file}: not what `invoke verify` writes: move it away, or run `invoke verify` again") from None
    return found
