"""A run folder (RUNS.md) as `RunData`: finished or not, only what has its final name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.core import files, paths
from bench.core.errors import BenchError
from bench.runs import codec, noise, parquet
from bench.runs.codec import Json
from bench.runs.schema import SAMPLE_COLUMNS, Block, Check, Footprint, QualityData, RunArm, RunData, RunScenario, Start

#: Keys that every arm of run.json has.
ARM_KEYS = ("arm_id", "framework", "language", "precision", "variant", "sessions", "threads", "role", "artefact_hash")
QUALITY_COLUMNS = ("measure", "set", "item", "value", "reference", "overlap", "gold")
DTYPES = {"arm_id": "str", "scenario": "str", "preprocess_ns": "float64", "cosine": "float64", "max_abs_diff": "float64"}


def run_folders(runs: Path = paths.RUNS) -> list[Path]:
    """The folders of runs, oldest first; a folder without run.json, or with a temporary name, is none."""
    return sorted(path.parent for path in runs.glob("*/run.json") if not path.parent.name.endswith(".tmp"))


def read_run(folder: Path) -> RunData:
    """Everything that a run folder holds.

    Raises:
        BenchError: a file of it cannot be read, with its name.
    """
    run, machine = read_json(folder / "run.json"), read_json(folder / "machine.json")
    try:
        starts = [codec.start_from_json(read_json(path)) for path in sorted((folder / "starts").glob("*.json"))]
        newest = {start.arm_id: start for start in sorted(starts, key=lambda start: start.start)}
        blocks = read_blocks(folder)
        return RunData(
            run_id=run["run_id"],
            campaign_id=run["campaign_id"],
            measured_at=codec.moment(run["measured_at"]),
            machine_id=machine["machine_id"],
            machine=machine["machine"],
            model=run["model"],
            model_bytes=int(run["model_bytes"]),
            weights=run["weights"],
            finished=read_done(folder) is not None,
            arms=tuple(_arm(arm, newest.get(arm["arm_id"])) for arm in run["arms"]),
            scenarios=tuple(_scenario(scenario) for scenario in run["scenarios"]),
            starts=tuple(starts),
            blocks=tuple(judged(blocks, folder / "probe.json")),
            checks={path.stem: read_checks(path) for path in sorted((folder / "checks").glob("*.json"))},
            failures=tuple(codec.failure_from_json(read_json(path)) for path in sorted((folder / "failures").glob("*.json"))),
            samples=_samples(folder, blocks),
            quality=_quality(folder),
        )
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise BenchError(f"{folder}: not as bench/RUNS.md says ({error!r}): mend it or move it away, then `invoke load`") from None


def read_json(path: Path) -> Any:
    """The value of one JSON file of a run folder.

    Raises:
        BenchError: it is not there, or no JSON.
    """
    try:
        return files.read_json(path)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: cannot be read ({error}): restore it or move its run away, then `invoke load`") from None


def read_done(folder: Path) -> Json | None:
    """done.json of a run folder; None where the run is not finished."""
    path = folder / "done.json"
    done: Json | None = read_json(path) if path.exists() else None
    return done


def read_blocks(folder: Path, scenario: str = "*") -> list[Block]:
    """The finished blocks of a run folder, or of one scenario, with the notes that the run gave them; by scenario and number."""
    return [codec.block_from_json(read_json(path)) for path in block_files(folder, scenario)]


def block_files(folder: Path, scenario: str = "*") -> list[Path]:
    """block.json of each finished block of a run folder, or of one scenario."""
    return [path for path in sorted(folder.glob(f"blocks/{scenario}/*/block.json")) if path.parent.name.isdigit()]


def block_folder(folder: Path, scenario: str, block: int) -> Path:
    """Where a block lies in a run folder."""
    return folder / "blocks" / scenario / f"{block:03d}"


def read_checks(path: Path) -> tuple[Check, ...]:
    """The checks of one arm, from checks/<arm_id>.json."""
    return tuple(codec.check_from_json(check) for check in read_json(path))


def judged(blocks: Sequence[Block], probe: Path) -> list[Block]:
    """Blocks with the note of each judged beside all blocks of its scenario (noise.py); `probe` is the run's probe.json."""
    if not blocks:
        return []
    usual = noise.Seconds(**codec.known(noise.Seconds, read_json(probe)))
    medians: dict[str, list[noise.Seconds]] = {}
    for block in blocks:
        medians.setdefault(block.scenario, []).append(noise.median(block.probe.fma_s, block.probe.copy_s))
    notes = {scenario: iter(noise.notes(seconds, usual)) for scenario, seconds in medians.items()}
    return [replace(block, note=next(notes[block.scenario])) for block in blocks]


def ordered(samples: pd.DataFrame) -> pd.DataFrame:
    """Samples as RunData has them: the columns SAMPLE_COLUMNS, sorted so that the same samples always give the same table."""
    typed = samples[list(SAMPLE_COLUMNS)].astype({name: DTYPES.get(name, "int64") for name in SAMPLE_COLUMNS})
    return typed.sort_values(["scenario", "block", "slice", "start_ns", "arm_id", "request"], kind="stable", ignore_index=True)


def _arm(arm: Mapping[str, Any], start: Start | None) -> RunArm:
    return RunArm(
        **{name: arm[name] for name in ARM_KEYS},
        version=start.version if start else None,
        settings=start.settings if start else None,
        knobs=arm.get("knobs"),
        headline=bool(arm.get("headline")),
        note=arm.get("note"),
        footprint=Footprint(**codec.known(Footprint, arm.get("footprint") or {})),
        fault=arm.get("fault"),
        precision_note=arm.get("precision_note"),
        compile_s=arm.get("compile_s"),
    )


def _scenario(scenario: Mapping[str, Any]) -> RunScenario:
    values = codec.known(RunScenario, scenario)
    lists: Json = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return RunScenario(**(values | lists))


def _quality(folder: Path) -> QualityData | None:
    """The quality files of a run folder; None where no probe set was served."""
    if not (folder / "vectors" / "set.json").exists():
        return None
    probe_set = read_json(folder / "vectors" / "set.json")
    frames = [
        pq.ParquetFile(path).read().to_pandas()[list(QUALITY_COLUMNS)].assign(arm_id=path.stem)
        for path in sorted((folder / "quality").glob("*.parquet"))
    ]
    empty = pd.DataFrame({name: pd.Series(dtype="float64") for name in ("arm_id", *QUALITY_COLUMNS)})
    return QualityData(
        items=pd.concat(frames, ignore_index=True) if frames else empty,
        probes=parquet.read_vectors(folder / "vectors"),
        queries=probe_set["queries"],
        relevant=tuple(frozenset(places) for places in probe_set["relevant"]),
        failed={path.stem: str(read_json(path)["note"]) for path in sorted((folder / "quality").glob("*.json"))},
        set_hash=probe_set["plan_hash"],
    )


def _samples(folder: Path, blocks: Sequence[Block]) -> pd.DataFrame:
    """The samples of all blocks."""
    frames = [
        pq.ParquetFile(block_folder(folder, block.scenario, block.block) / "samples.parquet")
        .read()
        .to_pandas()
        .assign(scenario=block.scenario, block=block.block)
        for block in blocks
    ]
    return ordered(pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(SAMPLE_COLUMNS)))
