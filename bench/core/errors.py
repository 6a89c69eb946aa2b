"""The exceptions that end a command, or an arm, with one line: the thing that is wrong, then the cure."""

from __future__ import annotations


class BenchError(Exception):
    """Something the user can mend. `str()` is one line that names the thing and the cure."""


class NotApplicable(BenchError):
    """The combination does not exist (on this machine, or at all). Reported as NOT_APPLICABLE, not as an error; `str()` is the reason."""
