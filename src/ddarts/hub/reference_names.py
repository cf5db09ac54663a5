"""Names of the tensors in the reference's discrete networks (state dicts of aheuillet/D-DARTS) beside our own.

There, operation number n on the edge from state s to node t of cell i is ``cells.i._ops.t.s.n``; in networks of its
older kind of cell, which it shares with the code of DARTS, edge k is ``cells.i._ops.k`` ("positional").
"""

from __future__ import annotations

from collections import Counter

from torch import nn

from ddarts.errors import GenotypeError
from ddarts.genotype.genotype import CellGenotype
from ddarts.nn.network import Cell, Network
from ddarts.nn.operations import FactorizedReduce


def _places(**places: int) -> dict[str, str]:
    """Return the reference's names of the parts that stand at these places of an operation's sequence ``op``."""
    return {name: f"op.{place}" for name, place in places.items()}


_RELU_CONV_BN = _places(conv=1, norm=2)
_FACTORIZED = {"conv1": "conv_1", "conv2": "conv_2", "norm": "bn"}
_SEPARABLE = _places(depthwise1=1, pointwise1=2, norm1=3, depthwise2=5, pointwise2=6, norm2=7)
_DILATED = _places(depthwise=1, pointwise=2, norm=3)
_BOTTLENECK = _places(conv1=1, norm1=2, conv2=3, norm2=4, conv3=5, norm3=6, conv4=8, norm4=9)

#: Of each operation, our names of its parts and the reference's.
OPERATION_PARTS: dict[str, dict[str, str]] = {
    "max_pool_3x3": {},
    "avg_pool_3x3": {},
    "skip_connect": _FACTORIZED,
    "sep_conv_3x3": _SEPARABLE,
    "sep_conv_5x5": _SEPARABLE,
    "dil_conv_3x3": _DILATED,
    "dil_conv_5x5": _DILATED,
    "conv_3x1_1x3": _places(along_width=1, along_height=2, norm=3),
    "conv_7x1_1x7": {"along_width": "1", "along_height": "2", "norm": "3"},  # the one without op
    "simple_conv_1x1": _RELU_CONV_BN,
    "simple_conv_3x3": _RELU_CONV_BN,
    "bottleneck_1x3x1": _BOTTLENECK,
}
_OTHER_PARTS = {
    "cifar": {"stem.conv": "stem.0", "stem.norm": "stem.1"},
    "imagenet": {
        "stem.conv1": "stem0.0",
        "stem.norm1": "stem0.1",
        "stem.conv2": "stem0.3",
        "stem.norm2": "stem0.4",
        "stem.conv3": "stem1.1",
        "stem.norm3": "stem1.2",
    },
    "head": {
        "auxiliary.conv1": "auxiliary_head.features.2",
        "auxiliary.norm1": "auxiliary_head.features.3",
        "auxiliary.conv2": "auxiliary_head.features.5",
        "auxiliary.norm2": "auxiliary_head.features.6",
        "auxiliary.classifier": "auxiliary_head.classifier",
        "classifier": "classifier",
    },
}


def reference_names(network: Network, *, positional: bool = False) -> dict[str, str]:
    """Return, for each tensor of a network's state dict, the name that the reference gives it.

    Args:
        network: what the genotype means to the reference (see `ddarts.genotype.interop.reference_layout`).
        positional: name edges by their place in the cell.

    Raises:
        GenotypeError: an operation is not one of the reference's.
    """
    modules = {**_OTHER_PARTS[network.stem_name], **_OTHER_PARTS["head"]}
    for name, cell in network.cells.items():
        assert isinstance(cell, Cell)
        head = f"cells.{name}"
        for which, module in (("preprocess0", cell.preprocess0), ("preprocess1", cell.preprocess1)):
            parts = _FACTORIZED if isinstance(module, FactorizedReduce) else _RELU_CONV_BN
            modules |= {f"{head}.{which}.{ours}": f"{head}.{which}.{theirs}" for ours, theirs in parts.items()}
        genotype = network.genotype.cells[int(name)]
        for k, (edge, place) in enumerate(zip(genotype.edges, _edge_names(genotype, positional), strict=True)):
            if edge.operation not in OPERATION_PARTS:
                raise GenotypeError(f"cell {name}: the reference code has no operation {edge.operation}")
            for ours, theirs in OPERATION_PARTS[edge.operation].items():
                modules[f"{head}.operations.{k}.{ours}"] = f"{head}.{place}.{theirs}"
    names = {}
    for ours in network.state_dict():
        module, _, leaf = ours.rpartition(".")
        names[ours] = f"{modules[module]}.{leaf}"
    return names


def unbuilt_prefixes(network: Network, *, positional: bool = False) -> tuple[str, ...]:
    """Return what the reference's names begin with in parts that it has and we do not build: they reach no output."""
    found = []
    if network.stem_name == "imagenet" and not isinstance(getattr(network.stem, "conv3", None), nn.Module):
        found.append("stem1.")
    for position, genotype in enumerate(network.genotype.cells):
        head = f"cells.{position}."
        if str(position) not in network.cells:
            found.append(head)
            continue
        cell = network.cells[str(position)]
        assert isinstance(cell, Cell)
        found += [f"{head}preprocess0."] * (cell.preprocess0 is None)
        found += [f"{head}preprocess1."] * (cell.preprocess1 is None)
        places = _edge_names(genotype, positional)
        found += [f"{head}{place}." for k, place in enumerate(places) if str(k) not in cell.operations]
    return tuple(found)


def _edge_names(cell: CellGenotype, positional: bool) -> list[str]:
    """Return what the reference calls the operation of each edge, in the order of the edges."""
    if positional:
        return [f"_ops.{k}" for k in range(len(cell.edges))]
    seen: Counter[tuple[int, int]] = Counter()
    names = []
    for edge in cell.edges:
        place = (edge.target, edge.source)
        names.append(f"_ops.{edge.target}.{edge.source}.{seen[place]}")
        seen[place] += 1
    return names
