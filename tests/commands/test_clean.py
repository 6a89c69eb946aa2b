"""`invoke clean` deletes what it names, under build/ only, and says how much that was."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.commands import clean
from bench.core import paths
from bench.core.errors import BenchError


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build folder with 10 bytes of artefacts, 20 of weights and 30 of plans."""
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    for name, size in (("ARTEFACTS", 10), ("WEIGHTS", 20), ("PLANS", 30)):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
        (tmp_path / name.lower() / "minilm").mkdir(parents=True)
        (tmp_path / name.lower() / "minilm" / "file").write_bytes(bytes(size))
    return tmp_path


def test_each_part_and_its_bytes(build: Path) -> None:
    assert [(freed.folder.name, freed.bytes) for freed in clean.free("plans")] == [("plans", 30), ("reference", 0)]
    assert not (build / "plans").exists() and (build / "artefacts").exists()
    assert [(freed.folder.name, freed.bytes) for freed in clean.free("artefacts")] == [("artefacts", 10), ("weights", 20)]
    assert next(iter(clean.free("artefacts"))).bytes == 0


def test_all_is_the_whole_folder(build: Path) -> None:
    assert [freed.bytes for freed in clean.free("all")] == [60]
    assert not build.exists()


def test_an_unknown_part_is_named(build: Path) -> None:
    with pytest.raises(BenchError, match="unknown part 'artifacts': did you mean 'artefacts'"):
        list(clean.free("artifacts"))
    assert (build / "artefacts").exists()


def test_nothing_outside_build_is_a_part() -> None:
    assert all(folder == paths.BUILD or paths.BUILD in folder.parents for folders in clean.parts().values() for folder in folders)
