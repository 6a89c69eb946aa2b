"""What makes a thing another thing, and what does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import fingerprint, paths


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(fingerprint, "__file__", str(tmp_path / "fingerprint.py"))
    file = tmp_path / "step.py"
    file.write_text('"""Words."""\ndef double(x):\n    """More words."""\n    return 2 * x\n')
    return file


def of(module: Path) -> str:
    fingerprint.of_code.cache_clear()
    return fingerprint.of_code(module.name)


def test_words_are_not_code_but_a_number_is(module: Path) -> None:
    before = of(module)
    module.write_text('"""Other words."""\n# a comment\ndef double(x):\n    return 2 * x\n')
    assert of(module) == before
    module.write_text('"""Words."""\ndef double(x):\n    """More words."""\n    return 3 * x\n')
    assert of(module) != before


def test_a_large_file_is_hashed_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(fingerprint, "LARGE_BYTES", 4)
    (tmp_path / "large").write_bytes(b"12345678")
    (tmp_path / "small").write_bytes(b"123")
    first = fingerprint.of_files(tmp_path, ["large", "small"])
    reads: list[Path] = []
    original = fingerprint.of_file
    monkeypatch.setattr(fingerprint, "of_file", lambda file: reads.append(file) or original(file))
    assert fingerprint.of_files(tmp_path, ["large", "small"]) == first
    assert [file.name for file in reads] == ["small"]
    (tmp_path / "large").write_bytes(b"87654321")
    os.utime(tmp_path / "large", ns=(1, 1))
    assert fingerprint.of_files(tmp_path, ["large"])["large"] != first["large"]
