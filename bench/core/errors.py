"""The exceptions that end a command, or an arm, with one line: what is wrong, then the cure."""

from __future__ import annotations


class BenchError(Exception):
    """Something the user can mend. `str()` is one line that names the thing and the cure."""


class NotApplicable(BenchError):
    """Something that there is no such thing as, here or at all: nothing to mend. `str()` says why."""
