"""What makes a thing another thing, and what does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.core import content_hash, paths


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    (tmp_path / "bench").mkdir()
    file = tmp_path / "bench" / "step.py"
    file.write_text('"""Words."""\ndef double(x):\n    """More words."""\n    return 2 * x\n')
    return file


def of(module: Path) -> str:
    content_hash.of_code.cache_clear()
    return content_hash.of_code(f"bench.{module.stem}")


@pytest.mark.parametrize(
    "imported",
    ["from bench import other", "from bench.other import VALUE", "import bench.other", "def work():\n    from bench import other"],
)
def test_what_a_module_imports_counts_wherever_it_does(module: Path, imported: str) -> None:
    other = module.with_name("other.py")
    other.write_text("from bench import last\nVALUE = last.VALUE\n")
    other.with_name("last.py").write_text("VALUE = 1\n")
    module.write_text(f"{imported}\n")
    before = of(module)
    other.with_name("last.py").write_text("VALUE = 2\n")
    assert of(module) != before, "a module two imports away has changed"


def test_what_decides_no_byte_does_not_count(module: Path) -> None:
    core, typed = module.with_name("core"), module.with_name("typed.py")
    core.mkdir()
    others = [core / "errors.py", typed]
    for other in others:
        other.write_text("VALUE = 1\n")
    module.write_text("from bench.core import errors\nif TYPE_CHECKING:\n    from bench import typed\n")
    before = of(module)
    for other in others:
        other.write_text("VALUE = 2\n")
    assert of(module) == before


def test_a_module_that_moves_is_another(module: Path) -> None:
    before = of(module)
    assert of(module.rename(module.with_name("moved.py"))) != before


def test_words_are_not_code_but_a_number_is(module: Path) -> None:
    before = of(module)
    module.write_text('"""Other words."""\n# a comment\ndef double(x):\n    return 2 * x\n')
    assert of(module) == before
    module.write_text('"""Words."""\ndef double(x):\n    """More words."""\n    return 3 * x\n')
    assert of(module) != before


def test_a_large_file_is_hashed_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(content_hash, "REMEMBERED_BYTES", 4)
    (tmp_path / "large").write_bytes(b"12345678")
    (tmp_path / "small").write_bytes(b"123")
    first = content_hash.of_files(tmp_path, ["large", "small"])
    reads: list[Path] = []
    original = content_hash.of_file
    monkeypatch.setattr(content_hash, "of_file", lambda file: reads.append(file) or original(file))
    assert content_hash.of_files(tmp_path, ["large", "small"]) == first
    assert [file.name for file in reads] == ["small"]
    (tmp_path / "large").write_bytes(b"87654321")
    os.utime(tmp_path / "large", ns=(1, 1))
    assert content_hash.of_files(tmp_path, ["large"])["large"] != first["large"]
