"""Bugs planted into the reference model, judged by the parity gate on the protocol's hard inputs.

    python -m bench.verify.gate ARTEFACT PLAN PAD_ID

prints a JSON object a line, one for each bug. It is a program of its own, so that torch stays out of the harness.
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

from bench.core import paths
from bench.core.arrays import Vectors
from bench.correctness import checks
from bench.stats import parity
from bench.verify.claim import Outcome, Tick, silent
from bench.workers.api import Array
from bench.workers.plan_file import Padder, PlanFile

#: Rows of a batch. Every 4th of the hard inputs is judged: a bug that is caught on fewer inputs is caught on all.
BATCH, EVERY = 8, 4
#: The gate that many use: a mean cosine above this.
NAIVE_COSINE = 0.999
HONEST = "honest"

Plant = Callable[[Any], None]


@dataclass(frozen=True)
class BugResult:
    """What the gate said to a model with one bug planted into it.

    Attributes:
        distance: the worst 1 − cosine to the honest model.
        max_abs_diff: the worst |Δ| of an element.
        caught: the check that failed, with its numbers; None where all passed.
        naive_passes: a mean cosine above NAIVE_COSINE lets it through.
    """

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


def judge_bugs(artefact: Path, rows: Sequence[Array], pad_id: int) -> Iterator[BugResult]:
    """Judge each of BUGS on `rows` of token ids, served in batches of mixed length, against the honest model serving them alone."""
    alone = [[row] for row in range(len(rows))]
    together = [list(range(first, min(first + BATCH, len(rows)))) for first in range(0, len(rows), BATCH)]
    expected = _vectors(artefact, nothing, rows, alone, pad_id)
    for bug, plant in BUGS.items():
        batched = _vectors(artefact, plant, rows, together, pad_id)
        single = _vectors(artefact, plant, rows, alone[:BATCH], pad_id)
        failed = [check for check in checks.hard_inputs("fp32", single, batched, expected) if not check.held]
        agreement = parity.compare(batched, expected)
        yield BugResult(
            bug,
            float(1 - agreement.cosine.min()),
            float(agreement.max_abs_diff.max()),
            f"{failed[0].name}: {failed[0].detail}" if failed else None,
            bool(agreement.cosine.mean() > NAIVE_COSINE),
        )


def _vectors(artefact: Path, plant: Plant, rows: Sequence[Array], batches: list[list[int]], pad_id: int) -> Vectors:
    """Vectors of the rows in `batches` of row numbers, by a freshly loaded model into which `plant` has put its bug; (n, dim)."""
    import torch

    from bench.model import embedder

    model = embedder.load(artefact).eval()
    plant(model)
    vectors: list[Array] = []
    with torch.inference_mode():
        for batch in batches:
            width = max(len(rows[row]) for row in batch)
            ids = np.full((len(batch), width), pad_id, dtype=np.int64)
            mask = np.zeros_like(ids)
            for place, row in enumerate(batch):
                ids[place, : len(rows[row])], mask[place, : len(rows[row])] = rows[row], 1
            vectors.append(model(torch.from_numpy(ids), torch.from_numpy(mask)).numpy())
    return np.concatenate(vectors)


def outcome_of(results: Sequence[BugResult]) -> Outcome:
    """The claim holds where all bugs are caught and the honest model is not."""
    wrong = [result for result in results if (result.caught is None) != (result.bug == HONEST)]
    bugs = [result for result in results if result.bug != HONEST]
    worst = ", ".join(f"{result.bug} {result.distance:.0e} / {result.max_abs_diff:.0e}" for result in results)
    naive = sum(result.naive_passes for result in bugs)
    return Outcome(
        f"{sum(result.caught is not None for result in bugs)} of {len(bugs)} caught (a mean cosine > {NAIVE_COSINE} lets {naive} through); "
        f"1 − min cos / max |Δ|: {worst}" + "".join(f"; wrong on {result.bug}" for result in wrong),
        not wrong and len(bugs) == len(BUGS) - 1,
    )


def judge_in_process(artefact: Path, plan: Path, pad_id: int, tick: Tick = silent) -> Outcome:
    """Judge the bugs in a process of its own; reports progress after each."""
    command = [sys.executable, "-m", "bench.verify.gate", str(artefact), str(plan), str(pad_id)]
    results: list[BugResult] = []
    with subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout and child.stderr
        try:
            for line in child.stdout:
                results.append(BugResult(**json.loads(line)))
                tick(len(results) / len(BUGS))
            error = child.stderr.read().strip()
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        return Outcome(f"the planted bugs could not be judged: {error.splitlines()[-1] if error else child.returncode}", False)
    return outcome_of(results)


def main(artefact: Path, plan: Path, pad_id: int) -> None:
    import torch

    torch.set_num_threads(1)
    plan_file = PlanFile.open(plan, None)
    padder = Padder(plan_file, pad_id)
    rows = [padder.make(row, 1)[0][0] for row in range(0, len(plan_file.lengths), EVERY)]
    for result in judge_bugs(artefact, rows, pad_id):
        print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
