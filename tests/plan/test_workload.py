"""Every scenario fits every model, or says why not; contradictions in scenarios.yaml are found at their line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import catalog
from bench.catalog import Catalog, Model, Scenario
from bench.core.errors import BenchError
from bench.plan import arrivals, workload


@pytest.fixture(scope="module")
def known() -> Catalog:
    return catalog.load()


def test_every_scenario_is_in_the_full_suite_and_fits_every_model(known: Catalog) -> None:
    assert set(known.suites["full"].scenarios) == set(known.scenarios)
    for model in known.models.values():
        for scenario in known.scenarios.values():
            if workload.why_not(scenario, model):
                continue
            made = workload.fitted(scenario, model)
            assert (made.rate_per_s is not None) == (made.load == "open")
            assert made.piece is None or 12 * made.piece <= made.rows - 64, f"{scenario.name}: its plan holds no 12 pieces"
            assert all(length <= workload.longest(model) for length in made.lengths)
            assert workload.fitted(made, model) == made, "fitting is done once"


def test_the_ladder_is_absolute_and_common_to_all_frameworks(known: Catalog) -> None:
    rungs = ["poisson-low", "poisson-mid", "poisson-high"]
    for model in known.models.values():
        rates = [workload.fitted(known.scenarios[name], model).rate_per_s for name in rungs]
        assert rates == [workload.fitted(known.scenarios[f"{name}-batched"], model).rate_per_s for name in rungs]
        assert None not in rates and sorted(set(rates), key=float) == rates, f"{model.name}: {rates}"


def test_slow_arrivals_make_short_pieces(known: Catalog) -> None:
    slow = workload.fitted(known.scenarios["poisson-low"], known.models["qwen3"])
    fast = workload.fitted(known.scenarios["poisson-low"], known.models["minilm"])
    assert (slow.piece, fast.piece) == (workload.MIN_PIECE, 160)


def test_lengths_end_where_the_model_does(known: Catalog) -> None:
    sweep, longest = known.scenarios["length-sweep"], known.scenarios["length-sweep-max"]
    assert workload.fitted(sweep, known.models["minilm"]).lengths == (16, 32, 64, 128, 256, 512)
    assert max(workload.fitted(longest, known.models["embeddinggemma"]).lengths) == 2048
    assert workload.fitted(sweep, known.models["clip-text"]).lengths == (16, 32, 64)
    assert "one shape" in str(workload.why_not(sweep, known.models["clip-image"]))
    assert "padded to 64" in str(workload.why_not(sweep, known.models["siglip-text"]))


def test_a_model_that_is_not_listed_has_a_rate_by_its_size(known: Catalog) -> None:
    for model in known.models.values():
        by_size = workload.base_rate(replace(model, rate_per_s=None))
        assert 1 / 3 < by_size / workload.base_rate(model) < 3, f"{model.name}: {by_size}"
    bare: Model = replace(known.models["minilm"], rate_per_s=None)
    assert workload.base_rate(bare) == 79.0  # 1.8e9 / 22 713 216
    own: Scenario = replace(known.scenarios["poisson-mid"], rate=None, rate_per_s=7.0)
    assert workload.fitted(own, bare).rate_per_s == 7.0


def users(folder: Path, text: str) -> Catalog:
    (folder / "scenarios.yaml").write_text(text)
    return catalog.load(folder)


TRACE = """\
scenarios:
  mine:
    title: my own traffic
    load: open
    arrivals: trace
    trace: day.csv
    piece: 40
    rows: 800
"""


def test_a_users_trace_lies_beside_the_users_scenarios_and_runs_at_its_own_pace(tmp_path: Path, known: Catalog) -> None:
    (tmp_path / "day.csv").write_text("t\n0\n0.5\n2.5\n3.0\n")
    mine = users(tmp_path, TRACE).scenarios["mine"]
    assert mine.trace == str(tmp_path / "day.csv")
    assert workload.fitted(mine, known.models["minilm"]).rate_per_s == 1.0  # three gaps in three seconds
    faster = users(tmp_path, TRACE + "    rate: 0.5\n").scenarios["mine"]
    assert workload.fitted(faster, known.models["minilm"]).rate_per_s == 40.0


def test_a_trace_that_cannot_be_read_is_one_line(tmp_path: Path, known: Catalog) -> None:
    mine = users(tmp_path, TRACE).scenarios["mine"]
    for content, error in ((None, "No such file"), ("0\n1\nx\n", "day.csv:3: 'x' is not a number"), ("0\n2\n1\n", "day.csv:3: arrival 1")):
        if content is not None:
            (tmp_path / "day.csv").write_text(content)
        with pytest.raises(BenchError) as caught:
            workload.fitted(mine, known.models["minilm"])
        assert error in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("    piece: 40\n", ""), "key 'load': open-loop pieces are not sliced"),
        (("    trace: day.csv\n", ""), "key 'load': an open loop wants `rate`"),
        (("    arrivals: trace\n", ""), "key 'arrivals': `arrivals: trace` and `trace: FILE.csv`"),
        (("rows: 800", "rows: 800\n    discard: 1"), "key 'discard': 1.0: wants a share"),
        (("rows: 800", "rows: 800\n    rate: -1"), "key 'rate': -1.0: wants a positive number"),
        (("rows: 800", "rows: 800\n    batch: 0"), "key 'batch': 0: wants 1 to rows"),
        (("load: open", "load: slo"), "key 'limits_ms'"),
        (("rows: 800", "rows: 800\n    peice: 3"), "did you mean 'piece'?"),
    ],
)
def test_a_load_that_cannot_be_served_is_found_at_its_line(tmp_path: Path, change: tuple[str, str], error: str) -> None:
    with pytest.raises(BenchError) as caught:
        users(tmp_path, TRACE.replace(*change))
    assert error in str(caught.value) and "scenarios.yaml:" in str(caught.value)


def test_the_shipped_trace_comes_in_waves() -> None:
    gaps = arrivals.trace(Path(str(catalog.load().scenarios["trace-mid"].trace)))
    assert len(gaps) > 1500 and gaps.mean() == pytest.approx(1)
    busy = [gaps[first : first + 100].mean() for first in range(0, len(gaps) - 100, 100)]
    assert max(busy) > 2 * min(busy), "one hundred arrivals take twice as long in a trough as on a crest"


def test_scenarios_that_serve_the_same_batches_take_turns(known: Catalog) -> None:
    standard = [scenario for scenario in known.scenarios.values() if scenario.name in known.suites["standard"].scenarios]
    groups = workload.turns(standard, shared=True)
    assert sorted(one.name for group in groups for one in group) == sorted(one.name for one in standard)
    assert all(len({(one.batch, one.lengths) for one in group}) == 1 for group in groups)
    firsts = [group[0].name for group in groups]
    assert firsts == sorted(firsts, key=[one.name for one in standard].index), "in the order of their first members"
    together = {one.name: {other.name for other in group} for group in groups for one in group}
    assert {"closed-1", "offline-1", "poisson-mid"} < together["closed-1"] and {"offline-32", "bulk-sorted"} < together["offline-32"]
    for alone in ("slo", "new-shape", "length-sweep"):
        assert together[alone] == {alone}
    assert workload.turns(standard, shared=False) == [[one] for one in standard]
