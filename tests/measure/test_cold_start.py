"""Cold starts: proven page by page, never taken from under another process, and told apart from warm ones."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.machine import page_cache
from bench.measure import cold_start
from bench.measure.cold_start import PageCacheState
from bench.prepare import footprint

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="page caches are read the Linux way")
SIZE = 4 << 20
HOLDER = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    print("mapped", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "weights"
    made.write_bytes(b"x" * SIZE)
    page_cache._drop(made)
    if page_cache.cached_bytes(made) == SIZE:
        pytest.skip("this file system keeps its files in memory")
    made.read_bytes()
    return made


def test_a_file_that_was_just_read_is_in_memory_and_can_be_put_out(file: Path) -> None:
    assert page_cache.cached_bytes(file) == SIZE
    assert page_cache.is_warm([file])
    assert page_cache.evict([file]) is None
    assert page_cache.cached_bytes(file) == 0
    assert not page_cache.is_warm([file])
    with file.open("rb") as stream:
        stream.seek(SIZE // 2)
        stream.read(1)
    assert 0 < page_cache.cached_bytes(file) < SIZE + 1


def test_nothing_is_taken_from_under_another_process(file: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdin
        other.stdout.readline()
        reason = page_cache.evict([file])
        other.stdin.close()
    assert reason and f"process {other.pid} " in reason and "weights mapped" in reason
    assert page_cache.cached_bytes(file) == SIZE, "it was left in memory"


def test_what_the_harness_itself_has_mapped_is_left_out(file: Path) -> None:
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert view[0] == ord("x")
        assert page_cache.evict([file]) is None
        assert page_cache.cached_bytes(file) == SIZE


def test_pages_that_stay_are_seen(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_cache, "_drop", lambda _: None)
    assert page_cache.evict([file]) == "the kernel keeps 4 of 4 MB in memory"


def test_empty_and_missing_files_hold_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert page_cache.cached_bytes(tmp_path / "empty") == page_cache.cached_bytes(tmp_path / "gone") == 0
    assert page_cache.evict([tmp_path / "empty", tmp_path / "gone"]) is None


# --- which start is cold ---------------------------------------------------------------------------------------------------------------


def prepared(name: str, role: str = "measured") -> Any:
    return SimpleNamespace(arm=SimpleNamespace(id=name, role=role), framework=SimpleNamespace(release=None))


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """What evicting the files of an arm comes to."""
    found: dict[str, str | None] = {}
    monkeypatch.setattr(footprint, "start_files", lambda prepared: prepared.arm.id)
    monkeypatch.setattr(footprint, "artefact_files", lambda prepared: prepared.arm.id)
    monkeypatch.setattr(page_cache, "evict", found.get)
    monkeypatch.setattr(page_cache, "is_warm", lambda arm_id: True)
    return found


def test_each_measured_arm_has_one_cold_start_after_its_first(verdicts: dict[str, str | None]) -> None:
    known, a, null = cold_start.ColdStarts(), prepared("a"), prepared("null", "floor")
    assert [known.prepare(a, number) for number in range(4)] == [
        PageCacheState("unknown"),
        PageCacheState("cold"),
        PageCacheState("warm"),
        PageCacheState("warm"),
    ]
    assert known.prepare(null, 3) == PageCacheState("unknown")


def test_another_release_has_no_cold_start(verdicts: dict[str, str | None]) -> None:
    """Its wheels are not those of this environment: what was put out would be the wrong files."""
    other = prepared("a")
    other.framework.release = "1.30.0"
    assert cold_start.ColdStarts().prepare(other, 1) == PageCacheState("unknown", cold_start.OTHER_RELEASE)


def test_an_arm_whose_files_are_in_use_comes_first_next_time(verdicts: dict[str, str | None]) -> None:
    known, a, b = cold_start.ColdStarts(), prepared("a"), prepared("b")
    verdicts["b"] = "process 7 (a) has libonnxruntime.so mapped"
    assert [known.prepare(one, 1) for one in known.order([a, b])] == [PageCacheState("cold"), PageCacheState("unknown", verdicts["b"])]
    assert [one.arm.id for one in known.order([a, b])] == ["b", "a"]
    verdicts.clear()
    assert known.prepare(b, 2) == PageCacheState("cold")
    assert [one.arm.id for one in known.order([a, b])] == ["a", "b"]


# --- sizes -----------------------------------------------------------------------------------------------------------------------------


def build(tmp_path: Path, **framework: Any) -> Any:
    (tmp_path / "artefact").mkdir()
    (tmp_path / "artefact" / "model").write_bytes(b"1234")
    for name, size in {"worker": 30, "library.so": 500}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    return SimpleNamespace(
        framework=SimpleNamespace(**{"build": None, "libraries": (), "release": None, **framework}),
        command=(str(tmp_path / "worker"), "--flag"),
        env={"THREADS": "2", "LIBRARY": str(tmp_path / "library.so")}, artefact=SimpleNamespace(folder=tmp_path / "artefact", bytes=4),
    )  # fmt: skip


def test_a_native_worker_is_its_binary_and_the_shared_library_that_it_loads(tmp_path: Path) -> None:
    made = build(tmp_path, build="cargo", libraries=("onnxruntime",))
    found = footprint.of(made)
    assert (found.artefact_bytes, found.library_bytes, found.binary_bytes, found.note) == (4, 500, 30, None)
    assert {path.name for path in footprint.start_files(made)} == {"model", "worker", "library.so"}


def test_a_python_worker_is_its_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = {"torch": ["numpy >=1", "nvidia-x ; extra == 'gpu'"], "numpy": []}
    files = {name: tmp_path / f"{name}.so" for name in wheels}
    made = build(tmp_path, libraries=("torch",))
    for place, file in enumerate(files.values()):
        file.write_bytes(b"x" * (100 + place))
    footprint._closure.cache_clear()
    monkeypatch.setattr(footprint, "_wheel_files", lambda name: (files[name],))
    monkeypatch.setattr(footprint.importlib.metadata, "requires", lambda name: wheels[name])
    monkeypatch.setattr(footprint.importlib.metadata, "version", lambda name: "2.15.0")
    found = footprint.of(made)
    assert (found.library_bytes, found.binary_bytes, found.note, found.import_note) == (100, None, None, None)
    assert {path.name for path in footprint.start_files(made)} == {"model", "torch.so", "numpy.so"}
    wheels["torch"].append('nvidia-cudnn==9; platform_system == "Linux"')
    found = footprint.of(made)
    assert found.library_bytes is None and found.artefact_bytes == 4
    assert found.import_note == "torch 2.15.0 is a build for another device (it requires nvidia-cudnn)"
    assert found.note and found.note.startswith("size and import time withheld: torch 2.15.0")
    footprint._closure.cache_clear()
