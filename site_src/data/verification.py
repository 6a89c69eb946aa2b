"""The record of `invoke verify` on each machine, from `data/verify/<machine_id>.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError


@dataclass(frozen=True)
class Verification:
    """The record of one machine.

    Attributes:
        promises: in the order of their table, each with name, promise, measured, held (None: not measured), measured_at, stats_version.
    """

    machine: str
    code_commit: str | None
    promises: Sequence[Mapping[str, Any]]


def read(folder: Path) -> list[Verification]:
    """The records of all machines, by file name; empty if nothing was verified yet.

    Raises:
        BenchError: a file is not what `invoke verify` writes.
    """
    records = []
    for file in sorted(folder.glob("*.json")):
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            records.append(Verification(record["machine"], record["code_commit"], record["promises"]))
        except (ValueError, KeyError, TypeError):
            raise BenchError(f"{file}: not what `invoke verify` writes: move it away, or run `invoke verify` again") from None
    return records
