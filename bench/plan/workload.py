"""A scenario of the catalogue fitted to a model: absolute rates, lengths within its reach, the rows of a piece. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.catalog import Model, Scenario
from bench.plan import arrivals

#: An open-loop piece has at least this many rows, however slow the arrivals.
MIN_PIECE = 20
#: The unit of load of a model that has none in the catalogue: parameters × requests per second, about what the listed models have. An image
#: is worth some hundred tokens.
PARAMETERS_PER_S = {"text": 1.8e9, "image": 0.4e9}
#: A cost curve wants more lengths than a straight line has terms.
MIN_LENGTHS = 3


def fitted(scenario: Scenario, model: Model) -> Scenario:
    """The scenario as this model is served with it.

    Raises:
        BenchError: a trace that cannot be read.
    """
    reach = _reach(scenario, model)
    if len(reach) >= MIN_LENGTHS:
        scenario = replace(scenario, lengths=reach)
    if scenario.load != "open":
        return scenario
    rate = rate_per_s(scenario, model)
    piece = scenario.piece or MIN_PIECE
    if scenario.piece_s is not None:
        piece = min(piece, max(MIN_PIECE, math.ceil(scenario.piece_s * rate)))
    return replace(scenario, rate_per_s=rate, rate=None, piece=piece)


def rate_per_s(scenario: Scenario, model: Model) -> float:
    """Arrivals per second of an open loop: its own, its share of the model's, or the pace of its trace (times in seconds)."""
    if scenario.rate_per_s is not None:
        return scenario.rate_per_s
    if scenario.rate is not None:
        return scenario.rate * base_rate(model)
    return arrivals.trace_rate(Path(str(scenario.trace)))


def base_rate(model: Model) -> float:
    """The model's unit of load, arrivals per second: its own in the catalogue, else one by its size, to two significant digits."""
    if model.rate_per_s is not None:
        return model.rate_per_s
    return float(f"{PARAMETERS_PER_S[model.modality] / model.parameters:.2g}")


def longest(model: Model) -> int:
    """Tokens of the longest text that the model can take."""
    return model.fixed_tokens or model.context_tokens or model.max_tokens


def is_fresh(scenario: Scenario, fresh_blocks: bool) -> bool:
    """Does every block of a scenario want new processes? `fresh_blocks`: its suite does, where the scenario itself says nothing."""
    return scenario.process == "fresh" or (fresh_blocks and scenario.process == "suite")


def turns(scenarios: Sequence[Scenario], shared: bool) -> list[list[Scenario]]:
    """Scenarios in groups, in the order of their first members: those of one group are measured in turns by the same processes.

    `shared`: every block wants new processes, and those of all arms stay in memory; then scenarios that serve the same batches and
    lengths share them. Else each is on its own, as are searches and those that say themselves how long a process lives.
    """
    groups: dict[object, list[Scenario]] = {}
    for scenario in scenarios:
        alone = not shared or scenario.process != "suite" or scenario.load == "slo"
        groups.setdefault(scenario.name if alone else (scenario.batch, scenario.lengths), []).append(scenario)
    return list(groups.values())


def why_not(scenario: Scenario, model: Model) -> str | None:
    """Why a scenario means nothing for a model; None where it can be served."""
    if not (scenario.lengths or scenario.order == "sorted" or scenario.shapes == "new"):
        return None
    if model.modality == "image":
        return "all images of a model have one shape"
    if model.fixed_tokens:
        return f"all its texts are padded to {model.fixed_tokens} tokens"
    if scenario.lengths and len(_reach(scenario, model)) < MIN_LENGTHS:
        return f"its texts have at most {longest(model)} tokens: too few lengths for a curve"
    return None


def _reach(scenario: Scenario, model: Model) -> tuple[int, ...]:
    return tuple(length for length in scenario.lengths if length <= longest(model))
