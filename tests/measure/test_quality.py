"""What is asked of each arm, of whom, and what is kept of the answers."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench import catalog
from bench.core import paths
from bench.core.errors import BenchError
from bench.corpus import hard, quality_sets, resolve
from bench.corpus.quality_sets import Retrieval, Similarity
from bench.measure import quality
from bench.model import weights
from bench.plan import preprocess
from bench.runs import parquet
from bench.runs.schema import Start
from bench.runs.writer import RunFolder
from bench.workers.client import WorkerFailed
from tests.support import tiny

MODEL = catalog.load().models["minilm"]


def test_docstrings_are_real_distinct_and_more_than_a_thousand() -> None:
    found = quality_sets.docstrings()
    assert len(found.queries) == len(set(found.queries)) == len(set(found.documents)) == 1024
    assert all(places == {place} for place, places in enumerate(found.relevant))
    assert all("." in str(query) and "._" not in str(query) for query in found.queries)
    assert all(40 <= len(document) <= 400 for document in found.documents)
    import textwrap

    whole = dict(zip(found.queries, found.documents, strict=True))
    for name in ("textwrap.dedent", "textwrap.shorten"):
        if name in whole:
            assert whole[name] == " ".join((getattr(textwrap, name.rpartition(".")[2]).__doc__ or "").split("\n\n")[0].split())


def test_multilingual_queries_are_answered_in_every_language() -> None:
    found = quality_sets.multilingual()
    assert len(found.queries) == len(set(found.documents)) == 90
    assert {len(places) for places in found.relevant} == {15}
    # Near-twins are other topics: no document answers two of them.
    assert len(set(found.relevant)) == 6 and sum(map(len, set(found.relevant))) == 90


def test_no_quality_text_is_in_a_plan_or_a_hard_input() -> None:
    asked = {str(text) for one in (quality_sets.docstrings(), quality_sets.multilingual()) for text in (*one.queries, *one.documents)}
    generated = resolve.generated(1)
    for part in ("calibration", "closed-1", "offline-32"):
        texts = generated.texts(part)
        assert not asked & {next(texts) for _ in range(200)}
    assert not asked & set(hard.texts(1, 256, 256))


def test_part_keeps_what_answers_the_first_queries() -> None:
    whole = Retrieval("x", ("a", "b", "c"), ("0", "1", "2", "3", "4"), (frozenset({4}), frozenset({1, 4}), frozenset({0})))
    assert whole.part(2, 3) == Retrieval("x", ("a", "b"), ("0", "1", "4"), (frozenset({2}), frozenset({1, 2})))


def test_own_pairs(tmp_path: Path) -> None:
    rows = [{"query": f"q{k % 12}", "text": f"t{k}"} for k in range(24)]
    (tmp_path / "mine.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    (tmp_path / "mine.csv").write_text("query,text\n" + "".join(f'{row["query"]},"{row["text"]}"\n' for row in rows))
    for name in ("mine.jsonl", "mine.csv"):
        found = quality_sets.own(tmp_path / name)
        assert (len(found.queries), len(found.documents), found.relevant[3]) == (12, 24, {3, 15})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "wants a `query`"),
        ('{"query": "a"}', "wants a `query`"),
        ("[1]", "mine.jsonl:1"),
        ('{"query": "a", "text": "b"}', "at least 20"),
    ],
)
def test_own_pairs_that_are_no_use_say_why(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "mine.jsonl").write_text(text)
    with pytest.raises(BenchError, match=problem):
        quality_sets.own(tmp_path / "mine.jsonl")
    with pytest.raises(BenchError, match="not found"):
        quality_sets.own(tmp_path / "other.jsonl")


def test_images_are_asked_for_by_changed_copies() -> None:
    found = quality_sets.augmented(4)
    assert len({*found.queries, *found.documents}) == 8 and found.relevant[2] == {2}


def test_sts_is_left_out_where_the_hub_is_off_or_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert quality_sets.sts() == "STS-B: HF_HUB_OFFLINE is set"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "STS-B: the hub is not reached" in str(quality_sets.sts())


def test_sts_is_read_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import gzip

    import huggingface_hub

    file = tmp_path / "test.jsonl.gz"
    file.write_bytes(
        gzip.compress(b'{"sentence1": "a", "sentence2": "b", "score": 2.5}\n{"sentence1": "c", "sentence2": "d", "score": 5}\n')
    )
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(file))
    assert quality_sets.sts() == Similarity("STS-B", ("a", "c"), ("b", "d"), (2.5, 5.0))


@pytest.mark.parametrize(
    ("weights_kind", "precisions", "own", "names"),
    [("wheel", ["fp32"], False, []), ("synthetic", ["fp32", "int8"], False, []), ("synthetic", ["int8"], True, []),
     ("wheel", ["fp32", "bf16"], False, ["docstrings", "multilingual"]), ("hub", ["fp32"], True, ["mine"])],
)  # fmt: skip
def test_what_is_asked(monkeypatch: pytest.MonkeyPatch, weights_kind: str, precisions: list[str], own: bool, names: list[str]) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    mine = Retrieval("mine", ("a",), ("b",), (frozenset({0}),)) if own else None
    retrievals, similarities = quality._quality_sets(MODEL, weights_kind, mine, precisions, lambda _: None)
    assert [one.name for one in retrievals] == names and similarities == []


def test_images_are_asked_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images stand for the hundreds that a run draws."""
    monkeypatch.setattr(quality_sets, "augmented", functools.partial(quality_sets.augmented, 2))
    image = tiny.model("clip_vision")
    (one,), _ = quality._quality_sets(image, "hub", None, ["int8"], lambda _: None)
    assert one.name == "augmented" and isinstance(one.queries[0], bytes)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> quality.SetPlan:
    monkeypatch.setattr(paths, "PLANS", tmp_path / "plans")
    one = Retrieval("x", ("where is the cat", "what does a dog eat"), ("the dog eats meat", "a cat sits on the roof", "it rains"),
                    (frozenset({1}), frozenset({0})))  # fmt: skip
    pairs = Similarity("pairs", ("it rains", "it rains"), ("the dog eats meat", "rain falls"), (0.0, 5.0))
    return quality._set_plan(MODEL, weights.resolve(MODEL).folder, "test", [one], [pairs])


def test_each_text_is_one_row_and_short_ones_come_first(asked: quality.SetPlan) -> None:
    assert asked.plan.rows == 6 and asked.plan.warm == 0  # three documents, two queries, one more text of the pairs
    assert (np.diff(asked.plan.lengths) >= 0).all()
    assert asked.rows("document", ["it rains"]) == [0]


def test_what_an_arm_finds_is_held_against_fp32_query_by_query(asked: quality.SetPlan) -> None:
    random = np.random.default_rng(1)
    expected = random.standard_normal((6, 384)).astype(np.float32)
    cat, dog = asked.rows("query", ["where is the cat", "what does a dog eat"])
    meat, roof = asked.rows("document", ["the dog eats meat", "a cat sits on the roof"])
    expected[cat], expected[dog] = expected[roof], expected[meat]
    same = quality.items(asked, expected, expected)
    retrieval = same[same["measure"] == "retrieval"]
    assert retrieval["value"].tolist() == retrieval["reference"].tolist() == [1.0, 1.0] and retrieval["overlap"].tolist() == [1.0, 1.0]
    wrong = expected.copy()
    wrong[cat] = -wrong[cat]
    lost = quality.items(asked, wrong, expected)
    assert lost[lost["measure"] == "retrieval"]["value"].tolist() == [0.5, 1.0]  # in the third place of three: 1 / log2(4)
    holed = np.full_like(expected, np.nan)
    assert quality.items(asked, holed, expected)[lambda frame: frame["measure"] == "retrieval"]["value"].max() <= 0.5
    sts = same[same["measure"] == "sts"]
    assert sts["gold"].tolist() == [0.0, 5.0] and sts["value"].tolist() == sts["reference"].tolist()


def test_every_arm_is_asked_and_one_that_fails_keeps_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(paths, "PLANS", tmp_path / "plans")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    small = quality_sets.docstrings().part(12, 24)
    monkeypatch.setattr(quality_sets, "docstrings", lambda: small)

    def vectors_of(rows: Any) -> Any:
        """Each row's vector holds its own token ids, so that an order that is lost shows."""
        return np.stack([np.resize(rows.ids(row), 8) for row in range(rows.rows)]).astype(np.float32)

    monkeypatch.setattr(quality, "_reference", lambda _, rows: vectors_of(rows))
    seen = []

    def answers(_: Any, prepared: Any, plans: Any, *__: Any) -> list[Any]:
        seen.append(prepared.arm.id)
        if prepared.arm.id == "bad":
            raise WorkerFailed("CRASH", "it fell over")
        return [vectors_of(rows) for rows in plans]

    monkeypatch.setattr(quality, "_vectors", answers)
    folder = RunFolder(tmp_path / "run")
    arms = [
        ("good", "int8", "measured"),
        ("bad", "int8", "measured"),
        ("floor", "fp32", "floor"),
        ("idle", "int8", "measured"),
        ("hung", "int8", "measured"),
    ]
    prepared_arms = [
        SimpleNamespace(
            arm=SimpleNamespace(id=name, precision=precision, role=role, variant="default"),
            framework=SimpleNamespace(name=name),
            variant=SimpleNamespace(family="default"),
        )
        for name, precision, role in arms
    ]
    for name in ("good", "bad", "floor", "hung"):
        folder.write_start(Start(name, 0, None, None, None, None))
    for name, scenario in (("hung", "closed-1"), ("hung", "offline-32"), ("good", "offline-32")):
        folder.write_failure(name, scenario, "TIMEOUT", "planted")
    scenarios = [SimpleNamespace(name=name) for name in ("closed-1", "offline-32")]
    spec = SimpleNamespace(model=MODEL, quality_set=None, scenarios=scenarios)
    source = weights.resolve(MODEL)
    said: list[str] = []
    quality.measure(SimpleNamespace(prepared_arms=prepared_arms, spec=spec, source=source), folder, SimpleNamespace(), said.append)  # type: ignore[arg-type]
    assert seen == ["good", "bad"]
    written = sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.parent.name in ("quality", "vectors"))
    assert written == ["quality/bad.json", "quality/good.parquet", "vectors/good.parquet", "vectors/reference.parquet", "vectors/set.json"]
    assert json.loads((folder.path / "quality" / "bad.json").read_text())["note"] == "not measured: it fell over"
    about = json.loads((folder.path / "vectors" / "set.json").read_text())
    assert (about["queries"], about["documents"]) == (12, 24) and len(about["relevant"]) == 12
    kept = parquet.read_vectors(folder.path / "vectors")["good"]
    tokenizer = preprocess.Tokenizer(MODEL, source.folder, prompt="")
    for place, text in enumerate([*small.queries, *small.documents]):
        assert kept[place].tolist() == np.resize(tokenizer.encode(str(text)), 8).tolist(), "queries first, then documents"
    assert any("fell over" in line for line in said)
