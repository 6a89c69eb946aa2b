"""Weights → build/artefacts/<model>/<kind>-<precision>/, each kind made once from the one before it.

    checkpoint ─► safetensors (PyTorch, Candle) ─► onnx (ONNX Runtime ×3) ─► openvino

Each step is a process of its own (bench/artefacts/convert.py), so that the parent stays small and needs no framework. A folder is written
under a temporary name, flushed and renamed: it is whole or not there. Its provenance.json says what it was made from and by what; as long
as both are the same and its files are the ones written, it is not made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.artefacts import convert, recipes
from bench.artefacts.recipes import Recipe
from bench.catalog import Kind, Model
from bench.core import content_hash, files, jobs, paths
from bench.core.errors import BenchError
from bench.model.weights import Source

PROVENANCE = "provenance.json"
#: For the time left on the status line only: seen on a machine with two cores.
STARTUP_S = 6.0
SECONDS_PER_GB: Mapping[Kind, float] = {"safetensors": 3.0, "onnx": 30.0, "openvino": 6.0}
MADE_FROM: Mapping[Kind, Kind | None] = {"safetensors": None, "onnx": "safetensors", "openvino": "onnx"}
LIBRARIES: Mapping[Kind, tuple[str, ...]] = {
    "safetensors": ("torch", "transformers", "safetensors"),
    "onnx": ("torch", "transformers", "onnx", "onnxscript"),
    "openvino": ("openvino",),
}


@dataclass(frozen=True)
class Artefact:
    """A model converted for one kind of runtime. `hash` covers the files a worker reads, `bytes` is their size.

    `compile_s` is what compiling it for this CPU took, where it is machine code; `note` what was done otherwise than on other machines.
    """

    folder: Path
    kind: Kind
    precision: str
    hash: str
    bytes: int
    compile_s: float | None = None
    note: str | None = None


def ensure(model: Model, source: Source, kind: Kind, precision: str = "fp32", recipe_name: str = "") -> Artefact:
    """The artefact, made now if it is not there, not whole, or made from or by something else.

    `recipe_name` (a variant's `recipe`) says how it is converted beyond the plain export; without one there is fp32 only, which runtimes
    convert at load.

    Raises:
        BenchError: it cannot be made; one line with the cure.
        NotApplicable: the recipe does not fit the precision or the model.
    """
    if recipe_name:
        return _converted(model, source, recipes.named(kind, recipe_name, precision, model), precision)
    if precision != "fp32":
        raise BenchError(f"precision {precision!r}: only fp32 artefacts are exported without a recipe; runtimes convert at load")
    earlier = MADE_FROM[kind]
    made_from = ensure(model, source, earlier, precision) if earlier else None
    folder = paths.ARTEFACTS / model.name / (f"{kind}-{precision}" + _suffix(model, source))
    origin = _origin(model, source, kind, precision, made_from)
    return _whole(folder, origin) or _make(model, source, origin, made_from, folder)


def _converted(model: Model, source: Source, recipe: Recipe, precision: str) -> Artefact:
    """The artefact that a recipe makes of another one."""
    made_from = ensure(model, source, *recipe.made_from)
    folder = paths.ARTEFACTS / model.name / (f"{recipe.kind}-{precision}-{recipe.name}" + _suffix(model, source))
    calibration = recipes.calibration(model, source.folder) if recipe.calibrated else None
    facts = recipes.facts(recipe)
    origin = {
        **_origin(model, source, recipe.kind, precision, made_from),
        "exporter": recipe.note,
        "recipe": recipe.name,
        "facts": facts,
        "note": recipes.note(facts) or made_from.note,
        "calibration": calibration.hash if calibration else None,
        "versions": {library: metadata.version(library) for library in recipe.libraries},
        "code": content_hash.of_code("bench.artefacts.convert", recipe.module),
    }
    steps = {"recipe": recipe.name, "module": recipe.module, "precision": precision, "pad_id": model.pad_id, **facts}
    if calibration:
        steps["calibration"] = str(calibration.folder)
    return _whole(folder, origin) or _make(model, source, origin, made_from, folder, steps)


def _suffix(model: Model, source: Source) -> str:
    """Weights other than those `auto` takes get a folder of their own."""
    preferred = "wheel" if model.weights.wheel else "folder" if model.weights.folder else "hub"
    return "" if source.kind == preferred else f"-{source.kind}"


def _origin(model: Model, source: Source, kind: Kind, precision: str, made_from: Artefact | None) -> dict[str, Any]:
    """All that decides an artefact's bytes: one of the same origin need not be made again."""
    return {
        "model": model.name,
        "kind": kind,
        "precision": precision,
        "source": {"kind": source.kind, "revision": source.revision, "files": dict(source.files)},
        "made_from": made_from.hash if made_from else None,
        "architecture": model.architecture,
        "pooling": model.pooling,
        "dim": model.dim,
        "max_tokens": model.max_tokens,
        "fixed_tokens": model.fixed_tokens,
        "image_size": model.image.size if model.image else None,
        "opset": convert.OPSET if kind != "safetensors" else None,
        "exporter": {
            "safetensors": "tensors renamed, fp32",
            "onnx": "torch.onnx.export(dynamo=True)",
            "openvino": "openvino.convert_model of the ONNX file",
        }[kind],
        "versions": {library: metadata.version(library) for library in LIBRARIES[kind]},
        "code": content_hash.of_code("bench.artefacts.convert"),
    }


def _whole(folder: Path, origin: Mapping[str, Any]) -> Artefact | None:
    """The artefact in `folder`, if it has this origin and its files are those that were written; else None."""
    try:
        provenance = files.read_json(folder / PROVENANCE)
        written: dict[str, dict[str, Any]] = provenance["files"]
        if provenance["recipe"] != origin or {path.name for path in folder.iterdir()} != {*written, PROVENANCE}:
            return None
        if any((folder / name).stat().st_size != entry["bytes"] for name, entry in written.items()):
            return None
        if any(content_hash.of_file(folder / name) != entry["sha256"] for name, entry in written.items()):
            return None
        return _artefact(folder, origin, written, provenance["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _artefact(folder: Path, origin: Mapping[str, Any], written: Mapping[str, Mapping[str, Any]], seconds: float) -> Artefact:
    digest = hashlib.sha256("".join(f"{name} {written[name]['sha256']}\n" for name in sorted(written)).encode()).hexdigest()
    size = sum(int(entry["bytes"]) for entry in written.values())
    compile_s = seconds if "machine" in origin.get("facts", {}) else None
    return Artefact(folder, origin["kind"], origin["precision"], digest, size, compile_s, origin.get("note"))


def _make(
    model: Model,
    source: Source,
    origin: Mapping[str, Any],
    made_from: Artefact | None,
    folder: Path,
    steps: Mapping[str, Any] | None = None,
) -> Artefact:
    kind: Kind = origin["kind"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.whole_folder(folder) as temporary:
        job = {
            "kind": kind,
            "model": jobs.plain(model),
            "input": str(made_from.folder if made_from else source.folder),
            "output": str(temporary),
            **(steps or {}),
        }
        expected_s = _expected_s(folder, kind, model)
        cost = jobs.run(
            "bench.artefacts.convert", f"export {model.name} to {folder.name}", job, folder.with_name(f"{folder.name}.log"), expected_s
        )
        written = {path.name: {"sha256": content_hash.of_file(path), "bytes": path.stat().st_size} for path in sorted(temporary.iterdir())}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        files.write_json(temporary / PROVENANCE, {"recipe": origin, "files": written, "written_at": now, **cost})
    return _artefact(folder, origin, written, cost["seconds"])


def _expected_s(folder: Path, kind: Kind, model: Model) -> float:
    """What the step took last time, else what such a step takes for weights of this size."""
    try:
        return float(files.read_json(folder / PROVENANCE)["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return STARTUP_S + SECONDS_PER_GB[kind] * model.bytes_fp32 / 1e9
