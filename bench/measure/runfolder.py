"""Writes a run folder (see RUNS.md): the only truth of a run. `bench/store/database.py` reads it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.artefacts import recipes
from bench.core import files, git, paths, redact
from bench.machine import identity, record
from bench.measure.budget import Allocation
from bench.prepare import footprint
from bench.prepare.launch import binary_hash
from bench.prepare.spec import Experiment
from bench.runs import parquet
from bench.runs.schema import REFERENCE


def now() -> str:
    """ISO 8601 UTC with microseconds."""
    seconds = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"


def _write(path: Path, value: Any) -> None:
    """Run folders are published: no path of this machine stands in them."""
    files.write_json(path, redact.portable(value))


@dataclass(frozen=True, eq=False)
class Trial:
    """One arm's piece at one rate; `cut`: it did not keep up, and was ended by its guard. int64 ns, by request."""

    arm_id: str
    rate_per_s: float
    cut: bool
    due_ns: npt.NDArray[np.int64]
    start_ns: npt.NDArray[np.int64]
    end_ns: npt.NDArray[np.int64]


class RunFolder:
    """One run's folder, new or to be resumed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name

    @classmethod
    def start(cls, experiment: Experiment) -> RunFolder:
        """A new folder with its run.json and machine.json."""
        spec = experiment.spec
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        run_id = f"{stamp}-{spec.model.name}-{files.short_hash(experiment.hash, time.time_ns())[:4]}"
        folder = cls(paths.RUNS / run_id)
        commit, dirty = git.state()
        arms = [
            {
                **asdict(prepared.arm),
                "arm_id": prepared.arm.id,
                "artefact": prepared.artefact.folder.name,
                "artefact_hash": prepared.artefact.hash,
                "command": prepared.launch(experiment.pad_id).argv,
                "env": dict(prepared.env),
                "knobs": dict(prepared.variant.settings),
                "note": prepared.variant.note,
                "headline": prepared.variant.headline,
                "footprint": asdict(footprint.of(prepared)),
                "fault": prepared.fault,
                "precision_note": recipes.slow_path(prepared.arm.precision, identity.cpu_flags()),
                "compile_s": prepared.artefact.compile_s,
            }
            for prepared in experiment.prepared_arms
        ] + [
            {
                **asdict(unavailable.arm),
                "arm_id": unavailable.arm.id,
                "artefact": None,
                "artefact_hash": None,
                "knobs": dict(unavailable.variant.settings),
                "note": unavailable.variant.note,
                "headline": unavailable.variant.headline,
            }
            for unavailable in experiment.unavailable
        ]
        order = {framework.name: place for place, framework in enumerate(spec.frameworks)}
        arms.sort(key=lambda arm: order[arm["framework"]])
        scenarios = [
            {
                **asdict(scenario),
                "trace": scenario.trace and Path(scenario.trace).name,
                "plan": made.name if (made := experiment.plans.get(scenario.name)) else None,
                "plan_hash": made.hash if made else None,
            }
            for scenario in spec.scenarios
        ]
        with files.whole_folder(folder.path) as temporary:
            _write(temporary / "run.json", {
                "run_id": run_id, "campaign_id": spec.campaign_id, "experiment_hash": experiment.hash, "boot_id": identity.boot_id(),
                "measured_at": now(), "command": redact.command(spec.command), "model": spec.model.name, "model_title": spec.model.title,
                "model_bytes": spec.model.bytes_fp32, "dim": spec.model.dim, "weights": experiment.source.kind,
                "revision": experiment.source.revision, "source_sha256": dict(experiment.source.files), "seed": spec.seed,
                "corpus": experiment.corpus_id, "budget_s": spec.budget_s, "requests": spec.requests, "code_commit": commit,
                "code_dirty": dirty, "complete": spec.whole_catalog, "suite": spec.suite,
                "controls_run_id": spec.controls_run_id, "arms": arms, "scenarios": scenarios,
            })  # fmt: skip
            _write(
                temporary / "machine.json",
                record.describe(
                    {prepared.framework.name: prepared.version for prepared in experiment.prepared_arms},
                    {prepared.framework.name: binary_hash(prepared) for prepared in experiment.prepared_arms},
                ),
            )
        for unavailable in experiment.unavailable:
            folder.failure(unavailable.arm.id, "*", unavailable.status, unavailable.reason)
        return folder

    def is_done(self) -> bool:
        return (self.path / "done.json").exists()

    def describe(self, about: Mapping[str, Any]) -> None:
        """Write run.json anew."""
        _write(self.path / "run.json", about)

    def log(self, arm_id: str, start: int) -> Path:
        return self.path / "logs" / f"{arm_id}-{start}.log"

    def starts(self, arm_id: str) -> int:
        """How many process starts of an arm are recorded."""
        return len(list(self.path.glob(f"starts/{arm_id}-*.json")))

    def start_of(self, arm_id: str, start: int, facts: Mapping[str, Any]) -> None:
        _write(self.path / "starts" / f"{arm_id}-{start}.json", {"arm_id": arm_id, "start": start, **facts})

    def add_to_start(self, arm_id: str, start: int, facts: Mapping[str, Any]) -> None:
        """What is known of a start only later."""
        file = self.path / "starts" / f"{arm_id}-{start}.json"
        _write(file, {**files.read_json(file), **facts})

    def allocation(self, scenario: str) -> Allocation | None:
        file = self.path / "blocks" / scenario / "pace.json"
        return Allocation(**json.loads(file.read_text())) if file.exists() else None

    def set_allocation(self, scenario: str, allocation: Allocation) -> None:
        _write(self.path / "blocks" / scenario / "pace.json", asdict(allocation))

    def has_block(self, scenario: str, block: int) -> bool:
        return (self._block(scenario, block) / "block.json").exists()

    def block_count(self, scenario: str) -> int:
        return len(list((self.path / "blocks" / scenario).glob("*/block.json")))

    def block(
        self, scenario: str, block: int, facts: Mapping[str, Any], samples: pd.DataFrame, discards: pd.DataFrame | None = None
    ) -> None:
        """Write a block whole. `discards` are the first parts of open-loop pieces, which no statistic uses."""
        with files.whole_folder(self._block(scenario, block)) as temporary:
            parquet.write_samples(samples, temporary / "samples.parquet")
            if discards is not None:
                parquet.write_samples(discards, temporary / "discards.parquet")
            _write(temporary / "block.json", {"scenario": scenario, "block": block, **facts})

    def discard(self, scenario: str, block: int, facts: Mapping[str, Any], samples: pd.DataFrame) -> None:
        """Keep a noisy block that is measured again, where no reader looks."""
        with files.whole_folder(self._discard(scenario, block)) as temporary:
            parquet.write_samples(samples, temporary / "samples.parquet")
            _write(temporary / "block.json", {"scenario": scenario, "block": block, **facts})

    def has_discard(self, scenario: str, block: int) -> bool:
        return self._discard(scenario, block).exists()

    def discard_count(self, scenario: str) -> int:
        return len(list(self._discard(scenario, 0).parent.glob("*/block.json")))

    def _discard(self, scenario: str, block: int) -> Path:
        return self.path / "discards" / scenario / f"{block:03d}"

    def measured_s(self) -> float:
        """Seconds of measuring that are paid already: a resumed run goes on counting from there."""
        return max((facts["measured_s"] for facts in self._facts("*") if "measured_s" in facts), default=0.0)

    def scenario_s(self, scenario: str) -> float:
        """Seconds that the finished blocks of a scenario took."""
        return sum(_seconds(facts) for facts in self._facts(scenario))

    def _facts(self, scenario: str) -> Iterator[Mapping[str, Any]]:
        for file in self.path.glob(f"blocks/{scenario}/*/block.json"):
            yield json.loads(file.read_text())

    def trials(self, scenario: str, block: int) -> list[Trial]:
        """The pieces of a finished block of a search, as its statistics need them."""
        folder = self._block(scenario, block)
        samples, facts = pd.read_parquet(folder / "samples.parquet"), json.loads((folder / "block.json").read_text())
        found = []
        for piece in facts["slices"]:
            own = samples[samples["arm_id"] == piece["arm_id"]].sort_values("request")
            if len(own):
                times = {name: own[name].to_numpy(dtype=np.int64) for name in ("due_ns", "start_ns", "end_ns")}
                found.append(Trial(piece["arm_id"], float(piece["rate_per_s"]), piece["served"] < piece["count"], **times))
        return found

    def has_checks(self, arm_id: str) -> bool:
        return (self.path / "checks" / f"{arm_id}.json").exists()

    def checks(self, arm_id: str, checks: Sequence[Mapping[str, Any]]) -> None:
        _write(self.path / "checks" / f"{arm_id}.json", list(checks))

    def vector_set(self, about: Mapping[str, Any]) -> None:
        """What was asked of every arm: queries, documents, who answers whom."""
        _write(self.path / "vectors" / "set.json", dict(about))

    def vectors(self, arm_id: str, vectors: npt.NDArray[np.float32]) -> None:
        """An arm's vectors of the probe set, float32 (queries + documents, dim); those of the arm REFERENCE come first."""
        folder = self.path / "vectors"
        base = None if arm_id == REFERENCE else parquet.read_block(folder / f"{REFERENCE}.parquet", None)
        _whole_file(folder / f"{arm_id}.parquet", lambda file: parquet.write_vectors(vectors, base, file))

    def quality(self, arm_id: str, items: pd.DataFrame | None, note: str | None) -> None:
        """What an arm found, per query and pair; or why that is not known."""
        if items is None:
            _write(self.path / "quality" / f"{arm_id}.json", {"note": note})
            return
        _whole_file(self.path / "quality" / f"{arm_id}.parquet", lambda file: items.to_parquet(file, index=False))

    def add_check(self, arm_id: str, check: Mapping[str, Any]) -> None:
        """Add a check to those of an arm, in place of an earlier one of its name."""
        file = self.path / "checks" / f"{arm_id}.json"
        others = [other for other in (files.read_json(file) if file.exists() else []) if other["name"] != check["name"]]
        self.checks(arm_id, [*others, check])

    def failure(self, arm_id: str, scenario: str, status: str, reason: str) -> None:
        _write(
            self._failure(arm_id, scenario),
            {"arm_id": arm_id, "scenario": scenario, "status": status, "reason": reason, "at": now()},
        )

    def has_failure(self, arm_id: str, scenario: str) -> bool:
        return self._failure(arm_id, scenario).exists()

    def status_of(self, arm_id: str, scenario: str) -> str | None:
        """The status of a cell that failed; None where it did not."""
        file = self._failure(arm_id, scenario)
        return str(files.read_json(file)["status"]) if file.exists() else None

    def continues(self) -> Sequence[Mapping[str, Any]]:
        """What this run was before its budget was made larger, each time."""
        file = self.path / "run.json"
        found: Sequence[Mapping[str, Any]] = files.read_json(file).get("continues", []) if file.exists() else []
        return found

    def done(self, stages: Mapping[str, float]) -> None:
        """The last file. The workers' logs lose the paths of this machine first, as everything here has."""
        for log in self.path.glob("logs/*.log"):
            log.write_text(redact.portable(log.read_text(errors="replace")))
        spent = dict(stages)
        for earlier in self.continues():
            for stage, seconds in earlier.get("stages", {}).items():
                if stage != "measuring":  # counted on from what the blocks say
                    spent[stage] = round(spent.get(stage, 0.0) + seconds, 3)
        _write(self.path / "done.json", {"ended_at": now(), "stages": spent})

    def _failure(self, arm_id: str, scenario: str) -> Path:
        return self.path / "failures" / f"{arm_id}--{'all' if scenario == '*' else scenario}.json"

    def _block(self, scenario: str, block: int) -> Path:
        return self.path / "blocks" / scenario / f"{block:03d}"


def _whole_file(file: Path, write: Callable[[Path], Any]) -> None:
    """Write a file under a temporary name, flush it, and give it its own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.tmp")
    write(temporary)
    files.sync(temporary)
    temporary.rename(file)


def _seconds(facts: Mapping[str, Any]) -> float:
    return (datetime.fromisoformat(facts["ended_at"]) - datetime.fromisoformat(facts["started_at"])).total_seconds()
