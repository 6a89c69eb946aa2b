"""A plan on disk: a folder of gaps and tensors that every worker maps, known by the hash of its bytes.

`build/plans/NAME-HASH12/` is what bench/WORKER.md describes (`rows.csv`, `tokens.i64` or `pixels.f32`, `plan.json`), with
`preprocess.csv` beside it, which times this machine and is not in the hash. bench/plan/make.py decides what stands in it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.catalog import Model
from bench.core import files, paths
from bench.core.errors import BenchError
from bench.corpus.resolve import Modality
from bench.plan.arrivals import Gaps
from bench.plan.preprocess import Ids, Pixels
from bench.plan.rows import Rows

#: File and element type of the tensors.
ARRAYS: dict[Modality, tuple[str, str]] = {"text": ("tokens.i64", "<i8"), "image": ("pixels.f32", "<f4")}


@dataclass(frozen=True, eq=False)
class Plan:
    """A plan folder, opened.

    Attributes:
        folder: holds rows.csv and the array; its path has no white space below `build/`.
        hash: SHA-256 of the written bytes of rows.csv and of the array.
        rows: number of rows; the first `warm` are not measured.
        lengths: tokens of each row (image rows: 1), int64.
        preprocess_ns: tokenising, or image decoding and preparation, of each row on this machine, int64.
        offsets, elements: where the tensor of each row begins in the array, and how many elements it has, int64.
        image_size: height and width of the images in pixels; None for texts.
        pool: of a scenario's images: the plan of the prepared images that its rows point into.
    """

    folder: Path
    name: str
    hash: str
    rows: int
    warm: int
    modality: Modality
    lengths: NDArray[np.int64]
    preprocess_ns: NDArray[np.int64]
    offsets: NDArray[np.int64]
    elements: NDArray[np.int64]
    image_size: int | None = None
    pool: Plan | None = None

    @property
    def measured(self) -> int:
        """Number of measured rows; they begin at `warm`."""
        return self.rows - self.warm

    def ids(self, row: int) -> Ids:
        """The token ids of a row, unpadded (a view of the mapped file)."""
        if self.modality != "text":
            raise ValueError(f"plan {self.name}: holds images; use pixels()")
        start = int(self.offsets[row])
        return self._array[start : start + int(self.elements[row])]

    def pixels(self, row: int) -> Pixels:
        """The image of a row, 3×H×W (a view of the mapped file)."""
        if self.modality != "image" or self.image_size is None:
            raise ValueError(f"plan {self.name}: holds texts; use ids()")
        start = int(self.offsets[row])
        flat = self._array[start : start + int(self.elements[row])]
        return flat.reshape(3, self.image_size, self.image_size)

    def distinct(self, first: int, count: int) -> tuple[Plan, NDArray[np.int64]]:
        """Rows `first` … `first + count - 1` as rows of a plan that has each tensor once: this one, or the pool."""
        rows = np.arange(first, first + count)
        return (self.pool, self.offsets[rows] // self.elements[rows]) if self.pool else (self, rows)

    def batch(self, first: int, count: int, pad_id: int) -> tuple[Ids, Ids]:
        """Rows `first` … padded right to the longest as a worker pads them: ids and mask (1 on own ids), both count × longest."""
        rows = [self.ids(row) for row in range(first, first + count)]
        longest = max(len(row) for row in rows)
        ids = np.full((count, longest), pad_id, dtype=np.int64)
        mask = np.zeros((count, longest), dtype=np.int64)
        for k, row in enumerate(rows):
            ids[k, : len(row)] = row
            mask[k, : len(row)] = 1
        return ids, mask

    @cached_property
    def _array(self) -> np.memmap[Any, Any]:
        file, dtype = ARRAYS[self.modality]
        return np.memmap(self.folder / file, dtype=dtype, mode="r")


@dataclass(frozen=True)
class RepeatPlan:
    """The unique-versus-repeat test: two stretches of `count` rows of one length, first distinct rows, then one row again and again.

    A runtime, or a worker, that keeps answers serves the second faster. Serve the two in turns, in small equal pieces, and each unique
    row once in a process.
    """

    plan: Plan
    unique_first: int
    repeated_first: int
    count: int


def open_plan(folder: Path) -> Plan:
    """A plan folder as a Plan, its bytes checked against its hash.

    Raises:
        BenchError: a file is missing or its bytes are not those that were hashed.
    """
    try:
        about = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
        modality: Modality = about["modality"]
        if _hash(folder, modality) != about["hash"]:
            raise BenchError(f"plan {folder}: its bytes are not those that were hashed; delete the folder, it is made again")
        table = np.loadtxt(folder / "rows.csv", delimiter=",", skiprows=1, usecols=(1, 2), dtype=np.int64, ndmin=2)
        preprocess_ns = np.loadtxt(folder / "preprocess.csv", delimiter=",", skiprows=1, usecols=1, dtype=np.int64, ndmin=1)
        if len(preprocess_ns) != len(table):
            raise BenchError(f"plan {folder}: preprocess.csv has {len(preprocess_ns)} rows for {len(table)}; delete it, it is made again")
        return Plan(
            folder=folder,
            name=about["name"],
            hash=about["hash"],
            rows=len(table),
            warm=about["warm"],
            modality=modality,
            lengths=table[:, 1] if modality == "text" else np.ones(len(table), dtype=np.int64),
            preprocess_ns=preprocess_ns,
            offsets=table[:, 0],
            elements=table[:, 1],
            image_size=about["image_size"],
            pool=open_plan(folder.parent / about["pool"]) if about["pool"] else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise BenchError(f"plan {folder}: not whole ({type(error).__name__}: {reason}); delete the folder, it is made again") from None


def find_plan(name: str, key: str) -> Plan | None:
    """The whole plan folder of that name and key; None where there is none, or a damaged one, which is to be made again."""
    for about in sorted(paths.PLANS.glob(f"{name}-{'[0-9a-f]' * 12}/plan.json")):
        try:
            if json.loads(about.read_text(encoding="utf-8")).get("key") == key:
                return open_plan(about.parent)
        except (OSError, ValueError, AttributeError, BenchError):
            continue
    return None


def write_plan(name: str, key: str, model: Model, rows: Rows, gaps: Gaps, *, about: dict[str, object], pool: Plan | None = None) -> Plan:
    """Write the folder whole and open it; a folder of the same name is replaced (it is damaged, or was made under an older key).

    Args:
        about: what plan.json says besides, for people: scenario, corpus, seed.
        pool: the plan whose tensors `rows` points into; its array is linked, not copied.

    Raises:
        BenchError: the folder cannot be written, or the disk is full.
    """
    sizes = np.array([tensor.size for tensor in rows.tensors], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    places = zip(gap_text(gaps).splitlines(), starts[rows.points_to].tolist(), sizes[rows.points_to].tolist(), strict=True)
    table = "gap,offset,length\n" + "".join(f"{gap},{offset},{length}\n" for gap, offset, length in places)
    array_file, dtype = ARRAYS[model.modality]
    digest = hashlib.sha256(
        hash_head("rows.csv", len(table)) + table.encode() + hash_head(array_file, int(sizes.sum()) * np.dtype(dtype).itemsize)
    )
    for tensor in rows.tensors:
        digest.update(tensor.astype(dtype, copy=False).tobytes())
    plan_hash = digest.hexdigest()
    full_name = f"{name}-{plan_hash[:12]}"
    facts = {
        "name": full_name,
        "hash": plan_hash,
        "key": key,
        "model": model.name,
        "modality": model.modality,
        **about,
        "rows": len(rows.points_to),
        "warm": rows.warm,
        "tensors": len(rows.tensors),
        "elements": int(sizes.sum()),
        "image_size": model.image.size if model.modality == "image" and model.image else None,
        "pool": pool.folder.name if pool else None,
    }
    try:
        with files.whole_folder(paths.PLANS / full_name) as folder:
            if pool:
                (folder / array_file).hardlink_to(pool.folder / array_file)
            else:
                with (folder / array_file).open("wb") as out:
                    for tensor in rows.tensors:
                        out.write(tensor.astype(dtype, copy=False).tobytes())
            (folder / "rows.csv").write_bytes(table.encode())
            (folder / "preprocess.csv").write_text(
                "row,preprocess_ns\n" + "".join(f"{row},{ns}\n" for row, ns in enumerate(rows.preprocess_ns.tolist())), encoding="utf-8"
            )
            (folder / "plan.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise BenchError(
            f"plan {name}: cannot be written to {paths.PLANS} ({error.strerror or error}); make that folder writable"
        ) from None
    return open_plan(paths.PLANS / full_name)


def gap_text(gaps: Gaps) -> str:
    """The gaps as rows.csv has them, a line each, with 9 decimals."""
    return "\n".join(f"{gap:.9f}" for gap in gaps.tolist())


def hash_head(name: str, size: int) -> bytes:
    """Goes into a hash before the `size` bytes of an item, so that no two sequences of items hash alike."""
    return f"{name} {size}\n".encode()


def _hash(folder: Path, modality: Modality) -> str:
    """SHA-256 over rows.csv, then the array, each behind its name and size."""
    digest = hashlib.sha256()
    for name in ("rows.csv", ARRAYS[modality][0]):
        file = folder / name
        digest.update(hash_head(name, file.stat().st_size))
        with file.open("rb") as data:
            while piece := data.read(1 << 20):
                digest.update(piece)
    return digest.hexdigest()
