"""Workers with a planted bug: a gate that lets one of them through is blind.

    python -m bench.verify.mutants BUG [worker flags]

Each is ONNX Runtime under the shared loop with one thing wrong. `mutant_catalogue.py` runs them as frameworks of a catalogue of their own.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

from bench.worker import Array, Loaded, Options, Session, run
from bench.workers import onnx

Bug = Callable[[Session], Session]


def no_normalisation(session: Session) -> Session:
    return lambda ids, mask: session(ids, mask) * 3.2


def truncation(session: Session) -> Session:
    return lambda ids, mask: session(np.ascontiguousarray(ids[:, :128]), np.ascontiguousarray(mask[:, :128]))


def constant(session: Session) -> Session:
    answers: list[Array] = []

    def serve(ids: Array, mask: Array) -> Array:
        if not answers:
            answers.append(session(ids[:1], mask[:1]))
        return np.repeat(answers[0], len(ids), axis=0)

    return serve


def stale(session: Session) -> Session:
    """Answers with the vector of the request before."""
    last: list[Array] = []

    def serve(ids: Array, mask: Array) -> Array:
        fresh = session(ids, mask)
        answer = last[0] if last and len(last[0]) == len(fresh) else fresh
        last[:] = [fresh]
        return answer

    return serve


def cached(session: Session) -> Session:
    """Right answers, but each distinct request is computed once only."""
    known: dict[bytes, Array] = {}

    def serve(ids: Array, mask: Array) -> Array:
        key = ids.tobytes() + mask.tobytes()
        if key not in known:
            known[key] = session(ids, mask)
        return known[key]

    return serve


def length_skipping(session: Session) -> Session:
    """Right answers, but only the first tokens are worked on in the time that is measured: the rest when the answer is looked at."""

    class Later:
        def __init__(self, ids: Array, mask: Array) -> None:
            self.asked = ids.copy(), mask.copy()
            session(np.ascontiguousarray(ids[:, :4]), np.ascontiguousarray(mask[:, :4]))

        def __array__(self, dtype: object = None, copy: object = None) -> Array:
            return session(*self.asked)

    return Later  # type: ignore[return-value]


def nan(session: Session) -> Session:
    return lambda ids, mask: session(ids, mask) * np.float32(np.nan)


def no_mask(session: Session) -> Session:
    """Padding takes part: only batches of mixed length show it."""
    return lambda ids, mask: session(ids, np.ones_like(mask))


def crash(session: Session) -> Session:
    calls = [0]

    def serve(ids: Array, mask: Array) -> Array:
        calls[0] += 1
        if calls[0] > 60:
            os.abort()
        return session(ids, mask)

    return serve


def hang(session: Session) -> Session:
    calls = [0]

    def serve(ids: Array, mask: Array) -> Array:
        calls[0] += 1
        if calls[0] > 60:
            time.sleep(3600)
        return session(ids, mask)

    return serve


def exception(session: Session) -> Session:
    calls = [0]

    def serve(ids: Array, mask: Array) -> Array:
        calls[0] += 1
        if calls[0] > 60:
            raise RuntimeError("planted")
        return session(ids, mask)

    return serve


def none(session: Session) -> Session:
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
