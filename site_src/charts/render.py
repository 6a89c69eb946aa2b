"""From a specification to its SVG and PNG: what vl-convert draws, kept under build/ so that a second build draws only what is new.

vl-convert holds the interpreter while it draws, so that within `side_by_side` other processes do it, and the pages are written meanwhile.
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
DRAWN_BY = f"vl-convert {version('vl-convert-python')}, Vega-Lite {VL_VERSION}"

drawers: list[Executor] = []  # the processes that draw, within `side_by_side`


@contextmanager
def side_by_side() -> Iterator[None]:
    """Within this, pictures are drawn by as many processes as there are CPUs; they begin with the first that was not kept."""
    fresh = multiprocessing.get_context("spawn")  # a copy of this process would have no threads of DuckDB's
    with ProcessPoolExecutor(os.cpu_count(), fresh, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        drawers.append(pool)
        try:
            yield
        finally:
            drawers.pop()
            pool.shutdown(cancel_futures=True)


def svg(spec: Mapping[str, Any]) -> Future[bytes]:
    """The SVG of a Vega-Lite specification, with Vega's own ids."""
    return asked("svg", draw_svg, json.dumps(spec, sort_keys=True))


def png(svg_text: str, scale: float = 2) -> Future[bytes]:
    """The PNG of an SVG that stands alone."""
    return asked("png", draw_png, svg_text, scale)


def vega() -> Future[bytes]:
    """Vega, Vega-Lite and the embedder of the version that draws the pictures, as one JavaScript module."""
    return asked("js", bundle, "export { vegaEmbed };")


def asked(kind: str, make: Callable[..., bytes], *source: str | float) -> Future[bytes]:
    """What `make` draws from `source`, from its file where it was drawn before."""
    digest = hashlib.sha256(f"{DRAWN_BY} {source}".encode()).hexdigest()[:32]
    file = paths.BUILD / "site" / "pictures" / f"{digest}.{kind}"
    if drawers and not file.exists():
        return drawers[-1].submit(kept, file, make, *source)
    done: Future[bytes] = Future()
    done.set_result(kept(file, make, *source))
    return done


def kept(file: Path, make: Callable[..., bytes], *source: str | float) -> bytes:
    """The content of `file`, made first where it is missing."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        unfinished.write_bytes(make(*source))
        unfinished.rename(file)
    return file.read_bytes()


def draw_svg(spec: str) -> bytes:
    return str(vl_convert.vegalite_to_svg(spec, vl_version=VL_VERSION)).encode()


def draw_png(svg_text: str, scale: float) -> bytes:
    return bytes(vl_convert.svg_to_png(svg_text, scale=scale))


def bundle(snippet: str) -> bytes:
    return str(vl_convert.javascript_bundle(snippet, vl_version=VL_VERSION)).encode()


def inline(drawn: bytes, prefix: str) -> str:
    """An SVG to stand in a page: on one line, and with ids of its own, since several stand there, counted anew, since Vega counts on from
    chart to chart."""
    svg_text = drawn.decode().replace("\n", " ")
    names = {old: f"{prefix}-{count}" for count, old in enumerate(dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg_text)))}
    svg_text = re.sub(r'\bid="([^"]+)"', lambda found: f'id="{names[found.group(1)]}"', svg_text)
    return re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{names[found.group(1)]})", svg_text)
