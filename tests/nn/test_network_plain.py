"""The network is the plain one (tests/reference/plain_network.py), number for number: outputs and all gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.random import random_genotype
from ddarts.genotype.zoo.lookup import find_genotype
from ddarts.space.cell_space import DARTOPTI_OPERATIONS, DARTS_OPERATIONS, build_space
from tests.reference.network_mapping import build_network_twins, paired_modules


def _all_operations(names: tuple[str, ...], *, reduction: bool) -> CellGenotype:
    """Every operation from state 0 to node 2 and from state 1 to node 3, and node 2 to node 3."""
    edges = [Edge(name, source, source + 2) for name in names for source in (0, 1)]
    return CellGenotype((*edges, Edge("skip_connect", 2, 3)), (3, 2), reduction)


def _every_operation(names: tuple[str, ...]) -> Genotype:
    return Genotype(tuple(_all_operations(names, reduction=k == 1) for k in range(3)))


_CASES: dict[str, Genotype] = {
    "darts operations": _every_operation(DARTS_OPERATIONS),
    "dartopti operations": _every_operation(DARTOPTI_OPERATIONS),
    "random": random_genotype(build_space("dartopti", cells=6, nodes=4), seed=3),
    "published": find_genotype("darts-v2"),
    "baseline": find_genotype("resnet18"),
}


@pytest.mark.parametrize("case", _CASES)
def test_outputs_and_gradients_are_those_of_plain_modules(case: str) -> None:
    torch.manual_seed(1)
    network, plain = build_network_twins(_CASES[case], channels=4, classes=5)
    network.to(memory_format=torch.channels_last)
    side = 4 * 2 ** len(_CASES[case].reductions)
    x, y = torch.randn(3, 3, side, side, dtype=torch.float64), torch.tensor([0, 3, 4])
    logits = network(x.contiguous(memory_format=torch.channels_last))
    assert isinstance(logits, torch.Tensor)
    expected = plain(x)
    torch.testing.assert_close(logits, expected)
    F.cross_entropy(logits, y).backward()
    F.cross_entropy(expected, y).backward()
    for ours, other in paired_modules(network, plain):
        for (name, mine), theirs in zip(ours.named_parameters(), other.parameters(), strict=True):
            assert mine.grad is not None
            torch.testing.assert_close(mine.grad, theirs.grad, msg=lambda text, name=name: f"{name}: {text}")
