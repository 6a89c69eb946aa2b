"""Finds the C++ headers of ONNX Runtime: given, the system's, or a Debian package, for machines that reach a mirror but not GitHub.

The wheel brings the library but no headers. Headers of API 17 and later compile a worker that runs with any later library, since the
worker asks for API version 21 at most. Where none of these is found, CMake fetches the official release archive from GitHub.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.core import files
from bench.core.errors import BenchError

GIVEN = "ONNXRUNTIME_INCLUDE"
HEADER = "onnxruntime_cxx_api.h"
OLDEST_API = 17
SYSTEM = (
    "/usr/include/onnxruntime",
    "/usr/include/onnxruntime/core/session",
    "/usr/local/include/onnxruntime",
    "/usr/local/include/onnxruntime/core/session",
)
#: Debian's first release with a package of the headers.
PACKAGE, SUITE = "libonnxruntime-dev", "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Headers:
    """`folder` holds the headers (None: no step found any); `tried` says of each earlier step why it found none."""

    folder: Path | None
    tried: tuple[str, ...]


class _NotFound(Exception):
    """Why a step found nothing."""


def find(cache: Path) -> Headers:
    """Try each step until one finds the headers.

    Raises:
        BenchError: ONNXRUNTIME_INCLUDE is set to a folder without usable headers.
    """
    given = os.environ.get(GIVEN)
    if given:
        try:
            return Headers(_checked(Path(given)), ())
        except _NotFound as reason:
            raise BenchError(f"{GIVEN}={given}: {reason}; set it to the folder that holds {HEADER}, or unset it") from None
    steps: tuple[tuple[str, Callable[[], Path]], ...] = (
        ("system headers", _system),
        (f"Debian package {PACKAGE}", lambda: _debian(cache)),
    )
    tried = [f"{GIVEN} (not set)"]
    for name, step in steps:
        try:
            return Headers(step(), tuple(tried))
        except _NotFound as reason:
            tried.append(f"{name} ({reason})")
    return Headers(None, tuple(tried))


def _checked(folder: Path) -> Path:
    """`folder`, if its headers are there and new enough.

    Raises:
        _NotFound: they are not; says which.
    """
    header = folder / "onnxruntime_c_api.h"
    if not (folder / HEADER).is_file() or not header.is_file():
        raise _NotFound(f"no {HEADER} in it")
    match = re.search(r"^#define ORT_API_VERSION (\d+)", header.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    if not match or int(match[1]) < OLDEST_API:
        raise _NotFound(f"headers of API {match[1] if match else 'unknown'}, {OLDEST_API} or later is wanted")
    return folder


def _system() -> Path:
    reasons = []
    for folder in SYSTEM:
        if Path(folder).is_dir():
            try:
                return _checked(Path(folder))
            except _NotFound as reason:
                reasons.append(f"{folder}: {reason}")
    raise _NotFound("; ".join(reasons) or "none under /usr/include or /usr/local/include")


def _debian(cache: Path) -> Path:
    """Download and unpack the package from the machine's own mirror, without any change to the system."""
    unpacked = cache / "onnxruntime-headers" / platform.machine()
    include = unpacked / "usr" / "include" / "onnxruntime"
    if include.is_dir():
        return _checked(include)
    if not re.search(r"^ID=\"?debian\"?$", Path("/etc/os-release").read_text(), re.MULTILINE):
        raise _NotFound("this is not Debian")
    for tool in ("apt-get", "dpkg"):
        if not shutil.which(tool):
            raise _NotFound(f"no {tool}")
    if not KEYRING.is_file():
        raise _NotFound(f"no {KEYRING}")
    uri = next(_mirrors(), None)
    if uri is None:
        raise _NotFound("the machine's sources name no Debian mirror")
    with files.whole_folder(unpacked) as folder:
        _download(uri, folder / "apt")
        package = next((folder / "apt").glob(f"{PACKAGE}_*.deb"))
        _run(["dpkg", "-x", str(package), str(folder)], folder)
        shutil.rmtree(folder / "apt")
    return _checked(include)


def _mirrors() -> Iterator[str]:
    """The Debian archives that the machine's own sources name, read by apt itself."""
    listed = _run(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], Path("/"))
    for uri in dict.fromkeys(listed.split()):
        if uri.rstrip("/").endswith("/debian"):
            yield uri


def _download(uri: str, folder: Path) -> None:
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={KEYRING}] {uri} {SUITE} main\n")
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",  # apt's own user may not write into a home folder
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    }
    apt = ["apt-get", "-q", *(part for key, value in settings.items() for part in ("-o", f"{key}={value}"))]
    _run([*apt, "update", "--error-on=any"], folder)
    _run([*apt, "download", PACKAGE], folder)


def _run(command: list[str], folder: Path) -> str:
    """The output of a command.

    Raises:
        _NotFound: it failed; the reason is its last line on stderr.
    """
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if process.returncode != 0:
        lines = [line.strip() for line in process.stderr.splitlines() if line.strip()]
        raise _NotFound(lines[-1] if lines else f"{command[0]} ended with {process.returncode}")
    return process.stdout
