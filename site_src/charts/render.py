"""Rendering: Vega-Lite specification → SVG → PNG by vl-convert, cached under build/site/pictures.

vl-convert holds Python's global lock while it draws. Within `worker_processes` it therefore runs in other processes, while this one
writes pages.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import vl_convert

from bench.core import paths

VL_VERSION = "6.4"
#: Part of each cache key: another renderer draws other pictures.
RENDERER = f"vl-convert {version('vl-convert-python')}, Vega-Lite {VL_VERSION}"

#: The pool of processes that draw; empty outside of `worker_processes`.
workers: list[Executor] = []


@contextmanager
def worker_processes() -> Iterator[None]:
    """Draw in as many processes as there are CPUs. They are started by the first picture that is not cached."""
    spawn = multiprocessing.get_context("spawn")  # a forked process would inherit DuckDB's locks without its threads
    with ProcessPoolExecutor(os.cpu_count(), spawn, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        workers.append(pool)
        try:
            yield
        finally:
            workers.pop()
            pool.shutdown(cancel_futures=True)


def svg(spec: Mapping[str, Any]) -> Future[bytes]:
    """The SVG of a Vega-Lite specification, with the ids that Vega gives."""
    return render("svg", draw_svg, json.dumps(spec, sort_keys=True))


def png(svg_text: str, scale: float = 2) -> Future[bytes]:
    """The PNG of an SVG that needs no stylesheet, at `scale` pixels per unit of the SVG."""
    return render("png", draw_png, svg_text, scale)


def vega() -> Future[bytes]:
    """Vega, Vega-Lite and vega-embed of the version that draws the pictures, as one JavaScript module."""
    return render("js", bundle, "export { vegaEmbed };")


def render(suffix: str, draw: Callable[..., bytes], *source: str | float) -> Future[bytes]:
    """`draw(*source)`, cached by renderer and source in a file with this suffix; in a worker process where there is one."""
    digest = hashlib.sha256(f"{RENDERER} {source}".encode()).hexdigest()[:32]
    file = paths.BUILD / "site" / "pictures" / f"{digest}.{suffix}"
    if workers and not file.exists():
        return workers[-1].submit(cached, file, draw, *source)
    future: Future[bytes] = Future()
    future.set_result(cached(file, draw, *source))
    return future


def cached(file: Path, draw: Callable[..., bytes], *source: str | float) -> bytes:
    """The content of `file`; if it does not exist, `draw(*source)`, which is written to it."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        unfinished.write_bytes(draw(*source))
        unfinished.rename(file)
    return file.read_bytes()


def draw_svg(spec: str) -> bytes:
    return str(vl_convert.vegalite_to_svg(spec, vl_version=VL_VERSION)).encode()


def draw_png(svg_text: str, scale: float) -> bytes:
    return bytes(vl_convert.svg_to_png(svg_text, scale=scale))


def bundle(snippet: str) -> bytes:
    return str(vl_convert.javascript_bundle(snippet, vl_version=VL_VERSION)).encode()


def inline(svg_bytes: bytes, prefix: str) -> str:
    """An SVG to embed in HTML: on one line, its ids numbered from 0 behind `prefix`.

    Vega counts ids on from chart to chart, so that its own would clash between charts and differ between builds.
    """
    svg_text = svg_bytes.decode().replace("\n", " ")
    ids = {old: f"{prefix}-{count}" for count, old in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg_text)))}
    svg_text = re.sub(r'\bid="([^"]+)"', lambda match: f'id="{ids[match.group(1)]}"', svg_text)
    return re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{ids[match.group(1)]})", svg_text)
