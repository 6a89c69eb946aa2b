"""Recipes that convert an fp32 artefact into another one of its kind: lower precisions, and other graphs of the same precision.

A variant of the catalogue names a recipe by `recipe`; `export.ensure` follows it, so that Python, Rust and C++ read the same converted
files. This table says what a recipe is made from, by which libraries and with which facts of the machine; `onnx_recipes.py`,
`openvino_recipes.py` and `torch_recipes.py` do the work, in a process of its own.

A recipe that calibrates takes the texts or images of `calibration()`: the generated corpus has a part of that name, of which no
scenario, no hard input and no quality set has a row.

Without VNNI (x86-64) a CPU multiplies unsigned by signed 8-bit numbers and adds the products in pairs to 16 bits, which saturate:
255 × 127 × 2 is more than 32767. There, recipes that quantise activations too make weights of 7 bits (255 × 64 × 2 fits).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from bench.artefacts.onnx_graph import BLOCK_SIZE
from bench.catalog import Kind, Model, Precision
from bench.core.errors import BenchError, NotApplicable
from bench.corpus import resolve
from bench.machine import identity
from bench.plan import make, preprocess
from bench.plan.folder import Plan

#: Rows that a calibration sees. Images take more memory for each row.
CALIBRATION_ROWS: Mapping[str, int] = {"text": 128, "image": 48}


@dataclass(frozen=True)
class Recipe:
    """One way to convert.

    Attributes:
        kind: of the artefact that is made.
        precisions: that it can make.
        made_from: kind, precision and recipe name of the artefact that it reads.
        libraries: whose versions decide the result.
        module: has the `convert` that does the work.
        calibrated: it watches activations on the calibration rows.
        sums_in_16_bits: its int8 products saturate on a CPU without VNNI, unless the weights are of 7 bits.
        machine_bound: the files are compiled for this very CPU.
        architectures: that it knows; None where it works on any graph.
    """

    kind: Kind
    name: str
    precisions: tuple[Precision, ...]
    note: str
    made_from: tuple[Kind, Precision, str]
    libraries: tuple[str, ...]
    module: str
    calibrated: bool = False
    sums_in_16_bits: bool = False
    machine_bound: bool = False
    architectures: tuple[str, ...] | None = None


ONNX, OPENVINO, TORCH = "bench.artefacts.onnx_recipes", "bench.artefacts.openvino_recipes", "bench.artefacts.torch_recipes"
FP32_ONNX: tuple[Kind, Precision, str] = ("onnx", "fp32", "")
FP32_OPENVINO: tuple[Kind, Precision, str] = ("openvino", "fp32", "")
RECIPES = (
    Recipe("onnx", "dynamic", ("int8",), "weights int8 per channel, activations uint8 with a scale found at each call",
           FP32_ONNX, ("onnx", "onnxruntime"), ONNX, sums_in_16_bits=True),
    Recipe("onnx", "static", ("int8",), "quantise–dequantise pairs around every MatMul, activation scales from the calibration rows",
           FP32_ONNX, ("onnx", "onnxruntime"), ONNX, calibrated=True, sums_in_16_bits=True),
    Recipe("onnx", "weights", ("int8", "int4"), f"MatMulNBits: weights only, a scale per {BLOCK_SIZE} of them",
           FP32_ONNX, ("onnx", "onnxruntime"), ONNX),
    Recipe("onnx", "fused", ("fp32",), "onnxruntime.transformers' optimizer, run once over the exported graph",
           FP32_ONNX, ("onnx", "onnxruntime"), ONNX, architectures=("bert", "xlm_roberta")),
    Recipe("openvino", "weights", ("int8", "int4"), "NNCF weight compression, the runtime's own dynamic quantisation of activations",
           FP32_OPENVINO, ("openvino", "nncf"), OPENVINO),
    Recipe("openvino", "nncf", ("int8",), "NNCF post-training quantisation with SmoothQuant and bias correction",
           FP32_OPENVINO, ("openvino", "nncf"), OPENVINO, calibrated=True, sums_in_16_bits=True),
    Recipe("openvino", "qdq", ("int8",), "the very quantise–dequantise graph that ONNX Runtime serves as `static`",
           ("onnx", "int8", "static"), ("openvino",), OPENVINO),
    Recipe("safetensors", "aotinductor", ("fp32",), "compiled ahead of time by AOTInductor",
           ("safetensors", "fp32", ""), ("torch", "transformers"), TORCH, machine_bound=True,
           architectures=("bert", "xlm_roberta")),
)  # fmt: skip


def named(kind: Kind, name: str, precision: str, model: Model) -> Recipe:
    """The recipe of a variant.

    Raises:
        BenchError: there is none of that name for the kind.
        NotApplicable: it cannot make this precision, or does not know the model's architecture.
    """
    of_kind = {recipe.name: recipe for recipe in RECIPES if recipe.kind == kind}
    if name not in of_kind:
        raise BenchError(f"recipe {name!r}: not known for {kind} artefacts; choose from {', '.join(of_kind)}")
    recipe = of_kind[name]
    if precision not in recipe.precisions:
        raise NotApplicable(f"recipe {name} makes {', '.join(recipe.precisions)}, not {precision}")
    if recipe.architectures is not None and model.architecture not in recipe.architectures:
        raise NotApplicable(f"recipe {name} knows {', '.join(recipe.architectures)}; {model.name} is {model.architecture}")
    return recipe


def facts(recipe: Recipe) -> dict[str, object]:
    """What of this machine decides the converted bytes: `reduce_range` (weights of 7 bits), `machine` (its id)."""
    facts: dict[str, object] = {}
    if recipe.sums_in_16_bits:
        facts["reduce_range"] = not has_int8_dot(identity.cpu_flags())
    if recipe.machine_bound:
        facts["machine"] = identity.machine_id()
    return facts


def note(facts: Mapping[str, object]) -> str | None:
    """What is to be said of an artefact that was made with these facts of a machine; None for what its recipe says everywhere."""
    return "weights of 7 bits, since sums of int8 products saturate without VNNI" if facts.get("reduce_range") else None


def has_int8_dot(flags: list[str]) -> bool:
    """Whether the CPU multiplies int8 and adds up in 32 bits in one instruction (VNNI, AMX; dot product or i8mm on Arm)."""
    return bool({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"} & set(flags))


def slow_path(precision: str, flags: list[str]) -> str | None:
    """What is to be said of a precision that this CPU has no instructions for; None where it has. It is measured all the same."""
    if precision == "int8" and not has_int8_dot(flags):
        return "no VNNI/AMX: emulated"
    if precision == "bf16" and not {"avx512_bf16", "amx_bf16", "bf16"} & set(flags):
        return "no AVX512-BF16/AMX: emulated"
    return None


def calibration(model: Model, tokenizer_folder: Path) -> Plan:
    """The rows that calibrating recipes watch: the `calibration` part of the generated corpus, prepared as any request of the model."""
    corpus = resolve.generated(seed=1)
    rows = CALIBRATION_ROWS[model.modality]
    if model.modality == "text":
        prompt = preprocess.document_prompt(model)
        texts = sorted(islice(corpus.texts("calibration"), rows), key=len)
        return make.fixed_plan(model, tokenizer_folder, "calibration", texts=[prompt + text for text in texts])
    return make.fixed_plan(model, tokenizer_folder, "calibration", images=list(islice(corpus.images("calibration"), rows)))
