"""A run's budget on a fake clock: the real Runner, whose blocks and warm-ups only let time pass. Nothing is started."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.catalog import Scenario
from bench.core import files
from bench.measure import run as runner
from bench.measure.budget import ServiceTime
from bench.measure.run import Runner
from bench.runs.schema import Allocation
from bench.runs.writer import RunFolder
from tests.support.runs import empty_block

ARMS = ("a", "b", "c")
WARM_UP_S, LEAST_WARM_UP_S = 0.05, 0.04


class Clock(Runner):
    """A runner whose three arms need `request_s[scenario]` seconds a request, and blocks `drift` times what was expected."""

    def __init__(self, folder: Path, scenarios: list[Scenario], budget_s: float | None, request_s: float, fresh: bool = False) -> None:
        self.request_s, self.drift, self.stop_at_s = request_s, 1.0, float("inf")
        anywhere = SimpleNamespace(scenarios=())
        prepared_arms = [SimpleNamespace(arm=SimpleNamespace(id=arm, role="measured"), name=arm, variant=anywhere) for arm in ARMS]
        spec = SimpleNamespace(scenarios=tuple(scenarios), budget_s=budget_s, requests=None, controls_s=0.0, fresh_blocks=fresh, seed=1)
        plans = {
            one.name: SimpleNamespace(rows=one.rows, warm=64, measured=one.rows - 64, lengths=np.full(one.rows, 16)) for one in scenarios
        }
        experiment: Any = SimpleNamespace(spec=spec, prepared_arms=prepared_arms, plans=plans, not_applicable={})
        seats: Any = SimpleNamespace(measured_s=0.0, warm_up_s=0.0, costs={}, held=None, leave_all=self._leave)
        seats.stage = _Stage()
        self.cold, self.least_warm_up_s, self.last_warm_up_s = True, LEAST_WARM_UP_S, 0.0
        progress: Any = SimpleNamespace(say=lambda line: None, steps=_bar, turns=_turns)
        #: (scenario, block, process): a process is numbered from its start.
        self.served: list[tuple[str, int, int]] = []
        self.process = 0
        super().__init__(experiment, RunFolder(folder), seats, progress)

    def _leave(self) -> None:
        self.cold = True

    def _ready_all(self, scenario: Scenario, limit_s: float) -> None:
        self.process += self.cold
        if self.cold or ("a", scenario.name) not in self.seats.costs:
            spent_s = len(ARMS) * max(min(limit_s, WARM_UP_S), self.least_warm_up_s)
            self.seats.measured_s += spent_s
            self.seats.warm_up_s += spent_s
            self.last_warm_up_s = spent_s
        self.cold = False
        cost = ServiceTime(self.request_s * scenario.batch, self.request_s)
        self.seats.costs.update(dict.fromkeys(((arm, scenario.name) for arm in ARMS), cost))

    def _expected(self, *_: Any) -> Any:
        return None

    def _block(self, scenario: Scenario, block: int, allocation: Allocation, *_: Any, **__: Any) -> None:
        # where a budget is shared out, a block in fresh processes is expected to take its warm-up too, which `_ready_all` has let pass; of
        # scenarios in turns the first one's
        own_start = self._fresh(scenario) and scenario.name not in self.warmed
        warm_up_s = self.last_warm_up_s if self.experiment.spec.budget_s is not None and own_start else 0.0
        self.served.append((scenario.name, block, self.process))
        self.seats.measured_s += (allocation.block_s - warm_up_s) * self.drift
        self.folder.write_block(empty_block(scenario.name, block, self.seats.measured_s, seconds=0.0), pd.DataFrame({"arm_id": []}))
        if self.seats.measured_s > self.stop_at_s:
            raise KeyboardInterrupt

    def blocks(self) -> list[int]:
        """Finished blocks of each scenario, in their order."""
        return [self.folder.block_count(scenario.name) for scenario in self.experiment.spec.scenarios]


class _Stage:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        yield


@contextmanager
def _bar(about: str, total: int) -> Iterator[Callable[[], None]]:
    yield lambda: None


@contextmanager
def _turns(blocks: int) -> Iterator[Callable[[int, str, list[str]], None]]:
    yield lambda block, name, names: None


@pytest.fixture(autouse=True)
def nothing_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.preflight, "stays_resident", lambda experiment: True)
    monkeypatch.setattr(runner.noise_monitor, "Watch", lambda seats, folder: None)
    monkeypatch.setattr(runner.quality, "measure", lambda *_: None)
    monkeypatch.setattr(files, "sync", lambda path: None)


def suite(count: int = 12) -> list[Scenario]:
    """Closed loops, batches, open loops and bulk pieces by turns."""
    kinds: list[dict[str, Any]] = [
        {"load": "closed"}, {"load": "offline", "batch": 8}, {"load": "open", "rate_per_s": 50.0, "piece": 60},
        {"load": "offline", "batch": 8, "piece": 64},
    ]  # fmt: skip
    return [Scenario(name=f"s{place:02d}", title="x", rows=8192, **kinds[place % len(kinds)]) for place in range(count)]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(("budget_s", "drift"), [(60.0, 1.0), (300.0, 0.8), (300.0, 1.3), (900.0, 1.0), (900.0, 1.3)])
def test_twelve_scenarios_stay_within_ten_percent(tmp_path: Path, budget_s: float, drift: float, fresh: bool) -> None:
    run = Clock(tmp_path, suite(), budget_s, random.Random(budget_s).uniform(0.002, 0.02), fresh)
    run.drift = drift
    run.run()
    assert run.seats.measured_s <= 1.1 * budget_s
    assert run.seats.measured_s >= 0.8 * budget_s or run.blocks() == [12] * 12, "what there is gets used"


@pytest.mark.parametrize(("fresh", "least_warm_up_s"), [(False, LEAST_WARM_UP_S), (True, LEAST_WARM_UP_S), (True, 0.5)])
def test_a_scenario_gets_twelve_blocks_before_the_next_begins(tmp_path: Path, fresh: bool, least_warm_up_s: float) -> None:
    """Also where the warm-up of fresh processes takes as long as a block: every shape once takes what it takes."""
    run = Clock(tmp_path, suite(), 200.0, 0.05, fresh)
    run.least_warm_up_s = least_warm_up_s
    run.run()
    blocks = run.blocks()
    short = next(place for place, count in enumerate(blocks) if count < 12)
    assert short >= 1 and blocks[:short] == [12] * short
    for place, count in enumerate(blocks):
        reasons = [files.read_json(file)["reason"] for file in tmp_path.glob(f"failures/a--s{place:02d}.json")]
        assert count == 0 or count >= 3
        assert bool(reasons) == (count == 0), "what has no block says what it needs"
        assert all("3 blocks need" in reason and "--budget" in reason for reason in reasons)
    assert 0 in blocks


@pytest.mark.parametrize("fresh", [False, True])
def test_blocks_cheaper_than_expected_are_twelve_before_the_next_begins(tmp_path: Path, fresh: bool) -> None:
    """Twelve blocks were not expected to fit, and do."""
    run = Clock(tmp_path, suite(2), 25.0, 0.05, fresh)
    run.drift = 0.4
    run.run()
    first = [place for place, (name, _, _) in enumerate(run.served) if name == "s00"]
    assert first == list(range(12)), run.served
    assert run.seats.measured_s <= 1.1 * 25


def test_what_later_scenarios_need_is_kept_for_them(tmp_path: Path) -> None:
    """Two cheap scenarios before one whose pieces take most of the budget: an equal share for each would leave it short."""
    dear = Scenario(name="dear", title="x", rows=8192, load="open", rate_per_s=20.0, piece=160)
    run = Clock(tmp_path, [*suite(2), dear], 340.0, 0.005)
    run.run()
    assert run.blocks() == [12] * 3, "12 × 3 arms × 8 s of 340 s are the last one's"


def test_null_workers_wait_for_arrivals_in_one_scenario_only(tmp_path: Path) -> None:
    steady, other = (Scenario(name=name, title="x", rows=8192, load="open", rate_per_s=50.0, piece=60, floor_in=floor_in)
                     for name, floor_in in (("steady", None), ("other", "steady")))  # fmt: skip
    run = Clock(tmp_path, [steady, other], 300.0, 0.005)
    run.experiment.prepared_arms[0].arm.role = "floor"
    run.run()
    (said,) = (files.read_json(file) for file in tmp_path.glob("failures/*.json"))
    assert (said["arm_id"], said["scenario"], said["status"]) == ("a", "other", "NOT_APPLICABLE") and "steady" in said["reason"]


@pytest.mark.parametrize("fresh", [False, True])
def test_the_budget_that_a_skipped_scenario_asks_for_is_enough(tmp_path: Path, fresh: bool) -> None:
    first = Clock(tmp_path / "first", suite(), 200.0, 0.05, fresh)
    first.run()
    skipped = [place for place, count in enumerate(first.blocks()) if not count]
    for place in (skipped[0], skipped[-1]):
        said = files.read_json(tmp_path / "first" / "failures" / f"a--s{place:02d}.json")["reason"]
        enough_s = float(said.partition("--budget ")[2].partition("s`")[0])
        again = Clock(tmp_path / f"again-{place}", suite(), enough_s, 0.05, fresh)
        again.run()
        assert again.blocks()[place] >= 3, said
        assert enough_s < 2 * again.seats.measured_s, "and not far more than it takes"


def test_scenarios_of_one_shape_take_turns_and_each_block_has_new_processes(tmp_path: Path) -> None:
    """Four scenarios of batch 1 and of batch 8 by turns: two groups, twelve starts each, and never two blocks of one scenario together."""
    run = Clock(tmp_path, suite(4), 300.0, 0.005, fresh=True)
    run.run()
    assert run.blocks() == [12] * 4
    seen = [(name, process) for name, _, process in run.served]
    assert len(set(seen)) == len(seen) == 48, "a block of a scenario comes from processes that served no other of its blocks"
    together = {process: {name for name, other in seen if other == process} for _, process in seen}
    assert sorted(map(sorted, together.values())) == [["s00", "s02"]] * 12 + [["s01", "s03"]] * 12
    assert run.served[:4] == [("s00", 0, 1), ("s02", 0, 1), ("s00", 1, 2), ("s02", 1, 2)]


def test_a_scenario_of_the_first_shape_waits_for_those_in_front_of_it(tmp_path: Path) -> None:
    """s00 and `last` share a shape; `middle` is between them in the order, and the budget has room for two of the three."""
    first, middle, last = (Scenario(name=name, title="x", rows=8192, load="open", rate_per_s=20.0, piece=160, batch=batch)
                           for name, batch in (("first", 1), ("middle", 8), ("last", 1)))  # fmt: skip
    run = Clock(tmp_path, [first, middle, last], 700.0, 0.005, fresh=True)
    run.run()
    assert run.blocks()[:2] == [12, 12] and run.blocks()[2] < 12
    assert run.seats.measured_s <= 770


def test_a_run_in_turns_that_was_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    first = Clock(tmp_path, suite(4), 300.0, 0.005, fresh=True)
    first.stop_at_s = 40.0
    with pytest.raises(KeyboardInterrupt):
        first.run()
    again = Clock(tmp_path, suite(4), 300.0, 0.005, fresh=True)
    again.run()
    served = [(name, block) for name, block, _ in (*first.served, *again.served)]
    assert again.blocks() == [12] * 4 and len(set(served)) == len(served) == 48, "no block twice"
    assert again.seats.measured_s <= 330


def test_when_the_budget_is_used_up_nothing_more_is_warmed_up(tmp_path: Path) -> None:
    """Twelve scenarios of whose blocks none fits into 3 s: their warm-ups alone must not eat more than that."""
    run = Clock(tmp_path, suite(), 3.0, 0.5)
    run.run()
    assert run.seats.measured_s <= 3.3 and sum(run.blocks()) == 0
    reasons = [files.read_json(file)["reason"] for file in sorted(tmp_path.glob("failures/a--*.json"))]
    assert len(reasons) == 12 and all("3 blocks need" in reason for reason in reasons)


def test_what_is_far_beyond_the_budget_is_not_warmed_up_to_see(tmp_path: Path) -> None:
    """Three blocks of `dear` are 3 × 3 arms × 8 s of arrivals, of which 30 s have no room: what is left is the first one's."""
    dear = Scenario(name="dear", title="x", rows=8192, load="open", rate_per_s=20.0, piece=160)
    run = Clock(tmp_path, [*suite(1), dear], 30.0, 0.02)
    run.run()
    assert run.blocks() == [12, 0] and ("a", "dear") not in run.seats.costs
    reason = files.read_json(tmp_path / "failures" / "a--dear.json")["reason"]
    assert "s are left of the budget; 3 blocks need about" in reason and "--budget" in reason


def test_without_a_budget_every_scenario_takes_its_own_cost(tmp_path: Path) -> None:
    run = Clock(tmp_path, suite(), None, 0.01, fresh=True)
    run.run()
    assert run.blocks() == [12] * 12
    assert run.seats.warm_up_s <= 0.25 * run.seats.measured_s, "warm-up is a fifth, and the piece's first start comes on top"


def test_a_resumed_run_has_only_what_is_left(tmp_path: Path) -> None:
    first = Clock(tmp_path, suite(), 200.0, 0.01)
    first.stop_at_s = 90.0
    with pytest.raises(KeyboardInterrupt):
        first.run()
    again = Clock(tmp_path, suite(), 200.0, 0.01)
    again.run()
    assert 90 < again.seats.measured_s <= 220
    assert again.seats.measured_s >= 160, "and uses it"


def test_undecided_scenarios_go_on_to_24_and_48(tmp_path: Path) -> None:
    """s01 stays undecided; s00 is decided at 12 blocks and gets no more."""
    run = Clock(
        tmp_path, [Scenario(name=f"s0{k}", title="x", load="open", rate_per_s=50.0, piece=60, rows=8192) for k in (0, 1)], 400.0, 0.01
    )
    asked: list[list[int]] = []

    def undecided(folder: Path) -> frozenset[str]:
        asked.append(run.blocks())
        return frozenset({"s01"})

    run.undecided = undecided
    run.run()
    assert asked == [[12, 12], [12, 24]] and run.blocks() == [12, 48]
    assert run.seats.measured_s <= 440


def test_a_later_look_that_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    run = Clock(tmp_path, suite(3)[2:], 80.0, 0.01)
    run.undecided = lambda folder: frozenset({"s02"})
    run.run()
    assert run.blocks() == [12], "a verdict at 17 blocks would be one look more"
