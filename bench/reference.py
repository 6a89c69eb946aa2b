"""Reference vectors of plan rows: the fp32 Embedder in its own process, kept on disk by artefact and plan.

    python -m bench.reference ARTEFACT PLAN FIRST COUNT OUT

writes the vectors of rows FIRST … FIRST+COUNT-1 as float32 (COUNT × dim) to OUT. Rows are served in batches of like length; no padding
reaches a row's vector (the Embedder masks it), and rounding is what the gate allows for.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench import paths
from bench.errors import BenchError
from bench.files import disk_full_is_said, short_hash, sync, write_json

ROWS_AT_ONCE = 32


def ensure(artefact: Path, artefact_hash: str, plan: Path, plan_hash: str, first: int, count: int, pad_id: int) -> npt.NDArray[np.float32]:
    """Reference vectors (count, dim) of rows `first` … of a plan, computed where they are not on disk yet."""
    folder = paths.BUILD / "reference" / short_hash(artefact_hash, plan_hash)
    parts = sorted(folder.glob("rows-*.f32"))
    have = {_range(part): part for part in parts}
    for (begin, end), part in have.items():
        if begin <= first and first + count <= end:
            vectors = np.fromfile(part, dtype="<f4").reshape(end - begin, -1)
            return vectors[first - begin : first - begin + count]
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "about.json", {"artefact": artefact.name, "artefact_hash": artefact_hash, "plan": plan.name, "plan_hash": plan_hash}
    )
    out = folder / f"rows-{first}-{first + count}.f32"
    temporary = out.with_suffix(".tmp")
    with disk_full_is_said(out):
        command = [sys.executable, "-m", "bench.reference", str(artefact), str(plan), str(first), str(count), str(pad_id), str(temporary)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=paths.ROOT)
        if done.returncode != 0:
            last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
            raise BenchError(f"reference vectors of {artefact.name}: {last.strip()}; see `invoke doctor`")
        sync(temporary)
        temporary.rename(out)
    return np.fromfile(out, dtype="<f4").reshape(count, -1)


def _range(part: Path) -> tuple[int, int]:
    _, first, end = part.stem.split("-")
    return int(first), int(end)


def main(artefact: Path, plan: Path, first: int, count: int, pad_id: int, out: Path) -> None:
    import torch

    from bench import embedder
    from bench.worker import Blocks, Plan

    model = embedder.load(artefact, "fp32").eval()
    mapped = Plan.open(plan, None)
    blocks = Blocks(mapped, pad_id)
    vectors: npt.NDArray[np.float32] | None = None
    # Like lengths together: batches then hold next to no padding.
    order = sorted(range(first, first + count), key=lambda row: mapped.lengths[row])
    with torch.inference_mode():
        for begin in range(0, count, ROWS_AT_ONCE):
            rows = order[begin : begin + ROWS_AT_ONCE]
            tensors = [torch.from_numpy(array) for array in blocks.gather(rows)]
            result = model(*tensors).numpy()
            if vectors is None:
                vectors = np.zeros((count, result.shape[1]), dtype=np.float32)
            vectors[np.array(rows) - first] = result
    assert vectors is not None
    vectors.astype("<f4").tofile(out)


if __name__ == "__main__":
    artefact_, plan_, first_, count_, pad_, out_ = sys.argv[1:]
    main(Path(artefact_), Path(plan_), int(first_), int(count_), int(pad_), Path(out_))
