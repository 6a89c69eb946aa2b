"""The experiment as data: YAML → frozen dataclasses, validated once, with the line that is wrong.

`load()` reads `bench/catalog/*.yaml` and, where given, a user's folder with files of the same names, whose entries are added to ours
(an entry of the same name replaces ours). Nothing later in the program reads YAML.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from bench import paths
from bench.errors import BenchError
from bench.files import short_hash
from bench.frameworks import DEFAULT, STRICT, Framework, Kind, Knob, Precision, Variant, contradictions

__all__ = ["DEFAULT", "Framework", "Kind", "Knob", "Precision", "Variant"]

ControlRole = Literal["twin", "slow", "stall"]
Role = Literal["measured", "floor", "twin", "slow", "stall"]


@dataclass(config=STRICT, frozen=True)
class WheelWeights:
    """Weights inside an installed Python package; `sha256` maps a file of `folder` to its hash."""

    package: str
    version: str
    folder: str
    sha256: Mapping[str, str]


@dataclass(config=STRICT, frozen=True)
class FolderWeights:
    """A checkpoint in a folder of this machine; `sha256` maps each of its files that are read to its hash."""

    path: str
    sha256: Mapping[str, str]


@dataclass(config=STRICT, frozen=True)
class HubWeights:
    """A pinned revision of a Hugging Face repository."""

    repo: str
    revision: str
    gated: bool = False
    license_page: str | None = None


@dataclass(config=STRICT, frozen=True)
class SyntheticWeights:
    """The published config of the architecture; weights are drawn N(0, gain/√fan_in), seeded by tensor name."""

    config: Mapping[str, Any]
    gain: float = 1.0
    qk_gain: float = 1.0


@dataclass(config=STRICT, frozen=True)
class Weights:
    wheel: WheelWeights | None = None
    folder: FolderWeights | None = None
    hub: HubWeights | None = None
    synthetic: SyntheticWeights | None = None


@dataclass(config=STRICT, frozen=True)
class ImageInput:
    """How the model's authors prepare an image: resize (filter, size of the short side or exact), centre crop, scale, mean, std."""

    size: int
    resize: Literal["short", "exact"]
    filter: Literal["bicubic", "bilinear"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(config=STRICT, frozen=True)
class Model:
    """An embedding model. `pooling` and `prompts` are as its authors publish them."""

    name: str
    title: str
    modality: Literal["text", "image"]
    architecture: Literal["bert", "xlm_roberta", "gemma3_embedding", "qwen3", "clip_text", "clip_vision", "siglip_text", "siglip_vision"]
    pooling: Literal["mean", "cls", "last", "projection", "attention"]
    dim: int
    parameters: int
    license: str
    url: str
    weights: Weights
    aliases: tuple[str, ...] = ()
    group: str | None = None
    max_tokens: int = 512
    fixed_tokens: int | None = None
    pad_id: int = 0
    prompts: Mapping[str, str] = field(default_factory=dict)
    image: ImageInput | None = None
    rate_per_s: float | None = None
    context_tokens: int | None = None

    @property
    def bytes_fp32(self) -> int:
        """Bytes of the weights in fp32."""
        return 4 * self.parameters


@dataclass(config=STRICT, frozen=True)
class Scenario:
    """A load. `rows` is the size of its plan; `clients` are the rows of the leaderboard derived from one service sequence.

    `rate` is a share of the model's own `rate_per_s`, so that one ladder of absolute rates serves every model; `loads.fitted` turns it
    into `rate_per_s`. With `piece` an arm serves that many rows in one stretch per block (of an open loop: as many as arrive in
    `piece_s`, at most `piece`); the first `discard` share of it is kept apart. `q` and `limits_ms` are of an SLO search: the share
    of requests to be answered within each limit. `floor_in` names the scenario in which the null workers stand for this one too.
    """

    name: str
    title: str
    load: Literal["closed", "open", "offline", "slo"]
    rows: int
    batch: int = 1
    clients: tuple[int, ...] = (1,)
    arrivals: Literal["constant", "poisson", "gamma", "trace"] = "constant"
    shape: float = 0.25
    trace: str | None = None
    rate: float | None = None
    rate_per_s: float | None = None
    piece: int | None = None
    piece_s: float | None = None
    discard: float = 0.0
    order: Literal["drawn", "sorted"] = "drawn"
    lengths: tuple[int, ...] = ()
    shapes: Literal["warm", "new"] = "warm"
    process: Literal["suite", "fresh", "kept"] = "suite"
    limits_ms: tuple[float, ...] = ()
    q: float = 0.99
    floor_in: str | None = None

    @property
    def unit(self) -> int:
        """Rows come in multiples of this: whole batches, and every one of the `lengths` equally often."""
        return self.batch * max(1, len(self.lengths))


@dataclass(config=STRICT, frozen=True)
class Suite:
    """Scenarios under one name. Without `budget` it takes what K = 12 blocks of each cost; `fresh`: every block in new processes.

    `roles` are control arms that are made from each of its arms (of `framework` where none is asked for); such a suite vouches for
    others. `controls`: a campaign wants controls of this machine and boot, and measures them first, on `model`, where there are none.
    """

    scenarios: tuple[str, ...]
    budget: str | None = None
    fresh: bool = False
    controls: bool = True
    roles: tuple[ControlRole, ...] = ()
    model: str | None = None
    framework: str | None = None


@dataclass(config=STRICT, frozen=True)
class Arm:
    """One thing that is measured: a framework with a model, a precision and a layout."""

    framework: str
    language: str
    model: str
    weights: str
    precision: str
    variant: str
    sessions: int
    threads: int
    role: Role

    @property
    def id(self) -> str:
        """The public identity: a hash over all fields."""
        return short_hash(
            self.framework, self.language, self.model, self.weights, self.precision, self.variant, self.sessions, self.threads, self.role
        )


@dataclass(frozen=True)
class Catalog:
    frameworks: Mapping[str, Framework]
    models: Mapping[str, Model]
    scenarios: Mapping[str, Scenario]
    suites: Mapping[str, Suite]

    def pick_frameworks(self, names: str | None) -> list[Framework]:
        """The named frameworks in catalogue order (all where `names` is empty); null workers come only by name or with all.

        `NAME@RELEASE` is the framework with another release of its library; it stands after the others.
        """
        asked = split(names or "")
        plain = self._pick("framework", self.frameworks, ",".join(name for name in asked if "@" not in name)) if self._plain(asked) else []
        others = [name.partition("@") for name in asked if "@" in name]
        return plain + [replace(self._pick("framework", self.frameworks, base)[0], release=release) for base, _, release in others]

    @staticmethod
    def _plain(asked: list[str]) -> bool:
        """Are frameworks asked for as they are installed? Also where nothing is said."""
        return not asked or any("@" not in name for name in asked)

    def pick_scenarios(self, names: str | None) -> list[Scenario]:
        """The named scenarios; a suite's name stands for its scenarios; without names the suite `quick`."""
        expanded: list[str] = []
        for name in split(names or "quick"):
            expanded += self.suites[name].scenarios if name in self.suites else [name]
        return self._pick("scenario", self.scenarios, ",".join(expanded), also=self.suites)

    def pick_models(self, names: str) -> list[Model]:
        """The named models; aliases, groups (`clip` is both towers) and `all` are understood."""
        by_name: dict[str, list[str]] = {"all": list(self.models)}
        for model in self.models.values():
            for alias in (*model.aliases, model.name):
                by_name.setdefault(alias.lower(), []).append(model.name)
            if model.group:
                by_name.setdefault(model.group, []).append(model.name)
        wanted: list[str] = []
        for name in split(names):
            if name.lower() not in by_name:
                error = unknown("model", name, by_name)
                raise BenchError(f"{error}; `invoke export --model {name}` reads an entry for it from its files") if "/" in name else error
            wanted += by_name[name.lower()]
        return [self.models[name] for name in dict.fromkeys(wanted)]

    @staticmethod
    def _pick(what: str, entries: Mapping[str, Any], names: str | None, also: Iterable[str] = ()) -> list[Any]:
        if not names:
            return list(entries.values())
        for name in split(names):
            if name not in entries:
                raise unknown(what, name, [*entries, *also])
        wanted = set(split(names))
        return [entry for name, entry in entries.items() if name in wanted]


def split(names: str) -> list[str]:
    """`"a, b"` → `["a", "b"]`."""
    return [name.strip() for name in names.split(",") if name.strip()]


def one_of(what: str, name: str, known: Iterable[str]) -> Any:
    """`name`, if it is one of `known`.

    Raises:
        BenchError: it is not; the message has the nearest one that is.
    """
    known = list(known)
    if name not in known:
        raise unknown(what, name, known)
    return name


def unknown(what: str, name: str, known: Iterable[str]) -> BenchError:
    """The error for a name that is not in the catalogue, with the nearest one that is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "choose from " + ", ".join(known)
    return BenchError(f"unknown {what} {name!r}: {hint}")


def parse_seconds(text: str) -> float:
    """`"90"`, `"90s"`, `"3m"`, `"1h"`, `"1m30s"` → seconds."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    seconds = 0.0
    if match and text.strip():
        hours, minutes, rest = (float(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if seconds <= 0:
        raise BenchError(f"bad duration {text!r}: write it like 90s, 3m or 1h")
    return seconds


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
        loads = entries(folder / "scenarios.yaml", Scenario, "scenarios")
        scenarios |= {name: _with_trace(entry, folder) for name, entry in loads.items()}
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
            named_too = {
                key: {"name": str(key), **entry} if isinstance(entry, dict) else entry for key, entry in values["variants"].items()
            }
            full["variants"] = named_too
        try:
            entries[str(name)] = adapter.validate_python(full)
            for steps, problem in contradictions(entries[str(name)]) if kind is Framework else _impossible(entries[str(name)]):
                where = (*prefix, name, *steps)
                raise BenchError(f"{file}:{_line(tree, where)}: {name}: key {'.'.join(steps)!r}: {problem}")
        except ValidationError as error:
            # A misspelt key is the cause, the key it leaves missing only the consequence.
            first = min(error.errors(), key=lambda found: found["type"] != "unexpected_keyword_argument")
            where = (*prefix, name, *first["loc"])
            key = ".".join(str(part) for part in first["loc"])
            raise BenchError(f"{file}:{_line(tree, where)}: {name}: key {key!r}: {_cure(first, kind, values)}") from None
    return entries


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
