"""A model that is not in the catalogue, by its Hub name or its folder → catalogue entries to keep.

    python -m bench.model.import_model   (the folder and the half-made entry as JSON on stdin)

The folder's small files are read first (hub_metadata.py): what is not one of ours is refused before gigabytes are fetched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from bench import catalog
from bench.catalog import Catalog, FolderWeights, HubWeights, Model, Weights
from bench.core import content_hash, jobs, paths
from bench.core.errors import BenchError
from bench.model import checkpoint, weights

SMALL_FILES = ("*.json", "README.md")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w.-]+)?")
NO_HUB = "mend the connection, or give the folder of a copy"
#: Files that decide nothing: their change makes no other vectors.
INDIFFERENT = ("data_config.json", "README.md", "generation_config.json")


def pick(known: Catalog, names: str) -> tuple[list[Model], list[Model]]:
    """The named models: those of the catalogue, and those made now from a folder or a Hub name that it does not have.

    Raises:
        BenchError: neither; or a model that is not one of ours, by the name of what differs.
    """
    listed: list[Model] = []
    made: list[Model] = []
    for name in catalog.split(names):
        place = Path(name).expanduser()
        try:
            listed += known.pick_models(name)
            continue
        except BenchError:
            if not (place.is_dir() or "/" in name):
                raise
        if place.is_dir():
            found = _of_folder(place.resolve())
        elif HUB_NAME.fullmatch(name):
            found = _of_hub(name)
        else:
            raise BenchError(f"{name}: no such folder; --model takes a name of the catalogue, ORG/NAME of the Hub, or a folder")
        made += entries([*known.models.values(), *made], *found)
    return listed, made


def entries(known: Iterable[Model], folder: Path, named: Model) -> list[Model]:
    """The entries of one folder, under names that no other entry has.

    Raises:
        BenchError: it is not one of ours.
    """
    taken = {"all"} | {name.lower() for model in known for name in (model.name, model.group, *model.aliases) if name}
    if named.name in taken:
        named = replace(named, name=f"{named.name}-own")
    job = {"folder": str(folder), "named": jobs.plain(named)}
    answer = jobs.run("bench.model.import_model", f"read {named.title}", job, paths.WEIGHTS / f"{named.name}.log")
    return TypeAdapter(list[Model]).validate_python(answer["models"])


def _of_folder(folder: Path) -> tuple[Path, Model]:
    """A folder, pinned by the hashes of its files."""
    if not (folder / "config.json").is_file():
        raise BenchError(f"{folder}: has no config.json; --model wants the folder of a published checkpoint")
    needed = checkpoint.lacking(folder, [checkpoint.WEIGHTS], tokenizer=False)
    if needed:
        raise BenchError(f"{folder}: has no {needed}, and only safetensors are loaded; save it again with safe_serialization")
    names = [name for name in checkpoint.names(folder) if Path(name).name not in INDIFFERENT]
    pinned = FolderWeights(str(folder), content_hash.of_files(folder, names))
    return folder, _named(folder.name, folder.as_uri(), _license(folder), Weights(folder=pinned), ())


def _of_hub(name: str) -> tuple[Path, Model]:
    """A repository of the Hub at the commit that its name (or its name@revision) stands for now; only its small files are fetched."""
    from huggingface_hub import HfApi, constants, snapshot_download

    repo, _, wanted = name.partition("@")
    hub = HubWeights(repo, wanted or "main")
    if constants.HF_HUB_OFFLINE:
        folder = weights.asking_hub(
            repo,
            hub,
            lambda: Path(snapshot_download(repo, revision=hub.revision, local_files_only=True, allow_patterns=list(SMALL_FILES))),
            NO_HUB,
        )
        pinned = HubWeights(repo, folder.name)
    else:
        info = weights.asking_hub(repo, hub, lambda: HfApi().model_info(repo, revision=hub.revision, timeout=weights.HUB_TIMEOUT_S), NO_HUB)
        page = f"https://huggingface.co/{repo}" if info.gated else None
        pinned = HubWeights(repo, str(info.sha), gated=bool(info.gated), license_page=page)
        folder = weights.asking_hub(
            repo,
            pinned,
            lambda: Path(
                snapshot_download(
                    repo, revision=pinned.revision, allow_patterns=list(SMALL_FILES), ignore_patterns=list(weights.HUB_IGNORED)
                )
            ),
            NO_HUB,
        )
    title = repo.partition("/")[2]
    return folder, _named(title, f"https://huggingface.co/{repo}", _license(folder), Weights(hub=pinned), (repo,))


def _named(title: str, url: str, license: str, source: Weights, aliases: tuple[str, ...]) -> Model:
    """An entry of which `published.read` fills in the rest."""
    name = re.sub(r"[^a-z0-9.-]+", "-", title.lower()).strip("-.") or "model"
    return Model(name, title, "text", "bert", "mean", 1, 0, license, url, source, aliases=aliases)


def _license(folder: Path) -> str:
    """What the head of its README states."""
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    head = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    stated = re.search(r"^license:[ \t]*(\S+)", head[1], re.MULTILINE) if head else None
    return stated[1] if stated else "not stated"


def as_yaml(models: list[Model]) -> str:
    """The entries as they stand in a models.yaml, without what is as everywhere."""
    return yaml.safe_dump(
        {model.name: _spelt(model, without=("name",)) for model in models}, sort_keys=False, allow_unicode=True, width=120
    )


def _spelt(entry: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for each in fields(entry):
        value = getattr(entry, each.name)
        default = (
            each.default if each.default is not MISSING else each.default_factory() if each.default_factory is not MISSING else MISSING
        )
        if each.name in without or value == default:
            continue
        if is_dataclass(value):
            plain[each.name] = _spelt(value)
        elif isinstance(value, Mapping):
            plain[each.name] = dict(value)
        else:
            plain[each.name] = list(value) if isinstance(value, tuple) else value
    return (
        {name: value for name, value in plain.items() if name != "weights"} | {"weights": plain["weights"]} if "weights" in plain else plain
    )


def _work(job: Mapping[str, Any]) -> Mapping[str, Any]:
    from bench.model import hub_metadata

    named = TypeAdapter(Model).validate_python(job["named"])
    return {"models": [jobs.plain(model) for model in hub_metadata.read(Path(job["folder"]), named)]}


if __name__ == "__main__":
    jobs.main(_work)
