"""Workers with a planted bug: ONNX Runtime under the shared loop, with one thing wrong.

    python -m bench.verify.mutants BUG [worker flags]

`mutant_catalogue.py` runs them as frameworks of a catalogue of their own; a gate that lets one of them through is blind.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

from bench.worker import Array, Loaded, Options, Session, run
from bench.workers import onnx

Bug = Callable[[Session], Session]

#: Calls that go well before a worker fails.
CALLS_BEFORE = 60


def no_normalisation(session: Session) -> Session:
    """Vectors of another length than 1."""
    return lambda ids, mask: session(ids, mask) * 3.2


def truncation(session: Session) -> Session:
    """Texts are cut at 128 tokens."""
    return lambda ids, mask: session(np.ascontiguousarray(ids[:, :128]), np.ascontiguousarray(mask[:, :128]))


def constant(session: Session) -> Session:
    """Every request gets the vector of the first one."""
    first: list[Array] = []

    def serve(ids: Array, mask: Array) -> Array:
        if not first:
            first.append(session(ids[:1], mask[:1]))
        return np.repeat(first[0], len(ids), axis=0)

    return serve


def stale(session: Session) -> Session:
    """Every request gets the vector of the one before it."""
    previous: list[Array] = []

    def serve(ids: Array, mask: Array) -> Array:
        vectors = session(ids, mask)
        answer = previous[0] if previous and len(previous[0]) == len(vectors) else vectors
        previous[:] = [vectors]
        return answer

    return serve


def cached(session: Session) -> Session:
    """Right vectors, but each distinct request is computed only once."""
    vectors: dict[bytes, Array] = {}

    def serve(ids: Array, mask: Array) -> Array:
        key = ids.tobytes() + mask.tobytes()
        if key not in vectors:
            vectors[key] = session(ids, mask)
        return vectors[key]

    return serve


def length_skipping(session: Session) -> Session:
    """Right vectors, but only 4 tokens are computed in the time that is measured, the rest when the vectors are read."""

    class Deferred:
        def __init__(self, ids: Array, mask: Array) -> None:
            self.inputs = ids.copy(), mask.copy()
            session(np.ascontiguousarray(ids[:, :4]), np.ascontiguousarray(mask[:, :4]))

        def __len__(self) -> int:
            return len(self.inputs[0])

        def __array__(self, dtype: object = None, copy: object = None) -> Array:
            return session(*self.inputs)

    return Deferred  # type: ignore[return-value]


def nan(session: Session) -> Session:
    """Vectors of NaN."""
    return lambda ids, mask: session(ids, mask) * np.float32(np.nan)


def no_mask(session: Session) -> Session:
    """Padding takes part in the model, which only batches of mixed length show."""
    return lambda ids, mask: session(ids, np.ones_like(mask))


def _after_start(session: Session, fail: Callable[[], None]) -> Session:
    """`fail` is called before each call after the first CALLS_BEFORE, so that the arm is measured when it happens."""
    calls = itertools.count(1)

    def serve(ids: Array, mask: Array) -> Array:
        if next(calls) > CALLS_BEFORE:
            fail()
        return session(ids, mask)

    return serve


def crash(session: Session) -> Session:
    """The process aborts."""
    return _after_start(session, os.abort)


def hang(session: Session) -> Session:
    """A call does not return for an hour."""
    return _after_start(session, lambda: time.sleep(3600))


def exception(session: Session) -> Session:
    """A call raises."""

    def fail() -> None:
        raise RuntimeError("planted")

    return _after_start(session, fail)


def none(session: Session) -> Session:
    """The honest worker."""
    return session


BUGS: Mapping[str, Bug] = {
    bug.__name__: bug
    for bug in (no_normalisation, truncation, constant, stale, cached, length_skipping, nan, no_mask, crash, hang, exception, none)
}


def main(bug: Bug) -> None:
    def load(options: Options) -> Loaded:
        loaded = onnx.load(options)
        return Loaded([bug(session) for session in loaded.sessions], loaded.dim, loaded.settings)

    run(onnx.version, load, {})


if __name__ == "__main__":
    main(BUGS[sys.argv.pop(1)])
