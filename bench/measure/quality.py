"""What each arm's vectors are worth, measured by its own worker beside the timed requests and outside the budget.

Two plans of texts (or images) without a load: a small **probe** that every arm embeds in every run, so that indexes and versions can be
held against each other; and the **quality** sets, where an arm computes in less than fp32 or `--quality-set` is given. A worker just
serves their rows. What it answered is kept by artefact, binary and version, so that the same thing is asked once on a machine. The
run folder gets the probe's vectors and, per query, what the arm and the fp32 reference found; `stats_quality.py` judges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.catalog import Model
from bench.core import files, paths
from bench.core.errors import BenchError
from bench.corpus import quality_sets
from bench.corpus.quality_sets import Retrieval, Similarity
from bench.correctness import reference
from bench.machine import lock
from bench.plan import make, preprocess
from bench.plan.folder import Plan
from bench.prepare.launch import binary_hash
from bench.prepare.spec import Experiment, PreparedArm
from bench.runs.schema import REFERENCE
from bench.runs.writer import RunFolder
from bench.stats import quality
from bench.workers.client import Order, SliceFailed, Vectors, Worker, WorkerFailed, load_timeout_s, running

BATCH = 8
#: Queries and documents of the probe; fewer for images and for models of 1 GB and more, where each takes a tenth of a second and more.
PROBE, PROBE_LARGE = (128, 256), (32, 64)
#: Rows may take this many times as long as the second call did, and a minute more.
PATIENCE = 30


@dataclass(frozen=True)
class Asked:
    """A plan of all the texts of some sets, and where each of them stands in it."""

    plan: Plan
    retrievals: tuple[Retrieval, ...]
    similarities: tuple[Similarity, ...]
    row_of: Mapping[tuple[str, str | bytes], int]

    def rows(self, kind: str, items: Sequence[str | bytes]) -> list[int]:
        """Plan rows of queries (`query`) or documents (`document`)."""
        return [self.row_of[kind, item] for item in items]


def measure(experiment: Experiment, folder: RunFolder, held: lock.MachineLock, say: Callable[[str], None]) -> None:
    """Ask every measured arm that has served; an arm that fails here keeps its times, and its `quality` says why it has none."""
    # A run that flips switches asks what they are worth; what they find is what their default finds.
    prepared_arms = [
        prepared
        for prepared in experiment.prepared_arms
        if prepared.arm.role == "measured" and prepared.variant.family != "knob" and _served(experiment, folder, prepared)
    ]
    if not prepared_arms:
        return
    model, source = experiment.spec.model, experiment.source
    own = quality_sets.own(Path(experiment.spec.quality_set)) if experiment.spec.quality_set else None
    probe = _asked(model, source.folder, "probe", [_probe(model, own)], [])
    wanted = _sets(model, source.kind, own, [prepared.arm.precision for prepared in prepared_arms], say)
    asked = _asked(model, source.folder, "quality", *wanted) if wanted[0] else None
    order = _keep_probe(experiment, folder, probe)
    expected = _reference(experiment, asked.plan) if asked else None
    for prepared in prepared_arms:
        try:
            answers = _answers(experiment, prepared, [part.plan for part in (probe, asked) if part], folder, held, say)
        except (WorkerFailed, SliceFailed, BenchError) as failure:
            say(f"{prepared.framework.name}: quality: {failure}")
            folder.write_no_quality(prepared.arm.id, f"not measured: {failure}")
            continue
        folder.write_vectors(prepared.arm.id, answers[0][order])
        if asked and expected is not None:
            folder.write_quality(prepared.arm.id, items(asked, answers[1], expected))


def _served(experiment: Experiment, folder: RunFolder, prepared: PreparedArm) -> bool:
    """Has the arm loaded, and not failed in every scenario? One that hangs or crashes would do so here again."""
    scenarios = experiment.spec.scenarios
    return bool(folder.start_count(prepared.arm.id)) and any(
        not folder.has_failure(prepared.arm.id, scenario.name) for scenario in scenarios
    )


def _probe(model: Model, own: Retrieval | None) -> Retrieval:
    large = model.is_large or model.modality == "image"
    whole = own or (quality_sets.docstrings() if model.modality == "text" else quality_sets.augmented())
    return whole.part(*(PROBE_LARGE if large else PROBE))


def _sets(
    model: Model, weights: str, own: Retrieval | None, precisions: Sequence[str], say: Callable[[str], None]
) -> tuple[list[Retrieval], list[Similarity]]:
    """What to ask besides the probe: nothing where meaning is not there, or where the gate of fp32 has said it all."""
    if weights == "synthetic" or (own is None and all(precision == "fp32" for precision in precisions)):
        return [], []
    if own:
        return [own], []
    if model.modality == "image":
        return [quality_sets.augmented()], []
    pairs = quality_sets.sts()
    if isinstance(pairs, str):
        say(pairs)
        return [quality_sets.docstrings(), quality_sets.multilingual()], []
    return [quality_sets.docstrings(), quality_sets.multilingual()], [pairs]


def _asked(model: Model, tokenizer_folder: Path, name: str, retrievals: Sequence[Retrieval], similarities: Sequence[Similarity]) -> Asked:
    """One plan of all distinct texts, with their prompts, the short ones first so that a batch holds little padding."""
    wanted: dict[tuple[str, str | bytes], None] = {}
    for one in retrievals:
        wanted |= dict.fromkeys(("query", item) for item in one.queries)
        wanted |= dict.fromkeys(("document", item) for item in one.documents)
    for pairs in similarities:
        wanted |= dict.fromkeys(("document", item) for item in (*pairs.first, *pairs.second))
    if model.modality == "image":
        images = list(dict.fromkeys(item for _, item in wanted if isinstance(item, bytes)))
        at = {item: row for row, item in enumerate(images)}
        made = make.fixed_plan(model, tokenizer_folder, name, images=images)
        return Asked(made, tuple(retrievals), tuple(similarities), {key: at[key[1]] for key in wanted})  # type: ignore[index]
    prompts = {"query": preprocess.query_prompt(model), "document": preprocess.document_prompt(model)}
    order = sorted(wanted, key=lambda key: (len(key[1]), key))
    made = make.fixed_plan(model, tokenizer_folder, name, texts=[prompts[kind] + str(item) for kind, item in order])
    return Asked(made, tuple(retrievals), tuple(similarities), {key: row for row, key in enumerate(order)})


def _reference(experiment: Experiment, rows: Plan) -> Vectors:
    artefact = experiment.reference
    return reference.ensure(artefact.folder, artefact.hash, rows.folder, rows.hash, 0, rows.rows, experiment.pad_id)


def _keep_probe(experiment: Experiment, folder: RunFolder, probe: Asked) -> list[int]:
    """Write the probe set and the fp32 reference's vectors of it; the plan rows of its queries, then of its documents."""
    (one,) = probe.retrievals
    rows = [*probe.rows("query", one.queries), *probe.rows("document", one.documents)]
    folder.write_vector_set({
        "name": one.name, "plan_hash": probe.plan.hash, "queries": len(one.queries), "documents": len(one.documents), "rows": rows,
        "relevant": [sorted(places) for places in one.relevant],
    })  # fmt: skip
    folder.write_vectors(REFERENCE, _reference(experiment, probe.plan)[rows])
    return rows


# --- asking a worker -----------------------------------------------------------------------------------------------------------------


def _answers(
    experiment: Experiment,
    prepared: PreparedArm,
    plans: Sequence[Plan],
    folder: RunFolder,
    held: lock.MachineLock,
    say: Callable[[str], None],
) -> list[Vectors]:
    """The arm's vectors of each plan: those on disk, else from a fresh worker."""
    kept = [paths.BUILD / "quality" / f"{_key(prepared, rows)}.f32" for rows in plans]
    missing = [place for place, file in enumerate(kept) if not file.is_file()]
    if missing:
        log = folder.log(prepared.arm.id, folder.start_count(prepared.arm.id)).with_suffix(".quality.log")
        with running(prepared.launch(experiment.pad_id), log, held, load_timeout_s(prepared.artefact.bytes)) as (worker, ready):
            for place in missing:
                arm = prepared.arm
                say(f"{arm.framework} {arm.precision} {arm.variant}: {plans[place].rows} texts or images for its quality")
                _keep(kept[place], _serve(worker, plans[place], ready.second_ns / 1e9))
            worker.quit()
    return [np.fromfile(file, dtype="<f4").reshape(rows.rows, -1) for file, rows in zip(kept, plans, strict=True)]


def _key(prepared: PreparedArm, rows: Plan) -> str:
    """All that decides the vectors of a plan: artefact, binary, version, how it is started, and what it is told."""
    arm = prepared.arm
    return files.short_hash(
        *(prepared.artefact.hash, binary_hash(prepared), dict(prepared.version)),
        *(prepared.command, dict(prepared.env), dict(prepared.settings)),
        *(arm.precision, arm.sessions, arm.threads, rows.hash, BATCH),
    )


def _serve(worker: Worker, rows: Plan, second_s: float) -> Vectors:
    guard_s = 60 + PATIENCE * second_s * rows.rows
    paths.SCRATCH.mkdir(parents=True, exist_ok=True)
    vectors = worker.serve(Order(rows.folder, 0, rows.rows, BATCH, guard_s), paths.SCRATCH, guard_s + 60).vectors
    if len(vectors) != rows.rows:
        raise SliceFailed(f"{len(vectors)} of {rows.rows} rows were served")
    return vectors


def _keep(file: Path, vectors: Vectors) -> None:
    with files.whole_file(file) as temporary:
        vectors.astype("<f4").tofile(temporary)


# --- what it found -------------------------------------------------------------------------------------------------------------------


def items(asked: Asked, vectors: Vectors, expected: Vectors) -> pd.DataFrame:
    """Per query and per pair what the arm found and what fp32 found: the columns of quality/<arm>.parquet (RUNS.md).

    Args:
        vectors: of the arm, (plan rows, dim).
        expected: of the fp32 reference, likewise.
    """
    frames = [_found(asked, one, vectors, expected) for one in asked.retrievals]
    for pairs in asked.similarities:
        first, second = asked.rows("document", pairs.first), asked.rows("document", pairs.second)
        alike = [np.sum(_unit(block)[first] * _unit(block)[second], axis=1) for block in (vectors, expected)]
        frames.append(_frame("sts", pairs.name, alike[0], alike[1], gold=np.array(pairs.gold)))
    return pd.concat(frames, ignore_index=True)


def _found(asked: Asked, one: Retrieval, vectors: Vectors, expected: Vectors) -> pd.DataFrame:
    queries, documents = asked.rows("query", one.queries), asked.rows("document", one.documents)
    scores = [_unit(block)[queries] @ _unit(block)[documents].T for block in (vectors, expected)]
    mine, theirs = (quality.ndcg(block, one.relevant) for block in scores)
    shared = quality.overlap(quality.top(scores[0]), quality.top(scores[1]))
    return _frame("retrieval", one.name, mine, theirs, overlap=shared)


def _frame(measure: str, name: str, value: Any, against: Any, **more: Any) -> pd.DataFrame:
    columns = {"overlap": np.nan, "gold": np.nan, **more}
    return pd.DataFrame({"measure": measure, "set": name, "item": np.arange(len(value)), "value": value, "reference": against, **columns})


def _unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Rows of length 1; a row with NaN scores 0 everywhere, so that it finds nothing."""
    wide = np.nan_to_num(vectors.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-30))
