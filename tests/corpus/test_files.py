"""The user's own files as they come: resource forks, half emoji, images that are none."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from bench.core.errors import BenchError
from bench.corpus import files, quality_sets, resolve


def test_names_that_begin_with_a_dot_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("first\nsecond\n")
    (tmp_path / "._notes.txt").write_bytes(b"\x00\x05\x16\x07\xff\xfe")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "old.txt").write_text("third\n")
    assert files.read(tmp_path) == (("first", "second"), [])


def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path: Path) -> None:
    corpus = tmp_path / "chat.jsonl"
    corpus.write_text('"whole \\ud83d\\ude42"\n{"text": "half \\ud83d"}\n')
    texts, _ = files.read(corpus)
    assert texts == ("whole \U0001f642", "half \ufffd")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"query": f"q{k} \ud83d", "text": f"t{k} \ude42"}) + "\n" for k in range(20)))
    assert all("\ufffd" in text for text in (*quality_sets.own(pairs).queries, *quality_sets.own(pairs).documents))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("a.jpg", b"ftypheic", "not an image"), ("b.png", None, "truncated"), ("c.png", (1, 400), "1 × 400 pixels")],
)
def test_an_image_that_cannot_be_served_is_named(tmp_path: Path, name: str, content: bytes | tuple[int, int] | None, reason: str) -> None:
    out = io.BytesIO()
    noise = Image.effect_noise((64, 64), 50) if content is None else Image.new("RGB", content if isinstance(content, tuple) else (9, 9))
    noise.save(out, "PNG")
    encoded = content if isinstance(content, bytes) else out.getvalue()[:-200] if content is None else out.getvalue()
    (tmp_path / name).write_bytes(encoded)
    with pytest.raises(BenchError, match=reason) as raised:
        list(resolve.resolve(str(tmp_path), 1).images("pool"))
    assert name in str(raised.value) and "\n" not in str(raised.value) and "BytesIO" not in str(raised.value)
