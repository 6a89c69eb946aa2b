"""The experiment as frozen dataclasses: models, scenarios, suites, arms, and the catalogue that holds them (frameworks: frameworks.py)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field, replace
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from bench.catalog.arguments import split, unknown
from bench.catalog.frameworks import STRICT, Framework
from bench.core.errors import BenchError
from bench.core.files import short_hash

#: From this size on a model is measured with fewer rows and blocks, and its workers are not kept side by side.
LARGE_MODEL_BYTES = 1_000_000_000
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

    @property
    def is_large(self) -> bool:
        """1 GB of weights or more."""
        return self.bytes_fp32 >= LARGE_MODEL_BYTES


@dataclass(config=STRICT, frozen=True)
class Scenario:
    """A load. `rows` is the size of its plan; `clients` are the rows of the leaderboard derived from one service sequence.

    `rate` is a share of the model's own `rate_per_s`, so that one ladder of absolute rates serves every model; `workload.fitted` turns it
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
    """Scenarios under one name. Without `budget` it takes what 12 blocks of each cost; `fresh`: every block in new processes.

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


def arm_label(framework: str, precision: str, variant: str, sessions: int, threads: int, separator: str = " ") -> str:
    """An arm's name for people: `onnx-python`, `onnx-python int8 dynamic`, `pytorch 2x1`.

    The framework (or its title), and what sets the arm apart from fp32, the default variant and one session.
    """
    words = [framework]
    words += [precision] if precision != "fp32" else []
    words += [variant] if variant != "default" else []
    words += [f"{sessions}x{threads}"] if sessions > 1 else []
    return separator.join(words)


@dataclass(config=STRICT, frozen=True)
class Arm:
    """What is measured: a framework with a model and its weights, a precision, a variant and a layout, in a role."""

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
    def label(self) -> str:
        """The name for people, see `arm_label`."""
        return arm_label(self.framework, self.precision, self.variant, self.sessions, self.threads)

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
        installed = [name for name in split(names or "") if "@" not in name]
        released = [name.partition("@") for name in split(names or "") if "@" in name]
        frameworks = self._pick("framework", self.frameworks, ",".join(installed)) if installed or not released else []
        return frameworks + [replace(self._pick("framework", self.frameworks, base)[0], release=release) for base, _, release in released]

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
        picked: list[str] = []
        for name in split(names):
            if name.lower() not in by_name:
                error = unknown("model", name, by_name)
                raise BenchError(f"{error}; `invoke export --model {name}` reads an entry for it from its files") if "/" in name else error
            picked += by_name[name.lower()]
        return [self.models[name] for name in dict.fromkeys(picked)]

    @staticmethod
    def _pick(what: str, entries: Mapping[str, Any], names: str | None, also: Iterable[str] = ()) -> list[Any]:
        if not names:
            return list(entries.values())
        for name in split(names):
            if name not in entries:
                raise unknown(what, name, [*entries, *also])
        picked = set(split(names))
        return [entry for name, entry in entries.items() if name in picked]
