"""Runs on a simulated clock: the whole of the measuring code, with workers that let time pass and write down their orders."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench.catalog import Scenario, parse_seconds
from bench.core import files
from bench.measure.budget import BLOCKS
from tests.golden import schedules
from tests.support.simulation import PLANS, Machine, Service, experiment, measure

GOLDEN = files.read_json(schedules.FILE)
SLOW, QUICK = Service(0.05, 0.0), Service(0.01, 0.0)
TWO = {"slow": SLOW, "quick": QUICK}


def load(name: str, **keys: object) -> Scenario:
    known: dict[str, object] = {"title": name, "load": "closed", "rows": 8192, **keys}
    return Scenario(name=name, **known)  # type: ignore[arg-type]


def failures(folder: Path) -> dict[tuple[str, str], str]:
    """Status and reason of each failed cell, by the arm's process name and scenario."""
    found = [files.read_json(file) for file in folder.glob("failures/*.json")]
    return {(failure["arm_id"], failure["scenario"]): f"{failure['status']}: {failure['reason']}" for failure in found}


def reasons(folder: Path, scenario: str) -> set[str]:
    return {reason for (_, name), reason in failures(folder).items() if name == scenario}


def slices(machine: Machine, scenario: str) -> list[tuple[str, int]]:
    """(process, first row) of each recorded slice of a scenario, in order."""
    pattern = re.compile(rf"\S+ (\S+#\d+) {re.escape(scenario)} (\d+)\+")
    found = [(match[1], int(match[2])) for line in machine.log if (match := pattern.match(line))]
    return [(process, first) for process, first in found if first >= PLANS[scenario].warm]


@pytest.mark.parametrize("name", schedules.CASES)
def test_every_order_is_the_one_of_before(name: str, tmp_path: Path) -> None:
    lines = schedules.log(schedules.CASES[name], tmp_path / "run")
    (tmp_path / "log.txt").write_text("\n".join(lines))
    assert schedules.summary(lines) == GOLDEN[name], f"another schedule; the log is {tmp_path / 'log.txt'}"


def test_one_worker_at_a_time(tmp_path: Path) -> None:
    """A frozen worker that is given an order fails the run (see Worker.serve), and every process ends before the run does."""
    machine = Machine(TWO)
    measure(tmp_path, experiment([load("a"), load("b", batch=8)], TWO, 60.0), machine)
    started = {line.split()[1] for line in machine.log if line.endswith(" start")}
    ended = {line.split()[1] for line in machine.log if line.endswith(" quit")}
    assert started and started == ended


def test_arms_of_a_block_serve_the_same_rows_and_no_row_twice(tmp_path: Path) -> None:
    machine = Machine(TWO)
    measure(tmp_path, experiment([load("a")], TWO, 120.0), machine)
    rows = {arm: [first for process, first in slices(machine, "a") if process.startswith(arm)] for arm in TWO}
    assert sorted(rows["slow"]) == sorted(rows["quick"]) and len(set(rows["slow"])) == len(rows["slow"]) >= BLOCKS


def test_what_the_first_warm_up_makes_look_dear_still_gets_its_twelve_blocks(tmp_path: Path) -> None:
    """Warm-up takes three times what the same requests take later: twelve blocks are not expected to fit, and do."""
    services = {name: replace(service, warm_up_factor=3.0) for name, service in TWO.items()}
    folder = measure(tmp_path, experiment([load("a"), load("b")], services, 100.0), Machine(services))
    assert folder.block_count("a") == BLOCKS and folder.measured_s() <= 110


def test_scenarios_of_one_shape_take_turns_and_each_block_has_new_processes(tmp_path: Path) -> None:
    """Two of batch 1 and two of batch 8: two groups, twelve starts each, and never two blocks of one scenario in one process."""
    loads = [load("a"), load("b", batch=8), load("c", load="open", rate_per_s=10.0, piece=20), load("d", batch=8, load="offline")]
    machine = Machine(TWO)
    folder = measure(tmp_path, experiment(loads, TWO, 900.0, fresh_blocks=True), machine)
    assert [folder.block_count(scenario.name) for scenario in loads] == [BLOCKS] * 4
    processes = {scenario.name: {process for process, _ in slices(machine, scenario.name)} for scenario in loads}
    assert all(len(started) == BLOCKS * len(TWO) for started in processes.values())
    assert processes["a"] == processes["c"] and processes["b"] == processes["d"] and not processes["a"] & processes["b"]


def test_a_scenario_of_the_first_shape_waits_for_those_in_front_of_it(tmp_path: Path) -> None:
    """`first` and `last` share a shape; `middle` is between them in the order, and the budget has room for two of the three."""
    loads = [load(name, load="open", rate_per_s=20.0, piece=160, batch=batch) for name, batch in (("first", 1), ("middle", 8), ("last", 1))]
    folder = measure(tmp_path, experiment(loads, TWO, 480.0, fresh_blocks=True), Machine(TWO))
    assert [folder.block_count(name) for name in ("first", "middle")] == [BLOCKS] * 2 and folder.block_count("last") < BLOCKS
    assert folder.measured_s() <= 1.1 * 480


def test_null_workers_wait_for_arrivals_in_one_scenario_only(tmp_path: Path) -> None:
    loads = [load(name, load="open", rate_per_s=50.0, piece=60, floor_in=floor_in) for name, floor_in in (("a", None), ("b", "a"))]
    services = {"quick": QUICK, "null": Service(0.00001, 0.0)}
    measure(tmp_path, experiment(loads, services, 100.0, floors=("null",)), Machine(services))
    assert list(failures(tmp_path).values()) == ["NOT_APPLICABLE: the harness's floor is the same as in a"]


@pytest.mark.parametrize("fresh", [False, True])
def test_the_budget_that_a_skipped_scenario_asks_for_is_enough(tmp_path: Path, fresh: bool) -> None:
    loads = [load("a"), load("b", batch=8), load("c", load="open", rate_per_s=10.0, piece=100), load("d", batch=8, piece=64)]
    short = experiment(loads, TWO, 60.0, fresh_blocks=fresh)
    measure(tmp_path / "short", short, Machine(TWO))
    skipped = {name for _, name in failures(tmp_path / "short")}
    assert skipped and "a" not in skipped
    last = max(skipped)
    (reason,) = reasons(tmp_path / "short", last)
    enough_s = parse_seconds(reason.partition("--budget ")[2].partition("`")[0])
    folder = measure(tmp_path / "enough", experiment(loads, TWO, enough_s, fresh_blocks=fresh), Machine(TWO))
    assert folder.block_count(last) >= 3, reason
    assert enough_s < 2 * folder.measured_s(), "and not far more than it takes"


def test_when_the_budget_is_used_up_nothing_more_is_warmed_up(tmp_path: Path) -> None:
    loads = [load(f"s{place}", batch=8 if place % 2 else 1) for place in range(8)]
    services = {name: Service(0.5, 0.0) for name in TWO}
    machine = Machine(services)
    folder = measure(tmp_path, experiment(loads, services, 3.0), machine)
    assert folder.measured_s() == 0 and {name for _, name in failures(tmp_path)} == {scenario.name for scenario in loads}
    assert all("3 blocks need" in reason for reason in failures(tmp_path).values())
    assert sum(" s0 " in line or " s1 " in line for line in machine.log) > 0 and not any(" s7 " in line for line in machine.log)


def test_a_resumed_run_measures_no_block_twice_and_has_only_what_is_left(tmp_path: Path) -> None:
    loads = [load("a"), load("b"), load("c", load="open", rate_per_s=20.0, piece=60)]
    first = Machine(TWO, stop_at_s=50.0)
    folder = measure(tmp_path, experiment(loads, TWO, 150.0, fresh_blocks=True), first)
    kept = {name: folder.block_count(name) for name in ("a", "b", "c")}
    assert "interrupted" in first.log and any(kept.values())
    before_s, again = folder.measured_s(), Machine(TWO)
    measure(tmp_path, experiment(loads, TWO, 150.0, fresh_blocks=True), again)
    assert before_s < folder.measured_s() <= 165
    firsts = [(process.partition("#")[0], row) for machine in (first, again) for process, row in slices(machine, "a")]
    unfinished = len(slices(first, "a")) - kept["a"] * len(TWO) * (allocation.rounds if (allocation := folder.allocation("a")) else 1)
    assert len(firsts) - len(set(firsts)) <= unfinished, "only the block that was cut off is served again"


def test_undecided_scenarios_go_on_to_24_and_48(tmp_path: Path) -> None:
    """`b` stays undecided; `a` is decided at 12 blocks and gets no more."""
    loads = [load(name, load="open", rate_per_s=50.0, piece=60) for name in ("a", "b")]
    asked: list[list[int]] = []
    services = {"quick": QUICK}

    def undecided(folder: Path) -> frozenset[str]:
        asked.append([len(list(folder.glob(f"blocks/{name}/*/block.json"))) for name in ("a", "b")])
        return frozenset({"b"})

    folder = measure(tmp_path, experiment(loads, services, 130.0), Machine(services), undecided=undecided)
    assert asked == [[12, 12], [12, 24]] and folder.block_count("a") == 12 and folder.block_count("b") == 48
    assert folder.measured_s() <= 1.1 * 130


def test_a_later_look_that_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    services = {"quick": QUICK}
    arrivals = load("a", load="open", rate_per_s=50.0, piece=60)
    folder = measure(tmp_path, experiment([arrivals], services, 25.0), Machine(services), undecided=lambda _: frozenset({"a"}))
    assert folder.block_count("a") == BLOCKS, "a verdict at 17 blocks would be one look more"


# --- noise -----------------------------------------------------------------------------------------------------------------------------


def blocks(folder: Path) -> list[tuple[int, bool]]:
    """(first row, noisy) of each block that was kept."""
    kept = [files.read_json(file) for file in sorted(folder.glob("blocks/*/*/block.json"))]
    return [(block["slices"][0]["first"], block["noisy"]) for block in kept]


def noisy_run(folder: Path, noisy: tuple[int, ...], rows: int = 8192, stop_at_s: float = float("inf")) -> Machine:
    """One quick arm, one round a block, so that a block has LOOKS samples of the probe."""
    services = {"quick": Service(0.05, 0.0)}
    machine = Machine(services, noisy, stop_at_s)
    measure(folder, experiment([load("a", piece=20, rows=rows)], services, 60.0), machine)
    return machine


def test_a_noisy_block_is_put_aside_once_and_measured_again_on_spare_rows(tmp_path: Path) -> None:
    """The second block's samples are slow: it comes again from the end of the plan, and is kept as it is then."""
    noisy_run(tmp_path, noisy=tuple(range(4, 7)))
    kept = blocks(tmp_path)
    spare = PLANS["a"].warm + (PLANS["a"].measured // 20 - 1) * 20
    assert kept[1] == (spare, False) and [first for first, _ in kept[2:4]] == [104, 124]
    aside = files.read_json(tmp_path / "discards" / "a" / "001" / "block.json")
    assert "2.00 ×" in aside["note"] and (tmp_path / "discards" / "a" / "001" / "samples.parquet").exists()


def test_on_a_machine_that_is_always_noisy_a_quarter_of_the_blocks_is_tried_again(tmp_path: Path) -> None:
    noisy_run(tmp_path, noisy=tuple(range(1, 400)))
    kept = blocks(tmp_path)
    assert len(kept) == BLOCKS and all(noisy for _, noisy in kept)
    assert len(list(tmp_path.glob("discards/a/*"))) == BLOCKS // 4


def test_without_spare_rows_a_noisy_block_is_flagged_at_once(tmp_path: Path) -> None:
    noisy_run(tmp_path, noisy=tuple(range(1, 400)), rows=64 + 12 * 20)
    assert all(noisy for _, noisy in blocks(tmp_path)) and not (tmp_path / "discards").exists()


# --- failures --------------------------------------------------------------------------------------------------------------------------


def test_an_arm_that_dies_gets_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    services = {"slow": replace(SLOW, dies=(45,)), "quick": QUICK}
    machine = Machine(services)
    folder = measure(tmp_path, experiment([load("a"), load("b")], services, 120.0), machine)
    assert list(failures(tmp_path).values()) == ["CRASH: planted death"]
    assert folder.block_count("a") == folder.block_count("b") == BLOCKS
    assert {process.partition("#")[0] for process, _ in slices(machine, "b")} == {"slow", "quick"}, "it gets another chance"
