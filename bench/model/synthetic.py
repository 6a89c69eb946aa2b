"""Synthetic weights: the published architecture at its published size with seeded random numbers, and a tokenizer of the same kind.

The work per request is the same as with real weights; what the vectors mean is not. Each tensor is N(0, gain/√fan_in), seeded by its
own name, so that one tensor's numbers depend on nothing else. Written once, in the published layout, under build/weights/: what
loads a published checkpoint loads this one.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from bench.catalog import Model, SyntheticWeights
from bench.core import content_hash, files, jobs, paths

RECIPE = "synthetic.json"
# For the time left on the status line only: seen on a machine with two cores.
STARTUP_S, SECONDS_PER_GB = 4.0, 10.0
# A norm's gain is near one and a bias near zero, as in trained models; neither is exact, or a runtime that ignores them would pass.
NORM_STD, BIAS_STD = 0.1, 0.02


def ensure(model: Model, weights: SyntheticWeights) -> tuple[Path, str]:
    """The folder and its revision, written now if it is not there or was drawn by another recipe."""
    recipe = _recipe(model, weights)
    revision = f"synthetic-{files.short_hash(recipe)}"
    folder = paths.WEIGHTS / model.name
    if not _whole(folder, recipe):
        with files.whole_folder(folder) as temporary:
            job = {"model": jobs.plain(model), "output": str(temporary)}
            expected_s = STARTUP_S + SECONDS_PER_GB * model.bytes_fp32 / 1e9
            jobs.run(
                "bench.model.synthetic", f"draw synthetic weights of {model.name}", job, paths.WEIGHTS / f"{model.name}.log", expected_s
            )
            sizes = {path.relative_to(temporary).as_posix(): path.stat().st_size for path in temporary.rglob("*") if path.is_file()}
            files.write_json(temporary / RECIPE, {"recipe": recipe, "sizes": sizes})
    return folder, revision


def _recipe(model: Model, weights: SyntheticWeights) -> dict[str, Any]:
    """All that decides the bytes. A tokenizer is trained on the installed Python's documentation, which differs between versions."""
    recipe = {
        "architecture": model.architecture,
        "dim": model.dim,
        "weights": asdict(weights),
        "code": content_hash.of_code("bench.model.synthetic"),
        "numpy": np.__version__,
        "tokenizers": metadata.version("tokenizers"),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
    plain: dict[str, Any] = json.loads(json.dumps(recipe))
    return plain


def _whole(folder: Path, recipe: Mapping[str, Any]) -> bool:
    try:
        written = files.read_json(folder / RECIPE)
        sizes: dict[str, int] = written["sizes"]
        return bool(written["recipe"] == recipe) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def draw(name: str, shape: tuple[int, ...], weights: SyntheticWeights, centre: float = 1.0) -> npt.NDArray[np.float32]:
    """The numbers of one tensor of the Embedder; `centre` is what a norm's weight is near (0 where the norm adds one)."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    normal = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape, dtype=np.float32)
    if name.endswith("bias"):
        return normal * np.float32(BIAS_STD)
    module = name.removesuffix(".weight").rsplit(".", 1)[-1].lower()
    if "norm" in module or "layrnorm" in module:
        return np.float32(centre) + normal * np.float32(NORM_STD)
    normal *= np.float32(weights.gain / math.sqrt(math.prod(shape[1:]) if len(shape) > 1 else shape[0]))
    if module in ("q_proj", "k_proj", "query", "key"):
        normal *= np.float32(weights.qk_gain)
    elif name.endswith("in_proj_weight"):  # query, key and value in one
        normal[: 2 * shape[1]] *= np.float32(weights.qk_gain)
    return normal


def write(model: Model, weights: SyntheticWeights, folder: Path, tokenizer: bool = True) -> None:
    """The whole folder: config.json, the safetensors files, and a tokenizer for a text model."""
    from bench.model import state_dict, synthetic_tokenizer

    config = state_dict.config_of(model, weights.config)
    centre = 0.0 if model.architecture == "gemma3_embedding" else 1.0
    parts: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
    for name, shape in state_dict.shapes(config).items():
        file, candidates = state_dict.published(model, name)
        parts.setdefault(file, {})[candidates[0]] = (name, shape)
    for file, tensors in parts.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)

        def drawn(tensors: Mapping[str, tuple[str, tuple[int, ...]]] = tensors) -> Iterator[npt.NDArray[np.float32]]:
            for name, shape in tensors.values():
                yield draw(name, shape, weights, centre)

        state_dict.write(folder / file, {published: shape for published, (_, shape) in tensors.items()}, drawn())
    (folder / "config.json").write_text(json.dumps(weights.config, indent=1) + "\n", encoding="utf-8")
    if tokenizer and model.modality == "text":
        text = synthetic_tokenizer.train(model.architecture, int(config["backbone"]["vocab_size"]), model.pad_id)
        (folder / "tokenizer.json").write_text(text, encoding="utf-8")


def _work(job: Mapping[str, Any]) -> None:
    model = TypeAdapter(Model).validate_python(job["model"])
    assert model.weights.synthetic is not None
    write(model, model.weights.synthetic, Path(job["output"]))


if __name__ == "__main__":
    jobs.main(_work)
