"""`invoke compare`: a planted slowdown is found, A/A is equal, moved vectors are seen, and the exit status says so."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.core.errors import BenchError
from bench.report import compare
from bench.runs import parquet
from bench.stats import unpaired
from tests.support import runs
from tests.support.sandbox import Sandbox

SLOW = 1.05
ARMS = tuple(runs.Fake(name, service_ms=ms, block_noise=0.008) for name, ms in (("onnx-python", 4.0), ("openvino", 3.0)))


def slower(arms: tuple[runs.Fake, ...], by: float) -> tuple[runs.Fake, ...]:
    return (dataclasses.replace(arms[0], service_ms=arms[0].service_ms * by), *arms[1:])


def probe(folder: Path, spec: runs.Spec, move: float = 0.0) -> None:
    """Vectors of a probe set for every arm, the first arm's turned by about `move`."""
    random = np.random.default_rng(4)
    plain = random.standard_normal((60, 32))
    (folder / "vectors").mkdir()
    (folder / "vectors" / "set.json").write_text(
        json.dumps({"queries": 20, "documents": 40, "plan_hash": "texts", "relevant": [[place] for place in range(20)]})
    )
    for place, fake in enumerate(spec.arms):
        moved = plain + (move * random.standard_normal(plain.shape) if place == 0 else 0)
        unit = moved / np.linalg.norm(moved, axis=1, keepdims=True)
        parquet.write_vectors(unit.astype("<f4"), None, folder / "vectors" / f"{runs.arm_id(spec, fake)}.parquet")


def two(tmp_path: Path, before: tuple[runs.Fake, ...], after: tuple[runs.Fake, ...], **more: Any) -> dict[str, unpaired.Change]:
    a, b = runs.Spec(arms=before, seed=1), runs.Spec(arms=after, seed=2, day=1)
    folders = [runs.write(tmp_path / "data" / "runs", spec) for spec in (a, b)]
    probe(folders[0], a)
    probe(folders[1], b, more.get("move", 0.0))
    found = compare.compare(*(str(folder) for folder in folders))
    return {change.arm.framework: change for change in found}


def test_a_planted_slowdown_of_five_percent_is_found(tmp_path: Path) -> None:
    found = two(tmp_path, ARMS, slower(ARMS, SLOW))
    slow, same = found["onnx-python"], found["openvino"]
    assert slow.shift.verdict == "slower" and slow.shift.lo < 1 / SLOW < slow.shift.hi
    assert str(slow.regression).startswith("slower: 0.9") and same.regression is None


def test_a_against_a_is_equal(tmp_path: Path) -> None:
    found = two(tmp_path, ARMS, ARMS)
    assert {change.shift.verdict for change in found.values()} == {"equivalent"}
    assert {change.moved.verdict for change in found.values()} == {"identical"}
    assert not any(change.regression for change in found.values())


def test_a_against_a_is_seldom_called_different() -> None:
    random, called = np.random.default_rng(1), 0
    for _ in range(400):
        a, b = np.exp(random.normal(0, 0.04, (2, 12)))
        called += unpaired.unpaired_ratio(a, b).verdict in ("faster", "slower")
    assert called <= 32  # 5 % of 400 are 20; 32 is the 99.5th percentile of that


def test_interval_is_that_of_the_rank_sum_test() -> None:
    """The interval leaves 1 out just where the exact two-sided test is below its level."""
    random = np.random.default_rng(2)
    for shift in (0.0, 0.02, 0.03, 0.04, 0.06):
        a, b = random.normal(0, 0.03, 9), random.normal(shift, 0.03, 7)
        found = unpaired.unpaired_ratio(np.exp(a).tolist(), np.exp(b).tolist())
        p = scipy_stats.mannwhitneyu(b, a, method="exact").pvalue
        assert (found.lo > 1 or found.hi < 1) == (p <= unpaired.ALPHA)


def test_too_few_blocks_or_unusable_ones_give_no_verdict() -> None:
    few = unpaired.unpaired_ratio([1.0] * 5, [2.0] * 5)
    assert (few.verdict, few.note) == ("unresolved", "5 of 6 blocks") and few.ratio == 2
    assert unpaired.unpaired_ratio([1.0, float("nan")], [1.0]).verdict == "unresolved"
    assert unpaired.unpaired_ratio([], [1.0]).verdict == "unresolved"


@pytest.mark.parametrize(("move", "verdict", "regression"), [(1e-8, "agree", None), (0.05, "moved", "vectors moved")])
def test_moved_vectors_are_seen(tmp_path: Path, move: float, verdict: str, regression: str | None) -> None:
    found = two(tmp_path, ARMS, ARMS, move=move)["onnx-python"]
    assert (found.moved.verdict, found.regression) == (verdict, regression)


def test_int8_vectors_have_moved_when_an_index_notices(tmp_path: Path) -> None:
    arms = tuple(dataclasses.replace(arm, precision="int8", cosine=0.99, max_abs_diff=0.02) for arm in ARMS)
    little, much = (two(tmp_path / str(move), arms, arms, move=move)["onnx-python"].moved for move in (1e-6, 0.5))
    assert (little.verdict, little.swap) == ("agree", "yes") and (much.verdict, much.swap) == ("moved", "re-index")


def test_an_arm_that_fails_now_is_a_regression(tmp_path: Path) -> None:
    after = (dataclasses.replace(ARMS[0], failures={"*": ("CRASH", "planted")}), ARMS[1])
    assert two(tmp_path, ARMS, after)["onnx-python"].regression == "was OK, is CRASH"
    gone = two(tmp_path / "gone", ARMS, ARMS[1:])["onnx-python"]
    assert gone.regression == "was OK, is not there" and gone.moved.verdict == "not kept"


def test_runs_of_different_models_are_not_compared(tmp_path: Path) -> None:
    folders = [runs.write(tmp_path, runs.Spec(arms=ARMS, model=model)) for model in ("minilm", "bge-m3")]
    with pytest.raises(BenchError, match="their model differ"):
        compare.compare(*(str(folder) for folder in folders))


def test_a_run_is_found_by_the_end_of_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = runs.write(tmp_path, runs.Spec(arms=ARMS, run_id="20261121-101010-minilm-ab12"))
    monkeypatch.setattr(compare.paths, "RUNS", tmp_path)
    assert compare.folder_of("ab12") == folder == compare.folder_of(str(folder))
    with pytest.raises(BenchError, match="not found"):
        compare.folder_of("ffff")


def test_exit_status_and_label(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    two(tmp_path, ARMS, slower(ARMS, SLOW))
    before, after = (folder.name for folder in sandbox.runs)
    plain = sandbox.invoke("compare", before, after)
    assert plain.returncode == 0 and "unpaired" in plain.stdout and "slower: 0.9" in plain.stdout
    assert sandbox.invoke("compare", before, after, "--fail-on-regression").returncode == 1
    found = sandbox.invoke("compare", before, before, "--fail-on-regression", "--json")
    assert found.returncode == 0
    assert {row["comparison"] for row in json.loads(found.stdout)} == {"unpaired"}
    assert all(row["moved"]["verdict"] == "identical" for row in json.loads(found.stdout))
