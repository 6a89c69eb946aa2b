"""Weights of a model: in an installed wheel, a folder on this machine, the Hub at a pinned revision, or seeded random numbers.

`resolve` answers with a folder in the published layout (config.json, model.safetensors, tokenizer.json, …) and the hash of each file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

from bench.catalog import FolderWeights, HubWeights, Model, WheelWeights
from bench.core import content_hash, files
from bench.core.errors import BenchError
from bench.core.progress import Progress
from bench.model import checkpoint, synthetic

WeightsChoice = Literal["auto", "hub", "wheel", "synthetic"]
Kind = Literal["wheel", "folder", "hub", "synthetic"]

HUB_TIMEOUT_S = 5.0
WORTH_SAYING_BYTES = 10**9
HUB_PATTERNS = ("*.json", "*.safetensors")
HUB_IGNORED = ("onnx/*", "openvino/*")

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Weights on this machine: `files` maps the name of each file in `folder` to its sha256."""

    kind: Kind
    folder: Path
    revision: str
    files: Mapping[str, str]


def resolve(model: Model, source: WeightsChoice = "auto") -> Source:
    """The weights of `model`, fetched or made now if they are not on this machine.

    `auto` takes the wheel or the folder where the catalogue names one, else the Hub; never synthetic weights, which must be asked for.
    `synthetic` leaves a model that has a wheel or a folder on that.

    Raises:
        BenchError: they cannot be had; the line names the cure.
    """
    weights = model.weights
    if weights.wheel and source in ("auto", "wheel", "synthetic"):
        return _wheel(model.name, weights.wheel)
    if weights.folder and source in ("auto", "synthetic"):
        return _folder(model.name, weights.folder)
    if source == "wheel":
        raise BenchError(f"weights of {model.name}: no package carries them; use --weights hub or --weights synthetic")
    if source == "synthetic":
        if not weights.synthetic:
            raise BenchError(f"weights of {model.name}: its catalogue entry has no `weights.synthetic`; add the published config there")
        folder, revision = synthetic.ensure(model, weights.synthetic)
        return Source("synthetic", folder, revision, content_hash.of_files(folder, checkpoint.names(folder)))
    if not weights.hub:
        raise BenchError(f"weights of {model.name}: the catalogue names no Hub repository; use --weights wheel or synthetic")
    return _hub(model, weights.hub)


def _wheel(model: str, wheel: WheelWeights) -> Source:
    """The folder inside an installed package, found without importing it (its import may load half a framework)."""
    pip = f"pip install {wheel.package}=={wheel.version}"
    try:
        package = metadata.distribution(wheel.package)
    except metadata.PackageNotFoundError:
        raise BenchError(f"weights of {model}: the package {wheel.package} is not installed; run `{pip}`") from None
    if package.version != wheel.version:
        raise BenchError(f"weights of {model}: {wheel.package} is {package.version}, the catalogue pins {wheel.version}; run `{pip}`")
    folder = Path(str(package.locate_file(wheel.folder)))
    for name in wheel.sha256:
        if not (folder / name).is_file():
            raise BenchError(f"weights of {model}: {folder / name} is missing; run `{pip} --force-reinstall`")
    hashes = {name: content_hash.of_file(folder / name) for name in wheel.sha256}
    for name, expected in wheel.sha256.items():
        if hashes[name] != expected:
            raise BenchError(f"weights of {model}: {folder / name} is not the pinned file (sha256); run `{pip} --force-reinstall`")
    return Source("wheel", folder, f"{wheel.package}=={wheel.version}", hashes)


def _hub(model: Model, hub: HubWeights) -> Source:
    """A pinned snapshot in the Hub's own cache: the cached one without a word to the network, else downloaded (and resumed)."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns: dict[str, Any] = {"allow_patterns": list(HUB_PATTERNS), "ignore_patterns": list(HUB_IGNORED)}
    try:
        folder: Path | None = Path(snapshot_download(hub.repo, revision=hub.revision, local_files_only=True, **patterns))
    except LocalEntryNotFoundError:
        folder = None
    if folder is None or _lacking(model, folder):
        _check_reachable(model, hub)
        _check_disk(model)
        folder = Path(asking_hub(model.name, hub, lambda: snapshot_download(hub.repo, revision=hub.revision, **patterns)))
    if lacking := _lacking(model, folder):
        raise BenchError(
            f"weights of {model.name}: {hub.repo} at {hub.revision[:12]} has no {lacking}, and only safetensors are loaded; "
            "pin a revision that has it, or use --weights synthetic"
        )
    hashes = content_hash.of_files(folder, checkpoint.names(folder))
    for name, digest in hashes.items():
        blob = (folder / name).resolve().name  # the cache names a large file by its sha256
        if len(blob) == 64 and blob != digest:
            raise BenchError(f"weights of {model.name}: {folder / name} is damaged; delete {(folder / name).resolve()} and run again")
    return Source("hub", folder, f"{hub.repo}@{hub.revision}", hashes)


def _lacking(model: Model, folder: Path) -> str | None:
    """The first file that a snapshot of `model` must have and this one has not."""
    parts = [checkpoint.WEIGHTS]
    if model.architecture == "gemma3_embedding":
        parts += ["2_Dense/model.safetensors", "3_Dense/model.safetensors"]
    return checkpoint.lacking(folder, parts, tokenizer=model.modality == "text")


def _folder(model: str, weights: FolderWeights) -> Source:
    """A folder whose files are those that the catalogue entry was written for."""
    folder = Path(weights.path)
    cure = f"`invoke export --model {weights.path}` prints a new entry for what is there now"
    for name in weights.sha256:
        if not (folder / name).is_file():
            raise BenchError(f"weights of {model}: {folder / name} is missing; put it back, or mend `weights.folder` in the catalogue")
    hashes = content_hash.of_files(folder, weights.sha256)
    if changed := next((name for name, expected in weights.sha256.items() if hashes[name] != expected), None):
        raise BenchError(f"weights of {model}: {folder / changed} has changed since its catalogue entry was written; {cure}")
    return Source("folder", folder, f"folder-{files.short_hash(hashes)}", hashes)


def _check_reachable(model: Model, hub: HubWeights) -> None:
    """Ask the Hub about the revision, for HUB_TIMEOUT_S at most, so that a machine without a network fails at once."""
    from huggingface_hub import HfApi

    asking_hub(model.name, hub, lambda: HfApi().model_info(hub.repo, revision=hub.revision, timeout=HUB_TIMEOUT_S))


def _check_disk(model: Model) -> None:
    """Say what a download needs and what is free, or refuse it. (The Hub's client then shows progress and the time left.)"""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    needed, free = model.bytes_fp32, shutil.disk_usage(existing).free
    if needed > free:
        raise BenchError(
            f"weights of {model.name}: up to {needed / 1e9:.1f} GB are fetched into {cache}, {free / 1e9:.1f} GB are free: free some, or "
            "set HF_HOME to a folder on another disk"
        )
    if needed >= WORTH_SAYING_BYTES:
        line = f"{model.title}: up to {needed / 1e9:.1f} GB are fetched into {cache}, {free / 1e9:.1f} GB are free"
        Progress().say(line)


def asking_hub(model: str, hub: HubWeights, ask: Callable[[], T], cure: str = "mend the connection, or use --weights synthetic") -> T:
    """The result of `ask()`, a call to the Hub; what can go wrong becomes one line. `cure` is for a Hub that does not answer.

    Raises:
        BenchError: gated, no such repository or revision, or no answer.
    """
    from huggingface_hub import constants, errors

    subject = f"weights of {model}"
    try:
        return ask()
    except errors.GatedRepoError:
        page = hub.license_page or f"{constants.ENDPOINT}/{hub.repo}"
        raise BenchError(f"{subject}: {hub.repo} is gated; accept its licence at {page}, then run `hf auth login`") from None
    except errors.RevisionNotFoundError:
        raise BenchError(f"{subject}: {hub.repo} has no revision {hub.revision}; mend `revision` in the catalogue") from None
    except errors.RepositoryNotFoundError:
        raise BenchError(f"{subject}: {constants.ENDPOINT} shows no {hub.repo}; check its name; if private, `hf auth login`") from None
    except (errors.HTTPError, errors.XetDownloadError, OSError) as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:160]
        raise BenchError(f"{subject}: the Hub at {constants.ENDPOINT} does not serve {hub.repo} ({reason}); {cure}") from None
