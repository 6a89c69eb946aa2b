"""Values of a command line: lists of names, a name out of a set, durations. An unknown name is an error that has the nearest known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from bench.core.errors import BenchError


def split(names: str) -> list[str]:
    """`"a, b"` → `["a", "b"]`."""
    return [name.strip() for name in names.split(",") if name.strip()]


def one_of(what: str, name: str, known: Iterable[str]) -> Any:
    """`name`, if it is one of `known`.

    Raises:
        BenchError: it is not; the message has the nearest one that is.
    """
    known = list(known)
    if name not in known:
        raise unknown(what, name, known)
    return name


def unknown(what: str, name: str, known: Iterable[str]) -> BenchError:
    """The error for a name that is not in the catalogue, with the nearest one that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "choose from " + ", ".join(known)
    return BenchError(f"unknown {what} {name!r}: {hint}")


def parse_seconds(text: str) -> float:
    """`"90"`, `"90s"`, `"3m"`, `"1h"`, `"1m30s"` → seconds."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    seconds = 0.0
    if match and text.strip():
        hours, minutes, rest = (float(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if seconds <= 0:
        raise BenchError(f"bad duration {text!r}: write it like 90s, 3m or 1h")
    return seconds
