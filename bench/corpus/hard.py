"""The hard inputs of the parity gate: texts and images on which a wrong border, mask, truncation or batch shows first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

from bench.core import paths
from bench.core.errors import BenchError
from bench.corpus.generated import Dice, index, text
from bench.corpus.images import image, special_images

FILE = paths.ROOT / "data" / "hard" / "texts.jsonl"

# Words that are one token in every vocabulary of the catalogue, so that a text of k of them comes near k tokens whatever the tokenizer.
ONE_TOKEN = ("the", "of", "and", "in", "to", "is", "was", "for", "on", "with", "as", "by", "at", "from")
NEAR_LIMIT = (0, -2, 1, -1, 2, -3, 3, -4, 4, -5, 5, -6, 6)


def texts(seed: int, max_tokens: int, at_least: int) -> list[str]:
    """The hard texts of the parity gate: at least `at_least`, all distinct, of every kind that `data/hard` has.

    The texts of `data/hard` (empty, one token, white space, many scripts, emoji, code, special tokens as text …) come with texts of
    `max_tokens` ± a few tokens, of far more, and generated prose. Where `at_least` is small, each kind gives its first ones in turn.

    Raises:
        BenchError: `data/hard` is missing or broken.
    """
    kinds: dict[str, list[str]] = {}
    for kind, written in _written_hard():
        kinds.setdefault(kind, []).append(written)
    kinds["limit"] = [_one_token_words(seed, k, max_tokens + off) for k, off in enumerate(NEAR_LIMIT)]
    kinds["over limit"] = [_one_token_words(seed, 100 + k, max_tokens * times) for k, times in enumerate((2, 5))]
    lengths = sorted({max(1, max_tokens * part // 16) for part in range(1, 16)})
    kinds["length"] = [_one_token_words(seed, 200 + k, length) for k, length in enumerate(lengths)]
    turns = max(len(group) for group in kinds.values())
    in_turn = [group[turn] for turn in range(turns) for group in kinds.values() if turn < len(group)]
    if at_least < len(in_turn) // 2:
        # half as many again, as different texts may have the same tokens (white space, an uncased vocabulary)
        return list(dict.fromkeys(in_turn))[: at_least * 3 // 2]
    missing = max(32, at_least * 5 // 4 - len(in_turn))
    return list(dict.fromkeys([*in_turn, *(text(seed, index("hard", k)) for k in range(missing))]))


def _written_hard() -> Iterator[tuple[str, str]]:
    """(kind, text) of data/hard."""
    try:
        lines = FILE.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise BenchError(f"{FILE}: {error.strerror or error}; it belongs to the repository: restore it (git checkout data/hard)") from None
    for number, line in enumerate(lines, start=1):
        if line:
            try:
                entry = json.loads(line)
                yield str(entry["kind"]), str(entry["text"])
            except (ValueError, KeyError, TypeError):
                raise BenchError(f"{FILE}:{number}: wants an object with the keys 'kind' and 'text'; mend that line") from None


def _one_token_words(seed: int, k: int, count: int) -> str:
    """Text number `k` of `count` words that are one token each."""
    dice = Dice(f"one token {seed} {k}")
    return " ".join(dice.pick(ONE_TOKEN) for _ in range(count))


def images(seed: int, count: int) -> Iterator[bytes]:
    """`count` images: extreme sizes and ratios, one colour, noise, every colour mode, then ordinary ones."""
    special = special_images(seed)
    yield from islice(special, count)
    yield from (image(seed, index("hard", k)) for k in range(count - len(special)))
