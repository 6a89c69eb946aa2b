"""What each switch is worth, and the search over them: on run folders whose truth is known."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import catalog
from bench.catalog import arms as variants
from bench.catalog import tuned_settings
from bench.commands import bench, knobs, tune
from bench.commands.knobs import Worth
from bench.commands.options import BenchOptions, KnobsOptions
from bench.core.errors import BenchError
from bench.core.progress import Progress
from bench.prepare import spec as experiment_spec
from bench.store import database as store
from tests.support import runs
from tests.support.runs import OFFLINE, SINGLE, Fake, Spec

KNOWN = catalog.load()
CLOSED = KNOWN.scenarios["closed-1"]
BATCHES = KNOWN.scenarios["offline-32"]
QUIET: dict[str, Any] = {"block_noise": 0.003}


def worth(switches: str, ratio: float | None, verdict: str = "faster", **more: Any) -> Worth:
    """What a switch might be found to be worth."""
    plain: dict[str, Any] = {
        "scenario": "closed-1", "status": "OK", "reason": None, "min_cosine": 1.0, "sessions": 2 if "layout=2x1" in switches else 1,
        "blocks": 12, "ratio_lo": ratio, "ratio_hi": ratio, "note": None,
    }  # fmt: skip
    return Worth(f"knob:{switches}", ratio=ratio, verdict=verdict, **{**plain, **more})


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """One run: spinning off is 25 % slower, a better allocator 20 % faster, one level gives wrong vectors, two sessions 10 % faster."""
    arms = (
        Fake("onnx-python", 4.0, **QUIET), Fake("onnx-python", 5.0, variant="knob:spinning=0", **QUIET),
        Fake("onnx-python", 4.0 / 1.2, variant="knob:allocator=glibc-thresholds", **QUIET),
        Fake("onnx-python", 2.0, variant="knob:optimization=basic", cosine=0.9, **QUIET),
        Fake("onnx-python", 4.0 / 1.1, variant="knob:layout=2x1", sessions=2, threads=1, **QUIET),
        Fake("onnx-python", variant="knob:allocator=jemalloc", failures={"*": ("NOT_APPLICABLE", "libjemalloc is not installed")}),
    )  # fmt: skip
    runs.write(tmp_path / "runs", Spec(arms=arms, loads=(SINGLE, OFFLINE), run_id="r1"))
    store.load(tmp_path / "results.duckdb", tmp_path / "runs")
    return tmp_path / "results.duckdb"


def test_what_each_switch_is_worth_comes_from_the_database(database: Path) -> None:
    found = {(one.switches, one.scenario): one for one in knobs.worth("r1", database)}
    assert len(found) == 5 * 2
    slower, faster = found["spinning=0", "closed-1"], found["allocator=glibc-thresholds", "closed-1"]
    assert (slower.ratio, slower.verdict) == (pytest.approx(0.8, rel=0.01), "slower")
    assert (faster.ratio, faster.verdict) == (pytest.approx(1.2, rel=0.01), "faster")
    assert faster.ratio_lo is not None and faster.ratio_hi is not None and faster.ratio_lo < 1.2 < faster.ratio_hi
    wrong = found["optimization=basic", "offline-32"]
    assert (wrong.status, wrong.ratio, wrong.usable) == ("PARITY_FAIL", None, False)
    absent = found["allocator=jemalloc", "closed-1"]
    assert (absent.status, absent.reason, absent.usable) == ("NOT_APPLICABLE", "libjemalloc is not installed", False)
    two = found["layout=2x1", "closed-1"]
    assert two.status == "NOT_APPLICABLE" and two.usable and two.ratio == pytest.approx(1.1, rel=0.01)


def test_the_table_says_what_is_known_and_why_the_rest_is_not(database: Path) -> None:
    console = Console(width=300, file=io.StringIO(), record=True)
    console.print(knobs.worth_table(knobs.worth("r1", database), KNOWN.frameworks["onnx-python"], "knobs"))
    text = console.export_text()
    for words in ("1.2", "faster", "slower", "from 2 clients on", "PARITY_FAIL", "libjemalloc is not installed", "what serves malloc"):
        assert words in text


def test_a_run_that_turned_no_switch_is_refused(database: Path) -> None:
    with pytest.raises(BenchError, match="turned no switch"):
        knobs.worth("r2", database)


def test_knobs_wants_a_framework_or_a_run() -> None:
    with pytest.raises(BenchError, match="knobs: whose"):
        knobs.measure_knobs(KnobsOptions(), "invoke knobs")


def test_candidates_are_the_best_the_two_best_and_all_that_helped() -> None:
    found = [worth("a=1", 1.05), worth("a=2", 1.3), worth("b=1", 1.2), worth("c=1", 1.1), worth("d=1", 0.9, "slower"),
             worth("e=1", 9.0, status="PARITY_FAIL"), worth("f=1", None), worth("g=1", 1.005)]  # fmt: skip
    assert tune.candidates(found, CLOSED) == ["knob:a=2", "knob:a=2+b=1", "knob:a=2+b=1+c=1"]
    assert tune.candidates(found[4:], CLOSED) == []


def test_a_layout_of_two_sessions_is_no_candidate_for_one_client() -> None:
    found = [worth("layout=2x1", 1.5), worth("layout=2x1+shared=1", 1.6), worth("a=1", 1.1)]
    assert tune.candidates(found, CLOSED) == ["knob:a=1"]
    assert tune.candidates(found, BATCHES) == ["knob:layout=2x1+shared=1", "knob:layout=2x1+shared=1+a=1"]


def test_only_what_is_shown_to_be_faster_wins() -> None:
    assert tune.winner([worth("a=1", 1.4, "unresolved"), worth("b=1", 0.9, "slower")]) is None
    best = tune.winner([worth("a=1", 1.1), worth("b=1", 1.2), worth("c=1", 2.0, "unresolved")])
    assert best is not None and best.switches == "b=1"


def test_the_search_spends_the_same_budget_and_keeps_what_it_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A campaign whose arms have a known speed: `spinning=0` and the thresholds each help, together most; nothing helps batches."""
    database, asked = tmp_path / "results.duckdb", []
    speed = {"spinning=0": 1.1, "allocator=glibc-thresholds": 1.2, "allocator=glibc-thresholds+spinning=0": 1.3}

    def measure(spec: experiment_spec.RunSpec, *_: Any, **__: Any) -> Any:
        asked.append((spec.budget_s, [scenario.name for scenario in spec.scenarios], spec.variants))
        loads = tuple({"closed-1": SINGLE, "offline-32": OFFLINE}[scenario.name] for scenario in spec.scenarios)
        arms = [Fake("onnx-python", 4.0, **QUIET)]
        for name in spec.variants[1:]:
            ms = 4.0 / speed.get(name.removeprefix("knob:"), 0.7)
            arms.append(Fake("onnx-python", ms, variant=name, failures={"offline-32": ("CRASH", "no")} if ms < 4 else {}, **QUIET))
        folder = runs.write(tmp_path / "runs", Spec(arms=tuple(arms), loads=loads, run_id=f"r{len(asked)}"))
        store.append(database, folder)
        return type("Folder", (), {"run_id": folder.name})

    monkeypatch.setattr(bench, "measure_and_store", measure)
    monkeypatch.setattr(knobs.worth, "__defaults__", (database,))
    monkeypatch.setattr(store.rows, "__defaults__", ((), database))
    spec = knobs.single_spec(BenchOptions("minilm", "onnx-python", scenario=knobs.SCENARIOS), KNOWN, "invoke tune")
    closed, batches = tune.search(spec, KNOWN.frameworks["onnx-python"], 100.0, Progress())
    assert asked[0] == (100.0, ["closed-1", "offline-32"], ("default", *variants.switches(KNOWN.frameworks["onnx-python"], "fp32", 2)))
    best = "allocator=glibc-thresholds"
    assert asked[1:] == [(50.0, ["closed-1"], ("default", f"knob:{best}", f"knob:{best}+spinning=0"))]
    assert (closed.settings, closed.layout) == ({"allocator": "glibc-thresholds", "spinning": "0"}, None)
    assert closed.ratio == pytest.approx(1.3, rel=0.01)
    assert {one.run_id for one in closed.searched} == {"r1", "r2"}
    assert (batches.settings, batches.ratio) == ({}, None) and len(batches.searched) == len(asked[0][2]) - 1


def test_what_was_found_is_written_read_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuned_settings, "FOLDER", tmp_path)
    pytorch = KNOWN.frameworks["pytorch"]
    first = tuned_settings.Tuned(
        "closed-1", {"allocator": "glibc-thresholds"}, searched=(tuned_settings.TriedSettings("wait=active", "r1", "OK", 0.9),)
    )
    file = tuned_settings.write(pytorch, [first, tuned_settings.Tuned("offline-32", layout="2x1", by="an author")])
    assert file.read_text().startswith("# PyTorch, tuned.")
    assert tuned_settings.read("pytorch")["closed-1"] == first
    tuned_settings.write(pytorch, [tuned_settings.Tuned("offline-8", {"allocator": "glibc-thresholds"})])
    found = tuned_settings.merged(KNOWN).frameworks["pytorch"].variants
    assert found["tuned:closed-1"].scenarios == ("closed-1", "offline-8")
    assert found["tuned:closed-1"].settings == {"allocator": "glibc-thresholds"}
    assert (found["tuned:offline-32"].sessions, found["tuned:offline-32"].note) == (2, "chosen by an author")
    assert variants.parse_variants("tuned", tuned_settings.merged(KNOWN).frameworks.values()) == ("tuned",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("closed-one: {}", "closed-one: unknown scenario 'closed-one': did you mean 'closed-1'"),
        ("closed-1: {settings: {allocater: glibc}}", "closed-1: pytorch has no knob 'allocater': did you mean 'allocator'"),
        ("closed-1: {settings: {allocator: mymalloc}}", "closed-1: allocator=mymalloc: takes glibc"),
        ("closed-1: {layout: 2}", r"pytorch.yaml:1: closed-1: key 'layout'"),
        ("closed-1: {layout: two}", "closed-1: bad layout 'two'"),
        ("closed-1: {setings: {}}", r"pytorch.yaml:1: closed-1: key 'setings': unknown key; did you mean 'settings'"),
    ],
)
def test_a_wrong_file_is_refused_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.setattr(tuned_settings, "FOLDER", tmp_path)
    (tmp_path / "pytorch.yaml").write_text(text)
    with pytest.raises(BenchError, match=message):
        tuned_settings.merged(KNOWN)


def test_a_null_worker_has_nothing_to_switch() -> None:
    with pytest.raises(BenchError, match="null worker"):
        knobs.single_spec(BenchOptions("minilm", "null-cpp"), KNOWN, "invoke knobs")
    with pytest.raises(BenchError, match="one model and one precision"):
        knobs.single_spec(BenchOptions("minilm", "pytorch", precision="fp32,bf16"), KNOWN, "invoke knobs")
    with pytest.raises(BenchError, match="one model and one precision"):
        knobs.single_spec(BenchOptions("clip", "pytorch"), KNOWN, "invoke knobs")


def test_scenarios_of_a_tuned_variant_are_scenarios_of_its_file() -> None:
    made = tuned_settings.with_tuned(KNOWN.frameworks["candle"], {"closed-1": tuned_settings.Tuned("closed-1")}, KNOWN.scenarios)
    assert made.variants["tuned"].scenarios == ("closed-1",)
    assert replace(made, variants=KNOWN.frameworks["candle"].variants) == KNOWN.frameworks["candle"]
