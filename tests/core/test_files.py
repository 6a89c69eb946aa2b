"""What has its final name is whole, and a full disk is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core import files
from bench.core.errors import BenchError


def test_a_folder_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "block"
    with pytest.raises(RuntimeError), files.whole_folder(target) as temporary:
        (temporary / "half").write_text("x")
        raise RuntimeError
    assert not target.exists()
    with files.whole_folder(target) as temporary:
        (temporary / "all").write_text("x")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["all"]


def test_a_full_disk_is_one_line_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"disk full while writing .*finished blocks are kept"), files.disk_full_is_said(tmp_path):
        Path("/dev/full").write_text("x" * 10)
