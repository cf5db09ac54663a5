"""A plain network for a genotype, and which of its modules stands for which of the package's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn

from ddarts.genotype.genotype import Genotype
from ddarts.nn.network import Cell, Network
from tests.reference.plain_network import PlainNetwork


def build_plain(genotype: Genotype, *, channels: int, in_channels: int = 3, classes: int = 10) -> PlainNetwork:
    """The network of a genotype from plain modules, one for each of its edges. It wants no edge from an empty node."""
    return PlainNetwork(
        [[(e.operation, e.target, e.source) for e in cell.edges] for cell in genotype.cells],
        genotype.reductions,
        channels=channels,
        in_channels=in_channels,
        classes=classes,
        concat=[cell.live_concat for cell in genotype.cells],
    )


def paired_modules(network: Network, plain: PlainNetwork) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield (ours, plain) for every part with weights; both list their parameters in the same order."""
    yield network.stem, plain.stem
    yield network.classifier, plain.classifier
    for name, cell in network.cells.items():
        assert isinstance(cell, Cell)
        other = plain.cells[int(name)]
        for preprocess in ("preprocess0", "preprocess1"):
            if getattr(cell, preprocess) is not None:
                yield getattr(cell, preprocess), getattr(other, preprocess)
        seen: Counter[tuple[int, int]] = Counter()
        for index, edge in enumerate(network.genotype.cells[int(name)].edges):
            place = seen[edge.target, edge.source]
            seen[edge.target, edge.source] += 1
            if str(index) in cell.operations:
                found = other._ops[str(edge.target)][str(edge.source)][place]  # type: ignore[index]
                yield cell.operations[str(index)], found  # type: ignore[misc]


def build_network_twins(
    genotype: Genotype, *, channels: int, in_channels: int = 3, classes: int = 10, dtype: torch.dtype = torch.float64
) -> tuple[Network, PlainNetwork]:
    """The package's network and the plain one with the same weights, both in training mode."""
    network = Network(genotype, channels=channels, in_channels=in_channels, classes=classes)
    plain = build_plain(genotype, channels=channels, in_channels=in_channels, classes=classes)
    loaded = 0
    with torch.no_grad():
        for ours, other in paired_modules(network, plain):
            for mine, theirs in zip(ours.parameters(), other.parameters(), strict=True):
                mine.copy_(theirs)
                loaded += 1
    assert loaded == len(list(network.parameters()))
    return network.to(dtype), plain.to(dtype)
