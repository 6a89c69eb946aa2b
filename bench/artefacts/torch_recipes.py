"""The Embedder compiled ahead of time by AOTInductor: one package of machine code and weights, for this very CPU."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = "model.pt2"


def convert(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Compile the fp32 Embedder in the folder `input` into the folder `output`; the result names the dtypes of its weights.

    Batch and tokens stay free. The time this takes is the artefact's `seconds` in provenance.json.
    """
    import torch

    from bench.model import embedder

    source, target = Path(job["input"]), Path(job["output"])
    module = embedder.load(source)
    inputs, _ = embedder.example(module)
    # Guards of the traced code allow no more tokens than there are positions; a request has `max_tokens` at most.
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens", min=2, max=module.config["max_tokens"])}
    free = tuple(axes for _ in inputs)
    with torch.inference_mode(False), torch.no_grad():
        program = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=free)
        torch._inductor.aoti_compile_and_package(program, package_path=str(target / PACKAGE))
    shutil.copyfile(source / "config.json", target / "config.json")
    elements: dict[str, int] = {}
    for parameter in module.parameters():
        elements[str(parameter.dtype)] = elements.get(str(parameter.dtype), 0) + parameter.numel()
    return {"census": {"operators": {}, "initializer_elements": elements}}
