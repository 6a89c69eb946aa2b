"""The two real runs that a session makes: one of everything that is right, and one of everything that is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.verify.mutant_catalogue import BROKEN, HONEST, WRONG
from tests.support.sandbox import Sandbox

REQUESTS = 210
TIMEOUT_S = 1800.0
HANG = "hang"
ABSENT = """\
absent: {title: Absent, language: python, command: [python], artefact: onnx, precisions: [fp32], note: x, libraries: [no-such-runtime]}
"""


def build_site(sandbox: Sandbox) -> None:
    built = sandbox.invoke("site", timeout_s=TIMEOUT_S)
    assert built.returncode == 0, built.stderr


@dataclass(frozen=True)
class RightRun:
    """The first run of a sandbox: MiniLM's real weights in every framework of the catalogue, and the site."""

    sandbox: Sandbox
    folder: Path
    printed: str

    @classmethod
    def measure(cls, sandbox: Sandbox) -> RightRun:
        """`invoke bench --model minilm`, long enough for OK, and `invoke site`."""
        done = sandbox.invoke("bench", "--model", "minilm", "--requests", str(REQUESTS), timeout_s=TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        build_site(sandbox)
        (folder,) = sandbox.runs
        return cls(sandbox, folder, done.stdout)

    def rows(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Rows of the leaderboard by framework and scenario."""
        rows = self.sandbox.rows(f"SELECT * FROM leaderboard WHERE run_id = '{self.folder.name}'")
        return {(row["framework"], row["scenario"]): row for row in rows}


@dataclass(frozen=True)
class FaultyRun:
    """A second run in the sandbox of a right one, of workers that compute wrong, break, hang or are not installed, with an honest one and
    a null worker beside them, and the site again. `tables` and `page` are the database and the model's page as they were before."""

    right: RightRun
    folder: Path
    tables: dict[str, list[str]]
    page: str

    @classmethod
    def measure(cls, right: RightRun) -> FaultyRun:
        """`invoke bench` of them all in closed-1, and `invoke site`. A slice that hangs is given up after 5 s beyond its guard."""
        sandbox = right.sandbox
        tables, page = sandbox.tables(), model_page(sandbox)
        mutants = (*WRONG, *BROKEN, HONEST, HANG)
        catalog = sandbox.catalog(*mutants)
        with (catalog / "frameworks.yaml").open("a", encoding="utf-8") as entries:
            entries.write(ABSENT)
        names = ",".join(["null-python", "absent", *(f"mutant-{bug}" for bug in mutants)])
        impatient = Sandbox(sandbox.folder, more={"BENCH_SLICE_TIMEOUT_S": "5"})
        done = impatient.invoke(
            "bench", "--model", "minilm", "--framework", names, "--scenario", "closed-1", "--requests", str(REQUESTS),
            "--catalog", str(catalog), timeout_s=TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        build_site(sandbox)
        (folder,) = set(sandbox.runs) - {right.folder}
        return cls(right, folder, tables, page)

    def rows(self) -> dict[str, dict[str, Any]]:
        """Rows of closed-1 by framework; a mutant's by its bug."""
        rows = self.right.sandbox.rows(f"SELECT * FROM leaderboard WHERE run_id = '{self.folder.name}' AND scenario = 'closed-1'")
        return {row["framework"].removeprefix("mutant-"): row for row in rows}


def model_page(sandbox: Sandbox) -> str:
    return (sandbox.folder / "site" / "models" / "minilm" / "index.html").read_text(encoding="utf-8")
