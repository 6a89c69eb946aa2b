"""`invoke` as a user runs it, with data, site and machine lock in a folder of the test's own; artefacts and binaries are the real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from bench.core import paths
from bench.verify import mutant_catalogue


@dataclass(frozen=True)
class Sandbox:
    """`folder` holds data/, site/ and the lock. `build` stands in place of build/ where it is given. `more` are further environment
    variables of the commands."""

    folder: Path
    build: Path | None = None
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        own = {"BENCH_DATA": str(self.data), "BENCH_SITE": str(self.folder / "site"), "BENCH_LOCK": str(self.folder / "lock")}
        if self.build:
            own["BENCH_BUILD"] = str(self.build)
        return {**os.environ, **own, "COLUMNS": "200", **self.more}

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def database(self) -> Path:
        return self.data / "results.duckdb"

    @property
    def runs(self) -> list[Path]:
        """The run folders, oldest first."""
        return sorted(path.parent for path in (self.data / "runs").glob("*/run.json"))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """`invoke WORDS` in the background, as the leader of a process group of its own."""
        command = [sys.executable, "-m", "invoke", *words]
        return subprocess.Popen(
            command, cwd=paths.ROOT, env=self.env, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )

    def invoke(self, *words: str, timeout_s: float = 500) -> subprocess.CompletedProcess[str]:
        """`invoke WORDS`; a traceback on stderr fails the test."""
        process = self.start(*words)
        out, err = process.communicate(timeout=timeout_s)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows that a query of the sandbox's database gives, by column name."""
        with duckdb.connect(str(self.database), read_only=True) as connection:
            answer = connection.execute(sql)
            names = [column[0] for column in answer.description]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

    def catalog(self, *bugs: str) -> Path:
        """A catalogue folder with a mutant framework per bug, named `mutant-<bug>`."""
        return mutant_catalogue.write_catalog(self.folder / "catalog", bugs)

    def block_names(self) -> list[str]:
        """The finished blocks of the newest run, as paths relative to data/runs."""
        return [str(path.parent.relative_to(self.data / "runs")) for path in sorted(self.runs[-1].glob("blocks/*/*/block.json"))]

    def failures(self) -> list[dict[str, Any]]:
        """The failures that the newest run has recorded."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.runs[-1].glob("failures/*.json"))]
