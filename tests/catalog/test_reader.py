"""The catalogue: what is in it holds together, and what is wrong is said with file, line, key and cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import catalog
from bench.core.errors import BenchError

KNOWN = catalog.load()


def test_six_frameworks_and_a_null_worker_in_each_language() -> None:
    measured = [name for name, framework in KNOWN.frameworks.items() if framework.role == "measured"]
    assert measured == ["pytorch", "onnx-python", "onnx-rust", "onnx-cpp", "candle", "openvino"]
    assert {framework.language for framework in KNOWN.frameworks.values() if framework.role == "floor"} == {"python", "rust", "cpp"}


@pytest.mark.parametrize("name", KNOWN.models)
def test_a_model_has_weights_and_sane_sizes(name: str) -> None:
    model = KNOWN.models[name]
    assert model.weights.wheel or model.weights.hub or model.weights.synthetic
    assert model.dim > 0 and model.max_tokens > 0 and model.parameters > 1e6
    assert (model.image is not None) == (model.modality == "image")


@pytest.mark.parametrize("name", KNOWN.models)
def test_every_alias_names_its_model(name: str) -> None:
    for alias in KNOWN.models[name].aliases:
        assert name in [model.name for model in KNOWN.pick_models(alias)]
        assert name in [model.name for model in KNOWN.pick_models(alias.upper())]


def test_all_means_all_and_nothing_twice() -> None:
    assert [model.name for model in KNOWN.pick_models("all,minilm")] == list(KNOWN.models)


def test_quick_is_what_bench_runs_without_scenarios() -> None:
    assert [scenario.name for scenario in KNOWN.pick_scenarios(None)] == ["closed-1", "offline-32"]
    assert KNOWN.pick_scenarios("quick") == KNOWN.pick_scenarios(None)


@pytest.mark.parametrize(
    ("pick", "name", "message"),
    [
        (KNOWN.pick_models, "minlm", "unknown model 'minlm': did you mean 'minilm'?"),
        (KNOWN.pick_frameworks, "pytorhc", "unknown framework 'pytorhc': did you mean 'pytorch'?"),
        (KNOWN.pick_scenarios, "closed", "unknown scenario 'closed': did you mean 'closed-1'?"),
    ],
)
def test_an_unknown_name_is_said_with_the_nearest_known_one(pick: object, name: str, message: str) -> None:
    with pytest.raises(BenchError) as error:
        pick(name)  # type: ignore[operator]
    assert str(error.value) == message


def test_arms_that_differ_in_anything_have_different_ids() -> None:
    arm = catalog.Arm("pytorch", "python", "minilm", "wheel", "fp32", "default", 1, 2, "measured")
    others = [
        catalog.Arm("pytorch", "python", "minilm", "wheel", "fp32", "default", 2, 1, "measured"),
        catalog.Arm("pytorch", "python", "minilm", "wheel", "fp32", "default", 1, 2, "twin"),
        catalog.Arm("pytorch", "python", "minilm", "hub", "fp32", "default", 1, 2, "measured"),
    ]
    assert len({arm.id, *(other.id for other in others)}) == 4
    assert arm.id == catalog.Arm("pytorch", "python", "minilm", "wheel", "fp32", "default", 1, 2, "measured").id


FRAMEWORK = """
mine:
  title: Mine
  language: python
  command: [mine]
  artefact: onnx
  precisions: [fp32]
  note: a framework of a user
"""


def write(folder: Path, text: str, name: str = "frameworks.yaml") -> Path:
    (folder / name).write_text(text)
    return folder


def test_a_users_folder_adds_to_ours(tmp_path: Path) -> None:
    known = catalog.load(write(tmp_path, FRAMEWORK))
    assert list(known.frameworks) == [*KNOWN.frameworks, "mine"]
    assert list(known.models) == list(KNOWN.models)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FRAMEWORK.replace("  note:", "  nota:"), r"frameworks.yaml:8: mine: key 'nota': unknown key; did you mean 'note'\?"),
        (
            FRAMEWORK.replace("artefact: onnx", "artefact: tflite"),
            r"frameworks.yaml:6: mine: key 'artefact': .*'openvino'.*\(found 'tflite'\)",
        ),
        (FRAMEWORK.replace("  title: Mine\n", ""), r"frameworks.yaml:2: mine: key 'title': is missing; add it"),
        (FRAMEWORK.replace("[fp32]", "[fp32, fp99]"), r"frameworks.yaml:7: mine: key 'precisions.1'"),
        ("mine:\n  title: [unclosed\n", r"frameworks.yaml:\d+: not valid YAML .*mend that line"),
        ("- a list\n", r"frameworks.yaml:1: wants a mapping"),
        ("mine: 3\n", r"frameworks.yaml:1: mine: wants a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_cure(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BenchError, match=message) as error:
        catalog.load(write(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_suite_that_names_no_scenario_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "suites:\n  mine: {scenarios: [closed-one], budget: 1m}\n", "scenarios.yaml")
    with pytest.raises(BenchError, match="suite 'mine': unknown scenario 'closed-one'"):
        catalog.load(folder)


def test_a_missing_or_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not found"):
        catalog.load(tmp_path / "nowhere")
    with pytest.raises(BenchError, match="holds none of"):
        catalog.load(tmp_path)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("3m", 180), ("1h", 3600), ("1m30s", 90), ("0.5m", 30)])
def test_durations(text: str, seconds: float) -> None:
    assert catalog.parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-3m", "0", "3 minutes"])
def test_a_bad_duration_is_refused(text: str) -> None:
    with pytest.raises(BenchError, match="bad duration"):
        catalog.parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "line", "key"), [("a: {title: x}\nb: {title: x}\na: {title: y}\n", 3, "a"), ("a:\n  dim: 1\n  dim: 2\n", 3, "dim")]
)
def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path: Path, text: str, line: int, key: str) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with pytest.raises(BenchError, match=rf"models\.yaml:{line}: '{key}' stands twice"):
        catalog.load(tmp_path)
