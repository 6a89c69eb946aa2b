"""Settings found by tuning: `data/tuned/<framework>.yaml` → the variants `tuned` of the catalogue, and back.

The file has an entry per scenario. A framework's author may edit it and send it back: `by` names who chose the settings, and the next
campaign runs them (`--variant tuned`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic.dataclasses import dataclass

from bench.catalog import arguments, arms, reader
from bench.catalog.frameworks import STRICT, Framework, Variant, setting_problem
from bench.catalog.schema import Catalog
from bench.core import files, paths
from bench.core.errors import BenchError

FOLDER = paths.DATA / "tuned"
TUNED = "tuned"
HEAD = """\
# {title}, tuned. Written by `invoke tune`; edit it and send it back. `settings` are knobs of bench/catalog/frameworks.yaml, `layout` is
# SESSIONSxTHREADS (one session over all cores without it); the rest says who chose them, where, and what else was tried.
"""


@dataclass(config=STRICT, frozen=True)
class TriedSettings:
    """A candidate of the search: its ratio to the default in this scenario, with its interval, in the run that measured it."""

    switches: str
    run_id: str
    status: str
    ratio: float | None = None
    ratio_lo: float | None = None
    ratio_hi: float | None = None
    verdict: str | None = None
    reason: str | None = None


@dataclass(config=STRICT, frozen=True)
class Tuned:
    """The settings for one scenario, fp32. `by` is shown as credit; `machine` and `version` say where they were found and for what."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    layout: str | None = None
    by: str = "invoke tune"
    model: str | None = None
    machine: str | None = None
    version: str | None = None
    budget_s: float | None = None
    ratio: float | None = None
    ratio_lo: float | None = None
    ratio_hi: float | None = None
    searched: tuple[TriedSettings, ...] = ()


def file_of(framework: str) -> Path:
    """The file of a framework's settings, whether it is there or not."""
    return FOLDER / f"{framework}.yaml"


def merged(catalog: Catalog) -> Catalog:
    """The catalogue with the variants `tuned` of every framework that has a file.

    Raises:
        BenchError: an entry names a scenario, knob, value or layout that does not exist.
    """
    frameworks = {name: with_tuned(framework, read(name), catalog.scenarios) for name, framework in catalog.frameworks.items()}
    return replace(catalog, frameworks=frameworks)


def read(framework: str) -> dict[str, Tuned]:
    """The entries of a framework's file by scenario; none where it has no file."""
    tuned: dict[str, Tuned] = reader.entries(file_of(framework), Tuned)
    return tuned


def with_tuned(framework: Framework, entries: Mapping[str, Tuned], scenarios: Iterable[str]) -> Framework:
    """One variant for each distinct choice: `tuned` where there is one for all, else `tuned:<its first scenario>`."""
    scenarios, choices = list(scenarios), dict[tuple[Any, ...], list[Tuned]]()
    for entry in entries.values():
        _check(framework, entry, scenarios)
        choices.setdefault((entry.layout, *sorted(entry.settings.items())), []).append(entry)
    variants = {}
    for group in choices.values():
        first = group[0]
        name = TUNED if len(choices) == 1 else f"{TUNED}:{first.name}"
        layout = arms.parse_layouts(first.layout, 1)[0] if first.layout else None
        variants[name] = Variant(
            name, f"chosen by {', '.join(dict.fromkeys(entry.by for entry in group))}", settings=first.settings,
            sessions=layout.sessions if layout else None, threads=layout.threads if layout else None,
            scenarios=tuple(entry.name for entry in group),
        )  # fmt: skip
    return replace(framework, variants={**framework.variants, **variants})


def _check(framework: Framework, entry: Tuned, scenarios: Iterable[str]) -> None:
    where = f"{file_of(framework.name)}: {entry.name}"
    if entry.name not in scenarios:
        raise BenchError(f"{where}: {arguments.unknown('scenario', entry.name, scenarios)}")
    for key, value in entry.settings.items():
        if problem := setting_problem(framework, key, value):
            raise BenchError(f"{where}: {problem}")
    if entry.layout:
        try:
            arms.parse_layouts(entry.layout, 1)
        except BenchError as error:
            raise BenchError(f"{where}: {error}") from None


def write(framework: Framework, entries: Iterable[Tuned]) -> Path:
    """Put these entries into a framework's file, in place of those of the same scenarios, and return it."""
    kept = read(framework.name) | {entry.name: entry for entry in entries}
    plain = {name: {key: value for key, value in _plain(entry).items() if key != "name"} for name, entry in kept.items()}
    text = HEAD.format(title=framework.title) + yaml.safe_dump(plain, sort_keys=False, width=140, allow_unicode=True)
    files.write_text(file_of(framework.name), text)
    return file_of(framework.name)


def _plain(entry: Tuned) -> dict[str, Any]:
    """For YAML: without empty keys, and with lists in place of tuples."""
    plain = {key: value for key, value in asdict(entry).items() if value not in (None, {}, ())}
    searched = [{key: value for key, value in candidate.items() if value is not None} for candidate in plain.pop("searched", ())]
    return {**plain, "settings": dict(entry.settings), **({"searched": searched} if searched else {})}
