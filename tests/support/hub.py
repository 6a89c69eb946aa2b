"""A small stand-in of the Hub on 127.0.0.1: the calls that huggingface_hub makes to fetch a snapshot, over a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN = "hf_let-me-in"


@dataclass
class Hub:
    """Serves `folder` as one repository at one revision, to which `main` points; `calls` are the requests that came in.

    `cut` breaks the connection off after so many bytes of a file's body, once; `ranges` are the Range headers that came in.
    """

    folder: Path
    repo: str = "org/model"
    revision: str = "0123456789abcdef0123456789abcdef01234567"
    gated: bool = False
    calls: list[str] = field(default_factory=list)
    endpoint: str = ""
    cut: int = 0
    ranges: list[str] = field(default_factory=list)

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    @contextmanager
    def serving(self) -> Iterator[Hub]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *arguments: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                path = unquote(urlsplit(self.path).path).strip("/")
                hub.calls.append(f"{self.command} {path}")
                if path.startswith(f"api/models/{hub.repo}"):
                    rest = path.removeprefix(f"api/models/{hub.repo}").strip("/").split("/")
                    if len(rest) > 1 and rest[1] not in (hub.revision, "main"):
                        return self.refuse(404, "RevisionNotFound")
                    names = [file.relative_to(hub.folder).as_posix() for file in hub.files()]
                    if rest[0] == "tree":
                        sizes = {name: (hub.folder / name).stat().st_size for name in names}
                        entries = [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes.items()]
                        return self.send(json.dumps(entries).encode(), {"Content-Type": "application/json"}, body)
                    info = {"id": hub.repo, "sha": hub.revision, "siblings": [{"rfilename": name} for name in names]}
                    return self.send(json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
                if not path.startswith(f"{hub.repo}/resolve/{hub.revision}/"):
                    return self.refuse(401 if path.startswith("api/") else 404, "RepoNotFound")
                if hub.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    return self.refuse(401, "GatedRepo")
                file = hub.folder / path.removeprefix(f"{hub.repo}/resolve/{hub.revision}/")
                if not file.is_file():
                    return self.refuse(404, "EntryNotFound")
                content = file.read_bytes()
                etag = hashlib.sha256(content).hexdigest()
                self.send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": hub.revision, "Accept-Ranges": "bytes"}, body)

            def send(self, content: bytes, headers: dict[str, str], body: bool) -> None:
                begin = 0
                if (asked := self.headers.get("Range")) and body:
                    hub.ranges.append(asked)
                    begin = int(asked.removeprefix("bytes=").split("-")[0])
                self.send_response(206 if begin else 200)
                for name, value in headers.items():
                    self.send_header(name, value)
                if begin:
                    self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - begin))
                self.end_headers()
                if body and 0 < hub.cut < len(content):
                    self.wfile.write(content[begin : hub.cut])
                    hub.cut = 0
                    self.close_connection = True
                elif body:
                    self.wfile.write(content[begin:])

            def refuse(self, status: int, code: str) -> None:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("X-Error-Message", code)
                self.send_header("Content-Length", "0")
                self.end_headers()

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
