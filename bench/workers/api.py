"""The types of a framework's own file: its sessions, what `load` gets and returns, and the errors by which it refuses."""

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
#: The one knob that is implemented here, not by a framework: a worker that lists it can run each session in a process (`processes.py`).
PROCESSES = "processes"


@dataclass(frozen=True)
class Options:
    """The flags of a worker that concern loading: the artefact folder, the precision, sessions × threads, every `--set`."""

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


def one_line(error: BaseException) -> str:
    """The words of an error without line breaks; those that are not the worker's own begin with their type."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, WorkerError | NotApplicable) else f"{type(error).__name__}: {text}"


def padded_to(session: Session, multiple: int, most: int) -> Session:
    """Wrap a session so that widths are rounded up to a multiple of `multiple` tokens, at most `most`: fewer shapes, more padding.

    Added ids are 0 and masked. Images are passed on unchanged.
    """

    def serve(*arrays: Array) -> Array:
        if len(arrays) == 1:
            return session(*arrays)
        rows, width = arrays[0].shape
        padded_width = max(width, min(-(-width // multiple) * multiple, most))
        if padded_width == width:
            return session(*arrays)
        padded = [np.zeros((rows, padded_width), dtype=np.int64) for _ in arrays]
        for target, array in zip(padded, arrays, strict=True):
            target[:, :width] = array
        return session(*padded)

    return serve


def bind_to_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent ends, frozen or not, and set timer slack to 1 ns. Linux only.

    Args:
        parent: the pid of the parent, by default BENCH_PARENT; if it has ended already, so does this process, with status 1.
    """
    if not sys.platform.startswith("linux"):
        return
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
    stated = os.environ.get("BENCH_PARENT", "")
    parent = parent or (int(stated) if stated.isdecimal() else None)
    try:
        if parent:
            os.kill(parent, 0)
    except ProcessLookupError:
        sys.exit("error: the parent has ended: start the worker from a process that waits for it")
    except OSError:
        pass  # it exists, under another user
