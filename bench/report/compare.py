"""`invoke compare RUN_A RUN_B`: did an upgrade make an arm slower, or move its vectors? For the frameworks' own continuous integration."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from bench.catalog import arm_label
from bench.core import paths
from bench.core.errors import BenchError
from bench.core.formatting import DASH, number
from bench.runs import reader
from bench.stats import unpaired
from bench.stats.unpaired import Change, Moved

LABEL = "unpaired: the runs lie apart in time; --framework NAME,NAME@VERSION measures both versions in one campaign, paired"


def compare(run_a: str, run_b: str) -> list[Change]:
    """Every arm of run A against the same arm of run B.

    Args:
        run_a: a run's id, the end of one, or its folder.

    Raises:
        BenchError: no such run, or the two are of different models, weights or machines.
    """
    a, b = (reader.read_run(folder_of(name)) for name in (run_a, run_b))
    for what in ("model", "weights", "machine_id"):
        if getattr(a, what) != getattr(b, what):
            raise BenchError(
                f"runs {a.run_id} and {b.run_id}: their {what} differ ({getattr(a, what)}, {getattr(b, what)}); compare like with like"
            )
    return unpaired.changes(a, b)


def folder_of(name: str) -> Path:
    """The folder of a run that is named by its folder, its id, or the end of its id."""
    for folder in (Path(name), paths.RUNS / name):
        if (folder / "run.json").exists():
            return folder
    found = [folder for folder in reader.run_folders(paths.RUNS) if folder.name.endswith(name)] if name else []
    if len(found) == 1:
        return found[0]
    reason = f"{len(found)} runs end so" if found else "not found"
    raise BenchError(f"run {name!r}: {reason}; `invoke report --format json` lists the ids, or give its folder")


def table(changes: Sequence[Change]) -> Table:
    """The comparison for people."""
    shown = Table(title="run B against run A (> 1: B is better)", title_justify="left", caption=LABEL, caption_justify="left")
    for column in ("arm", "scenario", "version", "ratio", "95 % interval", "verdict", "vectors"):
        shown.add_column(column, justify="right" if column in ("ratio", "95 % interval") else "left")
    for change in changes:
        arm, shift = change.arm, change.shift
        name = arm_label(arm.framework, arm.precision, arm.variant, arm.sessions, arm.threads)
        versions = change.version_a if change.version_a == change.version_b else f"{change.version_a} → {change.version_b}"
        interval = f"{shift.lo:.3f} – {shift.hi:.3f}" if math.isfinite(shift.lo) else DASH
        verdict = change.regression or f"{shift.verdict}{f' ({shift.note})' if shift.note else ''}"
        shown.add_row(name, change.scenario, str(versions), number(shift.ratio, 3), interval, verdict, _vectors(change.moved))
    return shown


def as_json(changes: Sequence[Change]) -> str:
    """The comparison for programs: a list of objects, NaN as null."""
    rows = [{"comparison": unpaired.UNPAIRED, **asdict(change), "regression": change.regression} for change in changes]
    return json.dumps(_plain(rows), indent=1, sort_keys=True)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _vectors(moved: Moved) -> str:
    if moved.min_cosine is None or moved.verdict == unpaired.SAME:
        return moved.verdict
    index = f", top-10 overlap {moved.overlap:.3f}, same index: {moved.swap}" if moved.overlap is not None else ""
    return f"{moved.verdict}: 1 − cosine {1 - moved.min_cosine:.1e}, max |Δ| {moved.max_abs_diff:.1e}{index}"
