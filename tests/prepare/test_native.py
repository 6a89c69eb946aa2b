"""Native builds: built once, rebuilt for a reason, never half there, and every lack said with its cure."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import catalog
from bench.catalog import Framework
from bench.core import files, paths
from bench.core.errors import BenchError
from bench.prepare import native, onnx_headers

pytestmark = pytest.mark.slow

FRAMEWORKS = catalog.load().frameworks
NULL_CPP, ONNX_CPP, NULL_RUST = FRAMEWORKS["null-cpp"], FRAMEWORKS["onnx-cpp"], FRAMEWORKS["null-rust"]
LACKING = native.missing(NULL_CPP) or native.missing(NULL_RUST)


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone of native/ of one's own, an empty build folder and an empty cache."""
    folder = tmp_path / "native"
    shutil.copytree(paths.NATIVE, folder, ignore=shutil.ignore_patterns("target"))
    monkeypatch.setattr(paths, "NATIVE", folder)
    monkeypatch.setattr(paths, "BINARIES", tmp_path / "build")
    monkeypatch.setattr(native, "CPP", folder / "onnx-cpp")
    monkeypatch.setattr(native, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(native, "TARGET", tmp_path / "cache" / "cargo-target")
    return folder


@pytest.fixture
def toolchain() -> None:
    if LACKING:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(LACKING)


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts the steps that are really run."""
    seen: list[str] = []
    run = native._run

    def counted(name: str, command: list[str], folder: Path, env: dict[str, str]) -> str:
        seen.append(command[0])
        return run(name, command, folder, env)

    monkeypatch.setattr(native, "_run", counted)
    return seen


def version(binary: Path) -> int:
    return subprocess.run([binary, "--version"], capture_output=True, check=False).returncode


def only_tools(folder: Path, monkeypatch: pytest.MonkeyPatch, *tools: str) -> None:
    """A PATH on which these tools are all there is."""
    folder.mkdir()
    for tool in tools:
        found = shutil.which(tool)
        assert found, tool
        (folder / tool).symlink_to(found)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    native._output_of.cache_clear()


@pytest.fixture(autouse=True)
def fresh_answers() -> None:
    native._output_of.cache_clear()


@pytest.mark.native
@pytest.mark.usefixtures("toolchain")
@pytest.mark.parametrize("framework", [NULL_CPP, NULL_RUST], ids=lambda framework: framework.name)
def test_a_worker_is_built_once_and_again_when_its_sources_change(clone: Path, builds: list[str], framework: Framework) -> None:
    binary = native.ensure(framework)
    assert version(binary) == 0 and binary == paths.BINARIES / framework.name
    first = len(builds)
    assert first > 0
    native.ensure(framework)
    assert len(builds) == first
    # a deleted build folder is filled from the cache
    shutil.rmtree(paths.BINARIES)
    assert version(native.ensure(framework)) == 0 and len(builds) == first
    source = next(
        clone.joinpath("onnx-cpp" if framework.build == "cmake" else "null-rust/src").glob(
            "*null.cpp" if framework.build == "cmake" else "main.rs"
        )
    )
    source.write_text(source.read_text() + "\n// changed\n")
    native.ensure(framework)
    assert len(builds) > first


@pytest.mark.native
@pytest.mark.usefixtures("toolchain")
def test_a_build_that_fails_names_the_error_and_keeps_what_was_there(clone: Path) -> None:
    binary = native.ensure(NULL_CPP)
    before = files.sha256(binary)
    (clone / "onnx-cpp" / "null.cpp").write_text("int main() { return nonsense; }\n")
    with pytest.raises(BenchError, match=r"null-cpp: .*error.*nonsense.*invoke build --framework null-cpp") as raised:
        native.ensure(NULL_CPP)
    assert "\n" not in str(raised.value)
    assert files.sha256(binary) == before
    assert not list(paths.BINARIES.glob("*.tmp")) and not list(native.CACHE.glob("cmake-*"))


@pytest.mark.native
@pytest.mark.usefixtures("toolchain", "clone")
def test_two_builds_at_once_make_one(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bench import catalog; from bench.core import paths;"
        "from bench.prepare import native;"
        "root = Path(sys.argv[1]); paths.NATIVE = root / 'native'; paths.BINARIES = root / 'build'; native.CPP = paths.NATIVE / 'onnx-cpp';"
        "native.CACHE = root / 'cache'; print(native.ensure(catalog.load().frameworks['null-cpp']))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    started = [subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert version(tmp_path / "build" / "null-cpp") == 0
    assert len(list((tmp_path / "cache" / "workers").iterdir())) == 1


@pytest.mark.usefixtures("clone")
def test_a_missing_toolchain_is_one_line_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_tools(tmp_path / "bin", monkeypatch)
    assert native.missing(NULL_RUST) == "no Rust: install it from https://rustup.rs"
    assert native.missing(NULL_CPP) == "no g++ and no cmake: install g++ and cmake"
    with pytest.raises(BenchError, match=r"^null-cpp: no g\+\+ and no cmake: install"):
        native.ensure(NULL_CPP)
    (tmp_path / "bin" / "apt-get").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "apt-get").chmod(0o755)
    assert native.missing(NULL_CPP) == "no g++ and no cmake: apt-get install g++ cmake"


@pytest.mark.native
@pytest.mark.usefixtures("toolchain", "clone")
def test_what_was_built_runs_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = native.ensure(NULL_CPP)
    only_tools(tmp_path / "bin", monkeypatch)
    assert native.missing(NULL_CPP) is None
    assert native.ensure(NULL_CPP) == binary


@pytest.mark.usefixtures("toolchain")
def test_an_old_rust_is_named_with_the_version_wanted(clone: Path) -> None:
    manifest = clone / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace('rust-version = "1.', 'rust-version = "9.'))
    assert "is older than 9." in str(native.missing(NULL_RUST)) and "rustup update stable" in str(native.missing(NULL_RUST))


def test_nothing_to_build_is_nothing_missing() -> None:
    own = dataclasses.replace(FRAMEWORKS["null-python"], name="own", command=("/bin/own",), build=None)
    assert native.missing(own) is None
    with pytest.raises(BenchError, match="own: there is nothing to build"):
        native.ensure(own)


def test_progress_is_read_from_cargo_and_ninja() -> None:
    def counts(line: str) -> tuple[str | None, ...]:
        match = native._COUNT.search(line)
        return tuple(part for part in match.groups() if part) if match else ()

    assert counts("    Building [=====>        ] 12/150: gemm-f32, serde") == ("12", "150", "gemm-f32, serde")
    assert counts("[3/5] Building CXX object null.cpp.o") == ("3", "5")
    assert counts("   Compiling gemm v0.19.0") == ()


def test_the_library_is_that_of_the_wheel() -> None:
    library = native.onnxruntime_library()
    assert library.is_file() and library.name.startswith("libonnxruntime.so.1.")
    assert "onnxruntime" not in {name for name in sys.modules if name == "onnxruntime"} or library.parent.name == "capi"


# headers


def fake_headers(folder: Path, api: int) -> Path:
    folder.mkdir(parents=True)
    (folder / onnx_headers.HEADER).write_text("")
    (folder / "onnxruntime_c_api.h").write_text(f"#define ORT_API_VERSION {api}\n")
    return folder


def test_headers_given_by_hand_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = fake_headers(tmp_path / "given", 21)
    monkeypatch.setenv(onnx_headers.GIVEN, str(given))
    assert onnx_headers.find(tmp_path).folder == given


def test_a_wrong_folder_given_by_hand_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, fake_headers(tmp_path / "old", 12)):
        monkeypatch.setenv(onnx_headers.GIVEN, str(folder))
        with pytest.raises(BenchError, match=r"ONNXRUNTIME_INCLUDE=.*: (no |headers of API 12).*unset it"):
            onnx_headers.find(tmp_path)


def test_the_system_comes_before_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(onnx_headers.GIVEN, raising=False)
    monkeypatch.setattr(onnx_headers, "SYSTEM", (str(fake_headers(tmp_path / "old", 16)), str(fake_headers(tmp_path / "new", 22))))
    assert onnx_headers.find(tmp_path).folder == tmp_path / "new"


def test_all_that_was_tried_is_said(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toolchain: None) -> None:
    monkeypatch.delenv(onnx_headers.GIVEN, raising=False)
    monkeypatch.setattr(onnx_headers, "SYSTEM", ())
    monkeypatch.setattr(onnx_headers, "KEYRING", tmp_path / "no-keyring.gpg")
    lists = clone / "onnx-cpp" / "CMakeLists.txt"
    # the address of an archive that is not there, and no headers where CMake itself would look
    text = lists.read_text().replace("https://github.com/", "file:///nowhere/")
    lists.write_text(text.replace("find_path(ONNXRUNTIME_SYSTEM_INCLUDE", "find_path(ONNXRUNTIME_SYSTEM_INCLUDE NO_DEFAULT_PATH"))
    with pytest.raises(BenchError) as raised:
        native.ensure(ONNX_CPP)
    said = str(raised.value)
    assert "\n" not in said
    for part in (
        "ONNXRUNTIME_INCLUDE (not set)",
        "system headers (",
        "Debian package libonnxruntime-dev (",
        "release archive (",
        "set ONNXRUNTIME_INCLUDE",
    ):
        assert part in said
