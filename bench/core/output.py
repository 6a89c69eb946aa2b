"""Standard output and error of a command: no character and no reader that goes away may end it in a traceback."""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

#: ASCII for signs that Unicode itself does not decompose.
ASCII = {
    "—": "-", "–": "-", "−": "-", "─": "-", "━": "-", "·": "-", "•": "*", "×": "x", "→": "->", "⇄": "<->", "≤": "<=", "≥": ">=",
    "≈": "~", "±": "+-", "∞": "inf", "√": "sqrt ", "Δ": "delta", "λ": "lambda", "ρ": "rho", "σ": "sigma", "µ": "u", "μ": "u",
    "’": "'", "‘": "'", "“": '"', "”": '"',
}  # fmt: skip
ERRORS = "bench-ascii"


def as_ascii(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: a spelling in ASCII for each character that the encoding lacks, `?` where there is none."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spelled, error.object[error.start : error.end])), error.end


def _spelled(character: str) -> str:
    decomposed = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    return ASCII.get(character) or decomposed or "?"


def set_up() -> None:
    """Let standard output and error replace what their encoding lacks, whatever the terminal, locale or PYTHONIOENCODING say."""
    codecs.register_error(ERRORS, as_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)


@contextmanager
def quiet_without_reader() -> Iterator[None]:
    """End the command with exit status 1 and without a word where the reader of its output went away, as of `invoke report | head`.

    SIGPIPE stays ignored: the death of a worker must not take the harness with it.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        broken = [stream for stream in (sys.stdout, sys.stderr) if _reader_is_gone(stream.fileno())]
        if not broken:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in broken:  # what is still buffered is flushed at exit
            os.dup2(nowhere, stream.fileno())
        sys.exit(1)


def _reader_is_gone(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
