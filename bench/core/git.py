"""The state of this project's own checkout."""

from __future__ import annotations

import subprocess

from bench.core import paths


def state() -> tuple[str | None, bool | None]:
    """(commit, dirty flag) of the code; (None, None) outside a checkout. What `invoke verify` measured is no code."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=paths.ROOT, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", ".", ":(exclude)data/verify")
    return commit, None if status is None else bool(status)
