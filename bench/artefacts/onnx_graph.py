"""The census of an ONNX graph, and sizes that the modules of this package agree on."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

#: Weights of this size and more lie beside the graph: a protobuf file cannot pass 2 GiB, and writing one holds the weights four times
#: (EmbeddingGemma, 1.2 GB: 5.5 GiB in one file, 2.1 GiB in two).
EXTERNAL_DATA_BYTES = 1 << 30
#: Weights of this many columns share one scale in weight-only int8 and int4 models, of ONNX Runtime and OpenVINO alike.
BLOCK_SIZE = 32
Census = dict[str, dict[str, int]]


def census(graph: Path) -> Census:
    """How often each operator stands in a graph and its functions, and how many elements its initialisers of each type hold."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    operators = Counter(node.op_type for node in [*model.graph.node, *(node for function in model.functions for node in function.node)])
    elements: Counter[str] = Counter()
    for tensor in model.graph.initializer:
        elements[onnx.TensorProto.DataType.Name(tensor.data_type)] += math.prod(tensor.dims)
    return {"operators": dict(sorted(operators.items())), "initializer_elements": dict(sorted(elements.items()))}
