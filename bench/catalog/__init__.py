"""Frameworks, models, scenarios and suites: written as YAML beside this file and read once into frozen dataclasses."""

from bench.catalog.arguments import one_of, parse_seconds, split, unknown
from bench.catalog.frameworks import DEFAULT, Framework, Kind, Knob, Precision, Variant
from bench.catalog.reader import entries, load
from bench.catalog.schema import (
    LARGE_MODEL_BYTES,
    Arm,
    Catalog,
    ControlRole,
    FolderWeights,
    HubWeights,
    ImageInput,
    Model,
    Role,
    Scenario,
    Suite,
    SyntheticWeights,
    Weights,
    WheelWeights,
    arm_label,
)

__all__ = [
    "DEFAULT",
    "LARGE_MODEL_BYTES",
    "Arm",
    "Catalog",
    "ControlRole",
    "FolderWeights",
    "Framework",
    "HubWeights",
    "ImageInput",
    "Kind",
    "Knob",
    "Model",
    "Precision",
    "Role",
    "Scenario",
    "Suite",
    "SyntheticWeights",
    "Variant",
    "Weights",
    "WheelWeights",
    "arm_label",
    "entries",
    "load",
    "one_of",
    "parse_seconds",
    "split",
    "unknown",
]
