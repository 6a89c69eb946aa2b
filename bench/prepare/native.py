"""Builds the native workers on first use, and keeps each by a hash of its sources and compilers.

`build/native/NAME` is the binary of a worker, `NAME.json` beside it the hash of its sources and compilers. Intermediate files lie in a
cache outside the clone (`BENCH_CACHE`, by default ~/.cache/embedding-model-benchmarking), so that a fresh clone
of known sources compiles nothing.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.catalog import Framework
from bench.core import files, paths
from bench.core.errors import BenchError
from bench.core.progress import Progress
from bench.prepare import onnx_headers

CACHE = Path(os.environ.get("BENCH_CACHE") or Path.home() / ".cache" / "embedding-model-benchmarking")
CPP = paths.NATIVE / "onnx-cpp"
#: Folders of native/ that are no part of the Rust workspace's sources.
NOT_RUST = ("onnx-cpp", "target")
#: Environment variables that change what a compiler makes.
FLAGS = {"cargo": ("RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_BUILD_TARGET"), "cmake": ("CXX", "CXXFLAGS", "LDFLAGS", onnx_headers.GIVEN)}
TARGET = CACHE / "cargo-target"
CARGO_ENV = {"CARGO_TERM_PROGRESS_WHEN": "always", "CARGO_TERM_PROGRESS_WIDTH": "100", "CARGO_TERM_COLOR": "never"}

#: `Building [==>   ] 12/150: gemm` by cargo, `[3/5] Building …` by ninja.
_COUNT = re.compile(r"(?:\]\s+(?P<done>\d+)/(?P<total>\d+)(?::\s*(?P<item>.*))?)|(?:^\[(?P<ndone>\d+)/(?P<ntotal>\d+)\])")


@dataclass(frozen=True)
class Origin:
    """Hashes of the sources and of the compilers (with their flags) of a binary. `tools` is None where a compiler is missing."""

    sources: str
    tools: str | None

    def of(self, stamp: Mapping[str, str]) -> bool:
        """Whether a binary with this stamp is up to date. Where a compiler is missing, its sources alone decide."""
        return stamp.get("sources") == self.sources and self.tools in (None, stamp.get("tools"))


def binary_name(framework: Framework, command: Sequence[str] = ()) -> str:
    """The name of its binary, crate or CMake target: the last part of its command (or of another one of its commands)."""
    return (command or framework.command)[0].rpartition("/")[2]


def feature(framework: Framework, name: str) -> str:
    """The cargo feature of another binary of the same crate: `candle-x86-v4` is `candle` with the feature `x86-v4`.

    Raises:
        BenchError: the name does not say so.
    """
    package = binary_name(framework)
    if name == package:
        return ""
    if framework.build != "cargo" or not name.startswith(f"{package}-"):
        raise BenchError(f"{framework.name}: {name!r} cannot be built: name it {package}-FEATURE after a feature of its crate")
    return name.removeprefix(f"{package}-")


def ensure(framework: Framework, command: Sequence[str] = ()) -> Path:
    """The worker's binary, built if its sources or compilers have changed. A variant's `command` may name another one of the crate.

    Raises:
        BenchError: it cannot be built; names the reason and the cure.
    """
    if framework.build is None:
        raise BenchError(f"{framework.name}: there is nothing to build; give it `build: cargo` or `build: cmake` in frameworks.yaml")
    name = binary_name(framework, command)
    target = paths.BINARIES / name
    if _is_current(target, _origin(framework.build)):
        return target
    with_feature = feature(framework, name)
    reason = missing(framework, command)
    if reason:
        raise BenchError(f"{framework.name}: {reason}")
    with _one_builder():
        origin = _origin(framework.build)
        if not _is_current(target, origin):
            kept = CACHE / "workers" / f"{name}-{files.short_hash(origin.sources, origin.tools)}"
            if not kept.is_file():
                if framework.build == "cargo":
                    folder = _cargo(binary_name(framework), with_feature)
                    _install(folder / binary_name(framework), kept)
                else:
                    with _cmake(name, needs_headers="onnxruntime" in framework.libraries) as folder:
                        _install(folder / name, kept)
            _install(kept, target)
            files.write_json(_stamp(target), {"sources": origin.sources, "tools": origin.tools})
    return target


def build_all(frameworks: Sequence[Framework]) -> list[Path]:
    """Build all, and raise what failed at the end, so that a broken toolchain does not keep the others from being built."""
    progress, built, errors = Progress(), [], []
    for framework in frameworks:
        try:
            path = ensure(framework)
        except BenchError as error:
            errors.append(str(error))
            progress.say(str(error))
        else:
            built.append(path)
            progress.say(f"{framework.name}: {path}")
    if errors:
        raise BenchError(errors[0] if len(errors) == 1 else f"{len(errors)} workers could not be built: see the reasons above")
    return built


def missing(framework: Framework, command: Sequence[str] = ()) -> str | None:
    """Why this worker can neither be run as built nor be built here, with the cure; None where nothing is missing. Builds nothing."""
    if framework.build is None:
        return None
    if not (paths.NATIVE / "Cargo.toml").is_file():
        return f"{paths.NATIVE} is missing: run from a clone of the repository (`pip install -e .`)"
    if _is_current(paths.BINARIES / binary_name(framework, command), _origin(framework.build)):
        return None
    if not sys.platform.startswith("linux"):
        return "the native workers need Linux: measure there"
    return _missing_rust() if framework.build == "cargo" else _missing_cpp()


def lint() -> None:
    """Hold the native code to rustfmt, to clippy and to the C++ compiler, warnings being errors.

    Raises:
        BenchError: a complaint, or a tool that is missing.
    """
    if reason := _missing_rust() or _missing_cpp():
        raise BenchError(f"lint: {reason}")
    cargo = ["cargo", "clippy", "--release", "--locked", "--workspace", "--all-targets"]
    clippy = [*cargo, "--target-dir", str(TARGET), "--", "-D", "warnings"]
    with _one_builder():
        for name, command in (("rustfmt", ["cargo", "fmt", "--all", "--check"]), ("clippy", clippy)):
            if log := _run(name, command, paths.NATIVE, CARGO_ENV):
                raise BenchError(f"{name}: {_complaint(log)}; the whole story is in {_log(name)}")
        with _cmake("onnx-cpp", needs_headers=True):
            pass


def onnxruntime_library() -> Path:
    """The shared library of the installed onnxruntime wheel, which the Rust and C++ workers load; nothing is imported for it.

    Raises:
        BenchError: the wheel is not installed, or holds no such file.
    """
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise BenchError("onnxruntime is not installed: pip install -e .")
    folder = Path(spec.origin).parent / "capi"
    libraries = sorted(folder.glob("libonnxruntime.so.1.*"))
    if len(libraries) != 1:
        raise BenchError(f"{folder} holds {len(libraries)} files libonnxruntime.so.1.*, not one: pip install --force-reinstall onnxruntime")
    return libraries[0]


def _missing_rust() -> str | None:
    if not shutil.which("cargo") or not shutil.which("rustc"):
        return "no Rust: install it from https://rustup.rs"
    needed = tomllib.loads((paths.NATIVE / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    installed = re.match(r"rustc (\d+\.\d+)", _output_of(("rustc", "--version")) or "")
    if not installed:
        return "`rustc --version` does not run: rustup default stable"
    if [int(part) for part in installed[1].split(".")] < [int(part) for part in needed.split(".")[:2]]:
        return f"Rust {installed[1]} is older than {needed}: rustup update stable"
    return None


def _missing_cpp() -> str | None:
    absent = [package for package, program in (("g++", _compiler()), ("cmake", shutil.which("cmake"))) if not program]
    return f"no {' and no '.join(absent)}: {_install_hint(*absent)}" if absent else None


def _install_hint(*packages: str) -> str:
    return f"apt-get install {' '.join(packages)}" if shutil.which("apt-get") else f"install {' and '.join(packages)}"


def _compiler() -> str | None:
    """The C++ compiler that CMake will take."""
    given = os.environ.get("CXX")
    return shutil.which(given) if given else next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


@functools.cache
def _output_of(command: tuple[str, ...]) -> str | None:
    """The output of a tool; None where it is not there or fails. Run in native/, where a toolchain file would count."""
    try:
        return subprocess.run(command, cwd=paths.NATIVE, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _origin(build: str) -> Origin:
    """The origin that a binary would have if it were built now."""
    if build == "cargo":
        roots = [path for path in sorted(paths.NATIVE.iterdir()) if path.name not in NOT_RUST]
        versions = [_output_of(("cargo", "--version")), _output_of(("rustc", "-vV"))]
    else:
        roots, compiler = [CPP], _compiler()
        versions = [_output_of(("cmake", "--version")), _output_of((compiler, "--version")) if compiler else None]
    digest = hashlib.sha256()
    for root in roots:
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(paths.NATIVE)}\0{files.sha256(path)}\n".encode())
    flags = {name: os.environ.get(name, "") for name in FLAGS[build]}
    tools = None if None in versions else files.short_hash(versions, flags, platform.machine())
    return Origin(digest.hexdigest(), tools)


def _stamp(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def _is_current(target: Path, origin: Origin) -> bool:
    try:
        return target.is_file() and origin.of(files.read_json(_stamp(target)))
    except (OSError, ValueError, AttributeError):
        return False


def _install(source: Path, target: Path) -> None:
    """Copy a binary so that its final name is whole, also where the old one is running."""
    with files.whole_file(target) as temporary:
        shutil.copy2(source, temporary)


@contextmanager
def _one_builder() -> Iterator[None]:
    """One build at a time on this machine: two share the cache and would only slow each other down."""
    try:
        CACHE.mkdir(parents=True, exist_ok=True)
        lock = (CACHE / "lock").open("w")
    except OSError as error:
        raise BenchError(f"cache folder {CACHE}: {error.strerror}; set BENCH_CACHE to a folder of yours") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            Progress().say("another build is at work: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cargo(name: str, with_feature: str = "") -> Path:
    """Build a crate; the folder of its binaries."""
    command = ["cargo", "build", "--release", "--locked", "--package", name, "--target-dir", str(TARGET)]
    command += ["--features", with_feature] if with_feature else []
    log = _run(name, command, paths.NATIVE, CARGO_ENV)
    if log:
        raise BenchError(f"{name}: {_complaint(log)}; {_rust_cure(name, log)}")
    return TARGET / os.environ.get("CARGO_BUILD_TARGET", "") / "release"


def _rust_cure(name: str, log: str) -> str:
    if re.search(r"Could not resolve|failed to download|failed to fetch|Connection refused|timed out|spurious network", log):
        return f"crates cannot be downloaded here: go online once for `invoke build --framework {name}`"
    return f"the whole story is in {_log(name)}; then `invoke build --framework {name}`"


@contextmanager
def _cmake(name: str, needs_headers: bool) -> Iterator[Path]:
    """Build a target in a folder that is gone afterwards: a build of seconds needs no half-old state. Yields the folder of binaries."""
    headers = onnx_headers.Headers(None, ())
    defines = {"CMAKE_BUILD_TYPE": "Release", "FETCHCONTENT_BASE_DIR": str(CACHE / "fetched")}
    if needs_headers:
        with Progress().waiting("looking for the headers of ONNX Runtime"):
            headers = onnx_headers.find(CACHE)
        defines |= {"ONNXRUNTIME_INCLUDE": str(headers.folder)} if headers.folder else {"ONNXRUNTIME_FETCH": "ON"}
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="cmake-") as folder:
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        configure = ["cmake", "-S", str(CPP), "-B", folder, *generator, *(f"-D{key}={value}" for key, value in defines.items())]
        log = _run(name, configure, paths.NATIVE, {})
        if log and "ONNXRUNTIME_FETCH" in defines:
            tried = ", ".join([*headers.tried, "the official release archive (download failed)"])
            raise BenchError(
                f"{name}: no headers of ONNX Runtime; tried {tried}: set {onnx_headers.GIVEN} to a folder with {onnx_headers.HEADER}"
            )
        targets = ["all"] if needs_headers else [name]
        log = log or _run(name, ["cmake", "--build", folder, "--target", *targets], paths.NATIVE, {})
        if log:
            raise BenchError(f"{name}: {_complaint(log)}; the whole story is in {_log(name)}; then `invoke build --framework {name}`")
        yield Path(folder)


def _log(name: str) -> Path:
    return paths.BINARIES / f"{name}.log"


def _complaint(log: str) -> str:
    """The first line of a build's output that says what is wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)), lines[-1] if lines else "the build failed")[:240]


def _run(name: str, command: Sequence[str], folder: Path, env: Mapping[str, str]) -> str:
    """Run one step of a build behind a progress bar; its output if it failed, else an empty string."""
    lines: list[str] = []
    with Progress().counted(f"building {name}") as reached, _child(command, folder, env) as child:
        for line in _lines(child):
            match = _COUNT.search(line)
            if match:
                reached(int(match["done"] or match["ndone"]), int(match["total"] or match["ntotal"]), match["item"] or "")
            else:
                lines.append(line)
        failed = child.wait() != 0
    text = "\n".join(lines) + "\n"
    files.write_text(_log(name), text)
    return text if failed else ""


@contextmanager
def _child(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A build in its own process group, which is ended when we are interrupted."""
    child = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        yield child
    except BaseException:
        os.killpg(child.pid, signal.SIGTERM)
        raise
    finally:
        child.wait()
        if child.stdout:
            child.stdout.close()


def _lines(child: subprocess.Popen[bytes]) -> Iterator[str]:
    """Its output as it comes; progress bars end their lines with a carriage return."""
    assert child.stdout
    rest = ""
    while chunk := os.read(child.stdout.fileno(), 65536):
        *whole, rest = re.split(r"[\r\n]+", rest + chunk.decode(errors="replace"))
        yield from whole
    if rest:
        yield rest
