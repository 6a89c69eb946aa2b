"""What a framework's own file is written against: the tensors of a session, what `load` gets and returns, and how it says no."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: A session takes (input_ids, attention_mask), both int64 (rows, tokens), or (pixel_values,) float32 (rows, 3, H, W),
#: and returns unit vectors, float32 (rows, dim), in host memory. The array may be reused by its next call.
Session = Callable[..., Array]

PR_SET_PDEATHSIG, PR_SET_TIMERSLACK = 1, 29
#: The one knob that belongs to the loop: a framework's worker that lists it lets its sessions be processes.
PROCESSES = "processes"


@dataclass(frozen=True)
class Options:
    """What a framework needs to load a model: the artefact folder, the layout and the knobs."""

    folder: Path
    precision: str
    sessions: int
    threads: int
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Loaded:
    """A loaded model: one callable per session, the vector length, the settings as read back from the runtime.

    `fixed_tokens` and `image_size` shape the example of the first call; an image model has an `image_size`.
    """

    sessions: Sequence[Session]
    dim: int
    settings: Mapping[str, Any]
    fixed_tokens: int | None = None
    image_size: int | None = None


class NotApplicable(Exception):
    """The runtime cannot do what was asked; the worker exits with 3."""


class WorkerError(Exception):
    """Something that ends the worker with one line, `THING: CURE`."""


def padded_to(session: Session, multiple: int, most: int) -> Session:
    """A session that sees widths of whole multiples only (at most `most` tokens): fewer distinct shapes, more padding.

    The ids that are added are 0 and masked; images pass as they are.
    """

    def serve(*arrays: Array) -> Array:
        if len(arrays) == 1:
            return session(*arrays)
        rows, width = arrays[0].shape
        wide = max(width, min(-(-width // multiple) * multiple, most))
        if wide == width:
            return session(*arrays)
        padded = [np.zeros((rows, wide), dtype=np.int64) for _ in arrays]
        for target, array in zip(padded, arrays, strict=True):
            target[:, :width] = array
        return session(*padded)

    return serve


def bind_to_parent() -> None:
    """Die with the parent, frozen or not, and make sleeps as exact as the kernel can."""
    if not sys.platform.startswith("linux"):
        return
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    if os.getppid() == 1 and os.environ.get("BENCH_PARENT", "1") != "1":
        sys.exit(1)  # the parent died before the line above took hold
