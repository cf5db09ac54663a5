"""Names of the reference's state dict and ours, for discrete networks."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor

from ddarts.architecture.genotype import CellGenotype, Edge, Genotype

_RELU_CONV_BN = {"op.1": "conv", "op.2": "norm"}
_FACTORIZED = {"conv_1": "conv1", "conv_2": "conv2", "bn": "norm"}
_SEPARABLE = {
    "op.1": "depthwise1",
    "op.2": "pointwise1",
    "op.3": "norm1",
    "op.5": "depthwise2",
    "op.6": "pointwise2",
    "op.7": "norm2",
}
_DILATED = {"op.1": "depthwise", "op.2": "pointwise", "op.3": "norm"}
_PAIR_3 = {"op.1": "along_width", "op.2": "along_height", "op.3": "norm"}
_PAIR_7 = {"1": "along_width", "2": "along_height", "3": "norm"}
_BOTTLENECK = {
    "op.1": "conv1",
    "op.2": "norm1",
    "op.3": "conv2",
    "op.4": "norm2",
    "op.5": "conv3",
    "op.6": "norm3",
    "op.8": "conv4",
    "op.9": "norm4",
}

#: for each operation, the reference's names of its parts and ours
OPERATION_PARTS = {
    "max_pool_3x3": {},
    "avg_pool_3x3": {},
    "skip_connect": _FACTORIZED,
    "sep_conv_3x3": _SEPARABLE,
    "sep_conv_5x5": _SEPARABLE,
    "dil_conv_3x3": _DILATED,
    "dil_conv_5x5": _DILATED,
    "conv_3x1_1x3": _PAIR_3,
    "conv_7x1_1x7": _PAIR_7,
    "simple_conv_1x1": _RELU_CONV_BN,
    "simple_conv_3x3": _RELU_CONV_BN,
    "bottleneck_1x3x1": _BOTTLENECK,
}
PREPROCESS_PARTS = {**_RELU_CONV_BN, **_FACTORIZED}
STEM_PARTS = {
    "stem.0": "stem.conv",
    "stem.1": "stem.norm",
    "stem0.0": "stem.conv1",
    "stem0.1": "stem.norm1",
    "stem0.3": "stem.conv2",
    "stem0.4": "stem.norm2",
    "stem1.1": "stem.conv3",
    "stem1.2": "stem.norm3",
}
AUXILIARY_PARTS = {
    "auxiliary_head.features.2": "auxiliary.conv1",
    "auxiliary_head.features.3": "auxiliary.norm1",
    "auxiliary_head.features.5": "auxiliary.conv2",
    "auxiliary_head.features.6": "auxiliary.norm2",
    "auxiliary_head.classifier": "auxiliary.classifier",
}


def genotype_from_reference(data: dict[str, Any]) -> Genotype:
    """Build a genotype from {"genes": [[[operation, to, from], ...], ...], "concat": [...], "reductions": [...]}."""
    return Genotype(
        tuple(
            CellGenotype(
                tuple(Edge(operation, source, target) for operation, target, source in cell),
                tuple(data["concat"]),
                i in data["reductions"],
            )
            for i, cell in enumerate(data["genes"])
        )
    )


def network_state(genotype: Genotype, reference: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the reference's state dict of a discrete network (names without ``state.``) under our names."""
    names = {}
    for i, cell in enumerate(genotype.cells):
        seen: Counter[tuple[int, int]] = Counter()
        for k, edge in enumerate(cell.edges):
            place = (edge.target, edge.source)
            theirs = f"cells.{i}._ops.{edge.target}.{edge.source}.{seen[place]}"
            seen[place] += 1
            for part, name in OPERATION_PARTS[edge.operation].items():
                names[f"{theirs}.{part}"] = f"cells.{i}.operations.{k}.{name}"
        for part, name in PREPROCESS_PARTS.items():
            for which in ("preprocess0", "preprocess1"):
                names[f"cells.{i}.{which}.{part}"] = f"cells.{i}.{which}.{name}"
    names |= {**STEM_PARTS, **AUXILIARY_PARTS, "classifier": "classifier"}
    state = {}
    for name, tensor in reference.items():
        module, _, leaf = name.rpartition(".")
        state[f"{names[module]}.{leaf}"] = tensor
    return state
