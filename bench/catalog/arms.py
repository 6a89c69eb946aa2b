"""The arms that a command asks for: frameworks × precisions × variants × layouts, each with the reason where there is no such arm.

Pure: it reads the catalogue and builds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from bench.catalog.arguments import one_of, split, unknown
from bench.catalog.frameworks import DEFAULT, Framework, Precision, Variant, setting_problem
from bench.core.errors import BenchError

KNOB = "knob:"
LAYOUT = "layout"


@dataclass(frozen=True)
class Layout:
    """S sessions × T threads each."""

    sessions: int
    threads: int

    def __str__(self) -> str:
        return f"{self.sessions}x{self.threads}"


@dataclass(frozen=True)
class ArmRequest:
    """An arm that was asked for; `reason` says why there is none, None where there is."""

    framework: Framework
    precision: str
    variant: Variant
    layout: Layout
    reason: str | None = None


def parse_layouts(text: str, cores: int) -> tuple[Layout, ...]:
    """`"1x2,2x1"` → layouts; `"all"` → every S that divides the cores, with its share of them; `""` → none asked for.

    Raises:
        BenchError: not of the form SxT.
    """
    if text == "all":
        return tuple(Layout(sessions, cores // sessions) for sessions in range(1, cores + 1) if cores % sessions == 0)
    layouts = []
    for name in split(text):
        match = re.fullmatch(r"([1-9]\d*)[x×]([1-9]\d*)", name)
        if not match:
            raise BenchError(f"bad layout {name!r}: write sessions x threads, like 1x2 or 2x1, or all")
        layouts.append(Layout(int(match[1]), int(match[2])))
    return tuple(dict.fromkeys(layouts))


def parse_precisions(text: str, frameworks: Iterable[Framework]) -> tuple[str, ...]:
    """`""` → fp32; `"all"` → every precision that one of the frameworks has, by `default` or a variant."""
    order = get_args(Precision)
    if text == "all":
        available = {precision for framework in frameworks for precision in precisions_of(framework)}
        return tuple(precision for precision in order if precision in available)
    return tuple(dict.fromkeys(one_of("precision", name, order) for name in split(text))) or ("fp32",)


def parse_variants(text: str, frameworks: Iterable[Framework]) -> tuple[str, ...]:
    """`""` → default. `all` is returned unexpanded, because each framework has its own list of variants.

    Raises:
        BenchError: a name that no framework of the catalogue has.
    """
    frameworks = list(frameworks)
    known = {DEFAULT.name, "all"} | {name for entry in frameworks for variant in entry.variants.values() for name in _names(variant)}
    for name in split(text):
        if name.startswith(KNOB):
            problems = [_knob_variant(framework, name, DEFAULT) for framework in frameworks]
            if problems and all(isinstance(problem, str) for problem in problems):
                raise BenchError(f"variant {name!r}: {problems[0]}")
        elif name == "tuned" and name not in known:
            raise BenchError("variant 'tuned': no settings in data/tuned; `invoke tune` searches them")
        elif name not in known:
            raise unknown("variant", name, sorted(known))
    return tuple(dict.fromkeys(split(text))) or (DEFAULT.name,)


def switches(framework: Framework, precision: str, cores: int) -> list[str]:
    """The single switches of a framework as names of variants: each value of each knob that is not the default's, each other layout.

    A knob that means something only with several sessions comes with the layouts that have them.
    """
    base = framework.headline(precision)
    if base is None:
        return []
    layouts = [layout for layout in parse_layouts("all", cores) if layout.sessions > 1]
    names = [f"{KNOB}{LAYOUT}={layout}" for layout in layouts] if base.sessions is None and base.threads is None else []
    for key, knob in framework.knobs.items():
        if (knob.precisions and precision not in knob.precisions) or (base.recipe and knob.recipe):
            continue
        for value in knob.values:
            if value == base.settings.get(key, knob.default):
                continue
            if knob.sessions == 1:
                names.append(f"{KNOB}{key}={value}")
            else:
                names += [f"{KNOB}{LAYOUT}={layout}+{key}={value}" for layout in layouts if layout.sessions >= knob.sessions]
    return names


def precisions_of(framework: Framework) -> set[str]:
    """Every precision the framework has, by `default` or by a variant."""
    return {*framework.precisions, *(precision for variant in framework.variants.values() for precision in variant.precisions)}


def choose(
    frameworks: Iterable[Framework], precisions: Sequence[str], variants: Sequence[str], layouts: Sequence[Layout], cores: int
) -> list[ArmRequest]:
    """The arms of every framework, each once; one that was asked for and does not exist carries its reason.

    Null workers stand beside them once per layout, whatever precision and variant were asked for.
    """
    chosen: dict[tuple[str, str, str, Layout], ArmRequest] = {}
    layouts = layouts or (Layout(1, cores),)
    for framework in frameworks:
        if framework.role == "floor":
            arm_requests: Iterable[ArmRequest] = (ArmRequest(framework, framework.precisions[0], DEFAULT, layout) for layout in layouts)
        else:
            arm_requests = (
                request
                for precision in precisions
                for name in variants
                for request in _requests(framework, precision, name, layouts, cores)
            )
        for request in map(_of_release, arm_requests):
            chosen.setdefault((framework.name, request.precision, request.variant.name, request.layout), _fitting(request, cores))
    return list(chosen.values())


def _of_release(request: ArmRequest) -> ArmRequest:
    """The same arm of another release is a variant of its own: `@1.30.0`, `dynamic@1.30.0`. It is never a headline."""
    release, variant = request.framework.release, request.variant
    if release is None:
        return request
    name = f"{'' if variant.name == DEFAULT.name else variant.name}@{release}"
    return replace(request, variant=replace(variant, name=name, note=f"{variant.note}; release {release}", headline=False))


def _requests(framework: Framework, precision: str, name: str, layouts: Sequence[Layout], cores: int) -> Iterator[ArmRequest]:
    """The arms that one name of a variant stands for, in one framework and precision."""
    headline = framework.headline(precision)
    matching = [variant for variant in framework.variants.values() if name in ("all", *_names(variant)) and precision in variant.precisions]
    if name in (DEFAULT.name, "all") and headline and headline not in matching:
        matching.insert(0, headline)
    if name.startswith(KNOB):
        variant_or_reason = _knob_variant(framework, name, headline) if headline else _absent(framework, precision)
        if isinstance(variant_or_reason, str):
            yield ArmRequest(framework, precision, Variant(name, variant_or_reason), layouts[0], variant_or_reason)
            return
        matching = [variant_or_reason]
    for variant in matching:
        for layout in _layouts_of(variant, layouts, cores):
            yield ArmRequest(framework, precision, variant, layout)
    if not matching:
        by_default = name in (DEFAULT.name, "all")
        no_precision = by_default or precision not in precisions_of(framework)
        reason = _absent(framework, precision) if no_precision else f"{framework.title} has no variant {name!r} in {precision}"
        if name == "tuned" and not any(variant.family == name for variant in framework.variants.values()):
            reason = f"{framework.title} has no settings in data/tuned: `invoke tune --framework {framework.name}` searches them"
        yield ArmRequest(framework, precision, DEFAULT if by_default else Variant(name, reason), layouts[0], reason)


def _absent(framework: Framework, precision: str) -> str:
    """Why a framework lacks a precision."""
    reason = next((reason for lacking, reason in framework.absent.items() if lacking == precision), None)
    return reason or f"{framework.title} is not run in {precision} here"


def _names(variant: Variant) -> tuple[str, str]:
    """The names that ask for a variant: its own, and that of its family."""
    return variant.name, variant.family


def _layouts_of(variant: Variant, layouts: Sequence[Layout], cores: int) -> Sequence[Layout]:
    """A variant that has a layout keeps it, whatever was asked for."""
    if variant.sessions is None and variant.threads is None:
        return layouts
    sessions = variant.sessions or 1
    return [Layout(sessions, variant.threads or max(1, cores // sessions))]


def _knob_variant(framework: Framework, name: str, base: Variant) -> Variant | str:
    """`knob:KEY=VALUE+KEY=VALUE…` → the default (or what stands for it) with these switches flipped, or why that cannot be."""
    variant = replace(base, name=name, note="", title=None, settings=dict(base.settings), headline=False)
    for switch in name.removeprefix(KNOB).split("+"):
        key, equals, value = switch.partition("=")
        if not equals:
            return f"write {KNOB}KEY=VALUE, several joined by +"
        if key == LAYOUT:
            layout = parse_layouts(value, 1)[0]
            note = f"{layout.sessions} sessions of {layout.threads} threads"
            variant = replace(variant, sessions=layout.sessions, threads=layout.threads)
        elif problem := setting_problem(framework, key, value):
            return problem
        elif base.recipe and value in framework.knobs[key].recipe:
            return f"{key}={value}: the artefact is converted by {base.recipe!r} already"
        else:
            note = framework.knobs[key].help
            variant = replace(variant, settings={**variant.settings, key: value})
        variant = replace(variant, note=f"{variant.note}; {switch}: {note}".removeprefix("; "))
    return variant


def _fitting(request: ArmRequest, cores: int) -> ArmRequest:
    """The request, with a reason where its layout is larger than the machine."""
    layout = request.layout
    if request.reason is None and layout.sessions * layout.threads > cores:
        reason = f"layout {layout}: {layout.sessions * layout.threads} threads, this run has {cores} physical cores"
        return ArmRequest(request.framework, request.precision, request.variant, layout, reason)
    return request
