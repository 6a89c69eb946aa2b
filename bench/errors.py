"""The one exception that ends a command with one line: what is wrong, then the cure."""

from __future__ import annotations


class BenchError(Exception):
    """Something the user can mend. `str()` is one line that names the thing and the cure."""
