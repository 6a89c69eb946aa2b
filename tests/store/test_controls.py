"""Controls: what they are made of, which run vouches for which, and that a missed one takes every rank away."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import catalog
from bench.artefacts.export import Artefact
from bench.catalog import DEFAULT, Arm, control_arms
from bench.machine import identity
from bench.prepare.spec import PreparedArm
from bench.runs import reader
from bench.stats import leaderboard
from bench.store import controls
from bench.store import database as store
from tests.support import runs
from tests.support.driver import Driver
from tests.support.runs import Fake, Spec
from tests.support.sandbox import Sandbox

KNOWN = catalog.load()
BASE = Arm("onnx-python", "python", "minilm", "wheel", "fp32", "default", 1, 2, "measured")
QUIET = {"jitter": 0.02, "block_noise": 0.01}
PAIR = (Fake("pytorch", 6.0, **QUIET), Fake("openvino", 3.0, **QUIET))  # type: ignore[arg-type]
TWIN = Fake("openvino", 3.0, variant="twin-2", role="twin", **QUIET)  # type: ignore[arg-type]
SLOW = Fake("openvino", 3.15, variant="slow-1.05", role="slow", **QUIET)  # type: ignore[arg-type]


def stalled(longest_ms: float) -> Fake:
    """A stall arm whose fault is 0.2 s, and whose longest request in every slice takes `longest_ms`."""

    def service(chance: np.random.Generator, n: int) -> Any:
        return np.concatenate([[longest_ms], np.full(n - 1, 3.0)])

    return Fake("openvino", variant="stall-0.2s", role="stall", service=service, fault="stall=0.1:0.2")


def prepared(arm: Arm, fault: str | None) -> PreparedArm:
    artefact = Artefact(Path("nowhere"), "onnx", "fp32", "hash", 1)
    return PreparedArm(arm, KNOWN.frameworks[arm.framework], DEFAULT, ("worker",), {}, artefact, {}, fault=fault)


# --- what a control is -------------------------------------------------------------------------------------------------------------


def test_the_control_arms_of_an_arm() -> None:
    found = list(control_arms.controls_of(BASE, ("twin", "twin", "slow", "stall")))
    assert [(control.arm.role, control.arm.variant, control.fault) for control in found] == [
        ("twin", "twin-2", None), ("twin", "twin-3", None), ("slow", "slow-1.05", "slow=1.05"),
        ("stall", "stall-0.2s", "stall=0.1:0.2"),
    ]  # fmt: skip
    assert len({control.arm.id for control in found} | {BASE.id}) == 5
    assert all(replace(control.arm, role="measured", variant="default") == BASE for control in found), "nothing else differs"
    assert control_arms.stall_of("stall=0.1:0.2") == (0.1, 0.2)
    assert control_arms.stall_of("slow=1.05") is None and control_arms.stall_of(None) is None


@pytest.mark.parametrize("role", ["measured", "floor"])
def test_a_measured_arm_never_has_a_fault(role: Any) -> None:
    with pytest.raises(ValueError, match="never has a fault"):
        prepared(replace(BASE, role=role), "slow=1.05")
    assert "--fault" not in prepared(BASE, None).launch(0).argv
    assert prepared(replace(BASE, role="slow"), "slow=1.05").launch(0).argv[-2:] == ["--fault", "slow=1.05"]


# --- what they prove ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arms", "note"),
    [
        ((TWIN, SLOW, stalled(203.0)), None),
        ((replace(TWIN, service_ms=2.8), SLOW, stalled(203.0)), r"a twin differs \(1\.0"),
        ((TWIN, replace(SLOW, service_ms=3.0), stalled(203.0)), "the slowed arm was not found"),
        ((TWIN, SLOW, stalled(3.0)), r"the stall of 0\.2 s was not seen \(longest 0\.003 s\)"),
        ((TWIN, SLOW, replace(stalled(203.0), fault=None)), "the stall arm has no stall"),
        ((TWIN, SLOW, replace(stalled(203.0), failures={"closed-1": ("CRASH", "planted")})), "was not seen"),
        ((TWIN,), "could not be compared"),
    ],
)
def test_a_missed_control_takes_every_rank(tmp_path: Path, arms: tuple[Fake, ...], note: str | None) -> None:
    rows, _ = leaderboard.leaderboard(reader.read_run(runs.write(tmp_path, Spec(arms=(*PAIR, *arms)))))
    measured = [row for row in rows if row.role == "measured"]
    assert {row.ranked for row in measured} == {note is None}
    assert all(row.rank_note is None if note is None else re.search(note, str(row.rank_note)) for row in measured), measured[0].rank_note
    assert {row.rank_note for row in rows if row.role != "measured"} <= {"control", None}


@pytest.mark.parametrize(("noisy", "ranked"), [(4, True), (5, False)])
def test_a_mostly_noisy_scenario_is_shown_but_not_ranked(tmp_path: Path, noisy: int, ranked: bool) -> None:
    """12 blocks: a third of them is 4."""
    folder = runs.write(tmp_path, Spec(arms=(*PAIR, TWIN, SLOW)))
    for file in sorted(folder.glob("blocks/*/*/block.json"))[:noisy]:
        file.write_text(json.dumps({**json.loads(file.read_text()), "probe": {"fma_s": [0.011] * 3, "copy_s": [0.003] * 3}}))
    rows, _ = leaderboard.leaderboard(reader.read_run(folder))
    measured = [row for row in rows if row.role == "measured" and row.served_scenario is None]
    assert {row.noisy_blocks for row in measured} == {noisy}
    assert {(row.ranked, row.rank_note) for row in measured} == {(ranked, None if ranked else "noisy machine: 5 of 12 blocks")}
    assert all(row.p50_ms for row in measured)


# --- which run vouches, and what all of them came to ---------------------------------------------------------------------------------


def write(folder: Path, day: float, *arms: Fake, boot: str | None = None, here: str | None = None, done: bool = True) -> str:
    """A run of this machine and boot, unless others are named."""
    run = runs.write(folder, Spec(arms=arms, day=day, machine_id=here or identity.machine_id(), blocks=12, done=done))
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "boot_id": boot or identity.boot_id()}))
    return run.name


def test_the_newest_controls_of_this_machine_and_boot(tmp_path: Path) -> None:
    assert controls.newest("minilm", tmp_path) is None
    write(tmp_path, 1.0, *PAIR)
    write(tmp_path, 2.0, *PAIR, TWIN, SLOW, boot="another")
    write(tmp_path, 3.0, *PAIR, TWIN, SLOW, here="another")
    write(tmp_path, 4.0, *PAIR, TWIN, SLOW, done=False)
    assert controls.newest("minilm", tmp_path) is None
    for day in (5.0, 6.0):
        last = write(tmp_path, day, *PAIR, TWIN, SLOW)
    assert controls.newest("minilm", tmp_path) == last
    assert controls.newest("qwen3", tmp_path) is None


def test_verdicts_over_many_runs(tmp_path: Path) -> None:
    wrong, missed = replace(TWIN, service_ms=2.8), replace(SLOW, service_ms=3.0)
    arms = [(TWIN, SLOW), (wrong, SLOW), (TWIN, missed), (TWIN, replace(SLOW, failures={"*": ("CRASH", "planted")}))]
    for day, pair in enumerate(arms):
        runs.write(tmp_path / "runs", Spec(arms=(*PAIR, *pair), day=float(day)))
    runs.write(tmp_path / "runs", Spec(arms=PAIR, day=9.0))
    database = tmp_path / "results.duckdb"
    store.load(database)
    found = controls.verdicts(database)
    assert [(verdict.role, verdict.held) for verdict in found] == [
        ("twin", True), ("slow", True), ("twin", False), ("slow", True), ("twin", True), ("slow", False), ("twin", True), ("slow", False),
    ]  # fmt: skip
    assert found[0].blocks == 12 and found[0].ratio == pytest.approx(1.0, abs=0.02)
    assert found[1].ratio == pytest.approx(1 / 1.05, abs=0.02)
    assert (found[-1].ratio, found[-1].verdict, found[-1].note) == (None, "unresolved", "planted")
    assert controls.tally(found) == controls.Tally(campaigns=4, twins=4, false_verdicts=1, slow=4, found=2)
    assert controls.tally(controls.verdicts(database, last=2)) == controls.Tally(2, 2, 0, 2, 0)


@pytest.mark.e2e
@pytest.mark.alone
def test_controls_for_real(tmp_path: Path) -> None:
    """One short run: the faults are in the workers they belong to, the stall is in the samples, and a campaign would refer to it."""
    sandbox = Sandbox(tmp_path)
    done = sandbox.invoke("bench", "--model", "minilm", "--scenario", "controls", "--budget", "24s")
    assert done.returncode == 0, done.stderr
    about = json.loads((sandbox.runs[0] / "run.json").read_text())
    assert {arm["role"]: arm["fault"] for arm in about["arms"]} == {
        "measured": None, "twin": None, "slow": "slow=1.05", "stall": "stall=0.1:0.2",
    }  # fmt: skip
    assert not about["complete"], "controls are never what the board shows"
    rows = {row["role"]: row for row in sandbox.rows("select * from leaderboard where scenario = 'closed-1'")}
    assert rows["stall"]["max_ms"] >= 200
    assert all(row["status"] in ("OK", "PARTIAL") and row["min_cosine"] > 1 - 1e-7 for row in rows.values())
    assert [verdict.role for verdict in controls.verdicts(sandbox.database)] == ["twin", "slow"]


@pytest.mark.parametrize("fault", ["slow=1.5", "stall=0.1:0.2"])
def test_a_worker_says_what_was_planted_in_it(tmp_path: Path, fault: str) -> None:
    with Driver(KNOWN.frameworks["null-python"], tmp_path, tmp_path, "--fault", fault) as driver:
        assert driver.ready["settings"]["fault"] == fault
    with Driver(KNOWN.frameworks["null-python"], tmp_path, tmp_path) as driver:
        assert not [key for key in driver.ready["settings"] if key.startswith("fault")]
