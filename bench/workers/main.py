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
from bench.workers.api import PROCESSES, Array, Loaded, NotApplicable, Options, WorkerError, bind_to_parent
from bench.workers.loop import Fault, Serve, Server


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, WorkerError | NotApplicable) else f"{type(error).__name__}: {text}"


def _example(loaded: Loaded) -> tuple[Array, ...]:
    """One row of the ids 1…32 (or 1…fixed_tokens), or one image of zeros."""
    if loaded.image_size is not None:
        return (np.zeros((1, 3, loaded.image_size, loaded.image_size), dtype=np.float32),)
    ids = np.arange(1, (loaded.fixed_tokens or 32) + 1, dtype=np.int64).reshape(1, -1)
    return ids, np.ones_like(ids)


def _parser(knobs: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="worker", allow_abbrev=False)

    def setting(text: str) -> tuple[str, str]:
        key, equals, value = text.partition("=")
        if not equals or key not in knobs:
            raise argparse.ArgumentTypeError(f"{text!r}: known keys are {', '.join(knobs) or 'none'} (KEY=VALUE)")
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
    return parser


def _take_stdout() -> Any:
    """A private copy of stdout; fd 1 then points at stderr, since runtimes print."""
    private = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return private


def _fail(line: str, code: int) -> NoReturn:
    print(line, file=sys.stderr, flush=True)
    # Runtimes' threads may not end by themselves after a failed load.
    os._exit(code)


def run(version: Callable[[], Mapping[str, str]], load: Callable[[Options], Loaded], knobs: Mapping[str, Sequence[str]]) -> None:
    """The worker's `main`. `knobs` maps each `--set` key to the values it takes (none listed: any value)."""
    protocol = _take_stdout()
    bind_to_parent()
    parser = _parser(list(knobs))
    flags = parser.parse_args()
    for key, value in flags.set:
        if knobs[key] and value not in knobs[key]:
            parser.error(f"--set {key}={value}: takes {', '.join(knobs[key])}")
    try:
        if flags.version:
            print(json.dumps(dict(version())), file=protocol, flush=True)
            return
        for name in ("model", "precision", "sessions", "threads", "pad_id"):
            if getattr(flags, name) is None:
                parser.error(f"--{name.replace('_', '-')} is missing")
        if not flags.model.is_dir():
            raise WorkerError(f"artefact folder {flags.model}: not found; run `invoke export`")
        options = Options(flags.model, flags.precision, flags.sessions, flags.threads, dict(flags.set))
        began = time.monotonic_ns()
        loaded = _loaded(load, options)
        load_ns = time.monotonic_ns() - began
        calls_ns = []
        for _ in range(2):
            began = time.monotonic_ns()
            loaded.sessions[0](*_example(loaded))
            calls_ns.append(time.monotonic_ns() - began)
        for session in loaded.sessions[1:]:
            session(*_example(loaded))
    except NotApplicable as reason:
        _fail(f"not-applicable {_one_line(reason)}", 3)
    except Exception as error:
        _fail(f"error: {_one_line(error)}", 1)
    settings = {"sessions": flags.sessions, "threads": flags.threads, **loaded.settings, **dict(flags.set)}
    if flags.fault is not None:
        settings["fault"] = flags.fault.text
    ready = {"load_ns": load_ns, "first_ns": calls_ns[0], "second_ns": calls_ns[1], "dim": loaded.dim, "settings": settings}
    print("ready", json.dumps(ready), file=protocol, flush=True)
    _converse(Server(loaded, flags.pad_id, flags.fault), protocol)


def _loaded(load: Callable[[Options], Loaded], options: Options) -> Loaded:
    """The sessions in this process, or in processes of their own where the knob says so."""
    if options.sessions == 1 or options.settings.get(PROCESSES) != "1":
        return load(options)
    return processes.load(load, options)


def _converse(server: Server, protocol: Any) -> None:
    """Answer lines until `quit` or the end of stdin."""
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            return
        try:
            if not words or words[0] != "serve" or len(words) != 8:
                raise ValueError("wants `serve PLAN FIRST COUNT RATE BATCH SECONDS OUT` or `quit`")
            answer = f"served {server.serve(Serve.parse(words[1:]))}"
        except Exception as error:
            answer = f"failed 0 {_one_line(error)}"
        print(answer, file=protocol, flush=True)
