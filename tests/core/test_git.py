"""The commit of the checkout, and whether its code differs from it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.core import git


def test_what_verify_measured_makes_no_code_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git.paths, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))  # TMPDIR may lie in a checkout
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    assert git.state() == (None, None)
    for words in (("init", "-q"), (*who, "commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    commit, dirty = git.state()
    assert commit and len(commit) == 40 and dirty is False
    (tmp_path / "data" / "verify").mkdir(parents=True)
    (tmp_path / "data" / "verify" / "machine.json").write_text("{}", encoding="utf-8")
    assert git.state() == (commit, False)
    (tmp_path / "module.py").write_text("", encoding="utf-8")
    assert git.state() == (commit, True)
