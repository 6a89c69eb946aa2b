"""Reference vectors of plan rows: the fp32 Embedder in its own process, kept on disk by artefact, plan and the Embedder's code.

    python -m bench.correctness.reference ARTEFACT PLAN FIRST COUNT OUT

writes the vectors of rows FIRST … FIRST+COUNT-1 as float32 (COUNT × dim) to OUT. Rows are served in batches of like length; no padding
reaches a row's vector (the Embedder masks it), and rounding is what the gate allows for.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.core import content_hash, paths
from bench.core.errors import BenchError
from bench.core.files import short_hash, whole_file, write_json

ROWS_AT_ONCE = 32


def ensure(artefact: Path, artefact_hash: str, plan: Path, plan_hash: str, first: int, count: int, pad_id: int) -> npt.NDArray[np.float32]:
    """Reference vectors (count, dim) of rows `first` … of a plan, computed where they are not on disk yet."""
    folder = paths.BUILD / "reference" / short_hash(artefact_hash, plan_hash, content_hash.of_code("bench.correctness.reference"))
    for begin, end in gaps([_range(part) for part in folder.glob("rows-*.f32")], first, first + count):
        _compute(folder, artefact, artefact_hash, plan, plan_hash, begin, end - begin, pad_id)
    return _gathered(folder, first, count)


def gaps(have: Iterable[tuple[int, int]], first: int, end: int) -> list[tuple[int, int]]:
    """The stretches of first … end − 1 that no range in `have` covers. Ranges are (first, end), in any order, and may overlap."""
    missing = []
    for begin, stop in sorted(have):
        if begin > first and first < end:
            missing.append((first, min(begin, end)))
        first = max(first, stop)
    return [*missing, (first, end)] if first < end else missing


def _gathered(folder: Path, first: int, count: int) -> npt.NDArray[np.float32]:
    """Vectors (count, dim) of rows that are all on disk, from as many files as it takes."""
    gathered: npt.NDArray[np.float32] | None = None
    for part in folder.glob("rows-*.f32"):
        begin, end = _range(part)
        low, high = max(begin, first), min(end, first + count)
        if low < high:
            vectors = np.fromfile(part, dtype="<f4").reshape(end - begin, -1)
            if gathered is None:
                gathered = np.empty((count, vectors.shape[1]), dtype=np.float32)
            gathered[low - first : high - first] = vectors[low - begin : high - begin]
    assert gathered is not None, "rows that were computed are on disk"
    return gathered


def _compute(folder: Path, artefact: Path, artefact_hash: str, plan: Path, plan_hash: str, first: int, count: int, pad_id: int) -> None:
    """Have the reference process write one stretch of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "about.json", {"artefact": artefact.name, "artefact_hash": artefact_hash, "plan": plan.name, "plan_hash": plan_hash}
    )
    out = folder / f"rows-{first}-{first + count}.f32"
    with whole_file(out) as temporary:
        command = [
            sys.executable,
            "-m",
            "bench.correctness.reference",
            str(artefact),
            str(plan),
            str(first),
            str(count),
            str(pad_id),
            str(temporary),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=paths.ROOT)
        if done.returncode != 0:
            last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
            raise BenchError(f"reference vectors of {artefact.name}: {last.strip()}; see `invoke doctor`")


def _range(part: Path) -> tuple[int, int]:
    _, first, end = part.stem.split("-")
    return int(first), int(end)


def main(artefact: Path, plan: Path, first: int, count: int, pad_id: int, out: Path) -> None:
    import torch

    from bench.model import embedder
    from bench.workers.plan_file import Padder, PlanFile

    model = embedder.load(artefact, "fp32").eval()
    mapped = PlanFile.open(plan, None)
    padder = Padder(mapped, pad_id)
    vectors: npt.NDArray[np.float32] | None = None
    # Like lengths together: batches then hold next to no padding.
    order = sorted(range(first, first + count), key=lambda row: mapped.lengths[row])
    with torch.inference_mode():
        for begin in range(0, count, ROWS_AT_ONCE):
            rows = order[begin : begin + ROWS_AT_ONCE]
            tensors = [torch.from_numpy(array) for array in padder.gather(rows)]
            result = model(*tensors).numpy()
            if vectors is None:
                vectors = np.zeros((count, result.shape[1]), dtype=np.float32)
            vectors[np.array(rows) - first] = result
    assert vectors is not None
    vectors.astype("<f4").tofile(out)


if __name__ == "__main__":
    artefact_, plan_, first_, count_, pad_, out_ = sys.argv[1:]
    main(Path(artefact_), Path(plan_), int(first_), int(count_), int(pad_), Path(out_))
