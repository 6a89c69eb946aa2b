"""The null framework in Python: the shared loop with a session that does no work (see WORKER.md)."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping

import numpy as np

from bench.worker import Array, Loaded, NotApplicable, Options, Session, run


def version() -> Mapping[str, str]:
    return {
        "framework": "null-python",
        "language": "python",
        "runtime": "none",
        "version": platform.python_version(),
        "build": f"numpy {np.__version__}",
    }


def load(options: Options) -> Loaded:
    if options.precision != "fp32":
        raise NotApplicable(f"precision {options.precision}: the null worker has fp32 only")
    dim = _dim(options.settings.get("dim", "384"))
    return Loaded([make_session(dim) for _ in range(options.sessions)], dim, {"precision": "fp32", "dim": dim})


def _dim(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        print(f"--set dim={text}: a whole number of 1 or more is wanted", file=sys.stderr)
        sys.exit(2)
    return int(text)


def make_session(dim: int) -> Session:
    """A session whose vector is 1 at an index that depends on the row and 0 elsewhere, so that tests can tell rows apart."""
    unit = np.eye(dim, dtype=np.float32)

    def serve(first: Array, mask: Array | None = None) -> Array:
        if mask is None:
            pixels: Array = unit[np.ascontiguousarray(first[:, 0, 0, 0]).view(np.uint32) % dim]
            return pixels
        if len(first) == 1:
            ids = first[0]
            index = (int(ids[0]) + 31 * int(ids[-1]) + len(ids)) % dim
            return unit[index : index + 1]
        lengths = mask.sum(axis=1)
        last = first[np.arange(len(first)), lengths - 1]
        vectors: Array = unit[(first[:, 0] + 31 * last + lengths) % dim]
        return vectors

    return serve


if __name__ == "__main__":
    run(version, load, {"dim": ()})
