"""The state of this project's own checkout."""

from __future__ import annotations

import subprocess

from bench.core import paths


def state() -> tuple[str | None, bool | None]:
    """(commit, whether files differ from it) of the code; (None, None) outside a checkout. The results of `invoke verify` do not count."""

    def git(*words: str) -> str | None:
        try:
            process = subprocess.run(["git", *words], cwd=paths.ROOT, capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return process.stdout.strip() if process.returncode == 0 else None

    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", ".", ":(exclude)data/verify")
    return commit, None if status is None else bool(status)
