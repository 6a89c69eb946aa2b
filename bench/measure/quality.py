"""Quality: vectors of texts (or images) whose neighbours are known, embedded by each arm's own worker outside the budget.

Two plans without a load: a small **probe set** that every arm embeds in every run, so that indexes and versions can be compared; and the
**quality sets**, where an arm computes in less than fp32 or `--quality-set` is given. Vectors are kept under build/ by artefact, binary and
version, so that an arm embeds a set once on a machine. The run folder gets the probe set's vectors and, per query, the nDCG@10 of the arm
and of the fp32 reference; `bench/stats/quality.py` judges.
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
from bench.core.arrays import Vectors
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
from bench.workers.client import Order, SliceFailed, Worker, WorkerFailed, load_timeout_s, running

BATCH = 8
#: Queries and documents of the probe set; fewer for images and for models of 1 GB and more, where each takes a tenth of a second and more.
PROBE, PROBE_LARGE = (128, 256), (32, 64)
#: A row may take this many times as long as the worker's second call; the whole plan a minute more.
PATIENCE = 30


@dataclass(frozen=True)
class SetPlan:
    """A plan of all distinct items (texts or images) of some sets, and the plan row of each as a query or a document."""

    plan: Plan
    retrievals: tuple[Retrieval, ...]
    similarities: tuple[Similarity, ...]
    row_of: Mapping[tuple[str, str | bytes], int]

    def rows(self, kind: str, items: Sequence[str | bytes]) -> list[int]:
        """Plan rows of queries (`query`) or documents (`document`)."""
        return [self.row_of[kind, item] for item in items]


def measure(experiment: Experiment, folder: RunFolder, held: lock.MachineLock, say: Callable[[str], None]) -> None:
    """Embed the sets with every measured arm that has served; an arm that fails here keeps its times and gets the reason as a note."""
    # A switch that is flipped changes speed; its vectors are those of its default.
    prepared_arms = [
        prepared
        for prepared in experiment.prepared_arms
        if prepared.arm.role == "measured" and prepared.variant.family != "knob" and _served(experiment, folder, prepared)
    ]
    if not prepared_arms:
        return
    model, source = experiment.spec.model, experiment.source
    own = quality_sets.own(Path(experiment.spec.quality_set)) if experiment.spec.quality_set else None
    probe = _set_plan(model, source.folder, "probe", [_probe_set(model, own)], [])
    retrievals, similarities = _quality_sets(model, source.kind, own, [prepared.arm.precision for prepared in prepared_arms], say)
    sets = _set_plan(model, source.folder, "quality", retrievals, similarities) if retrievals else None
    probe_rows = _keep_probe_set(experiment, folder, probe)
    expected = _reference(experiment, sets.plan) if sets else None
    for prepared in prepared_arms:
        try:
            vectors = _vectors(experiment, prepared, [part.plan for part in (probe, sets) if part], folder, held, say)
        except (WorkerFailed, SliceFailed, BenchError) as failure:
            say(f"{prepared.framework.name}: quality: {failure}")
            folder.write_no_quality(prepared.arm.id, f"not measured: {failure}")
            continue
        folder.write_vectors(prepared.arm.id, vectors[0][probe_rows])
        if sets and expected is not None:
            folder.write_quality(prepared.arm.id, items(sets, vectors[1], expected))


def _served(experiment: Experiment, folder: RunFolder, prepared: PreparedArm) -> bool:
    """Has the arm loaded, and not failed in every scenario? One that hangs or crashes would do so here again."""
    scenarios = experiment.spec.scenarios
    return bool(folder.start_count(prepared.arm.id)) and any(
        not folder.has_failure(prepared.arm.id, scenario.name) for scenario in scenarios
    )


def _probe_set(model: Model, own: Retrieval | None) -> Retrieval:
    large = model.is_large or model.modality == "image"
    whole = own or (quality_sets.docstrings() if model.modality == "text" else quality_sets.augmented())
    return whole.part(*(PROBE_LARGE if large else PROBE))


def _quality_sets(
    model: Model, weights: str, own: Retrieval | None, precisions: Sequence[str], say: Callable[[str], None]
) -> tuple[list[Retrieval], list[Similarity]]:
    """The sets besides the probe set: none where weights are synthetic, or where every arm is fp32, which the gate judges."""
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


def _set_plan(
    model: Model, tokenizer_folder: Path, name: str, retrievals: Sequence[Retrieval], similarities: Sequence[Similarity]
) -> SetPlan:
    """One plan of all distinct items, texts with their prompts, the short ones first so that a batch holds little padding."""
    items: dict[tuple[str, str | bytes], None] = {}
    for retrieval in retrievals:
        items |= dict.fromkeys(("query", query) for query in retrieval.queries)
        items |= dict.fromkeys(("document", document) for document in retrieval.documents)
    for pairs in similarities:
        items |= dict.fromkeys(("document", text) for text in (*pairs.first, *pairs.second))
    if model.modality == "image":
        images = list(dict.fromkeys(image for _, image in items if isinstance(image, bytes)))
        row_of_image: dict[str | bytes, int] = {image: row for row, image in enumerate(images)}
        plan = make.fixed_plan(model, tokenizer_folder, name, images=images)
        return SetPlan(plan, tuple(retrievals), tuple(similarities), {item: row_of_image[item[1]] for item in items})
    prompts = {"query": preprocess.query_prompt(model), "document": preprocess.document_prompt(model)}
    by_length = sorted(items, key=lambda item: (len(item[1]), item))
    plan = make.fixed_plan(model, tokenizer_folder, name, texts=[prompts[kind] + str(text) for kind, text in by_length])
    return SetPlan(plan, tuple(retrievals), tuple(similarities), {item: row for row, item in enumerate(by_length)})


def _reference(experiment: Experiment, plan: Plan) -> Vectors:
    artefact = experiment.reference
    return reference.ensure(artefact.folder, artefact.hash, plan.folder, plan.hash, 0, plan.rows, experiment.pad_id)


def _keep_probe_set(experiment: Experiment, folder: RunFolder, probe: SetPlan) -> list[int]:
    """Write the probe set and the fp32 reference's vectors of it; the plan rows of its queries, then of its documents."""
    (retrieval,) = probe.retrievals
    rows = [*probe.rows("query", retrieval.queries), *probe.rows("document", retrieval.documents)]
    folder.write_vector_set({
        "name": retrieval.name, "plan_hash": probe.plan.hash, "queries": len(retrieval.queries), "documents": len(retrieval.documents),
        "rows": rows, "relevant": [sorted(places) for places in retrieval.relevant],
    })  # fmt: skip
    folder.write_vectors(REFERENCE, _reference(experiment, probe.plan)[rows])
    return rows


# --- the vectors of an arm -----------------------------------------------------------------------------------------------------------


def _vectors(
    experiment: Experiment,
    prepared: PreparedArm,
    plans: Sequence[Plan],
    folder: RunFolder,
    held: lock.MachineLock,
    say: Callable[[str], None],
) -> list[Vectors]:
    """The arm's vectors of each plan, (rows, dim): those on disk, the others from a new worker."""
    kept = [paths.BUILD / "quality" / f"{_key(prepared, plan)}.f32" for plan in plans]
    missing = [(plan, file) for plan, file in zip(plans, kept, strict=True) if not file.is_file()]
    if missing:
        arm, log = prepared.arm, folder.log(prepared.arm.id, folder.start_count(prepared.arm.id)).with_suffix(".quality.log")
        with running(prepared.launch(experiment.pad_id), log, held, load_timeout_s(prepared.artefact.bytes)) as (worker, ready):
            for plan, file in missing:
                say(f"{arm.framework} {arm.precision} {arm.variant}: {plan.rows} texts or images for its quality")
                _keep(file, _serve(worker, plan, ready.second_ns / 1e9))
            worker.quit()
    return [np.fromfile(file, dtype="<f4").reshape(plan.rows, -1) for file, plan in zip(kept, plans, strict=True)]


def _key(prepared: PreparedArm, plan: Plan) -> str:
    """All that decides the vectors of a plan: artefact, binary, version, how the worker is started, its settings."""
    arm = prepared.arm
    return files.short_hash(
        *(prepared.artefact.hash, binary_hash(prepared), dict(prepared.version)),
        *(prepared.command, dict(prepared.env), dict(prepared.settings)),
        *(arm.precision, arm.sessions, arm.threads, plan.hash, BATCH),
    )


def _serve(worker: Worker, plan: Plan, second_s: float) -> Vectors:
    """The vectors of all rows of a plan. `second_s`: what the worker's second call took."""
    guard_s = 60 + PATIENCE * second_s * plan.rows
    paths.SCRATCH.mkdir(parents=True, exist_ok=True)
    vectors = worker.serve(Order(plan.folder, 0, plan.rows, BATCH, guard_s), paths.SCRATCH, guard_s + 60).vectors
    if len(vectors) != plan.rows:
        raise SliceFailed(f"{len(vectors)} of {plan.rows} rows were served")
    return vectors


def _keep(file: Path, vectors: Vectors) -> None:
    with files.whole_file(file) as temporary:
        vectors.astype("<f4").tofile(temporary)


# --- their quality -------------------------------------------------------------------------------------------------------------------


def items(sets: SetPlan, vectors: Vectors, expected: Vectors) -> pd.DataFrame:
    """Quality per query and per pair, of the arm and of fp32: the columns of quality/<arm>.parquet (RUNS.md).

    Args:
        vectors: of the arm, (plan rows, dim).
        expected: of the fp32 reference, likewise.
    """
    frames = [_retrieval(sets, retrieval, vectors, expected) for retrieval in sets.retrievals]
    for pairs in sets.similarities:
        first, second = sets.rows("document", pairs.first), sets.rows("document", pairs.second)
        cosines = [np.sum(_unit(block)[first] * _unit(block)[second], axis=1) for block in (vectors, expected)]
        frames.append(_frame("sts", pairs.name, cosines[0], cosines[1], gold=np.array(pairs.gold)))
    return pd.concat(frames, ignore_index=True)


def _retrieval(sets: SetPlan, retrieval: Retrieval, vectors: Vectors, expected: Vectors) -> pd.DataFrame:
    """nDCG@10 of every query, and the share of fp32's ten best documents that the arm has among its own."""
    queries, documents = sets.rows("query", retrieval.queries), sets.rows("document", retrieval.documents)
    scores = [_unit(block)[queries] @ _unit(block)[documents].T for block in (vectors, expected)]
    ndcg, reference_ndcg = (quality.ndcg(block, retrieval.relevant) for block in scores)
    overlap = quality.overlap(quality.top(scores[0]), quality.top(scores[1]))
    return _frame("retrieval", retrieval.name, ndcg, reference_ndcg, overlap=overlap)


def _frame(measure: str, name: str, value: Any, reference: Any, **more: Any) -> pd.DataFrame:
    columns = {"overlap": np.nan, "gold": np.nan, **more}
    return pd.DataFrame({"measure": measure, "set": name, "item": np.arange(len(value)), "value": value, "reference": reference, **columns})


def _unit(vectors: Vectors) -> npt.NDArray[np.float64]:
    """Rows of length 1; NaN and infinity count as 0, so that a row of them scores 0 with every other."""
    wide = np.nan_to_num(vectors.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(1e-30))
