"""`invoke` as a user runs it, with data, site, scratch files and machine lock in a folder of the test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from bench.core import paths
from bench.verify import mutant_catalogue

#: What of build/ sandboxes have in common with the clone, so that nothing is exported, built or drawn twice.
SHARED = ("artefacts", "native", "plans", "probe", "quality", "reference", "releases", "site", "verdicts", "weights")


@dataclass(frozen=True)
class Sandbox:
    """`folder` holds data/, site/, build/ and the lock; build/ is the clone's but for the files of a run under way, so that several
    sandboxes may run side by side. `more` are further environment variables of the commands."""

    folder: Path
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        own = {"BENCH_DATA": "data", "BENCH_SITE": "site", "BENCH_BUILD": "build", "BENCH_LOCK": "lock"}
        users = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}  # see conftest.py
        return {**users, **{name: str(self.folder / place) for name, place in own.items()}, "COLUMNS": "200", **self.more}

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

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """`invoke WORDS` in the background, as the leader of a process group, of which nothing is left when the block is left."""
        self._share_build()
        with subprocess.Popen(
            [sys.executable, "-m", "invoke", *words],
            cwd=paths.ROOT, env=self.env, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def invoke(self, *words: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """`invoke WORDS`; a traceback on stderr fails the test."""
        with self.running(*words) as process:
            return finish(process, timeout_s)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """The rows that a query of the sandbox's database gives, by column name."""
        with duckdb.connect(str(self.database), read_only=True) as connection:
            answer = connection.execute(sql)
            names = [column[0] for column in answer.description]
            return [dict(zip(names, row, strict=True)) for row in answer.fetchall()]

    def tables(self, run_id: str | None = None) -> dict[str, list[str]]:
        """Every row of every table, or those of one run, as text (in which NaN equals NaN), in order."""
        where = f"WHERE run_id = '{run_id}'" if run_id else ""
        names = [row["table_name"] for row in self.rows("SELECT table_name FROM duckdb_tables() ORDER BY ALL")]
        return {name: [row["row"] for row in self.rows(f'SELECT t::VARCHAR AS "row" FROM {name} t {where} ORDER BY ALL')] for name in names}

    def catalog(self, *bugs: str) -> Path:
        """A catalogue folder with a mutant framework per bug, named `mutant-<bug>`."""
        return mutant_catalogue.write_catalog(self.folder / "catalog", bugs)

    def block_names(self) -> list[str]:
        """The finished blocks of the newest run, as paths relative to data/runs."""
        return [str(path.parent.relative_to(self.data / "runs")) for path in sorted(self.runs[-1].glob("blocks/*/[0-9]*[0-9]/block.json"))]

    def failures(self) -> list[dict[str, Any]]:
        """The failures that the newest run has recorded."""
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.runs[-1].glob("failures/*.json"))]

    def _share_build(self) -> None:
        build = self.folder / "build"
        build.mkdir(parents=True, exist_ok=True)
        for name in SHARED:
            (paths.BUILD / name).mkdir(parents=True, exist_ok=True)
            if not (build / name).exists():
                (build / name).symlink_to(paths.BUILD / name)


def finish(process: subprocess.Popen[str], timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    """What a running command printed until its end; a traceback on stderr fails the test."""
    out, err = process.communicate(timeout=timeout_s)
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
