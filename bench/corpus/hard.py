"""The hard inputs of the parity gate: what a wrong tokenizer border, mask, truncation or batch would show on first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

from bench.core import paths
from bench.core.errors import BenchError
from bench.corpus import images as corpus_images
from bench.corpus.generated import Dice, index, text

FILE = paths.ROOT / "data" / "hard" / "texts.jsonl"

# Words that are one token in every vocabulary of the catalogue, so that a text of k of them comes near k tokens whatever the tokenizer.
ONE_TOKEN = ("the", "of", "and", "in", "to", "is", "was", "for", "on", "with", "as", "by", "at", "from")
NEAR_LIMIT = (0, -2, 1, -1, 2, -3, 3, -4, 4, -5, 5, -6, 6)


def texts(seed: int, max_tokens: int, wanted: int) -> list[str]:
    """The hard texts of the parity gate: at least `wanted`, all distinct, of every kind that `data/hard` has.

    The texts of `data/hard` (empty, one token, white space, many scripts, emoji, code, special tokens as text …) come with texts of
    `max_tokens` ± a few tokens, of far more, and generated prose. Where `wanted` is small, each kind gives its first ones in turn.

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
    if wanted < len(in_turn) // 2:
        # some more than wanted, as different texts may have the same tokens (white space, an uncased vocabulary)
        return list(dict.fromkeys(in_turn))[: wanted * 3 // 2]
    missing = max(32, wanted * 5 // 4 - len(in_turn))
    return list(dict.fromkeys([*in_turn, *(text(seed, index("hard", k)) for k in range(missing))]))


def _written_hard() -> Iterator[tuple[str, str]]:
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
    dice = Dice(f"one token {seed} {k}")
    return " ".join(dice.pick(ONE_TOKEN) for _ in range(count))


def images(seed: int, wanted: int) -> Iterator[bytes]:
    """`wanted` images: extreme sizes and ratios, one colour, noise, every colour mode, then ordinary ones."""
    special = corpus_images.special(seed)
    yield from islice(special, wanted)
    yield from (corpus_images.image(seed, index("hard", k)) for k in range(wanted - len(special)))
