"""What a precision costs: hand-worked nDCG and overlap, intervals that know their queries, broken spaces, swaps, and who is ranked."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.core.arrays import Vectors
from bench.runs import reader
from bench.runs.schema import QualityData
from bench.stats import leaderboard, parity
from bench.stats import quality as stats_quality
from bench.stats.arms import Controls
from bench.stats.tables import Quality
from tests.support import runs


def unit(vectors: Any) -> Vectors:
    wide = np.asarray(vectors, dtype=np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), dtype=np.float32)


def one(*places: int) -> frozenset[int]:
    return frozenset(places)


def test_ndcg_by_hand() -> None:
    scores = np.array([[0.9, 0.8, 0.1], [0.1, 0.8, 0.9], [0.2, 0.9, 0.8]])
    found = stats_quality.ndcg(scores, [one(0), one(1), one(0, 2)])
    both = (1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3))  # right ones in second and third place
    assert found == pytest.approx([1.0, 1 / math.log2(3), both])


def test_what_lies_beyond_the_tenth_place_counts_nothing() -> None:
    scores = np.arange(20.0, 0, -1)[None, :]
    assert stats_quality.ndcg(scores, [one(9)])[0] == pytest.approx(1 / math.log2(11))
    assert stats_quality.ndcg(scores, [one(10)])[0] == 0


def test_equal_scores_find_nothing() -> None:
    assert stats_quality.ndcg(np.ones((1, 20)), [one(0)])[0] == 0


def test_overlap_by_hand() -> None:
    scores = np.array([[3.0, 2.0, 1.0, 0.0]])
    assert stats_quality.overlap(stats_quality.top(scores, 2), np.array([[1, 3]]))[0] == 0.5


def test_kept_is_a_ratio_of_means_on_the_same_items() -> None:
    found = stats_quality.mean_kept(np.array([1.0, 0.5, 0.0]), np.array([1.0, 0.5, 0.5]))
    assert (found.kept, found.value, found.reference) == pytest.approx((0.75, 0.5, 2 / 3))
    assert 0 <= found.lo <= 0.75 <= found.hi <= 1
    same = stats_quality.mean_kept(np.array([0.3, 0.9]), np.array([0.3, 0.9]))
    assert (same.kept, same.lo, same.hi) == (1, 1, 1)


def test_kept_interval_covers_the_truth() -> None:
    """In 100 samples of 300 queries of which 2 % lose everything, the interval misses 0.98 about as often as it should."""
    random, missed = np.random.default_rng(7), 0
    for _ in range(100):
        reference = random.uniform(0.5, 1, 300)
        found = stats_quality.mean_kept(reference * (random.random(300) >= 0.02), reference)
        missed += not found.lo <= 0.98 <= found.hi
    assert missed <= 13


def test_kept_tells_nothing_where_fp32_finds_nothing() -> None:
    assert math.isnan(stats_quality.mean_kept(np.zeros(3), np.zeros(3)).kept)
    assert math.isnan(stats_quality.mean_kept(np.array([np.nan, 1.0]), np.ones(2)).lo)


def test_spearman_kept() -> None:
    gold = np.arange(40.0)
    assert stats_quality.spearman_kept(gold, gold * 2, gold).kept == 1
    swapped = gold.copy()
    swapped[:20] = swapped[:20][::-1]
    found = stats_quality.spearman_kept(swapped, gold, gold)
    assert found.lo < found.kept < 1


def test_broken_spaces_are_named() -> None:
    random = np.random.default_rng(1)
    honest = unit(random.standard_normal((50, 16)))
    assert stats_quality.broken_space(honest, honest) is None
    alike = unit(np.ones((50, 16)) + 0.01 * random.standard_normal((50, 16)))
    assert "collapsed space: the mean cosine of two different inputs is 1.000" in str(stats_quality.broken_space(alike, honest))
    holed = honest.copy()
    holed[3, 2] = np.nan
    assert stats_quality.broken_space(holed, honest) == "broken space: 1 of 50 vectors hold NaN or infinity"


def test_swaps_among_equal_turned_and_noisy_arms() -> None:
    random = np.random.default_rng(3)
    documents = unit(random.standard_normal((200, 32)))
    queries = unit(documents[:60] + 0.05 * random.standard_normal((60, 32)))
    plain = np.concatenate([queries, documents])
    turned = unit(plain[:, ::-1])
    found = {
        (row.built_arm, row.asked_arm): row
        for row in stats_quality.swap_matrix(
            {"a": plain, "b": plain + np.float32(1e-7), "turned": turned}, 60, [one(place) for place in range(60)]
        )
    }
    assert len(found) == 9
    assert found["a", "b"].verdict == "yes" and found["a", "b"].overlap == 1
    # An arm agrees with itself, and its vectors are of no use in another's index.
    assert found["turned", "turned"].verdict == "yes" and found["turned", "turned"].ndcg == pytest.approx(1)
    assert found["a", "turned"].verdict == "re-index" and (found["a", "turned"].ndcg or 0) < 0.3


def test_an_arm_that_finds_others_as_good_ones_is_nearly_swapped() -> None:
    """The right document stays first, all the others change."""
    random = np.random.default_rng(5)
    anchors = np.eye(64)[:40]
    documents = unit(np.concatenate([anchors, random.standard_normal((100, 64))]))
    a, b = (unit(10 * anchors + random.standard_normal((40, 64))) for _ in range(2))
    found = stats_quality.swap_matrix(
        {"a": np.concatenate([a, documents]), "b": np.concatenate([b, documents])}, 40, [one(place) for place in range(40)]
    )
    row = next(row for row in found if (row.built_arm, row.asked_arm) == ("a", "b"))
    assert row.verdict == "nearly" and row.overlap < 0.9 and row.ndcg_kept == pytest.approx(1)


# --- who is ranked -------------------------------------------------------------------------------------------------------------------


def found(arm_id: str, lost: int, n: int = 400) -> pd.DataFrame:
    """Retrieval items of an arm that answers `lost` of its queries wrong; fp32 answers all of them right."""
    value = np.r_[np.zeros(lost), np.ones(n - lost)]
    return pd.DataFrame({
        "measure": "retrieval", "set": "docstrings", "item": np.arange(n), "value": value, "reference": 1.0, "overlap": 0.95,
        "gold": np.nan, "arm_id": arm_id,
    })  # fmt: skip


def board(tmp_path: Path, quality: QualityData | None, fakes: tuple[runs.Fake, ...], weights: str = "wheel") -> dict[str, Any]:
    spec = runs.Spec(arms=fakes, weights=weights)
    run = dataclasses.replace(reader.read_run(runs.write(tmp_path / "runs", spec)), quality=quality)
    rows, _ = leaderboard.leaderboard(run, Controls(True))
    return {f"{row.framework} {row.precision}": row for row in rows if row.scenario == "closed-1"}


INT8 = tuple(
    runs.Fake(name, service_ms=ms, precision="int8", cosine=0.98, max_abs_diff=0.05, block_noise=0.005)
    for name, ms in (("onnx-python", 3.0), ("openvino", 4.0))
)


def quality_data(spec: runs.Spec, lost: dict[str, int], probes: dict[str, Vectors] | None = None, **more: Any) -> QualityData:
    items = [found(runs.arm_id(spec, fake), lost[fake.framework]) for fake in spec.arms if fake.framework in lost]
    frame = pd.concat(items, ignore_index=True) if items else found("nobody", 0).iloc[:0]
    named = {runs.arm_id(spec, fake): probes[fake.framework] for fake in spec.arms if probes and fake.framework in probes}
    if probes and "reference" in probes:
        named["reference"] = probes["reference"]
    return QualityData(frame, named, 0, (), more.get("failed", {}))


def test_an_arm_that_keeps_its_quality_is_ranked_and_one_that_does_not_is_refused(tmp_path: Path) -> None:
    spec = runs.Spec(arms=INT8)
    rows = board(tmp_path, quality_data(spec, {"onnx-python": 20, "openvino": 0}), INT8)
    good, bad = rows["openvino int8"], rows["onnx-python int8"]
    assert good.ranked and (good.quality, good.quality_lo) == (1, 1) and good.quality_metric == "nDCG@10 kept, 400 queries (docstrings)"
    assert (good.rank_lo, good.rank_hi, good.top10_overlap) == (1, 1, pytest.approx(0.95))
    assert not bad.ranked and bad.quality == pytest.approx(0.95) and bad.status == "OK" and bad.p50_ms is not None
    assert "keeps 95.0% [" in str(bad.rank_note) and "of fp32's nDCG@10 (400 queries)" in str(bad.rank_note)
    assert bad.rank_lo is None and bad.ratio_to_best is None, "a refused arm stands in nobody's ranking"


def test_the_lower_end_decides(tmp_path: Path) -> None:
    """Two lost of 400 keep 99.5 %, and the interval reaches below 99 %."""
    rows = board(tmp_path, quality_data(runs.Spec(arms=INT8), {"onnx-python": 2, "openvino": 0}), INT8)
    row = rows["onnx-python int8"]
    assert row.quality == pytest.approx(0.995) and row.quality_lo < 0.99 and not row.ranked


def test_int8_without_quality_is_not_ranked_and_says_why(tmp_path: Path) -> None:
    for weights, note in (("synthetic", "quality needs real weights"), ("wheel", "quality was not measured")):
        row = board(tmp_path / weights, None, INT8, weights)["openvino int8"]
        assert (row.ranked, row.rank_note, row.quality, row.status) == (False, note, None, "OK")
    spec = runs.Spec(arms=INT8)
    failed = quality_data(spec, {}, failed={runs.arm_id(spec, INT8[1]): "not measured: it crashed"})
    assert board(tmp_path / "failed", failed, INT8)["openvino int8"].rank_note == "quality not measured: it crashed"


def test_a_collapsed_space_is_refused_whatever_it_finds(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    honest, alike = unit(random.standard_normal((60, 8))), unit(np.ones((60, 8)) + 0.001 * random.standard_normal((60, 8)))
    spec = runs.Spec(arms=INT8)
    data = quality_data(spec, {"onnx-python": 0, "openvino": 0}, {"reference": honest, "onnx-python": alike, "openvino": honest})
    rows = board(tmp_path, data, INT8)
    assert rows["openvino int8"].ranked and "collapsed space" in str(rows["onnx-python int8"].rank_note)


def test_bf16_is_proven_by_its_gate_and_refused_by_measured_quality(tmp_path: Path) -> None:
    fakes = tuple(dataclasses.replace(fake, precision="bf16", cosine=0.9999, max_abs_diff=1e-3) for fake in INT8)
    assert board(tmp_path / "a", None, fakes)["openvino bf16"].ranked
    lost = quality_data(runs.Spec(arms=fakes), {"onnx-python": 0, "openvino": 40})
    assert not board(tmp_path / "b", lost, fakes)["openvino bf16"].ranked


def test_fp32_rows_carry_no_quality_of_their_own(tmp_path: Path) -> None:
    fakes = tuple(dataclasses.replace(fake, precision="fp32", cosine=1.0, max_abs_diff=1e-7) for fake in INT8)
    row = board(tmp_path, None, fakes)["openvino fp32"]
    assert row.ranked and row.quality is None and row.mean_cosine == 1


def test_a_scale_off_by_four_is_refused_a_rank(tmp_path: Path) -> None:
    """The planted bug of int8: one weight's scale is four times too large. The vectors stay finite, of length 1, and are wrong."""
    random = np.random.default_rng(11)
    texts = random.standard_normal((300, 48))
    queries, documents = np.arange(0, 100), np.arange(100, 300)
    texts[queries] = texts[documents[:100]] + 0.8 * random.standard_normal((100, 48))
    first, second = random.standard_normal((48, 48)), random.standard_normal((48, 48))

    def vectors(scale: float) -> Vectors:
        step = np.abs(first).max() / 127
        rounded = np.round(first / step) * step
        rounded[:, :12] *= scale  # the tensor of one of four heads
        return unit(np.tanh(texts @ rounded / 6) @ second)

    expected = unit(np.tanh(texts @ first / 6) @ second)
    relevant = [one(place) for place in range(100)]
    items = []
    for arm, block in (("onnx-python", vectors(4.0)), ("openvino", vectors(1.0))):
        scores = [side[queries].astype(float) @ side[documents].astype(float).T for side in (block, expected)]
        frame = found(runs.arm_id(runs.Spec(arms=INT8), next(fake for fake in INT8 if fake.framework == arm)), 0, 100)
        items.append(frame.assign(value=stats_quality.ndcg(scores[0], relevant), reference=stats_quality.ndcg(scores[1], relevant)))
        assert parity.gate("int8", float((block * expected).sum(1).min()), 1.0) is None, "the gate of int8 lets it through"
    rows = board(tmp_path, QualityData(pd.concat(items, ignore_index=True), {}, 0, (), {}), INT8)
    assert rows["onnx-python int8"].ranked is False and "quality: keeps" in str(rows["onnx-python int8"].rank_note)
    assert (rows["openvino int8"].quality or 0) > 0.98


def test_why_refused_prefers_what_is_wrong_with_the_space() -> None:
    row = Quality("a", "nDCG@10", "all", 10, 0.5, 1.0, 0.5, 0.4, 0.6, False, None)
    assert "keeps 50.0% [40.0%, 60.0%]" in str(stats_quality.why_refused([row]))
    assert stats_quality.why_refused([row, dataclasses.replace(row, note="collapsed space")]) == "collapsed space"
    assert stats_quality.why_refused([dataclasses.replace(row, held=True)]) is None
