"""The cells of a run: one arm in one served scenario, with the requests that it served there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from bench.runs.schema import ArmMemory, Block, Check, Failure, RunArm, RunData, RunScenario, Slice, Start
from bench.stats.load import Requests
from bench.stats.tables import STATS_VERSION, Result

#: Loads whose pieces are cut off where an arm does not keep up: that is a finding, not a fault.
OPEN = ("open", "slo")
INTEGERS = ("block", "slice", "request", "tokens", "due_ns", "start_ns", "end_ns")
REALS = ("preprocess_ns", "cosine", "max_abs_diff")
NO_SAMPLES = pd.DataFrame({name: np.zeros(0) for name in (*INTEGERS, *REALS)})


@dataclass(frozen=True, eq=False)
class Cell:
    """One arm in one served scenario of a run. The properties are what the run recorded about it."""

    run: RunData
    arm: RunArm
    scenario: RunScenario
    requests: Requests

    @cached_property
    def identity(self) -> Result:
        """The cell's row with nothing but its identity in it."""
        run, arm, scenario = self.run, self.arm, self.scenario
        version = (arm.version or {}).get("version")
        return Result(
            run_id=run.run_id,
            campaign_id=run.campaign_id,
            arm_id=arm.arm_id,
            role=arm.role,
            measured_at=run.measured_at,
            machine_id=run.machine_id,
            machine=run.machine,
            model=run.model,
            weights=run.weights,
            framework=arm.framework,
            framework_version=None if version is None else str(version),
            language=arm.language,
            precision=arm.precision,
            variant=arm.variant,
            sessions=arm.sessions,
            threads=arm.threads,
            scenario=scenario.name,
            served_scenario=None,
            clients=self.clients,
            rate_per_s=scenario.rate_per_s,
            batch=scenario.batch,
            status="SKIPPED",
            reason=None,
            plan_hash=scenario.plan_hash,
            artefact_hash=arm.artefact_hash,
            stats_version=STATS_VERSION,
            precision_note=arm.precision_note,
            compile_ms=None if arm.compile_s is None else arm.compile_s * 1000,
        )

    @property
    def clients(self) -> int | None:
        """The clients that the served row stands for: of a closed loop as many as are served together, none of an open loop."""
        if self.scenario.load in OPEN:
            return None
        return self.scenario.batch if self.scenario.load == "closed" else 1

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks of the scenario."""
        return tuple(block for block in self.run.blocks if block.scenario == self.scenario.name)

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """The arm's slices in all blocks of the scenario."""
        return tuple(piece for block in self.blocks for piece in block.slices if piece.arm_id == self.arm.arm_id)

    @cached_property
    def pieces(self) -> Mapping[int, Slice]:
        """By block the arm's last slice in it; a piece of an open loop is the only one."""
        return {block.block: piece for block in self.blocks for piece in block.slices if piece.arm_id == self.arm.arm_id}

    @property
    def cut(self) -> frozenset[int]:
        """The blocks of an open loop in which the arm did not keep up and was cut off."""
        if self.scenario.load == "closed" or self.scenario.rate_per_s is None:
            return frozenset()
        return frozenset(block for block, piece in self.pieces.items() if piece.served < piece.count and not piece.error)

    @property
    def memory(self) -> list[ArmMemory]:
        """Memory of the arm's process at the end of each block."""
        return [block.memory[self.arm.arm_id] for block in self.blocks if self.arm.arm_id in block.memory]

    @property
    def starts(self) -> list[Start]:
        """The process starts of the arm in the whole run."""
        return [start for start in self.run.starts if start.arm_id == self.arm.arm_id]

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks of the arm."""
        return self.run.checks.get(self.arm.arm_id, ())

    @property
    def failure(self) -> Failure | None:
        """The recorded failure of this very cell, or that of all cells of the arm that served nothing."""
        failures = [failure for failure in self.run.failures if failure.arm_id == self.arm.arm_id]
        exact = [failure for failure in failures if failure.scenario == self.scenario.name]
        everywhere = [failure for failure in failures if failure.scenario == "*" and not len(self.requests)]
        return next(iter(exact + everywhere), None)


def cells_of(run: RunData) -> dict[str, list[Cell]]:
    """The cells of each scenario of a run, one per arm."""
    requests = _requests_by_cell(run.samples)
    nothing = _requests(NO_SAMPLES)
    return {
        scenario.name: [Cell(run, arm, scenario, requests.get((scenario.name, arm.arm_id), nothing)) for arm in run.arms]
        for scenario in run.scenarios
    }


def _requests_by_cell(samples: pd.DataFrame) -> dict[tuple[str, str], Requests]:
    """By scenario and arm the requests that were served, in the order taken."""
    frame = samples.sort_values(["scenario", "arm_id", "block", "start_ns", "request"], kind="stable", ignore_index=True)
    groups = frame.groupby(["scenario", "arm_id"], sort=False, observed=True)
    return {(str(scenario), str(arm_id)): _requests(part) for (scenario, arm_id), part in groups}


def _requests(samples: pd.DataFrame) -> Requests:
    integers = {name: samples[name].to_numpy(dtype=np.int64) for name in INTEGERS}
    reals = {name: samples[name].to_numpy(dtype=float) for name in REALS}
    block, piece = integers["block"], integers.pop("slice")
    new = np.ones(len(samples), dtype=bool)
    new[1:] = (block[1:] != block[:-1]) | (piece[1:] != piece[:-1])
    return Requests(stretch=np.cumsum(new) - 1, **integers, **reals)
