"""Hashes of files and of this code, so that nothing is made twice and nothing stale is used."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from bench.core import files, paths

#: The hash of a file of this size and more is remembered across processes.
REMEMBERED_BYTES = 32 << 20
#: Packages that decide no byte of what other code makes (paths, errors, child processes), or whose facts each key holds by value.
NEUTRAL = ("bench.core", "bench.catalog", "bench.machine")
DECISIVE = ("bench.core.random",)


def of_file(file: Path) -> str:
    """sha256 in hex, read once per process as long as size and time of change stay the same."""
    stat = file.stat()
    return _of_file(file.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _of_file(file: Path, _size: int, _mtime_ns: int) -> str:
    return files.sha256(file)


def of_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """sha256 by name. Those of files of 32 MiB and more are kept in build/ with size and time of change, so that weights are read once."""
    register = paths.WEIGHTS / "hashes.json"
    try:
        remembered: dict[str, list[object]] = files.read_json(register)
    except (OSError, ValueError):
        remembered = {}
    hashes, changed = {}, False
    for name in names:
        file = (folder / name).resolve()
        stat = file.stat()
        entry = remembered.get(str(file))
        if stat.st_size >= REMEMBERED_BYTES and entry and entry[:2] == [stat.st_size, stat.st_mtime_ns]:
            hashes[name] = str(entry[2])
            continue
        hashes[name] = of_file(file)
        if stat.st_size >= REMEMBERED_BYTES:
            remembered[str(file)] = [stat.st_size, stat.st_mtime_ns, hashes[name]]
            changed = True
    if changed:
        files.write_json(register, remembered)
    return hashes


@cache
def of_code(*modules: str) -> str:
    """Hash of the code of modules (`bench.…`) and of all that they import of this project, directly or not, inside functions too.

    Comments and docstrings do not count, so that a better word exports no model again; nor do the NEUTRAL modules, which decide no byte
    of what others make. A module that moves or is split changes the hash.
    """
    digest = hashlib.sha256()
    for name, tree in sorted(_closure(modules).items()):
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
        digest.update(f"{name}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()


def _closure(modules: Iterable[str]) -> dict[str, ast.Module]:
    """The modules, and those they import that are not neutral, parsed, by name."""
    closure: dict[str, ast.Module] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in closure:
            closure[name] = ast.parse(_source(name).read_text(encoding="utf-8"))
            waiting += [other for other in _imports(closure[name]) if not _neutral(other)]
    return closure


def _imports(tree: ast.Module) -> Iterator[str]:
    """The modules of this project that code imports, at its top or inside functions; imports for type checkers alone do not count."""
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("bench."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "bench":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in names if _is_module(name)]
            yield from modules
            if len(modules) < len(names) and node.module != "bench":
                yield node.module


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it, but for those under `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield from _executed(child)


def _source(module: str) -> Path:
    """The file of a module or a package."""
    place = paths.ROOT.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _is_module(name: str) -> bool:
    return _source(name).is_file()


def _neutral(module: str) -> bool:
    return module not in DECISIVE and ".".join(module.split(".")[:2]) in NEUTRAL
