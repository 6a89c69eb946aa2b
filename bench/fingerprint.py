"""What a file or a piece of this code is, by its bytes: so that nothing is made twice, and nothing stale is used."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from bench import files, paths

LARGE_BYTES = 32 << 20


def of_file(file: Path) -> str:
    """sha256 in hex, read once per process as long as size and time of change stay the same."""
    stat = file.stat()
    return _of_file(file.resolve(), stat.st_size, stat.st_mtime_ns)


@cache
def _of_file(file: Path, _size: int, _mtime_ns: int) -> str:
    return files.sha256(file)


def of_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """sha256 by name. That of a large file is remembered in build/ beside its size and time of change, so that weights are read once."""
    register = paths.WEIGHTS / "hashes.json"
    try:
        known: dict[str, list[object]] = files.read_json(register)
    except (OSError, ValueError):
        known = {}
    found, learned = {}, False
    for name in names:
        file = (folder / name).resolve()
        stat = file.stat()
        entry = known.get(str(file))
        if stat.st_size >= LARGE_BYTES and entry and entry[:2] == [stat.st_size, stat.st_mtime_ns]:
            found[name] = str(entry[2])
            continue
        found[name] = of_file(file)
        if stat.st_size >= LARGE_BYTES:
            known[str(file)] = [stat.st_size, stat.st_mtime_ns, found[name]]
            learned = True
    if learned:
        files.write_json(register, known)
    return found


@cache
def of_code(*names: str) -> str:
    """Of modules of `bench`: what they do, without comments and docstrings, so that a better word exports no model again."""
    digest = hashlib.sha256()
    for name in names:
        tree = ast.parse((Path(__file__).parent / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()
