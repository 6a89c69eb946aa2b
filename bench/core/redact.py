"""Takes paths of the measuring machine out of what is published and puts names such as `{native}` in their place."""

from __future__ import annotations

import re
import shlex
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from bench.core import paths

#: A known path is replaced only where a whole path begins and a whole name ends: /work is no part of /workshop, nor of /a/work.
BEFORE, AFTER = r"(?<![\w.}/-])", r"(?![\w.-])"


def portable(value: Any) -> Any:
    """A JSON value with every known folder of this machine in its strings replaced, such as `{native}/candle`; the rest is untouched."""
    if isinstance(value, str):
        for pattern, name in known_folders():
            value = pattern.sub(name, value)
        return value
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return value


def command(line: str) -> str:
    """A command line as published: other absolute paths, such as a corpus of the user's own, keep their last name only."""
    words = [portable(word) for word in shlex.split(line)]
    return " ".join(_quoted(re.sub(r"^(-[\w-]*=)?/.*?([^/]*)/?$", r"\1{path}/\2", word)) for word in words)


def _quoted(word: str) -> str:
    return word if re.fullmatch(r"[\w@%+=:,./{}-]+", word) else shlex.quote(word)


@cache
def known_folders() -> list[tuple[re.Pattern[str], str]]:
    """Folders and programs of this machine, the longest first, so that the innermost folder's name is taken."""
    named = {
        "{native}": paths.BINARIES,
        "{build}": paths.BUILD,
        "{data}": paths.DATA,
        "{root}": paths.ROOT,
        "{python}": Path(sys.executable),
        "{site_packages}": Path(sysconfig.get_paths()["purelib"]),
        "{prefix}": Path(sys.prefix),
        "{home}": Path.home(),
        "{tmp}": Path(tempfile.gettempdir()),
    }
    forms = {(str(form), name) for name, path in named.items() for form in (path.absolute(), path.resolve())}
    return [(re.compile(BEFORE + re.escape(form) + AFTER), name)
            for form, name in sorted(forms, key=lambda pair: (-len(pair[0]), pair)) if form != "/"]  # fmt: skip
