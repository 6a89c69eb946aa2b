"""Workers with planted bugs (mutants.py) run as frameworks: none of them may show a time, and the honest one beside them must."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.store import database
from bench.verify import commands
from bench.verify.claim import Conditions, Outcome, Tick

#: Mutants that must fail the gate; those whose row must be a CRASH, with a word of its reason; and the honest worker.
WRONG = ("no_normalisation", "truncation", "constant", "stale", "nan", "no_mask", "cached", "length_skipping")
BROKEN: Mapping[str, str] = {"crash": "SIGABRT", "exception": "planted"}
HONEST = "none"
REQUESTS = 210
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class Row:
    """A mutant's row of closed-1."""

    status: str
    reason: str | None
    p50_ms: float | None
    requests_per_s: float | None
    ranked: bool


def write_catalog(folder: Path, bugs: Sequence[str]) -> Path:
    """A catalogue folder with a framework `mutant-BUG` for each bug."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {
        f"mutant-{bug}": {
            "title": f"mutant: {bug}", "language": "python", "command": ["{python}", "-m", "bench.verify.mutants", bug],
            "artefact": "onnx", "precisions": ["fp32"], "note": "a planted bug", "libraries": ["onnxruntime"],
        }
        for bug in bugs
    }  # fmt: skip
    (folder / "frameworks.yaml").write_text(yaml.safe_dump(entries))
    return folder


def measure_mutants(conditions: Conditions) -> Outcome:
    """Run all mutants beside the honest worker, as `invoke bench` runs any framework, and judge their rows."""
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        return outcome_of(_run_bench(Path(folder), (*WRONG, *BROKEN, HONEST), conditions.tick))


def outcome_of(rows: Mapping[str, Row]) -> Outcome:
    """The claim holds where no row of a mutant shows a time, each has its status, and the honest worker's has a time."""
    wrong = [f"{bug}: {_described(rows.get(bug))}" for bug in (*WRONG, *BROKEN, HONEST) if not _as_expected(bug, rows.get(bug))]
    caught = sum(_as_expected(bug, rows.get(bug)) for bug in (*WRONG, *BROKEN))
    count = f"{caught} caught" if wrong else f"{caught} of {len(WRONG) + len(BROKEN)} caught, the honest worker passes"
    return Outcome("; ".join([count, *wrong]), not wrong)


def _as_expected(bug: str, row: Row | None) -> bool:
    if row is None:
        return False
    if bug == HONEST:
        return row.status == "OK" and row.p50_ms is not None
    if row.p50_ms is not None or row.ranked:
        return False
    if bug in WRONG:
        return row.status == "PARITY_FAIL" and row.requests_per_s is None
    return row.status == "CRASH" and BROKEN[bug] in (row.reason or "")


def _described(row: Row | None) -> str:
    return "no row" if row is None else f"{row.status}, {'a time is shown' if row.p50_ms is not None else 'no time'}, {row.reason}"


def _run_bench(folder: Path, bugs: Sequence[str], tick: Tick) -> dict[str, Row]:
    """`invoke bench` of the mutants with a data folder of their own; their rows by bug."""
    names, data = ",".join(f"mutant-{bug}" for bug in bugs), folder / "data"
    commands.invoke(
        "bench", "--model", "minilm", "--framework", names, "--scenario", "closed-1", "--requests", str(REQUESTS),
        "--catalog", str(write_catalog(folder / "catalog", bugs)), data=data, scratch=folder / "scratch", timeout_s=TIMEOUT_S,
        on_wait=lambda: tick(0.7 * len(list(data.glob("runs/*/checks/*.json"))) / len(bugs)),
    )  # fmt: skip
    columns = "replace(framework, 'mutant-', '') AS bug, status, reason, p50_ms, requests_per_s, ranked"
    rows = database.rows(f"SELECT {columns} FROM leaderboard WHERE scenario = 'closed-1'", database=data / "results.duckdb")
    return {row["bug"]: Row(row["status"], row["reason"], row["p50_ms"], row["requests_per_s"], bool(row["ranked"])) for row in rows}
