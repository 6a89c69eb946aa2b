"""A house of one's own for a test: its own data, scratch and lock, and our artefacts and binaries, so that nothing real is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from bench.core import paths
from bench.verify import mutant_catalogue


@dataclass(frozen=True)
class House:
    """`folder` holds data/ and the lock; build/ is shared with the real one unless `build` is given."""

    folder: Path
    build: Path | None = None

    @property
    def env(self) -> dict[str, str]:
        own = {"BENCH_DATA": str(self.folder / "data"), "BENCH_SITE": str(self.folder / "site"), "BENCH_LOCK": str(self.folder / "lock")}
        if self.build:
            own["BENCH_BUILD"] = str(self.build)
        return {**os.environ, **own, "COLUMNS": "200"}

    @property
    def database(self) -> Path:
        return self.folder / "data" / "results.duckdb"

    @property
    def runs(self) -> list[Path]:
        return sorted(path.parent for path in (self.folder / "data" / "runs").glob("*/run.json"))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """`invoke WORDS` in the background."""
        command = [sys.executable, "-m", "invoke", *words]
        return subprocess.Popen(
            command, cwd=paths.ROOT, env=self.env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def invoke(self, *words: str, timeout_s: float = 500) -> subprocess.CompletedProcess[str]:
        """`invoke WORDS`; a traceback on stderr is always a failure."""
        process = self.start(*words)
        out, err = process.communicate(timeout=timeout_s)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with duckdb.connect(str(self.database), read_only=True) as connection:
            found = connection.execute(sql)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def catalog(self, *bugs: str) -> Path:
        """A catalogue folder with a mutant framework per bug, named `mutant-<bug>`."""
        return mutant_catalogue.write_catalog(self.folder / "catalog", bugs)

    def block_names(self) -> list[str]:
        return [str(path.parent.relative_to(self.folder / "data" / "runs")) for path in sorted(self.runs[-1].glob("blocks/*/*/block.json"))]

    def failures(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.runs[-1].glob("failures/*.json"))]
