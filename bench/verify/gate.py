"""Bugs planted into the model itself, judged by the parity gate on the protocol's hard inputs.

    python -m bench.verify.gate ARTEFACT PLAN PAD_ID

prints one JSON object a line, a judged bug each. It is a program of its own, so that torch stays out of the harness.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core import paths
from bench.correctness import checks
from bench.stats import parity
from bench.verify.claim import Found, Tick, silent
from bench.workers.api import Array
from bench.workers.plan_file import Padder, PlanFile

#: Rows of a batch; and one in so many of the hard inputs is judged: what is caught on fewer is caught on all.
BATCH, EVERY = 8, 4
#: What many take for a gate.
NAIVE_COSINE = 0.999
HONEST = "honest"

Vectors = npt.NDArray[np.float32]
Plant = Callable[[Any], None]


@dataclass(frozen=True)
class Judged:
    """A planted bug: its worst 1 − cosine and |Δ|, what caught it (None: nothing), and whether a mean cosine > 0.999 lets it through."""

    bug: str
    distance: float
    max_abs_diff: float
    caught: str | None
    naive_passes: bool


def gelu_tanh(model: Any) -> None:
    """tanh's approximation for the erf GELU."""
    from torch import nn

    for layer in model.backbone.encoder.layer:
        layer.intermediate.intermediate_act_fn = nn.GELU(approximate="tanh")


def layer_norm_eps(model: Any) -> None:
    """A LayerNorm epsilon of 1e-5 in place of 1e-12."""
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5


def no_normalisation(model: Any) -> None:
    """The vector is not brought to length 1."""
    model.finish = lambda pooled: model.projection(pooled).float()


def truncation(model: Any) -> None:
    """Texts are cut at 128 tokens."""
    whole = model.forward
    model.forward = lambda ids, mask: whole(ids[:, :128], mask[:, :128])


def cls_pooling(model: Any) -> None:
    """The first token's vector in place of the mean."""
    model.pooling = "cls"


def nothing(_: Any) -> None:
    """The honest model."""


BUGS: Mapping[str, Plant] = {
    HONEST: nothing, "gelu-tanh": gelu_tanh, "LayerNorm eps": layer_norm_eps, "no normalisation": no_normalisation,
    "truncation at 128": truncation, "cls pooling": cls_pooling,
}  # fmt: skip


def judge(artefact: Path, rows: Sequence[Array], pad_id: int) -> Iterator[Judged]:
    """Judge each bug of BUGS on `rows` of token ids, served in batches of mixed length, against the honest model serving them alone."""
    import torch

    from bench.model import embedder

    def vectors(plant: Plant, groups: list[list[int]]) -> Vectors:
        model = embedder.load(artefact).eval()
        plant(model)
        found: list[Array] = []
        with torch.inference_mode():
            for group in groups:
                width = max(len(rows[row]) for row in group)
                ids = np.full((len(group), width), pad_id, dtype=np.int64)
                mask = np.zeros_like(ids)
                for place, row in enumerate(group):
                    ids[place, : len(rows[row])], mask[place, : len(rows[row])] = rows[row], 1
                found.append(model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy())
        return np.concatenate(found)

    alone = [[row] for row in range(len(rows))]
    together = [list(range(first, min(first + BATCH, len(rows)))) for first in range(0, len(rows), BATCH)]
    expected = vectors(nothing, alone)
    for bug, plant in BUGS.items():
        batched = vectors(plant, together)
        single = vectors(plant, alone[:BATCH])
        broken = [check for check in checks.hard_inputs("fp32", single, batched, expected) if not check.held]
        agreement = parity.compare(batched, expected)
        yield Judged(
            bug, float(1 - agreement.cosine.min()), float(agreement.max_abs_diff.max()),
            f"{broken[0].name}: {broken[0].detail}" if broken else None, bool(agreement.cosine.mean() > NAIVE_COSINE),
        )  # fmt: skip


def told(judged: Sequence[Judged]) -> Found:
    """All bugs must be caught, and the honest model not."""
    missed = [found for found in judged if (found.caught is None) != (found.bug == HONEST)]
    bugs = [found for found in judged if found.bug != HONEST]
    worst = ", ".join(f"{found.bug} {found.distance:.0e} / {found.max_abs_diff:.0e}" for found in judged)
    naive = sum(found.naive_passes for found in bugs)
    return Found(
        f"{sum(found.caught is not None for found in bugs)} of {len(bugs)} caught (a mean cosine > {NAIVE_COSINE} lets {naive} through); "
        f"1 − min cos / max |Δ|: {worst}" + "".join(f"; wrong on {found.bug}" for found in missed),
        not missed and len(bugs) == len(BUGS) - 1,
    )


def run(artefact: Path, plan: Path, pad_id: int, tick: Tick = silent) -> Found:
    """Judge the bugs in a process of its own."""
    command = [sys.executable, "-m", "bench.verify.gate", str(artefact), str(plan), str(pad_id)]
    judged: list[Judged] = []
    with subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout and child.stderr
        try:
            for line in child.stdout:
                judged.append(Judged(**json.loads(line)))
                tick(len(judged) / len(BUGS))
            said = child.stderr.read()
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        return Found(f"the planted bugs could not be judged: {said.strip().splitlines()[-1] if said.strip() else child.returncode}", False)
    return told(judged)


def main(artefact: Path, plan: Path, pad_id: int) -> None:
    import torch

    torch.set_num_threads(1)
    mapped = PlanFile.open(plan, None)
    padder = Padder(mapped, pad_id)
    for found in judge(artefact, [padder.make(row, 1)[0][0] for row in range(0, len(mapped.lengths), EVERY)], pad_id):
        print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
