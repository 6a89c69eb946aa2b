"""Which arms a command asks for: precisions, variants and layouts, what they become in a worker's start, and what there is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import catalog
from bench.catalog import Framework, Knob, Variant, arms
from bench.catalog.arms import Layout
from bench.catalog.frameworks import Library, contradictions
from bench.core.errors import BenchError, NotApplicable
from bench.prepare import launch, native

ONE = Framework(
    "one", "One", "python", ("{native}/one",), "onnx", ("fp32",), "a framework of this test", build="cargo",
    env={"OMP_NUM_THREADS": "{threads}"},
    knobs={
        "spin": Knob("spins", ("0", "1"), default="1"),
        "malloc": Knob("who", ("glibc", "thresholds", "other"), default="glibc",
                       env={"thresholds": {"GLIBC_TUNABLES": "x={threads}"}, "other": {"LD_PRELOAD": "{library}"}},
                       libraries={"other": Library("no-such-library", "libno-such2")}),
        "kernels": Knob("which", ("plain", "wide"), default="plain", command={"wide": ("{native}/one-wide",)}),
        "graph": Knob("exporter", ("plain", "fused"), default="plain", recipe={"fused": "fused"}, precisions=("fp32",)),
        "shared": Knob("callers", ("0", "1"), default="0", sessions=2),
    },
    variants={
        "dynamic": Variant("dynamic", "at each call", precisions=("int8",), recipe="dynamic", headline=True),
        "weights": Variant("weights", "weights only", precisions=("int8", "int4"), recipe="weights"),
        "slow": Variant("slow", "no spinning", settings={"spin": "0"}),
        "tuned:closed-1": Variant("tuned:closed-1", "best", sessions=2, scenarios=("closed-1",)),
        "tuned:offline-32": Variant("tuned:offline-32", "best", settings={"malloc": "thresholds"}, scenarios=("offline-32",)),
    },
    absent={"bf16": "has no such product"},
)  # fmt: skip
NULL = Framework("null", "Null", "cpp", ("null",), "onnx", ("fp32",), "nothing", role="floor")
DEFAULT = (Layout(1, 4),)


def chosen(precisions: str, names: str, layouts: str = "", cores: int = 4) -> list[tuple[str, str, str, str | None]]:
    found = arms.choose([ONE, NULL], precisions.split(), names.split(), arms.parse_layouts(layouts, cores), cores)
    return [(request.precision, request.variant.name, str(request.layout), request.reason) for request in found if request.framework is ONE]


def test_default_is_the_framework_untouched() -> None:
    assert chosen("fp32", "default") == [("fp32", "default", "1x4", None)]


def test_a_headline_variant_is_the_default_of_a_precision_that_has_none() -> None:
    assert chosen("int8", "default dynamic") == [("int8", "dynamic", "1x4", None)]
    assert chosen("int8", "all") == [("int8", "dynamic", "1x4", None), ("int8", "weights", "1x4", None)]


def test_what_is_not_there_says_why() -> None:
    assert chosen("bf16", "default") == [("bf16", "default", "1x4", "has no such product")]
    assert chosen("fp16", "slow") == [("fp16", "slow", "1x4", "One is not run in fp16 here")]
    assert chosen("int8", "slow") == [("int8", "slow", "1x4", "One has no variant 'slow' in int8")]
    assert chosen("int4", "default") == [("int4", "default", "1x4", "One is not run in int4 here")]
    (wrong,) = chosen("fp32", "knob:spin=2")
    assert wrong == ("fp32", "knob:spin=2", "1x4", "spin=2: takes 0, 1")


def test_every_layout_that_fits_and_a_reason_for_the_others() -> None:
    found = chosen("fp32", "default", "1x4,2x2,2x4,1x4")
    assert [(layout, reason) for _, _, layout, reason in found] == [
        ("1x4", None), ("2x2", None), ("2x4", "layout 2x4: 8 threads, this run has 4 physical cores"),
    ]  # fmt: skip
    assert [layout for _, _, layout, _ in chosen("fp32", "default", "all", cores=6)] == ["1x6", "2x3", "3x2", "6x1"]


def test_a_variant_keeps_its_own_layout_and_a_family_stands_for_its_members() -> None:
    assert chosen("fp32", "tuned", "1x1") == [("fp32", "tuned:closed-1", "2x2", None), ("fp32", "tuned:offline-32", "1x1", None)]


def test_switches_are_flipped_on_top_of_what_stands_for_the_framework() -> None:
    (request,) = arms.choose([ONE], ["int8"], ["knob:spin=0+layout=2x1"], (), 4)
    assert (request.variant.recipe, request.variant.settings, request.layout) == ("dynamic", {"spin": "0"}, Layout(2, 1))
    assert not request.variant.headline
    (clash,) = arms.choose([ONE], ["int8"], ["knob:graph=fused"], (), 4)
    assert clash.reason == "graph=fused: the artefact is converted by 'dynamic' already"


def test_null_workers_stand_beside_them_once_per_layout() -> None:
    found = arms.choose([NULL], ["int8", "bf16"], ["all", "slow"], arms.parse_layouts("1x2,2x1", 2), 2)
    assert [(request.precision, request.variant.name, str(request.layout)) for request in found] == [
        ("fp32", "default", "1x2"), ("fp32", "default", "2x1"),
    ]  # fmt: skip


def test_every_switch_once_and_none_that_changes_nothing() -> None:
    assert [name.removeprefix("knob:") for name in arms.switches(ONE, "fp32", 2)] == [
        "layout=2x1", "spin=0", "malloc=thresholds", "malloc=other", "kernels=wide", "graph=fused", "layout=2x1+shared=1",
    ]  # fmt: skip
    assert "knob:graph=fused" not in arms.switches(ONE, "int8", 2)
    assert arms.switches(ONE, "bf16", 2) == []


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (lambda text: arms.parse_layouts(text, 2), "2", "bad layout '2'"),
        (lambda text: arms.parse_layouts(text, 2), "0x2", "bad layout '0x2'"),
        (lambda text: arms.parse_precisions(text, [ONE]), "fp99", "unknown precision 'fp99'"),
        (lambda text: arms.parse_variants(text, [ONE]), "dynamik", "did you mean 'dynamic'"),
        (lambda text: arms.parse_variants(text, [ONE]), "knob:spni=1", "did you mean 'spin'"),
        (lambda text: arms.parse_variants(text, [ONE]), "knob:spin", "write knob:KEY=VALUE"),
        (lambda text: arms.parse_variants(text, [NULL]), "tuned", "`invoke tune` searches them"),
    ],
)
def test_a_wrong_word_is_refused_with_its_cure(parse: object, text: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        parse(text)  # type: ignore[operator]


def test_all_precisions_are_those_that_somebody_has() -> None:
    assert arms.parse_precisions("all", [ONE, NULL]) == ("fp32", "int8", "int4")
    assert arms.parse_precisions("", [ONE]) == ("fp32",)


def switched(**settings: str) -> Variant:
    return Variant("knob:x", "", settings=settings)


def test_what_the_parent_sets_and_what_the_worker_is_told() -> None:
    command, env = launch.command_and_env(ONE, 1, 4, switched(malloc="thresholds", kernels="wide", spin="0"))
    assert command[0].endswith("/one-wide")
    assert (env["GLIBC_TUNABLES"], env["OMP_NUM_THREADS"]) == ("x=4", "4")
    assert launch.recipe_of(ONE, switched(graph="fused")) == "fused"
    assert launch.recipe_of(ONE, switched(spin="0")) == ""
    assert native.feature(ONE, "one-wide") == "wide"
    with pytest.raises(BenchError, match="name it one-FEATURE"):
        native.feature(ONE, "two")


def test_a_library_that_is_not_installed_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotApplicable, match="libno-such-library is not installed: apt-get install libno-such2"):
        launch.command_and_env(ONE, 1, 4, switched(malloc="other"))
    monkeypatch.setattr("ctypes.util.find_library", lambda name: f"lib{name}.so.2")
    assert launch.command_and_env(ONE, 1, 4, switched(malloc="other"))[1]["LD_PRELOAD"] == "libno-such-library.so.2"


@pytest.mark.parametrize(
    ("wrong", "steps", "message"),
    [
        (replace(ONE, env={"SPEED": "1"}), ("env", "SPEED"), "not on the list"),
        (replace(ONE, knobs={"a": Knob("", ("0",), default="1")}, variants={}), ("knobs", "a"), "'1' is not among its values"),
        (replace(ONE, knobs={"a": Knob("", ("0",), env={"0": {"PATH": ""}})}, variants={}), ("knobs", "a", "env", "0", "PATH"), "not on"),
        (replace(ONE, absent={"fp32": "no"}), ("absent", "fp32"), "is run in fp32"),
        (replace(ONE, variants={"a": Variant("a", "", settings={"spni": "1"})}), ("variants", "a", "settings", "spni"), "did you mean"),
        (replace(ONE, variants={"a": Variant("a", "", headline=True)}), ("variants", "a", "headline"), "fp32 has a default"),
        (replace(ONE, variants={"default": Variant("default", "")}), ("variants", "default"), "not a name"),
    ],
)
def test_a_contradiction_in_the_catalogue_is_found(wrong: Framework, steps: tuple[str, ...], message: str) -> None:
    assert list(contradictions(ONE)) == []
    found = list(contradictions(wrong))
    assert [where for where, _ in found] == [steps]
    assert message in found[0][1]


def test_a_wrong_setting_is_said_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "frameworks.yaml").write_text("""
mine:
  title: Mine
  language: python
  command: [mine]
  artefact: onnx
  precisions: [fp32]
  note: a framework of a user
  knobs:
    spin: {values: ["0", "1"], help: spins}
  variants:
    calm:
      note: does not spin
      settings: {spin: "2"}
""")
    with pytest.raises(BenchError, match=r"frameworks.yaml:14: mine: key 'variants.calm.settings.spin': spin=2: takes 0, 1"):
        catalog.load(tmp_path)
