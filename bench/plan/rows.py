"""The rows of a plan, before they are written: which tensors a scenario serves, in which order, and with which of them workers warm up.

A row is a text cut into token ids, or one of a pool of images. The first rows are for warm-up and for the requests after a thaw: one row
for each token length that occurs among the others, the commonest first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.catalog import Scenario
from bench.core.errors import BenchError
from bench.corpus.resolve import Corpus
from bench.plan import preprocess
from bench.plan.preprocess import Ids, Pixels

MIN_WARM = 64
IMAGE_POOL = 256  # distinct images that the scenarios of a model serve in turn; one is 602 KB at 224×224
NEW_WARM, NEW_PIECE = 32, 32  # tokens, rows: of a scenario with new shapes
NEW_SHORTEST, OWN_TOKENS = 6, 4  # tokens of its shortest text, and how many of them at least are not the prompt's or special ones


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows before they are written: an array for each distinct tensor, and which of them a row points to."""

    tensors: list[Ids] | list[Pixels]
    points_to: NDArray[np.int64]
    preprocess_ns: NDArray[np.int64]
    warm: int


def text_rows(tokenizer: preprocess.Tokenizer, scenario: Scenario, corpus: Corpus, taken: int) -> Rows:
    """`scenario.rows` rows, all token sequences distinct: of natural lengths, or of those that the scenario wants."""
    texts, seen = corpus.texts(scenario.name), {tokenizer.encode("").tobytes()}  # a text without tokens of its own is not a request
    if scenario.lengths or scenario.shapes == "new":
        warm, wanted = _wanted_lengths(scenario, max(NEW_SHORTEST, len(tokenizer.encode("")) + OWN_TOKENS), tokenizer.max_tokens)
        spare = texts if corpus.size is None else _spare_texts(corpus, scenario.name)
        rows = cut_rows(tokenizer, spare, warm + wanted, seen)
        return joined(rows, len(warm))
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
    return joined(cut_rows(tokenizer, spare, [int(length) for length in warm_lengths], seen) + drawn, scenario.rows - measured)


def _distinct_rows(
    tokenizer: preprocess.Tokenizer, texts: Iterator[str], scenario: Scenario, corpus: Corpus, taken: int, seen: set[bytes]
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


def _wanted_lengths(scenario: Scenario, min_tokens: int, max_tokens: int) -> tuple[list[int], list[int]]:
    """Token lengths of the warm rows and of the measured rows of a scenario that sets them.

    A sweep goes through its lengths again and again, a batch of each. New shapes come in pairs (the first is new, the second is known by
    then), the same lengths in every piece, none of them NEW_WARM, which is the only one that warm-up shows.
    """
    if scenario.lengths:
        sweep = [length for length in scenario.lengths for _ in range(scenario.batch)]
        warm = list(np.resize(np.array(scenario.lengths), MIN_WARM))
        return [int(length) for length in warm], [int(length) for length in np.resize(np.array(sweep), scenario.rows - MIN_WARM)]
    pairs = (scenario.piece or NEW_PIECE) // 2
    spread = np.unique(np.linspace(min_tokens, max_tokens, pairs + 1).round().astype(int))
    new = [int(length) for length in spread if length != NEW_WARM][:pairs]
    if len(new) < pairs:
        raise BenchError(f"scenario {scenario.name}: {pairs} lengths up to {max_tokens} tokens do not differ; make its `piece` shorter")
    piece = [length for length in new for _ in range(2)]
    return [NEW_WARM] * MIN_WARM, [int(length) for length in np.resize(np.array(piece), scenario.rows - MIN_WARM)]


def joined(rows: Sequence[tuple[Any, int]], warm: int) -> Rows:
    """Tensors with the nanoseconds that preparing each took, as rows of their own in that order."""
    return Rows([tensor for tensor, _ in rows], np.arange(len(rows)), np.array([ns for _, ns in rows], dtype=np.int64), warm)


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


def cut_rows(tokenizer: preprocess.Tokenizer, texts: Iterator[str], lengths: list[int], seen: set[bytes]) -> list[tuple[Ids, int]]:
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


def image_rows(pool: list[Pixels], preprocess_ns: NDArray[np.int64], rows: int) -> Rows:
    """`rows` rows that point in turn into a pool of prepared images."""
    points_to = np.arange(rows) % len(pool)
    return Rows(pool, points_to, preprocess_ns[points_to], MIN_WARM)


def long_beside_short(order: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """`order` (n places) with the places of more than half the longest length first, each followed by one of the others."""
    is_long = lengths[order] > lengths.max() / 2
    long, short = order[is_long], order[~is_long]
    together = min(len(long), len(short))
    beside = np.stack([long[:together], short[:together]], axis=1).ravel()
    return np.concatenate([beside, long[together:], short[together:]])
