"""The exact requests of (model, scenario, seed) as a folder that every worker maps: gaps + tensors, content-hashed.

`ensure` writes `build/plans/<model>-<scenario>-<hash12>/` as bench/WORKER.md describes it (`rows.csv`, `tokens.i64` or `pixels.f32`,
`plan.json`), and `preprocess.csv`, which is a timing of this machine and not in the hash. The first `warm` rows are for warm-up and for
the requests after a thaw: one row for each token length that occurs among the others, the commonest first. The others are measured.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import corpus as corpora
from bench import corpus_hard, files, inputs, paths, schedule
from bench.catalog import ImageInput, Model, Scenario
from bench.corpus import Corpus, Modality
from bench.errors import BenchError
from bench.inputs import Ids, Pixels

MIN_WARM = 64
IMAGE_POOL = 256  # distinct images of a plan; one is 602 KB at 224×224
WARM_IMAGES = 8  # of the repeat test; all images have one shape
NEW_WARM, NEW_SHORTEST, NEW_PIECE = 32, 6, 32  # tokens, tokens, rows: of a scenario with new shapes
HARD_ROWS = 256
HARD_ROWS_LARGE = 32  # for models of 1 GB and more
LARGE_BYTES = 1_000_000_000
ARRAYS: dict[Modality, tuple[str, str]] = {"text": ("tokens.i64", "<i8"), "image": ("pixels.f32", "<f4")}
CODE = ("corpus*.py", "inputs.py", "plan.py", "schedule.py", "words.py")  # what decides the bytes of a plan


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


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows before they are written: an array for each distinct tensor, and which of them a row points to."""

    tensors: list[Ids] | list[Pixels]
    points_to: NDArray[np.int64]
    preprocess_ns: NDArray[np.int64]
    warm: int


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
    if tokenizer:
        rows = _text_rows(tokenizer, scenario, corpus, 0 if corpus.size is None else taken)
    else:
        rows = _image_rows(_image(model), corpus.images(scenario.name), scenario.rows, MIN_WARM)
    return _write(name, key, model, rows, gaps, about={"scenario": scenario.name, "corpus": corpus.name, "seed": seed})


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
        drawn = _cut_rows(tokenizer, source.texts("repeat"), [length] * distinct, set())
        tensors: list[Ids] | list[Pixels] = [ids for ids, _ in drawn]
        cost = [ns for _, ns in drawn]
    else:
        prepared = list(inputs.timed_images(islice(source.images("repeat"), distinct), _image(model)))
        tensors, cost = [pixels for pixels, _ in prepared], [ns for _, ns in prepared]
    points_to = np.concatenate([np.arange(MIN_WARM) % warm_pool, np.arange(warm_pool, distinct - 1), np.full(count, distinct - 1)])
    rows = _Rows(tensors, points_to, np.array(cost, dtype=np.int64)[points_to], MIN_WARM)
    made = _write(
        name, key, model, rows, schedule.constant(len(points_to)), about={"scenario": "repeat", "corpus": "generated", "seed": seed}
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
        texts = corpus_hard.texts(seed, tokenizer.max_tokens, wanted)
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
        drawn = list(inputs.timed_images(corpus_hard.images(seed, wanted), _image(model)))
    if len(drawn) < wanted:
        raise BenchError(f"hard inputs of {model.name}: only {len(drawn)} of {wanted} differ for its tokenizer; add texts to data/hard")
    shuffled = np.argsort(schedule.bits("hard order", seed, len(drawn)), kind="stable")
    order = _long_beside_short(shuffled, np.array([len(row) for row, _ in drawn])) if tokenizer else shuffled
    rows = _Rows([drawn[k][0] for k in order], np.arange(len(drawn)), np.array([drawn[k][1] for k in order], dtype=np.int64), 0)
    return _write(name, key, model, rows, schedule.constant(len(drawn)), about={"scenario": "hard", "corpus": "hard", "seed": seed})


def _long_beside_short(order: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """`order` (n places) with the places of more than half the longest length first, each followed by one of the others."""
    is_long = lengths[order] > lengths.max() / 2
    long, short = order[is_long], order[~is_long]
    together = min(len(long), len(short))
    beside = np.stack([long[:together], short[:together]], axis=1).ravel()
    return np.concatenate([beside, long[together:], short[together:]])


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
    rows = _Rows([item for item, _ in drawn], np.arange(len(drawn)), np.array([ns for _, ns in drawn], dtype=np.int64), 0)
    return _write(slug, key, model, rows, schedule.constant(len(drawn)), about={"scenario": name, "corpus": name, "seed": None})


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
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise BenchError(f"plan {folder}: not whole ({type(error).__name__}: {reason}); delete the folder, it is made again") from None


# --------------------------------------------------------------------------------------------------------------------- the rows


def _text_rows(tokenizer: inputs.Tokenizer, scenario: Scenario, corpus: Corpus, taken: int) -> _Rows:
    """`scenario.rows` rows, all token sequences distinct: of natural lengths, or of those that the scenario wants."""
    texts, seen = corpus.texts(scenario.name), {tokenizer.encode("").tobytes()}  # a text without tokens of its own is not a request
    if scenario.lengths or scenario.shapes == "new":
        warm, wanted = _wanted_lengths(scenario, tokenizer.max_tokens)
        spare = texts if corpus.size is None else _spare_texts(corpus, scenario.name)
        rows = _cut_rows(tokenizer, spare, warm + wanted, seen)
        return _joined(rows, len(warm))
    drawn = _distinct_rows(tokenizer, texts, scenario, corpus, taken, seen)
    lengths = np.array([len(ids) for ids, _ in drawn])
    measured = _measured_rows(lengths)
    by_length, counts = np.unique(lengths[:measured], return_counts=True)
    common_first = by_length[np.argsort(-counts, kind="stable")]
    warm_lengths = np.resize(common_first, scenario.rows - measured)
    drawn = drawn[:measured]
    if scenario.order == "sorted" and scenario.piece:
        drawn = [row for first in range(0, measured, scenario.piece)
                 for row in sorted(drawn[first : first + scenario.piece], key=lambda row: len(row[0]))]  # fmt: skip
    # The rows that are not measured have lengths of their own, so their texts are cut or joined to the lengths that warm-up needs.
    spare = texts if corpus.size is None else _spare_texts(corpus, scenario.name)
    return _joined(_cut_rows(tokenizer, spare, [int(length) for length in warm_lengths], seen) + drawn, scenario.rows - measured)


def _distinct_rows(
    tokenizer: inputs.Tokenizer, texts: Iterator[str], scenario: Scenario, corpus: Corpus, taken: int, seen: set[bytes]
) -> list[tuple[Ids, int]]:
    """The next `scenario.rows` texts; one whose tokens have come before (they are kept in `seen`) is passed over."""
    drawn: list[tuple[Ids, int]] = []
    for ids, ns in tokenizer.timed(texts):
        mark = ids.tobytes()
        if mark in seen:
            continue
        seen.add(mark)
        if len(seen) - 1 > taken:
            drawn.append((ids, ns))
        if len(drawn) == scenario.rows:
            return drawn
    raise BenchError(
        f"corpus {corpus.name}: too few distinct texts: scenario {scenario.name} needs {scenario.rows}"
        f"{f' after the {taken} of earlier scenarios' if taken else ''}, the corpus has {len(seen) - 1}; "
        "add texts, or leave --corpus away"
    )


def _wanted_lengths(scenario: Scenario, max_tokens: int) -> tuple[list[int], list[int]]:
    """Token lengths of the warm rows and of the measured rows of a scenario that sets them.

    A sweep goes through its lengths again and again, a batch of each. New shapes come in pairs (the first is new, the second is known by
    then), the same lengths in every piece, none of them NEW_WARM, which is the only one that warm-up shows.
    """
    if scenario.lengths:
        sweep = [length for length in scenario.lengths for _ in range(scenario.batch)]
        warm = list(np.resize(np.array(scenario.lengths), MIN_WARM))
        return [int(length) for length in warm], [int(length) for length in np.resize(np.array(sweep), scenario.rows - MIN_WARM)]
    pairs = (scenario.piece or NEW_PIECE) // 2
    spread = np.unique(np.linspace(NEW_SHORTEST, max_tokens, pairs + 1).round().astype(int))
    new = [int(length) for length in spread if length != NEW_WARM][:pairs]
    if len(new) < pairs:
        raise BenchError(f"scenario {scenario.name}: {pairs} lengths up to {max_tokens} tokens do not differ; make its `piece` shorter")
    piece = [length for length in new for _ in range(2)]
    return [NEW_WARM] * MIN_WARM, [int(length) for length in np.resize(np.array(piece), scenario.rows - MIN_WARM)]


def _joined(rows: list[tuple[Ids, int]], warm: int) -> _Rows:
    return _Rows([ids for ids, _ in rows], np.arange(len(rows)), np.array([ns for _, ns in rows], dtype=np.int64), warm)


def _spare_texts(corpus: Corpus, part: str) -> Iterator[str]:
    """Endless texts for warm-up from a finite corpus, which may have none left: its texts joined by twos."""
    texts = list(corpus.texts(part))
    for shift in count(1):
        for k, first in enumerate(texts):
            yield f"{first} {texts[(k + shift) % len(texts)]}"


def _measured_rows(lengths: NDArray[np.int64]) -> int:
    """The largest M so that M measured rows, and a warm row for each of their distinct lengths (at least MIN_WARM), fit together."""
    seen: set[int] = set()
    measured = 0
    for m, length in enumerate(lengths.tolist(), start=1):
        seen.add(length)
        if m + max(MIN_WARM, len(seen)) > len(lengths):
            break
        measured = m
    return measured


def _cut_rows(tokenizer: inputs.Tokenizer, texts: Iterator[str], lengths: list[int], seen: set[bytes]) -> list[tuple[Ids, int]]:
    """A row of each length, with the time its text takes to encode; none of them is in `seen`, where each is added."""
    rows: list[Ids] = []
    used: list[str] = []
    for length in lengths:
        for _ in range(10_000):
            ids, text = tokenizer.encode_to(texts, length)
            if ids.tobytes() not in seen:
                break
        else:
            raise BenchError(f"corpus: too few different sequences of {length} tokens for warm-up; give a corpus with longer texts")
        seen.add(ids.tobytes())
        rows.append(ids)
        used.append(text)
    return [(ids, ns) for ids, (_, ns) in zip(rows, tokenizer.timed(used), strict=True)]


def _image_rows(how: ImageInput, images: Iterator[bytes], rows: int, warm: int) -> _Rows:
    pool = list(inputs.timed_images(islice(images, min(rows, IMAGE_POOL)), how))
    points_to = np.arange(rows) % len(pool)
    cost = np.array([ns for _, ns in pool], dtype=np.int64)
    return _Rows([pixels for pixels, _ in pool], points_to, cost[points_to], warm)


def _image(model: Model) -> ImageInput:
    if model.image is None:
        raise BenchError(
            f"model {model.name}: modality image without the key 'image'; add size, resize, filter, mean and std to models.yaml"
        )
    return model.image


def _gaps(scenario: Scenario, seed: int) -> schedule.Gaps:
    if scenario.arrivals == "poisson":
        return schedule.poisson(scenario.rows, seed)
    if scenario.arrivals == "gamma":
        return schedule.gamma(scenario.rows, seed, scenario.shape)
    if scenario.arrivals == "trace":
        if scenario.trace is None:
            raise BenchError(f"scenario {scenario.name}: arrivals 'trace' want a CSV file of arrival times; name one as `trace: FILE`")
        return schedule.trace(Path(scenario.trace), scenario.rows)
    return schedule.constant(scenario.rows)


# -------------------------------------------------------------------------------------------------------------------- the folder


def _key(model: Model, tokenizer: inputs.Tokenizer | None, **parts: object) -> str:
    """All that decides a plan's bytes, hashed: the code too, so that an older program's plan is never taken for ours."""
    sources = sorted(file for pattern in CODE for file in Path(__file__).parent.glob(pattern))
    code = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
    about = {
        **parts,
        "model": model.name,
        "tokenizer": tokenizer.sha256 if tokenizer else repr(model.image),
        "max_tokens": model.max_tokens,
        "fixed_tokens": model.fixed_tokens,
        "pad_id": model.pad_id,
        "prompt": inputs.document_prompt(model),
        "code": code,
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


def _write(name: str, key: str, model: Model, rows: _Rows, gaps: schedule.Gaps, *, about: dict[str, object]) -> Plan:
    """Write the folder whole; one of the same name has the same content under an older key, or is damaged, and is replaced."""
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
    }  # fmt: skip
    try:
        with files.whole_folder(paths.PLANS / full_name) as folder:
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


def _gap_text(gaps: schedule.Gaps) -> str:
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
