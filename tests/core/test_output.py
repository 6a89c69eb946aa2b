"""What a terminal lacks is spelled in ASCII, and a reader that went away is told apart from another broken pipe."""

from __future__ import annotations

import io
import os
import sys

import pytest

from bench.core import output


def printed(monkeypatch: pytest.MonkeyPatch, name: str, encoding: str, text: str) -> bytes:
    """The bytes that `text` becomes on sys.stdout or sys.stderr of this encoding, which refuses what it lacks until it is set up."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, name, stream)
    output.set_up()
    print(text, file=stream, end="", flush=True)
    return bytes(stream.buffer.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p50 — 4.1 ms · 2×1", b"p50 - 4.1 ms - 2x1"),
        ("1 − cosine ≤ 1e−7 …", b"1 - cosine <= 1e-7 ..."),
        ("Zug nach Köln, 10 µs, m²", b"Zug nach Koln, 10 us, m2"),
        ("良 🙂", b"? ?"),
        ("half an emoji \ud83d, a name that is no UTF-8 \udcff", b"half an emoji ?, a name that is no UTF-8 ?"),
    ],
    ids=["table", "signs", "letters", "none", "surrogates"],
)
def test_what_the_terminal_lacks_is_replaced(monkeypatch: pytest.MonkeyPatch, stream: str, text: str, expected: bytes) -> None:
    assert printed(monkeypatch, stream, "ascii", text) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_what_the_terminal_has_stays(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    assert printed(monkeypatch, "stdout", encoding, "±1 µs é") == "±1 µs é".encode(encoding)


def test_a_reader_that_went_away_ends_it_quietly_and_another_broken_pipe_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    (out_reader, out), (err_reader, err) = os.pipe(), os.pipe()
    monkeypatch.setattr(sys, "stdout", os.fdopen(out, "w", encoding="utf-8"))
    monkeypatch.setattr(sys, "stderr", os.fdopen(err, "w", encoding="utf-8"))
    with pytest.raises(BrokenPipeError), output.quiet_without_reader():
        raise BrokenPipeError  # a worker's, say
    os.close(out_reader)
    with pytest.raises(SystemExit) as ended, output.quiet_without_reader():
        print("a line")
    assert ended.value.code == 1
    print("what is flushed at exit", flush=True)
    os.close(err_reader)
