"""The generator of the corpus: English-like prose from short queries to paragraphs, with a natural spread of lengths.

Text i is a pure function of (seed, i): integer arithmetic on a SHAKE-256 stream over our own word lists, so it is the same on every machine
and Python version. Two different i never give the same text (see `_topic`).
"""

from __future__ import annotations

import hashlib

from bench.corpus import vocabulary

PART_BITS = 20  # a named part of the generated sequence …
ITEM_BITS = 20  # … holds 2²⁰ items


def index(part: str, k: int) -> int:
    """Item k of a named part of the generated sequence: 20 bits of the part's hash, then 20 bits of k."""
    place = int.from_bytes(hashlib.sha256(part.encode()).digest()[:4], "little") >> (32 - PART_BITS)
    return place << ITEM_BITS | k


class Dice:
    """Integers from a SHAKE-256 stream, 16 bits a throw."""

    def __init__(self, key: str) -> None:
        self._hash = hashlib.shake_256(key.encode())
        self._bytes = self._hash.digest(512)
        self._at = 0

    def below(self, n: int) -> int:
        if self._at == len(self._bytes):
            self._bytes = self._hash.digest(2 * len(self._bytes))
        throw = self._bytes[self._at] | self._bytes[self._at + 1] << 8
        self._at += 2
        return throw * n >> 16

    def pick(self, options: tuple[str, ...]) -> str:
        return options[self.below(len(options))]


# Words of a text at the 64-quantiles of a log-normal with median 24 words and σ = 0.88, held to 5 … 300: about 30 tokens for a WordPiece
# or BPE vocabulary, 1 % above 256. A table, so that no logarithm decides where a text ends.
WORD_QUANTILES = (
    5, 5, 5, 5, 6, 7, 8, 8, 9, 9, 10, 10, 11, 12, 12, 13, 13, 14, 14, 15, 16, 16, 17, 17, 18, 19, 19, 20, 21, 22, 22, 23, 24,
    25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 36, 37, 38, 40, 42, 43, 45, 48, 50, 52, 55, 58, 62, 66, 71, 77, 84, 93, 105, 124, 160, 300,
)  # fmt: skip

NAMES = ("Anna", "Bruno", "Clara", "David", "Elena", "Felix", "Grace", "Henry", "Irene", "Jonas", "Karen", "Louis", "Maria", "Nils", "Olga",
         "Peter", "Rosa", "Simon", "Tara", "Victor", "Wanda", "Yusuf")  # fmt: skip
OPENERS = ("In the end,", "At first,", "For most people,", "According to the report,", "After a while,", "On the other hand,", "As a rule,",
           "In practice,", "By contrast,", "Last year,", "Every spring,", "Some time later,", "Without doubt,", "For example,")  # fmt: skip
LINKS = ("and", "but", "while", "because", "although", "so", "since", "until", "whereas", "unless", "once", "as soon as")
PLACES = ("near", "behind", "beside", "above", "inside", "outside", "beyond", "under", "around", "opposite", "in", "at", "next to")
MODALS = ("can", "will", "must", "should", "might", "could", "did not", "tried to", "began to", "wanted to", "had to", "used to")
ADVERBS = ("often", "rarely", "slowly", "quickly", "still", "never", "always", "finally", "usually", "soon", "almost", "carefully")
SHORT = ("please", "kindly", "how to", "ways to", "can you", "when to", "should we ever", "what helps to", "a way to", "nobody will")
QUESTIONS = ("how to {v} {a}", "why does nobody {v} the", "what happens if you {v} the", "when should we {v} {a}",
             "is it possible to {v} every", "best way to {v} the", "who can {v} {a}", "where to {v} the")  # fmt: skip


def text(seed: int, i: int) -> str:
    """Text `i` of the generated corpus of `seed`; 0 ≤ i < 2⁴⁰, and no two i give the same text."""
    dice = Dice(f"text {seed} {i}")
    verb, adjective, noun, second, topic = _topic(seed, i)
    step, fraction = dice.below(64), dice.below(64)
    target = WORD_QUANTILES[step] + (WORD_QUANTILES[step + 1] - WORD_QUANTILES[step]) * fraction // 64
    if target == 5:
        return f"{verb} {adjective} {noun} {second} {topic}"
    if target <= 10:
        return _with_tail(f"{dice.pick(SHORT)} {verb} {adjective} {noun} {second} {topic}", target, dice)
    if target <= 15:
        question = dice.pick(QUESTIONS).format(v=verb, a=vocabulary.article(adjective))
        query = f"{question} {adjective} {noun} {dice.pick(PLACES)} the {second} {topic}"
        return _with_tail(query, target, dice)
    first = f"The {adjective} {noun} {vocabulary.past(verb)} the {second} {topic}"
    sentences = [_with_tail(first, min(target, 10 + dice.below(12)), dice) + "."]
    count = len(sentences[0].split())
    while count < target - 3:
        sentence = _sentence(dice, target - count)
        sentences.append(sentence)
        count += len(sentence.split())
    return " ".join(sentences)


def _topic(seed: int, i: int) -> tuple[str, str, str, str, str]:
    """Five words that no other i has: `i` through a keyed permutation of 40 bits, eight bits a word.

    Every text of one shape holds the five at fixed places, and the shapes begin differently, so texts are distinct by construction.
    """
    if not 0 <= i < 1 << 40:
        raise ValueError(f"text {i}: wants 0 ≤ i < 2**40")
    left, right = i >> 20, i & 0xFFFFF
    for turn in range(4):
        digest = hashlib.sha256(f"topic {seed} {turn} {right}".encode()).digest()
        left, right = right, left ^ (int.from_bytes(digest[:4], "little") & 0xFFFFF)
    code = left << 20 | right
    lists = (vocabulary.VERBS, vocabulary.ADJECTIVES, vocabulary.NOUNS, vocabulary.ADJECTIVES, vocabulary.TOPICS)
    verb, adjective, noun, second, topic = (entries[code >> 8 * place & 0xFF] for place, entries in enumerate(lists))
    return verb, adjective, noun, second, topic


def _with_tail(start: str, target: int, dice: Dice) -> str:
    """`start` with phrases of place and purpose until it has about `target` words."""
    missing = target - len(start.split())
    while missing >= 3:
        if missing >= 6 and dice.below(2):
            phrase = f"to {dice.pick(vocabulary.VERBS)} {_noun_phrase(dice)}"
        else:
            phrase = f"{dice.pick(PLACES)} {_noun_phrase(dice)}"
        start = f"{start} {phrase}"
        missing -= len(phrase.split())
    return start


def _sentence(dice: Dice, room: int) -> str:
    """One sentence of five to about thirty words, two clauses where there is room."""
    body = _clause(dice)
    if room > 18 and dice.below(3):
        body = f"{body}{', ' if dice.below(2) else ' '}{dice.pick(LINKS)} {_clause(dice)}"
    elif room > 12:
        body = _with_tail(body, min(room, 14), dice)
    if dice.below(5) == 0:
        body = f"{dice.pick(OPENERS)} {body}"
    end = "?" if dice.below(25) == 0 else "."
    return body[0].upper() + body[1:] + end


def _clause(dice: Dice) -> str:
    shape = dice.below(6)
    verb = dice.pick(vocabulary.VERBS)
    subject = dice.pick(NAMES) if dice.below(8) == 0 else _noun_phrase(dice)
    if shape == 0:
        return f"{subject} {dice.pick(MODALS)} {verb} {_noun_phrase(dice)}"
    if shape == 1:
        return f"{subject} {dice.pick(ADVERBS)} {vocabulary.past(verb)} {_noun_phrase(dice)} {dice.pick(PLACES)} {_noun_phrase(dice)}"
    if shape == 2:
        return f"{vocabulary.gerund(verb)} {_noun_phrase(dice)} was {dice.pick(ADVERBS)} {dice.pick(vocabulary.ADJECTIVES)}"
    if shape == 3:
        return f"there were {2 + dice.below(998)} {vocabulary.plural(dice.pick(vocabulary.NOUNS))} {dice.pick(PLACES)} {_noun_phrase(dice)}"
    if shape == 4:
        return f"the {dice.pick(vocabulary.TOPICS)} of {_noun_phrase(dice)} {vocabulary.past(verb)} {subject}"
    return f"{subject} {vocabulary.past(verb)} {_noun_phrase(dice)}"


def _noun_phrase(dice: Dice) -> str:
    noun = dice.pick(vocabulary.NOUNS if dice.below(2) else vocabulary.TOPICS)
    kind = dice.below(8)
    if kind < 2:
        return f"the {noun}"
    adjective = dice.pick(vocabulary.ADJECTIVES)
    if kind == 2:
        return f"{adjective} {vocabulary.plural(noun)}"
    if kind == 3:
        return f"{vocabulary.article(noun)} {noun}"
    if kind == 4:
        return f"the {noun} of the {dice.pick(vocabulary.TOPICS)}"
    return f"{vocabulary.article(adjective)} {adjective} {noun}" if kind < 7 else f"the {adjective} {noun}"
