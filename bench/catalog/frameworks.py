"""Frameworks as data: their knobs and variants, and the contradictions that an entry may hold."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid")

Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
Kind = Literal["safetensors", "onnx", "openvino"]
Steps = tuple[str, ...]

#: Environment variables that the catalogue may set for a worker: threads, their binding, memory, and where a library is.
ENVIRONMENT = re.compile(
    r"(OMP|KMP|GOMP|MKL|RAYON|TBB|OPENBLAS)_\w+|GLIBC_TUNABLES|LD_PRELOAD|MALLOC_\w+|MIMALLOC_\w+|TCMALLOC_\w+|ORT_DYLIB_PATH|PYTHONPATH"
)


@dataclass(config=STRICT, frozen=True)
class Library:
    """A shared library, by the name the linker knows it by (`jemalloc` of libjemalloc.so.2), and the Debian package that has it."""

    name: str
    package: str


@dataclass(config=STRICT, frozen=True)
class Knob:
    """A setting in which a framework may differ from its default. Without `values` any value is allowed.

    A worker takes it through `--set KEY=VALUE`; where `env`, `command` or `recipe` map a value to environment variables, to another worker
    binary or to another conversion of the artefact, the parent sets it, unseen by the worker. `default` names the value that stands
    where nothing is set. `libraries` maps a value to the shared library it wants and the package that installs it. `precisions` (all,
    without any) and `sessions` (at least so many) say where it means something.
    """

    help: str
    values: tuple[str, ...] = ()
    default: str | None = None
    env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    command: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipe: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, Library] = field(default_factory=dict)
    precisions: tuple[Precision, ...] = ()
    sessions: int = 1

    @property
    def by_parent(self) -> bool:
        """Whether it is set by how the worker is started, rather than through `--set`."""
        return bool(self.env or self.command or self.recipe)


@dataclass(config=STRICT, frozen=True)
class Variant:
    """A way to run a framework other than `default`: knobs, another artefact, another layout, another command.

    `recipe` says how its artefact is converted (`export.ensure`); without one the runtime converts the fp32 artefact at load.
    Without `threads` the sessions share the cores. `scenarios` restricts it to those (all without them). `headline`: it stands for its
    framework, among the defaults, in those of its precisions that have no default.
    """

    name: str
    note: str
    title: str | None = None
    precisions: tuple[Precision, ...] = ("fp32",)
    settings: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    sessions: int | None = None
    threads: int | None = None
    scenarios: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    headline: bool = False

    @property
    def family(self) -> str:
        """The name it is ranked under: `tuned:closed-1` and `tuned:offline-32` are both `tuned`."""
        return self.name.partition(":")[0]


DEFAULT = Variant("default", "everything untouched but thread count and precision")


@dataclass(config=STRICT, frozen=True)
class Framework:
    """A runtime under test, or a null worker (role `floor`).

    `precisions` are those of its implied variant `default`; `absent` says why it lacks one that others have; `release` names another
    release of its first library than the installed one (`--framework NAME@RELEASE`).
    """

    name: str
    title: str
    language: Literal["python", "rust", "cpp"]
    command: tuple[str, ...]
    artefact: Kind
    precisions: tuple[Precision, ...]
    note: str
    role: Literal["measured", "floor"] = "measured"
    build: Literal["cargo", "cmake"] | None = None
    libraries: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    knobs: Mapping[str, Knob] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    absent: Mapping[Precision, str] = field(default_factory=dict)
    url: str | None = None
    release: str | None = None

    def headline(self, precision: str) -> Variant | None:
        """The variant that stands among the defaults in this precision; None where the framework is not run in it."""
        if precision in self.precisions:
            return DEFAULT
        return next((variant for variant in self.variants.values() if variant.headline and precision in variant.precisions), None)


def contradictions(framework: Framework) -> Iterator[tuple[Steps, str]]:
    """Entries that fit the types and contradict themselves: (the way to the key, what is wrong with it)."""
    yield from _environment(("env",), framework.env)
    for key, knob in framework.knobs.items():
        yield from _knob(("knobs", key), knob)
    for precision in framework.precisions:
        if precision in framework.absent:
            yield ("absent", precision), f"the framework is run in {precision}; take one of the two out"
    headlines: set[str] = set(framework.precisions)
    for name, variant in framework.variants.items():
        yield from _variant(("variants", name), framework, variant)
        for precision in variant.precisions if variant.headline else ():
            if precision in headlines:
                yield ("variants", name, "headline"), f"{precision} has a default or another headline already"
            headlines.add(precision)


def _environment(at: Steps, names: Iterable[str]) -> Iterator[tuple[Steps, str]]:
    for name in names:
        if not ENVIRONMENT.fullmatch(name):
            yield (*at, name), "is not on the list of environment variables that may be set (`ENVIRONMENT` in frameworks.py)"


def _knob(at: Steps, knob: Knob) -> Iterator[tuple[Steps, str]]:
    mentioned = {*knob.env, *knob.command, *knob.recipe, *knob.libraries, *([knob.default] if knob.default is not None else [])}
    for value in sorted(mentioned - {*knob.values}):
        if knob.values or knob.by_parent:
            yield at, f"{value!r} is not among its values ({', '.join(knob.values) or 'none'})"
    for value, names in knob.env.items():
        yield from _environment((*at, "env", value), names)


def _variant(at: Steps, framework: Framework, variant: Variant) -> Iterator[tuple[Steps, str]]:
    if variant.name == DEFAULT.name or re.search(r"[\s,/]", variant.name) or variant.family == "knob":
        yield at, "not a name for a variant: `default` and `knob:` are implied, and white space, commas and slashes part names"
    yield from _environment((*at, "env"), variant.env)
    for key, value in variant.settings.items():
        if problem := setting_problem(framework, key, value):
            yield (*at, "settings", key), problem


def setting_problem(framework: Framework, key: str, value: str) -> str | None:
    """Why a knob cannot be set to a value, with the cure; None where it can."""
    if key not in framework.knobs:
        near = difflib.get_close_matches(key, framework.knobs, n=1)
        return f"{framework.name} has no knob {key!r}: " + (
            f"did you mean {near[0]!r}?" if near else f"it has {', '.join(framework.knobs) or 'none'}"
        )
    knob = framework.knobs[key]
    if knob.values and value not in knob.values:
        return f"{key}={value}: takes {', '.join(knob.values)}"
    return None
