"""The site on this machine, built again whenever what it is made from changes."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.core import paths
from bench.core.errors import BenchError
from site_src import generate
from site_src.page_writer import HERE

LOOK_S = 0.7


State = tuple[tuple[str, int, int], ...]


def state(sources: Sequence[Path]) -> State:
    """Name, time and size of every file: what changes when one of them does."""
    files = [file for source in sources for file in ([source] if source.is_file() else sorted(source.rglob("*")))]
    found = []
    for file in files:
        try:
            told = file.stat()
        except FileNotFoundError:  # it went away while we looked
            continue
        if file.suffix != ".pyc" and not file.is_dir():
            found.append((str(file), told.st_mtime_ns, told.st_size))
    return tuple(found)


def watch(sources: Sequence[Path], seen: State, build: Callable[[], None], ended: threading.Event, look_s: float = LOOK_S) -> None:
    """Build whenever `sources` differ from what was `seen` when they were built last, until `ended`.

    It waits until two looks find the same, so that no half-written file is built. A build that fails is told, and the old site stays.
    """
    before = seen
    while not ended.wait(look_s):
        now = state(sources)
        settled, before = now == before, now
        if now == seen or not settled:
            continue
        seen = now
        began = time.monotonic()
        try:
            build()
        except BenchError as error:
            print(f"error: {error}")
        else:
            print(f"built again in {time.monotonic() - began:.1f} s")


def server(port: int, folder: Path = paths.SITE) -> http.server.ThreadingHTTPServer:
    """A server of `folder` on 127.0.0.1; port 0 takes a free one.

    Raises:
        BenchError: the port is taken.
    """

    class Handler(http.server.SimpleHTTPRequestHandler):
        """The folder is replaced whole by each build, and nothing of it is to be kept by a browser."""

        def end_headers(self) -> None:
            self.send_header("Cache-Control", "no-store")
            super().end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Requests are no news."""

    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=str(folder)))
    except OSError as error:
        raise BenchError(f"port {port}: cannot be served on ({error.strerror}); take another with --port") from None


def serve(port: int) -> None:
    """Build, serve, and build again on changes of the database, the catalogue, the templates and styles, until interrupted.

    A change of the generator's own Python code takes a new start.
    """
    with server(port) as listening:
        build = functools.partial(generate.build, paths.DATABASE, paths.SITE, paths.PAGES)
        sources = [
            paths.DATABASE,
            paths.CATALOG,
            HERE / "pages",
            HERE / "assets",
            HERE / "theme",
            paths.ROOT / "mkdocs.yml",
        ]
        seen = state(sources)
        build()
        ended = threading.Event()
        watcher = threading.Thread(target=watch, args=(sources, seen, build, ended), daemon=True)
        watcher.start()
        print(f"http://127.0.0.1:{listening.server_port}/ (built again on every change; Ctrl-C ends it)")
        try:
            listening.serve_forever()
        finally:
            ended.set()
