"""The requests of a model as plan folders: of a scenario, of the parity gate, of the repeat test, or of given texts and images.

A plan is found again by its key, a hash of all that decides its bytes, or else made. bench/plan/rows.py chooses its rows: the first `warm`
of them are for warm-up and for the requests after a thaw, the others are measured.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from bench.catalog import ImageInput, Model, Scenario
from bench.core import content_hash, random
from bench.core.errors import BenchError
from bench.corpus import hard
from bench.corpus.resolve import Corpus, generated
from bench.plan import arrivals
from bench.plan.folder import Plan, RepeatPlan, find_plan, gap_text, hash_head, write_plan
from bench.plan.preprocess import Ids, Pixels, Tokenizer, document_prompt, timed_images
from bench.plan.rows import MIN_WARM, Rows, cut_rows, image_rows, long_beside_short, text_rows

#: Distinct images that the scenarios of a model serve in turn; one is 602 KB at 224×224.
IMAGE_POOL = 256
#: Distinct images for the warm-up of the repeat test; all images have one shape.
WARM_IMAGES = 8
#: Rows of the parity gate: at least so many, and for models from LARGE_MODEL_BYTES on.
HARD_ROWS, HARD_ROWS_LARGE = 256, 32


def scenario_plan(model: Model, tokenizer_folder: Path, scenario: Scenario, corpus: Corpus, seed: int, *, skip: int = 0) -> Plan:
    """The plan of a model and a scenario.

    Args:
        tokenizer_folder: the folder of the weights, with `tokenizer.json` (not read for image models).
        skip: distinct texts of a *finite* corpus that earlier scenarios of the run have used (the sum of their `rows`), so that no text is
            served twice in a process. The generated corpus gives each scenario texts of its own and needs no count.

    Raises:
        BenchError: the corpus is too small, the tokenizer is missing, the disk is full …, with the cure.
    """
    if scenario.rows < MIN_WARM + 1:
        raise BenchError(f"scenario {scenario.name}: rows {scenario.rows}: wants at least {MIN_WARM + 1} ({MIN_WARM} are for warm-up)")
    gaps = _gaps(scenario, seed)
    skip = 0 if corpus.size is None else skip
    tokenizer = _tokenizer(model, tokenizer_folder)
    key = _key(
        model,
        tokenizer,
        kind="plan",
        scenario=scenario.name,
        rows=scenario.rows,
        texts=(
            scenario.order,
            scenario.piece if scenario.order == "sorted" else None,
            scenario.batch if scenario.lengths else None,
            scenario.lengths,
            scenario.shapes,
            scenario.piece if scenario.shapes == "new" else None,
        ),
        gaps=hashlib.sha256(gap_text(gaps).encode()).hexdigest(),
        corpus=corpus.id,
        skip=skip,
        seed=seed,
    )
    name = _slug(f"{model.name}-{scenario.name}")
    if plan := find_plan(name, key):
        return plan
    about: dict[str, object] = {"scenario": scenario.name, "corpus": corpus.name, "seed": seed}
    if tokenizer:
        return write_plan(name, key, model, text_rows(tokenizer, scenario, corpus, skip), gaps, about=about)
    pool = _image_pool(model, corpus, seed)
    rows = image_rows([pool.pixels(row) for row in range(pool.rows)], pool.preprocess_ns, scenario.rows)
    return write_plan(name, key, model, rows, gaps, about=about, pool=pool)


def _image_pool(model: Model, corpus: Corpus, seed: int) -> Plan:
    """The images that every scenario of a model serves, prepared once, a row for each."""
    key = _key(model, None, kind="pool", images=IMAGE_POOL, corpus=corpus.id)
    name = _slug(f"{model.name}-images")
    if plan := find_plan(name, key):
        return plan
    rows = Rows.one_each(list(timed_images(islice(corpus.images("pool"), IMAGE_POOL), _image_input(model))))
    about: dict[str, object] = {"scenario": "images", "corpus": corpus.name, "seed": seed}
    return write_plan(name, key, model, rows, arrivals.constant(len(rows.points_to)), about=about)


def repeat_plan(plan: Plan, model: Model, tokenizer_folder: Path, seed: int, count: int = 128) -> RepeatPlan:
    """A small plan for the unique-versus-repeat test of the model that `plan` is for.

    Texts and images are freshly generated, none of them in `plan`: a cache that has seen a row would make the unique stretch fast too.
    All rows have the median length of the measured rows of `plan`: MIN_WARM for warm-up, `count` distinct, then `count` times one more.
    """
    tokenizer = _tokenizer(model, tokenizer_folder)
    length = int(np.sort(plan.lengths[plan.warm :])[plan.measured // 2])
    key = _key(model, tokenizer, kind="repeat", count=count, length=length, seed=seed)
    name = _slug(f"{model.name}-repeat-{length}" if tokenizer else f"{model.name}-repeat")
    folder = find_plan(name, key)
    if folder is None:
        corpus = generated(seed)
        warm_tensors = MIN_WARM if tokenizer else WARM_IMAGES
        distinct = warm_tensors + count + 1
        tensors: list[Ids] | list[Pixels]
        if tokenizer:
            timed_ids = cut_rows(tokenizer, corpus.texts("repeat"), [length] * distinct, set())
            tensors, ns = [ids for ids, _ in timed_ids], [ns for _, ns in timed_ids]
        else:
            timed_pixels = list(timed_images(islice(corpus.images("repeat"), distinct), _image_input(model)))
            tensors, ns = [pixels for pixels, _ in timed_pixels], [ns for _, ns in timed_pixels]
        warm_up = np.arange(MIN_WARM) % warm_tensors
        points_to = np.concatenate([warm_up, np.arange(warm_tensors, distinct - 1), np.full(count, distinct - 1)])
        rows = Rows(tensors, points_to, np.array(ns, dtype=np.int64)[points_to], MIN_WARM)
        about: dict[str, object] = {"scenario": "repeat", "corpus": "generated", "seed": seed}
        folder = write_plan(name, key, model, rows, arrivals.constant(len(points_to)), about=about)
    return RepeatPlan(folder, unique_first=MIN_WARM, repeated_first=MIN_WARM + count, count=count)


def hard_plan(model: Model, tokenizer_folder: Path, seed: int) -> Plan:
    """The hard inputs of the parity gate: at least 256 rows (32 for models of 1 GB and more), in an order that mixes lengths in a batch.

    The long rows come first, each beside a short one: mixed all the same, but few batches are padded to the longest. No rows are kept for
    warm-up: nothing here is timed.
    """
    tokenizer = _tokenizer(model, tokenizer_folder)
    at_least = HARD_ROWS_LARGE if model.is_large else HARD_ROWS
    texts = hard.texts(seed, tokenizer.max_tokens, at_least) if tokenizer else []
    content = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest() if tokenizer else "generated"
    key = _key(model, tokenizer, kind="hard", rows=at_least, corpus=content, seed=seed)
    name = _slug(f"{model.name}-hard")
    if plan := find_plan(name, key):
        return plan
    timed: list[tuple[Ids, int]] | list[tuple[Pixels, int]]
    if tokenizer:
        by_ids: dict[bytes, tuple[Ids, int]] = {}
        for ids, ns in tokenizer.timed(texts):
            if len(ids):  # a tokenizer without special tokens makes nothing of an empty text, which is then no request
                by_ids.setdefault(ids.tobytes(), (ids, ns))
        timed = list(by_ids.values())
    else:
        timed = list(timed_images(hard.images(seed, at_least), _image_input(model)))
    if len(timed) < at_least:
        raise BenchError(f"hard inputs of {model.name}: only {len(timed)} of {at_least} differ for its tokenizer; add texts to data/hard")
    order = np.argsort(random.bits("hard order", seed, len(timed)), kind="stable")
    if tokenizer:
        order = long_beside_short(order, np.array([len(ids) for ids, _ in timed]))
    rows = Rows.one_each([timed[place] for place in order])
    about: dict[str, object] = {"scenario": "hard", "corpus": "hard", "seed": seed}
    return write_plan(name, key, model, rows, arrivals.constant(len(timed)), about=about)


def fixed_plan(model: Model, tokenizer_folder: Path, name: str, texts: Sequence[str] = (), images: Sequence[bytes] = ()) -> Plan:
    """Given texts (with whatever prompt they are to have) or encoded images, one row each and in that order, all of them measured.

    Texts that the tokenizer makes equal stay rows of their own.
    """
    tokenizer = _tokenizer(model, tokenizer_folder, prompt="")
    content = hashlib.sha256()
    for item in [*(text.encode("utf-8", "surrogatepass") for text in texts), *images]:
        content.update(hash_head("item", len(item)) + item)
    key = _key(model, tokenizer, kind="fixed", content=content.hexdigest())
    slug = _slug(f"{model.name}-{name}")
    if plan := find_plan(slug, key):
        return plan
    rows = Rows.one_each(list(tokenizer.timed(texts)) if tokenizer else list(timed_images(images, _image_input(model))))
    about: dict[str, object] = {"scenario": name, "corpus": name, "seed": None}
    return write_plan(slug, key, model, rows, arrivals.constant(len(rows.points_to)), about=about)


def _tokenizer(model: Model, folder: Path, prompt: str | None = None) -> Tokenizer | None:
    """The tokenizer of a text model; None for an image model."""
    return Tokenizer(model, folder, prompt) if model.modality == "text" else None


def _image_input(model: Model) -> ImageInput:
    if model.image is None:
        raise BenchError(
            f"model {model.name}: modality image without the key 'image'; add size, resize, filter, mean and std to models.yaml"
        )
    return model.image


def _gaps(scenario: Scenario, seed: int) -> arrivals.Gaps:
    """The arrival gaps of all rows of a scenario, mean 1."""
    if scenario.arrivals == "poisson":
        return arrivals.poisson(scenario.rows, seed)
    if scenario.arrivals == "gamma":
        return arrivals.gamma(scenario.rows, seed, scenario.shape)
    if scenario.arrivals == "trace":
        if scenario.trace is None:
            raise BenchError(f"scenario {scenario.name}: arrivals 'trace' want a CSV file of arrival times; name one as `trace: FILE`")
        return arrivals.trace(Path(scenario.trace), scenario.rows)
    return arrivals.constant(scenario.rows)


def _key(model: Model, tokenizer: Tokenizer | None, **parts: object) -> str:
    """All that decides a plan's bytes, hashed: the code too, so that an older program's plan is never taken for ours."""
    about = {
        **parts,
        "model": model.name,
        "tokenizer": tokenizer.sha256 if tokenizer else repr(model.image),
        "max_tokens": model.max_tokens,
        "fixed_tokens": model.fixed_tokens,
        "pad_id": model.pad_id,
        "prompt": document_prompt(model),
        "code": content_hash.of_code("bench.plan.make"),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _slug(name: str) -> str:
    """A name for a folder: no white space, no slashes."""
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", name)
