"""Which runs there are: the facts by which a run is looked for, without its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.runs.reader import read_done, read_json, run_folders


@dataclass(frozen=True)
class RunHeader:
    """The facts of run.json that name a run.

    Attributes:
        boot_id: of the machine's boot in which it was measured.
        budget_s: None where every scenario took its own cost.
        roles: of its arms, by arm id.
        done: it is finished.
    """

    folder: Path
    run_id: str
    measured_at: str
    model: str
    boot_id: str | None
    experiment_hash: str | None
    budget_s: float | None
    roles: Mapping[str, str]
    done: bool


def runs_of_machine(runs: Path, machine_id: str) -> Iterator[RunHeader]:
    """The runs under a folder that were measured on one machine, newest first.

    Raises:
        BenchError: a run.json or machine.json cannot be read.
    """
    folders = [folder for folder in run_folders(runs) if read_json(folder / "machine.json").get("machine_id") == machine_id]
    headers = [read_header(folder) for folder in folders]
    yield from sorted(headers, key=lambda header: (header.measured_at, header.run_id), reverse=True)


def read_header(folder: Path) -> RunHeader:
    """The header of one run folder.

    Raises:
        BenchError: its run.json cannot be read.
    """
    run = read_json(folder / "run.json")
    return RunHeader(
        folder=folder,
        run_id=run["run_id"],
        measured_at=run["measured_at"],
        model=run["model"],
        boot_id=run.get("boot_id"),
        experiment_hash=run.get("experiment_hash"),
        budget_s=run.get("budget_s"),
        roles={arm["arm_id"]: arm["role"] for arm in run["arms"]},
        done=read_done(folder) is not None,
    )
