"""What will be measured, as data: a parsed command, the arms that can run and all that starts them, those that cannot and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from bench.artefacts import export
from bench.catalog import Arm, ControlRole, Framework, Model, Scenario, Variant
from bench.catalog.arms import Layout
from bench.core import files
from bench.model import weights
from bench.plan.folder import Plan, RepeatPlan
from bench.workers.client import Launch


@dataclass(frozen=True)
class RunSpec:
    """A `bench` command for one model, parsed."""

    model: Model
    frameworks: tuple[Framework, ...]
    scenarios: tuple[Scenario, ...]
    precisions: tuple[str, ...]
    budget_s: float | None
    weights: Literal["auto", "hub", "wheel", "synthetic"]
    command: str
    suite: str
    whole_catalog: bool
    campaign_id: str
    variants: tuple[str, ...] = ("default",)
    layouts: tuple[Layout, ...] = ()
    requests: int | None = None
    corpus: str | None = None
    seed: int = 1
    fresh: bool = False
    quality_set: str | None = None
    #: Every block in new processes.
    fresh_blocks: bool = False
    #: Control arms made from every measured arm; the run whose controls vouch for this one, and what of the budget they have used.
    roles: tuple[ControlRole, ...] = ()
    controls_run_id: str | None = None
    controls_s: float = 0.0


@dataclass(frozen=True)
class PreparedArm:
    """An arm that can run: how to start its worker, and on what. Only a control arm may have a `fault`."""

    arm: Arm
    framework: Framework
    variant: Variant
    command: tuple[str, ...]
    env: Mapping[str, str]
    artefact: export.Artefact
    version: Mapping[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)
    fault: str | None = None

    def __post_init__(self) -> None:
        if self.fault is not None and self.arm.role not in get_args(ControlRole):
            raise ValueError(f"{self.name}: a {self.arm.role} arm never has a fault")

    @property
    def name(self) -> str:
        """For people: the framework, with what sets this arm apart from its default."""
        return self.arm.label

    def launch(self, pad_id: int) -> Launch:
        """How its worker is started."""
        return Launch(
            self.command,
            self.env,
            self.artefact.folder,
            pad_id,
            self.arm.precision,
            self.arm.sessions,
            self.arm.threads,
            self.settings,
            self.fault,
        )


@dataclass(frozen=True)
class UnavailableArm:
    """An arm that cannot run here, and why."""

    arm: Arm
    variant: Variant
    status: str
    reason: str


@dataclass(frozen=True)
class Experiment:
    """Everything a run needs.

    Attributes:
        plans: by scenario.
        identity: all that makes a run another one, but for its budget.
        stages: seconds of each phase of the preparation.
        not_applicable: scenarios that mean nothing for the model, and why; they have no plan.
    """

    spec: RunSpec
    source: weights.Source
    corpus_id: str
    prepared_arms: tuple[PreparedArm, ...]
    unavailable: tuple[UnavailableArm, ...]
    plans: Mapping[str, Plan]
    hard: Plan
    repeat: RepeatPlan
    reference: export.Artefact
    identity: tuple[Any, ...]
    stages: Mapping[str, float]
    not_applicable: Mapping[str, str] = field(default_factory=dict)

    @property
    def pad_id(self) -> int:
        return self.spec.model.pad_id

    @property
    def hash(self) -> str:
        """Two runs of one hash are the same experiment."""
        return self.hash_within(self.spec.budget_s)

    def hash_within(self, budget_s: float | None) -> str:
        """The hash that this experiment has, or would have, within a budget."""
        return files.short_hash(*self.identity, budget_s)
