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
from bench.plan.preprocess import Ids, Pixels, Tokenizer

#: Rows for warm-up that every plan of a load has at least.
MIN_WARM = 64
#: Of a scenario with new shapes: tokens of its warm-up rows, and rows of a piece where the scenario does not say.
NEW_WARM, NEW_PIECE = 32, 32
#: Of the shortest text of a scenario with new shapes: tokens, and how many of them at least are not the prompt's or special ones.
NEW_SHORTEST, OWN_TOKENS = 6, 4
#: Texts that are cut to a length before its sequences count as exhausted.
CUT_ATTEMPTS = 10_000


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows before they are written.

    Attributes:
        tensors: each distinct tensor once.
        points_to: for each row the place of its tensor, int64.
        preprocess_ns: for each row what preparing it took, int64.
        warm: number of rows, the first, that are for warm-up.
    """

    tensors: list[Ids] | list[Pixels]
    points_to: NDArray[np.int64]
    preprocess_ns: NDArray[np.int64]
    warm: int

    @classmethod
    def one_each(cls, timed: Sequence[tuple[Any, int]], warm: int = 0) -> Rows:
        """A row for each (tensor, nanoseconds that preparing it took), in that order."""
        preprocess_ns = np.array([ns for _, ns in timed], dtype=np.int64)
        return cls([tensor for tensor, _ in timed], np.arange(len(timed)), preprocess_ns, warm)


def text_rows(tokenizer: Tokenizer, scenario: Scenario, corpus: Corpus, skip: int) -> Rows:
    """`scenario.rows` rows, all token sequences distinct: of natural lengths, or of those that the scenario sets.

    Args:
        skip: distinct texts that are passed over at the start of a finite corpus.
    """
    texts = corpus.texts(scenario.name)
    seen = {tokenizer.encode("").tobytes()}  # a text without tokens of its own is not a request
    if scenario.lengths or scenario.shapes == "new":
        shortest = max(NEW_SHORTEST, len(tokenizer.encode("")) + OWN_TOKENS)
        warm, lengths = _set_lengths(scenario, shortest, tokenizer.max_tokens)
        spare = texts if corpus.size is None else _spare_texts(corpus, scenario.name)
        return Rows.one_each(cut_rows(tokenizer, spare, warm + lengths, seen), len(warm))
    rows = _distinct_rows(tokenizer, texts, scenario, corpus, skip, seen)
    natural = np.array([len(ids) for ids, _ in rows])
    measured = _measured_rows(natural)
    by_length, counts = np.unique(natural[:measured], return_counts=True)
    commonest_first = by_length[np.argsort(-counts, kind="stable")]
    warm_lengths = np.resize(commonest_first, scenario.rows - measured)
    rows = rows[:measured]
    if scenario.order == "sorted" and scenario.piece:
        pieces = [rows[first : first + scenario.piece] for first in range(0, measured, scenario.piece)]
        rows = [row for piece in pieces for row in sorted(piece, key=lambda row: len(row[0]))]
    # The rows that are not measured have lengths of their own, so their texts are cut or joined to the lengths that warm-up needs.
    spare = texts if corpus.size is None else _spare_texts(corpus, scenario.name)
    warm_rows = cut_rows(tokenizer, spare, [int(length) for length in warm_lengths], seen)
    return Rows.one_each(warm_rows + rows, len(warm_rows))


def _distinct_rows(
    tokenizer: Tokenizer, texts: Iterator[str], scenario: Scenario, corpus: Corpus, skip: int, seen: set[bytes]
) -> list[tuple[Ids, int]]:
    """The next `scenario.rows` texts; one whose tokens have come before (they are kept in `seen`) is passed over."""
    rows: list[tuple[Ids, int]] = []
    for ids, ns in tokenizer.timed(texts):
        sequence = ids.tobytes()
        if sequence in seen:
            continue
        seen.add(sequence)
        if len(seen) - 1 > skip:
            rows.append((ids, ns))
        if len(rows) == scenario.rows:
            return rows
    raise BenchError(
        f"corpus {corpus.name}: too few distinct texts: scenario {scenario.name} needs {scenario.rows}"
        f"{f' after the {skip} of earlier scenarios' if skip else ''}, the corpus has {len(seen) - 1}; "
        "add texts, or leave --corpus away"
    )


def _set_lengths(scenario: Scenario, min_tokens: int, max_tokens: int) -> tuple[list[int], list[int]]:
    """Token lengths of the warm-up rows and of the measured rows of a scenario that sets them.

    A sweep goes through its lengths again and again, a batch of each. New shapes come in pairs (the first is new, the second has been seen
    by then), the same lengths in every piece, none of them NEW_WARM, which is the only one that warm-up shows.
    """
    if scenario.lengths:
        warm = np.resize(np.array(scenario.lengths), MIN_WARM)
        turn = [length for length in scenario.lengths for _ in range(scenario.batch)]
    else:
        pairs = (scenario.piece or NEW_PIECE) // 2
        spread = np.unique(np.linspace(min_tokens, max_tokens, pairs + 1).round().astype(int))
        new = [int(length) for length in spread if length != NEW_WARM][:pairs]
        if len(new) < pairs:
            raise BenchError(f"scenario {scenario.name}: {pairs} lengths up to {max_tokens} tokens do not differ; make its `piece` shorter")
        warm = np.full(MIN_WARM, NEW_WARM)
        turn = [length for length in new for _ in range(2)]
    measured = np.resize(np.array(turn), scenario.rows - MIN_WARM)
    return [int(length) for length in warm], [int(length) for length in measured]


def _spare_texts(corpus: Corpus, part: str) -> Iterator[str]:
    """Endless texts for warm-up from a finite corpus, which may have none left: its texts joined by twos."""
    texts = list(corpus.texts(part))
    for shift in count(1):
        for place, text in enumerate(texts):
            yield f"{text} {texts[(place + shift) % len(texts)]}"


def _measured_rows(lengths: NDArray[np.int64]) -> int:
    """The largest M so that M measured rows, and a warm-up row for each of their distinct lengths (at least MIN_WARM), fit together."""
    distinct: set[int] = set()
    measured = 0
    for rows, length in enumerate(lengths.tolist(), start=1):
        distinct.add(length)
        if rows + max(MIN_WARM, len(distinct)) > len(lengths):
            break
        measured = rows
    return measured


def cut_rows(tokenizer: Tokenizer, texts: Iterator[str], lengths: list[int], seen: set[bytes]) -> list[tuple[Ids, int]]:
    """A row of each length, with the nanoseconds its text takes to encode; none of them is in `seen`, where each is added."""
    rows: list[Ids] = []
    cut: list[str] = []
    for length in lengths:
        for _ in range(CUT_ATTEMPTS):
            ids, text = tokenizer.encode_to(texts, length)
            if ids.tobytes() not in seen:
                break
        else:
            raise BenchError(f"corpus: too few different sequences of {length} tokens for warm-up; give a corpus with longer texts")
        seen.add(ids.tobytes())
        rows.append(ids)
        cut.append(text)
    return [(ids, ns) for ids, (_, ns) in zip(rows, tokenizer.timed(cut), strict=True)]


def image_rows(pool: list[Pixels], preprocess_ns: NDArray[np.int64], rows: int) -> Rows:
    """`rows` rows that point in turn into a pool of prepared images; the first MIN_WARM are for warm-up."""
    points_to = np.arange(rows) % len(pool)
    return Rows(pool, points_to, preprocess_ns[points_to], MIN_WARM)


def long_beside_short(order: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """`order` (n places) with the places of more than half the longest length first, each followed by one of the others."""
    is_long = lengths[order] > lengths.max() / 2
    long, short = order[is_long], order[~is_long]
    pairs = min(len(long), len(short))
    beside = np.stack([long[:pairs], short[:pairs]], axis=1).ravel()
    return np.concatenate([beside, long[pairs:], short[pairs:]])
