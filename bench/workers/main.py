"""The `main` of every Python worker: flags, load, `ready`, then one answer for each line (WORKER.md).

A framework's own file in `bench/workers/` gives `version()` and `load(Options) -> Loaded` and calls `run`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from bench.workers import processes
from bench.workers.api import PROCESSES, Array, Loaded, NotApplicable, Options, Session, WorkerError, bind_to_parent, one_line
from bench.workers.conversation import Conversation
from bench.workers.loop import Fault


def _parse(knobs: Mapping[str, Sequence[str]]) -> argparse.Namespace:
    """The flags of the command line; the process exits with 2 where they are wrong."""
    parser = argparse.ArgumentParser(prog="worker", allow_abbrev=False)

    def setting(text: str) -> tuple[str, str]:
        key, equals, value = text.partition("=")
        if not equals or key not in knobs:
            raise argparse.ArgumentTypeError(f"{text!r}: known keys are {', '.join(knobs) or 'none'} (KEY=VALUE)")
        if knobs[key] and value not in knobs[key]:
            raise argparse.ArgumentTypeError(f"{text!r}: takes {', '.join(knobs[key])}")
        return key, value

    def positive(text: str) -> int:
        number = int(text)
        if number < 1:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
        return number

    parser.add_argument("--version", action="store_true")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--precision", choices=("fp32", "fp16", "bf16", "int8", "int4"))
    parser.add_argument("--sessions", type=positive)
    parser.add_argument("--threads", type=positive)
    parser.add_argument("--pad-id", type=int)
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--fault", type=Fault.parse)
    flags = parser.parse_args()
    for name in () if flags.version else ("model", "precision", "sessions", "threads", "pad_id"):
        if getattr(flags, name) is None:
            parser.error(f"--{name.replace('_', '-')} is missing")
    return flags


def _take_stdout() -> Callable[[str], None]:
    """Keep a private copy of stdout and point fd 1 at stderr, since runtimes print; returns what writes a line to the copy."""
    private = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def say(line: str) -> None:
        content = f"{line}\n".encode()
        while content:  # one write for a short line, so that lines of several threads do not mix
            content = content[os.write(private, content) :]

    return say


def _exit(status: int, line: str) -> NoReturn:
    print(line, file=sys.stderr, flush=True)
    # Runtimes' threads may not end by themselves after a failed load.
    os._exit(status)


def run(version: Callable[[], Mapping[str, str]], load: Callable[[Options], Loaded], knobs: Mapping[str, Sequence[str]]) -> None:
    """The worker's `main`. `knobs` maps each `--set` key to the values it takes (none listed: any value)."""
    say = _take_stdout()
    bind_to_parent()
    flags = _parse(knobs)
    try:
        if flags.version:
            say(json.dumps(dict(version())))
            return
        loaded, ready = _load(load, flags)
    except NotApplicable as reason:
        _exit(3, f"not-applicable {one_line(reason)}")
    except Exception as error:
        _exit(1, f"error: {one_line(error)}")
    say(f"ready {json.dumps(ready)}")
    Conversation(loaded, flags.pad_id, flags.fault, say).converse(sys.stdin)


def _load(load: Callable[[Options], Loaded], flags: argparse.Namespace) -> tuple[Loaded, dict[str, Any]]:
    """Load the model and call each session once (the first one twice); returns it with the fields of `ready`."""
    if not flags.model.is_dir():
        raise WorkerError(f"artefact folder {flags.model}: not found; run `invoke export`")
    options = Options(flags.model, flags.precision, flags.sessions, flags.threads, dict(flags.set))
    in_processes = options.sessions > 1 and options.settings.get(PROCESSES) == "1"
    start_ns = time.monotonic_ns()
    loaded = processes.load(load, options) if in_processes else load(options)
    load_ns = time.monotonic_ns() - start_ns
    calls_ns = [_call_ns(loaded, session) for session in (loaded.sessions[0], *loaded.sessions)]
    # What the runtime read back stands above what was asked for.
    settings = {"sessions": options.sessions, "threads": options.threads, **options.settings, **loaded.settings}
    if flags.fault is not None:
        settings["fault"] = flags.fault.text
    return loaded, {"load_ns": load_ns, "first_ns": calls_ns[0], "second_ns": calls_ns[1], "dim": loaded.dim, "settings": settings}


def _call_ns(loaded: Loaded, session: Session) -> int:
    """The time of one call on one row of the ids 1…32 (or 1…fixed_tokens), or one image of zeros."""
    if loaded.image_size is not None:
        example: tuple[Array, ...] = (np.zeros((1, 3, loaded.image_size, loaded.image_size), dtype=np.float32),)
    else:
        ids = np.arange(1, (loaded.fixed_tokens or 32) + 1, dtype=np.int64).reshape(1, -1)
        example = (ids, np.ones_like(ids))
    start_ns = time.monotonic_ns()
    session(*example)
    return time.monotonic_ns() - start_ns
