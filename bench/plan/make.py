"""The exact requests of (model, scenario, seed) as a folder that every worker maps: gaps + tensors, content-hashed.

`ensure` writes `build/plans/<model>-<scenario>-<hash12>/` as bench/WORKER.md describes it (`rows.csv`, `tokens.i64` or `pixels.f32`,
`plan.json`), and `preprocess.csv`, which is a timing of this machine and not in the hash. The first `warm` rows are for warm-up and for
the requests after a thaw, the others are measured; bench/plan/rows.py says which they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.catalog import ImageInput, Model, Scenario
from bench.core import content_hash, files, paths, random
from bench.core.errors import BenchError
from bench.corpus import hard
from bench.corpus import resolve as corpora
from bench.corpus.resolve import Corpus, Modality
from bench.plan import arrivals
from bench.plan import preprocess as inputs
from bench.plan import rows as plan_rows
from bench.plan.preprocess import Ids, Pixels
from bench.plan.rows import MIN_WARM, Rows

WARM_IMAGES = 8  # of the repeat test; all images have one shape
HARD_ROWS = 256
HARD_ROWS_LARGE = 32  # for models of 1 GB and more
LARGE_BYTES = 1_000_000_000
ARRAYS: dict[Modality, tuple[str, str]] = {"text": ("tokens.i64", "<i8"), "image": ("pixels.f32", "<f4")}


@dataclass(frozen=True, eq=False)
class Plan:
    """A plan folder, opened.

    Attributes:
        folder: holds rows.csv and the array; its path has no white space below `build/`.
        hash: SHA-256 of the written bytes of rows.csv and of the array.
        rows: number of rows; the first `warm` are not measured.
        lengths: tokens of each row (image rows: 1), int64.
        preprocess_ns: tokenising, or image decoding and preparation, of each row on this machine, int64.
    """

    folder: Path
    name: str
    hash: str
    rows: int
    warm: int
    modality: Modality
    lengths: NDArray[np.int64]
    preprocess_ns: NDArray[np.int64]
    offsets: NDArray[np.int64]
    elements: NDArray[np.int64]
    image_size: int | None = None
    pool: Plan | None = None
    """Of a scenario's images: the plan of the prepared images that its rows point into."""

    @property
    def measured(self) -> int:
        """Number of measured rows; they begin at `warm`."""
        return self.rows - self.warm

    def ids(self, row: int) -> Ids:
        """The token ids of a row, unpadded (a view of the mapped file)."""
        if self.modality != "text":
            raise ValueError(f"plan {self.name}: holds images; use pixels()")
        start = int(self.offsets[row])
        return self._elements[start : start + int(self.elements[row])]

    def pixels(self, row: int) -> Pixels:
        """The image of a row, 3×H×W (a view of the mapped file)."""
        if self.modality != "image" or self.image_size is None:
            raise ValueError(f"plan {self.name}: holds texts; use ids()")
        start = int(self.offsets[row])
        flat = self._elements[start : start + int(self.elements[row])]
        return flat.reshape(3, self.image_size, self.image_size)

    def distinct(self, first: int, count: int) -> tuple[Plan, NDArray[np.int64]]:
        """Rows `first` … as rows of a plan that has each tensor once: this one, or the pool."""
        rows = np.arange(first, first + count)
        return (self.pool, self.offsets[rows] // self.elements[rows]) if self.pool else (self, rows)

    def batch(self, first: int, count: int, pad_id: int) -> tuple[Ids, Ids]:
        """Rows `first` … padded right to the longest as a worker pads them: ids and mask (1 on own ids), both count × longest."""
        rows = [self.ids(row) for row in range(first, first + count)]
        longest = max(len(row) for row in rows)
        ids = np.full((count, longest), pad_id, dtype=np.int64)
        mask = np.zeros((count, longest), dtype=np.int64)
        for k, row in enumerate(rows):
            ids[k, : len(row)] = row
            mask[k, : len(row)] = 1
        return ids, mask

    @cached_property
    def _elements(self) -> np.memmap[Any, Any]:
        file, dtype = ARRAYS[self.modality]
        return np.memmap(self.folder / file, dtype=dtype, mode="r")


@dataclass(frozen=True)
class RepeatPlan:
    """The unique-versus-repeat test: two stretches of `count` rows of one length, first distinct rows, then one row again and again.

    A runtime, or a worker, that keeps answers serves the second faster. Serve the two in turns, in small equal pieces, and each unique
    row once in a process.
    """

    plan: Plan
    unique_first: int
    repeated_first: int
    count: int


def ensure(
    model: Model,
    tokenizer_folder: Path,
    scenario: Scenario,
    corpus: Corpus,
    seed: int,
    *,
    taken: int = 0,
) -> Plan:
    """The plan of a model and a scenario, found again where its key matches, else made.

    Args:
        tokenizer_folder: the folder of the weights, with `tokenizer.json` (not read for image models).
        taken: distinct texts of a *finite* corpus that earlier scenarios of the run have used (the sum of their `rows`), so that no text is
            served twice in a process. The generated corpus gives each scenario texts of its own and needs no count.

    Raises:
        BenchError: the corpus is too small, the tokenizer is missing, the disk is full …, with the cure.
    """
    if scenario.rows < MIN_WARM + 1:
        raise BenchError(f"scenario {scenario.name}: rows {scenario.rows}: wants at least {MIN_WARM + 1} ({MIN_WARM} are for warm-up)")
    gaps = _gaps(scenario, seed)
    tokenizer = inputs.Tokenizer(model, tokenizer_folder) if model.modality == "text" else None
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
        gaps=hashlib.sha256(_gap_text(gaps).encode()).hexdigest(),
        corpus=corpus.id,
        taken=0 if corpus.size is None else taken,
        seed=seed,
    )
    name = _slug(f"{model.name}-{scenario.name}")
    found = _find(name, key)
    if found:
        return found
    about: dict[str, object] = {"scenario": scenario.name, "corpus": corpus.name, "seed": seed}
    if tokenizer:
        rows, pool = plan_rows.text_rows(tokenizer, scenario, corpus, 0 if corpus.size is None else taken), None
    else:
        pool = _image_pool(model, corpus, seed)
        rows = plan_rows.image_rows([pool.pixels(row) for row in range(pool.rows)], pool.preprocess_ns, scenario.rows)
    return _write(name, key, model, rows, gaps, about=about, pool=pool)


def _image_pool(model: Model, corpus: Corpus, seed: int) -> Plan:
    """The images that every scenario of a model serves, prepared once, a row for each."""
    key = _key(model, None, kind="pool", images=plan_rows.IMAGE_POOL, corpus=corpus.id)
    name = _slug(f"{model.name}-images")
    found = _find(name, key)
    if found:
        return found
    drawn = list(inputs.timed_images(islice(corpus.images("pool"), plan_rows.IMAGE_POOL), _image(model)))
    rows = plan_rows.joined(drawn, 0)
    return _write(name, key, model, rows, arrivals.constant(len(drawn)), about={"scenario": "images", "corpus": corpus.name, "seed": seed})


def repeat_plan(plan: Plan, model: Model, tokenizer_folder: Path, seed: int, count: int = 128) -> RepeatPlan:
    """A small plan for the unique-versus-repeat test of the model that `plan` is for.

    Texts and images are freshly generated, none of them in `plan`: a cache that has seen a row would make the unique stretch fast too.
    All rows have the median length of the measured rows of `plan`: MIN_WARM for warm-up, `count` distinct, then `count` times one more.
    """
    tokenizer = inputs.Tokenizer(model, tokenizer_folder) if model.modality == "text" else None
    length = int(np.sort(plan.lengths[plan.warm :])[plan.measured // 2])
    key = _key(model, tokenizer, kind="repeat", count=count, length=length, seed=seed)
    name = _slug(f"{model.name}-repeat-{length}" if tokenizer else f"{model.name}-repeat")
    unique_first, repeated_first = MIN_WARM, MIN_WARM + count
    found = _find(name, key)
    if found:
        return RepeatPlan(found, unique_first, repeated_first, count)
    source = corpora.generated(seed)
    warm_pool = MIN_WARM if tokenizer else WARM_IMAGES
    distinct = warm_pool + count + 1
    if tokenizer:
        drawn = plan_rows.cut_rows(tokenizer, source.texts("repeat"), [length] * distinct, set())
        tensors: list[Ids] | list[Pixels] = [ids for ids, _ in drawn]
        cost = [ns for _, ns in drawn]
    else:
        prepared = list(inputs.timed_images(islice(source.images("repeat"), distinct), _image(model)))
        tensors, cost = [pixels for pixels, _ in prepared], [ns for _, ns in prepared]
    points_to = np.concatenate([np.arange(MIN_WARM) % warm_pool, np.arange(warm_pool, distinct - 1), np.full(count, distinct - 1)])
    rows = Rows(tensors, points_to, np.array(cost, dtype=np.int64)[points_to], MIN_WARM)
    made = _write(
        name, key, model, rows, arrivals.constant(len(points_to)), about={"scenario": "repeat", "corpus": "generated", "seed": seed}
    )
    return RepeatPlan(made, unique_first, repeated_first, count)


def hard_plan(model: Model, tokenizer_folder: Path, seed: int) -> Plan:
    """The hard inputs of the parity gate: at least 256 rows (32 for models of 1 GB and more), in an order that mixes lengths in a batch.

    The long rows come first, each beside a short one: mixed all the same, but few batches are padded to the longest. No rows are kept for
    warm-up: nothing here is timed.
    """
    tokenizer = inputs.Tokenizer(model, tokenizer_folder) if model.modality == "text" else None
    wanted = HARD_ROWS if model.bytes_fp32 < LARGE_BYTES else HARD_ROWS_LARGE
    if tokenizer:
        texts = hard.texts(seed, tokenizer.max_tokens, wanted)
        content = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
    else:
        texts, content = [], "generated"
    key = _key(model, tokenizer, kind="hard", rows=wanted, corpus=content, seed=seed)
    name = _slug(f"{model.name}-hard")
    found = _find(name, key)
    if found:
        return found
    if tokenizer:
        made: dict[bytes, tuple[Ids, int]] = {}
        for ids, ns in tokenizer.timed(texts):
            made.setdefault(ids.tobytes(), (ids, ns))
        drawn: list[tuple[Any, int]] = list(made.values())
    else:
        drawn = list(inputs.timed_images(hard.images(seed, wanted), _image(model)))
    if len(drawn) < wanted:
        raise BenchError(f"hard inputs of {model.name}: only {len(drawn)} of {wanted} differ for its tokenizer; add texts to data/hard")
    shuffled = np.argsort(random.bits("hard order", seed, len(drawn)), kind="stable")
    order = plan_rows.long_beside_short(shuffled, np.array([len(row) for row, _ in drawn])) if tokenizer else shuffled
    rows = plan_rows.joined([drawn[k] for k in order], 0)
    return _write(name, key, model, rows, arrivals.constant(len(drawn)), about={"scenario": "hard", "corpus": "hard", "seed": seed})


def fixed_plan(model: Model, tokenizer_folder: Path, name: str, texts: Sequence[str] = (), images: Sequence[bytes] = ()) -> Plan:
    """Given texts (with whatever prompt they are to have) or images, one row each and in that order: for what is not a load.

    Nothing is kept for warm-up. Texts that the tokenizer makes equal stay rows of their own.
    """
    tokenizer = inputs.Tokenizer(model, tokenizer_folder, prompt="") if model.modality == "text" else None
    content = hashlib.sha256()
    for item in [*(text.encode("utf-8", "surrogatepass") for text in texts), *images]:
        content.update(_hash_head("item", len(item)) + item)
    key = _key(model, tokenizer, kind="fixed", content=content.hexdigest())
    slug = _slug(f"{model.name}-{name}")
    found = _find(slug, key)
    if found:
        return found
    drawn: list[tuple[Any, int]] = list(tokenizer.timed(texts) if tokenizer else inputs.timed_images(images, _image(model)))
    rows = plan_rows.joined(drawn, 0)
    return _write(slug, key, model, rows, arrivals.constant(len(drawn)), about={"scenario": name, "corpus": name, "seed": None})


def open_plan(folder: Path) -> Plan:
    """A plan folder as a Plan, its bytes held against its hash.

    Raises:
        BenchError: a file is missing or its bytes are not those that were hashed.
    """
    try:
        about = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        modality: Modality = about["modality"]
        size = about["image_size"]
        if _hash(folder, modality) != about["hash"]:
            raise BenchError(f"plan {folder}: its bytes are not those that were hashed; delete the folder, it is made again")
        table = np.loadtxt(folder / "rows.csv", delimiter=",", skiprows=1, usecols=(1, 2), dtype=np.int64, ndmin=2)
        preprocess = np.loadtxt(folder / "preprocess.csv", delimiter=",", skiprows=1, usecols=1, dtype=np.int64, ndmin=1)
        if len(preprocess) != len(table):
            raise BenchError(f"plan {folder}: preprocess.csv has {len(preprocess)} rows for {len(table)}; delete it, it is made again")
        return Plan(
            folder=folder,
            name=about["name"],
            hash=about["hash"],
            rows=len(table),
            warm=about["warm"],
            modality=modality,
            lengths=table[:, 1] if modality == "text" else np.ones(len(table), dtype=np.int64),
            preprocess_ns=preprocess,
            offsets=table[:, 0],
            elements=table[:, 1],
            image_size=size,
            pool=open_plan(folder.parent / about["pool"]) if about["pool"] else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise BenchError(f"plan {folder}: not whole ({type(error).__name__}: {reason}); delete the folder, it is made again") from None


def _image(model: Model) -> ImageInput:
    if model.image is None:
        raise BenchError(
            f"model {model.name}: modality image without the key 'image'; add size, resize, filter, mean and std to models.yaml"
        )
    return model.image


def _gaps(scenario: Scenario, seed: int) -> arrivals.Gaps:
    if scenario.arrivals == "poisson":
        return arrivals.poisson(scenario.rows, seed)
    if scenario.arrivals == "gamma":
        return arrivals.gamma(scenario.rows, seed, scenario.shape)
    if scenario.arrivals == "trace":
        if scenario.trace is None:
            raise BenchError(f"scenario {scenario.name}: arrivals 'trace' want a CSV file of arrival times; name one as `trace: FILE`")
        return arrivals.trace(Path(scenario.trace), scenario.rows)
    return arrivals.constant(scenario.rows)


# -------------------------------------------------------------------------------------------------------------------- the folder


def _key(model: Model, tokenizer: inputs.Tokenizer | None, **parts: object) -> str:
    """All that decides a plan's bytes, hashed: the code too, so that an older program's plan is never taken for ours."""
    about = {
        **parts,
        "model": model.name,
        "tokenizer": tokenizer.sha256 if tokenizer else repr(model.image),
        "max_tokens": model.max_tokens,
        "fixed_tokens": model.fixed_tokens,
        "pad_id": model.pad_id,
        "prompt": inputs.document_prompt(model),
        "code": content_hash.of_code("bench.plan.make"),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", name)


def _find(name: str, key: str) -> Plan | None:
    """The whole plan folder of that key, if there is one; a damaged one is made again."""
    for about in sorted(paths.PLANS.glob(f"{name}-{'[0-9a-f]' * 12}/plan.json")):
        try:
            if json.loads(about.read_text(encoding="utf-8")).get("key") == key:
                return open_plan(about.parent)
        except (OSError, ValueError, AttributeError, BenchError):
            continue
    return None


def _write(
    name: str, key: str, model: Model, rows: Rows, gaps: arrivals.Gaps, *, about: dict[str, object], pool: Plan | None = None
) -> Plan:
    """Write the folder whole; one of the same name has the same content under an older key, or is damaged, and is replaced.

    With a `pool`, whose rows are the tensors, its array is taken as it is.
    """
    sizes = np.array([tensor.size for tensor in rows.tensors], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    places = zip(_gap_text(gaps).splitlines(), starts[rows.points_to].tolist(), sizes[rows.points_to].tolist(), strict=True)
    table = "gap,offset,length\n" + "".join(f"{gap},{offset},{length}\n" for gap, offset, length in places)
    array_file, dtype = ARRAYS[model.modality]
    digest = hashlib.sha256(
        _hash_head("rows.csv", len(table)) + table.encode() + _hash_head(array_file, int(sizes.sum()) * np.dtype(dtype).itemsize)
    )
    for tensor in rows.tensors:
        digest.update(tensor.astype(dtype, copy=False).tobytes())
    plan_hash = digest.hexdigest()
    full_name = f"{name}-{plan_hash[:12]}"
    facts = {
        "name": full_name, "hash": plan_hash, "key": key, "model": model.name, "modality": model.modality, **about,
        "rows": len(rows.points_to), "warm": rows.warm, "tensors": len(rows.tensors), "elements": int(sizes.sum()),
        "image_size": model.image.size if model.modality == "image" and model.image else None,
        "pool": pool.folder.name if pool else None,
    }  # fmt: skip
    try:
        with files.whole_folder(paths.PLANS / full_name) as folder:
            if pool:
                (folder / array_file).hardlink_to(pool.folder / array_file)
            else:
                with (folder / array_file).open("wb") as out:
                    for tensor in rows.tensors:
                        out.write(tensor.astype(dtype, copy=False).tobytes())
            (folder / "rows.csv").write_bytes(table.encode())
            (folder / "preprocess.csv").write_text(
                "row,preprocess_ns\n" + "".join(f"{row},{ns}\n" for row, ns in enumerate(rows.preprocess_ns.tolist())), encoding="utf-8"
            )
            (folder / "plan.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise BenchError(
            f"plan {name}: cannot be written to {paths.PLANS} ({error.strerror or error}); make that folder writable"
        ) from None
    return open_plan(paths.PLANS / full_name)


def _gap_text(gaps: arrivals.Gaps) -> str:
    return "\n".join(f"{gap:.9f}" for gap in gaps.tolist())


def _hash(folder: Path, modality: Modality) -> str:
    """SHA-256 over rows.csv, then the array, each behind its name and size."""
    digest = hashlib.sha256()
    for name in ("rows.csv", ARRAYS[modality][0]):
        file = folder / name
        digest.update(_hash_head(name, file.stat().st_size))
        with file.open("rb") as data:
            while piece := data.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()


def _hash_head(name: str, size: int) -> bytes:
    return f"{name} {size}\n".encode()
