"""YAML → frozen dataclasses, validated once, with the line that is wrong.

`load()` reads `bench/catalog/*.yaml` and, where given, a user's folder with files of the same names, whose entries are added to ours
(an entry of the same name replaces ours). Nothing later in the program reads YAML.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from bench.catalog.arguments import unknown
from bench.catalog.frameworks import Framework, contradictions
from bench.catalog.schema import Catalog, Model, Scenario, Suite
from bench.core import paths
from bench.core.errors import BenchError


def load(extra: Path | None = None) -> Catalog:
    """Read and validate the catalogue.

    Args:
        extra: a user's folder with any of frameworks.yaml, models.yaml, scenarios.yaml.

    Raises:
        BenchError: names file, line, key and the cure.
    """
    if extra is not None and not extra.is_dir():
        raise BenchError(f"catalogue folder {extra}: not found; --catalog wants a folder with YAML files")
    folders = [paths.CATALOG, *([extra] if extra else [])]
    files = ("frameworks.yaml", "models.yaml", "scenarios.yaml")
    if extra and not any((extra / name).is_file() for name in files):
        raise BenchError(f"catalogue folder {extra}: holds none of {', '.join(files)}")
    frameworks: dict[str, Framework] = {}
    models: dict[str, Model] = {}
    scenarios: dict[str, Scenario] = {}
    suites: dict[str, Suite] = {}
    for folder in folders:
        frameworks |= entries(folder / "frameworks.yaml", Framework)
        models |= entries(folder / "models.yaml", Model)
        read = entries(folder / "scenarios.yaml", Scenario, "scenarios")
        scenarios |= {name: _with_trace(entry, folder) for name, entry in read.items()}
        suites |= entries(folder / "scenarios.yaml", Suite, "suites", named=False)
    for name, suite in suites.items():
        for scenario in suite.scenarios:
            if scenario not in scenarios:
                raise BenchError(f"scenarios.yaml: suite {name!r}: {unknown('scenario', scenario, scenarios)}")
    for name, entry in scenarios.items():
        if entry.floor_in is not None and entry.floor_in not in scenarios:
            raise BenchError(f"scenarios.yaml: {name}: floor_in: {unknown('scenario', entry.floor_in, scenarios)}")
    return Catalog(frameworks, models, scenarios, suites)


def _with_trace(scenario: Scenario, folder: Path) -> Scenario:
    """A trace is named relative to the folder of its scenarios.yaml."""
    return replace(scenario, trace=str((folder / scenario.trace).resolve())) if scenario.trace else scenario


def entries(file: Path, kind: type[Any], section: str | None = None, named: bool = True) -> dict[str, Any]:
    """The entries of one file (or of one section of it) as dataclasses by name; none where there is no file.

    Raises:
        BenchError: names file, line, key and the cure.
    """
    if not file.is_file():
        return {}
    try:
        text = file.read_text(encoding="utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not UTF-8 text"
        raise BenchError(f"{file}{line}: not valid YAML ({problem}); mend that line") from None
    if not isinstance(data, dict):
        raise BenchError(f"{file}:1: wants a mapping of names to entries")
    for repeated, second_line in _repeated(tree):
        raise BenchError(f"{file}:{second_line}: {repeated!r} stands twice; rename one of the two or take it out")
    prefix: tuple[str, ...] = ()
    if section:
        stray = [key for key in data if key not in ("scenarios", "suites")]
        if stray:
            raise BenchError(f"{file}:{_line(tree, (stray[0],))}: key {stray[0]!r}: only 'scenarios' and 'suites' go here")
        data, prefix = data.get(section) or {}, (section,)
    adapter = TypeAdapter(kind)
    entries = {}
    for name, values in data.items():
        if not isinstance(values, dict):
            raise BenchError(f"{file}:{_line(tree, (*prefix, name))}: {name}: wants a mapping of keys to values")
        full = {**values, **({"name": str(name)} if named else {})}
        if kind is Framework and isinstance(values.get("variants"), dict):
            variants = values["variants"].items()
            full["variants"] = {key: {"name": str(key), **entry} if isinstance(entry, dict) else entry for key, entry in variants}
        try:
            entries[str(name)] = adapter.validate_python(full)
            for steps, problem in contradictions(entries[str(name)]) if kind is Framework else _impossible(entries[str(name)]):
                where = (*prefix, name, *steps)
                raise BenchError(f"{file}:{_line(tree, where)}: {name}: key {'.'.join(steps)!r}: {problem}")
        except ValidationError as error:
            # A misspelt key is the cause, the key it leaves missing only the consequence.
            first = min(error.errors(), key=lambda problem: problem["type"] != "unexpected_keyword_argument")
            where = (*prefix, name, *first["loc"])
            key = ".".join(str(part) for part in first["loc"])
            raise BenchError(f"{file}:{_line(tree, where)}: {name}: key {key!r}: {_cure(first, kind, values)}") from None
    return entries


def _repeated(node: Any) -> Iterator[tuple[str, int]]:
    """(key, line of its second place) of keys that stand twice in one mapping, of which YAML would take the last without a word."""
    children: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.value != "<<":
                yield key.value, key.start_mark.line + 1
            seen.add(str(key.value))
            children.append(value)
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    for child in children:
        yield from _repeated(child)


def _impossible(entry: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """A scenario that fits the types and cannot be served: the key, and what is wrong with it."""
    if not isinstance(entry, Scenario):
        return
    if not 1 <= entry.batch <= entry.rows:
        yield ("batch",), f"{entry.batch}: wants 1 to rows ({entry.rows})"
    if entry.load == "open" and entry.rate is None and entry.rate_per_s is None and entry.trace is None:
        yield ("load",), "an open loop wants `rate` (a share of the model's rate_per_s), `rate_per_s`, or a trace with its own pace"
    for key in ("rate", "rate_per_s", "piece_s", "shape"):
        value = getattr(entry, key)
        if value is not None and not 0 < value < float("inf"):
            yield (key,), f"{value}: wants a positive number"
    if (entry.arrivals == "trace") != (entry.trace is not None):
        yield ("arrivals",), "`arrivals: trace` and `trace: FILE.csv` (arrival times in its first column) go together"
    if entry.load in ("open", "slo") and entry.piece is None:
        yield ("load",), "open-loop pieces are not sliced: `piece` says how many rows one has"
    if entry.piece is not None and (entry.piece < entry.unit or entry.piece % entry.unit) and entry.load != "open":
        yield ("piece",), f"{entry.piece}: wants a multiple of {entry.unit} (batch × lengths)"
    if not 0 <= entry.discard < 1:
        yield ("discard",), f"{entry.discard}: wants a share from 0 to less than 1"
    if entry.order == "sorted" and entry.piece is None:
        yield ("order",), "rows are sorted within pieces: `piece` says how long one is"
    if entry.load == "slo" and not entry.limits_ms:
        yield ("limits_ms",), "an SLO search wants the limits in ms"
    if not 0 < entry.q < 1:
        yield ("q",), f"{entry.q}: wants a share between 0 and 1, such as 0.99"


def _cure(error: Any, kind: type[Any], values: Mapping[str, Any]) -> str:
    """What is wrong by a validation error, and how to mend it."""
    message = str(error["msg"])
    if error["type"] == "unexpected_keyword_argument":
        known = list(kind.__dataclass_fields__)
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        return f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; known are {', '.join(known)}"
    if error["type"] == "missing":
        return "is missing; add it"
    return f"{message[0].lower()}{message[1:]} (found {error['input']!r})"


def _line(node: Any, where: Iterable[Any]) -> int:
    """The line (from 1) of the deepest node of the YAML tree that `where` leads to."""
    line = 1
    for step in where:
        if isinstance(node, yaml.MappingNode):
            pairs = [(key, value) for key, value in node.value if key.value == str(step)]
            if not pairs:
                return line
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return line
    return line
