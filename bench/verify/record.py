"""The outcomes of `invoke verify` on disk: `data/verify/<machine_id>.json`, one entry per claim, which the site shows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.core import files, git, paths
from bench.core.errors import BenchError
from bench.machine import identity
from bench.stats.leaderboard import STATS_VERSION
from bench.verify.claim import Claim, Outcome


@dataclass(frozen=True)
class Entry:
    """One claim as it was measured; the field names are the keys of the published file.

    Attributes:
        promise: the claim's sentence.
        held: None where it could not be measured.
        measured_at: ISO 8601, UTC.
    """

    name: str
    promise: str
    measured: str
    held: bool | None
    measured_at: str
    seconds: float
    stats_version: int


def entry_of(claim: Claim, outcome: Outcome, seconds: float) -> Entry:
    """The entry of a claim that was measured just now, in `seconds`."""
    held = None if outcome.held is None else bool(outcome.held)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return Entry(claim.name, claim.text, outcome.measured, held, now, round(seconds, 1), STATS_VERSION)


def machine_file() -> Path:
    """The file of this machine."""
    return paths.DATA / "verify" / f"{identity.machine_id()}.json"


def read(path: Path) -> dict[str, Entry]:
    """The entries of a file by name; empty where there is none.

    Raises:
        BenchError: it is there and is not ours.
    """
    if not path.exists():
        return {}
    try:
        return {entry["name"]: Entry(**entry) for entry in files.read_json(path)["promises"]}
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path}: not what `invoke verify` writes ({error}): move it away") from None


def write(path: Path, entries: Mapping[str, Entry], order: Sequence[str]) -> None:
    """Write the entries whose names are in `order`, in that order, with the machine and the code that they belong to."""
    commit, dirty = git.state()
    content: dict[str, Any] = {
        "machine_id": identity.machine_id(), "machine": identity.one_line(), "code_commit": commit, "code_dirty": dirty,
        "promises": [asdict(entries[name]) for name in order if name in entries],
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, content)
