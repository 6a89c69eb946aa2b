"""`invoke preview`: the site served on this machine, and built again whenever its sources change."""

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

#: Seconds between two looks at the sources.
POLL_S = 0.7

#: Name, modification time in ns and size in bytes of every file.
State = tuple[tuple[str, int, int], ...]


def state(sources: Sequence[Path]) -> State:
    """The state of all files in `sources`, which are files and folders."""
    files = [file for source in sources for file in ([source] if source.is_file() else sorted(source.rglob("*")))]
    states = []
    for file in files:
        try:
            status = file.stat()
        except FileNotFoundError:  # removed since it was listed
            continue
        if file.suffix != ".pyc" and not file.is_dir():
            states.append((str(file), status.st_mtime_ns, status.st_size))
    return tuple(states)


def watch(sources: Sequence[Path], built: State, build: Callable[[], None], ended: threading.Event, poll_s: float = POLL_S) -> None:
    """Build whenever the state of `sources` differs from `built`, that of the last build, until `ended` is set.

    A change is built once two polls agree, so that no half-written file is read. If a build fails, its error is printed and the old site
    stays.
    """
    before = built
    while not ended.wait(poll_s):
        now = state(sources)
        settled, before = now == before, now
        if now == built or not settled:
            continue
        built = now
        began = time.monotonic()
        try:
            build()
        except BenchError as error:
            print(f"error: {error}")
        else:
            print(f"built again in {time.monotonic() - began:.1f} s")


def server(port: int, folder: Path = paths.SITE) -> http.server.ThreadingHTTPServer:
    """An HTTP server of `folder` on 127.0.0.1. Port 0 takes a free one.

    Raises:
        BenchError: the port is taken.
    """

    class Handler(http.server.SimpleHTTPRequestHandler):
        """Tells browsers to cache nothing: each build replaces the whole folder."""

        def end_headers(self) -> None:
            self.send_header("Cache-Control", "no-store")
            super().end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing for a request."""

    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=str(folder)))
    except OSError as error:
        raise BenchError(f"port {port}: cannot be served on ({error.strerror}); take another with --port") from None


def serve(port: int) -> None:
    """Build the site, serve it, and build it again on changes of the database, the catalogue, templates and styles, until interrupted.

    Changes of the generator's own Python code take effect after a restart.
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
        built = state(sources)
        build()
        ended = threading.Event()
        watcher = threading.Thread(target=watch, args=(sources, built, build, ended), daemon=True)
        watcher.start()
        print(f"http://127.0.0.1:{listening.server_port}/ (built again on every change; Ctrl-C ends it)")
        try:
            listening.serve_forever()
        finally:
            ended.set()
