"""Prose that every machine has: the topics of `help()` and the docstrings of the installed Python's standard library."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from bench.core.errors import BenchError

FOLDER = Path(sysconfig.get_paths()["stdlib"])
#: Its folders that hold no prose, or what the user installed.
SKIPPED = {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__", "pydoc_data"}
Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def topics() -> list[str]:
    """The topics of `help()`, in the order of their names.

    Raises:
        BenchError: this Python was installed without them.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise BenchError("corpus docs: this Python has no pydoc_data.topics; install its documentation or leave --corpus away") from None
    return [topics[name] for name in sorted(topics)]


def files() -> list[Path]:
    """The modules of the standard library, packages included, in the order of their paths."""
    return sorted(file for file in FOLDER.rglob("*.py") if SKIPPED.isdisjoint(file.relative_to(FOLDER).parts))


def parse(file: Path) -> ast.Module | None:
    """The syntax tree of a module; None where this Python cannot read it (some are deliberately broken)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return None


def documented(file: Path) -> Iterator[tuple[Definition, str]]:
    """(definition, its docstring) of a module, its classes and functions, breadth first."""
    tree = parse(file)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, Definition) and (docstring := ast.get_docstring(node)):
            yield node, docstring
