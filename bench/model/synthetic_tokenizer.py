"""A tokenizer of the same kind as the published one, trained in seconds on the documentation that comes with Python.

Kind, normalisation, special tokens and their ids are as published; the vocabulary (about 28 000 pieces) is not. Its ids are a subset of
the model's, which is all that the work of a request depends on.
"""

from __future__ import annotations

import ast
import json
import math
from collections import Counter
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from bench.core.errors import BenchError
from bench.corpus import standard_library

PIECES = 28_000
SPACE = "▁"
LETTERS_AND_MARKS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@cache
def corpus() -> tuple[str, ...]:
    """Prose: the topics of `help()`, and the docstrings of the standard library's modules, packages left out."""
    modules = [file for file in standard_library.files() if file.parent == standard_library.FOLDER]
    # Without coroutines, as ever: another corpus makes other tokenizers, and plans made with them no longer compare.
    docstrings = [
        docstring for file in modules for node, docstring in standard_library.documented(file) if not isinstance(node, ast.AsyncFunctionDef)
    ]
    return (*standard_library.topics(), *docstrings)


def train(architecture: str, vocab_size: int, pad_id: int) -> str:
    """The text of tokenizer.json.

    Raises:
        BenchError: no tokenizer is known for the architecture.
    """
    kinds = {
        "bert": _bert,
        "xlm_roberta": _xlm_roberta,
        "gemma3_embedding": _gemma,
        "qwen3": _qwen,
        "clip_text": _clip,
        "siglip_text": _siglip,
    }
    if architecture not in kinds:
        raise BenchError(
            f"architecture {architecture!r}: no synthetic tokenizer is known for it; add one to bench/model/synthetic_tokenizer.py"
        )
    tokenizer_json = kinds[architecture](min(PIECES, vocab_size), vocab_size, pad_id)
    return json.dumps(tokenizer_json, ensure_ascii=False, indent=1) + "\n"


def _trained(tokenizer: Tokenizer, trainer: Any) -> dict[str, Any]:
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer_json: dict[str, Any] = json.loads(tokenizer.to_str())
    return tokenizer_json


def _special(token: str, number: int) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": token, **flags}


def _around(before: tuple[str, int] | None, after: tuple[str, int] | None) -> dict[str, Any]:
    """Put special tokens before and after a text."""
    tokens = [token for token in (before, after) if token]
    single: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    if before:
        single.insert(0, {"SpecialToken": {"id": before[0], "type_id": 0}})
    if after:
        single.append({"SpecialToken": {"id": after[0], "type_id": 0}})
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [number], "tokens": [name]} for name, number in dict(tokens).items()},
    }


def _bert(pieces: int, _vocab: int, _pad: int) -> dict[str, Any]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer_json = _trained(tokenizer, trainers.WordPieceTrainer(vocab_size=pieces, special_tokens=names, show_progress=False))
    tokenizer_json["post_processor"] = _around(("[CLS]", 2), ("[SEP]", 3))
    return tokenizer_json


def _sentencepiece(pieces: int, names: list[str], unknown: str, lower: bool = False) -> dict[str, Any]:
    """A Unigram model whose first pieces are `names`, over text whose spaces are written as ▁."""
    tokenizer = Tokenizer(models.Unigram())
    steps: list[Any] = [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " ")]
    if lower:
        steps.append(normalizers.Lowercase())
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    trainer = trainers.UnigramTrainer(vocab_size=pieces, special_tokens=names, unk_token=unknown, show_progress=False)
    tokenizer_json = _trained(tokenizer, trainer)
    learned = [piece for piece, _ in tokenizer_json["model"]["vocab"] if piece not in names]
    scores = _scores(tokenizer, learned)
    ranked = sorted(learned, key=lambda piece: (-scores[piece], piece))
    tokenizer_json["model"]["vocab"] = [[name, 0.0] for name in names] + [[piece, scores[piece]] for piece in ranked]
    tokenizer_json["model"]["unk_id"] = names.index(unknown)
    return tokenizer_json


def _scores(tokenizer: Tokenizer, pieces: list[str]) -> dict[str, float]:
    """log of how often each piece stands in the corpus. The trainer's own scores differ a little from run to run; its pieces do not."""
    words: Counter[str] = Counter()
    for text in corpus():
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text)))
    counts = dict.fromkeys(pieces, 1)
    longest = max(map(len, pieces))
    for word, count in words.items():
        for begin in range(len(word)):
            for end in range(begin + 1, min(len(word), begin + longest) + 1):
                if (piece := word[begin:end]) in counts:
                    counts[piece] += count
    total = sum(counts.values())
    return {piece: round(math.log(count / total), 6) for piece, count in counts.items()}


def _xlm_roberta(pieces: int, _vocab: int, _pad: int) -> dict[str, Any]:
    tokenizer_json = _sentencepiece(pieces, ["<s>", "<pad>", "</s>", "<unk>"], "<unk>")
    tokenizer_json["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, tokenizer_json["pre_tokenizer"]]}
    tokenizer_json["post_processor"] = _around(("<s>", 0), ("</s>", 2))
    return tokenizer_json


def _siglip(pieces: int, _vocab: int, _pad: int) -> dict[str, Any]:
    tokenizer_json = _sentencepiece(pieces, ["<pad>", "</s>", "<unk>"], "<unk>", lower=True)
    tokenizer_json["post_processor"] = _around(None, ("</s>", 1))
    return tokenizer_json


def _gemma(pieces: int, _vocab: int, _pad: int) -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(SPACE, "merged_with_next")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    names = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer_json = _trained(tokenizer, trainers.BpeTrainer(vocab_size=pieces, special_tokens=names, show_progress=False))
    tokenizer_json["added_tokens"] = [entry for entry in tokenizer_json["added_tokens"] if not entry["content"].startswith("<0x")]
    tokenizer_json["post_processor"] = _around(("<bos>", 2), ("<eos>", 1))
    return tokenizer_json


def _byte_level(pieces: int, tokenizer: Tokenizer, special: dict[str, int], **options: Any) -> dict[str, Any]:
    """A byte-level BPE model; the special tokens get their published ids, far above the pieces."""
    # The alphabet goes in as special tokens, which keep their order: else the trainer numbers it by the order of a hash table.
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    alphabet = letters + [letter + options.get("end_of_word_suffix", "") for letter in letters]
    alphabet = list(dict.fromkeys(alphabet))
    tokenizer_json = _trained(tokenizer, trainers.BpeTrainer(vocab_size=pieces, special_tokens=alphabet, show_progress=False, **options))
    tokenizer_json["model"]["vocab"] |= special
    tokenizer_json["added_tokens"] = [_special(token, number) for token, number in special.items()]
    return tokenizer_json


def _qwen(pieces: int, vocab: int, pad_id: int) -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(Regex(LETTERS_AND_MARKS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = decoders.ByteLevel()
    end = ("<|endoftext|>", pad_id)
    tokenizer_json = _byte_level(min(pieces, vocab - 1), tokenizer, {end[0]: end[1]})
    tokenizer_json["post_processor"] = _around(None, end)
    return tokenizer_json


def _clip(pieces: int, vocab: int, pad_id: int) -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    splits = [pre_tokenizers.Split(words, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tokenizer.decoder = decoders.ByteLevel()
    start, end = ("<|startoftext|>", vocab - 2), ("<|endoftext|>", vocab - 1)
    tokenizer_json = _byte_level(min(pieces, vocab - 2), tokenizer, dict([start, end]), end_of_word_suffix="</w>")
    tokenizer_json["post_processor"] = _around(start, end)
    return tokenizer_json
