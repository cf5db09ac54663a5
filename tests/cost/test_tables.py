from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.tables.spaces import BENCH201, MACRO
from ddarts.cost.counting import count_macs, count_parameters
from ddarts.cost.tables import cost_table
from ddarts.genotype.gates import discrete_gates
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.random import random_genotype
from ddarts.genotype.starting import search_space
from ddarts.nn.choice_network import build_network
from ddarts.space.cell_space import SearchSpace, build_space
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.mobile import MOBILE
from ddarts.space.residual import RESIDUAL

SPACES = {
    "darts": build_space("darts", cells=3, nodes=2),
    "dartopti": build_space("dartopti", cells=3, nodes=3),
    "shared": search_space("darts", cells=4, nodes=2, shared_cells=True),
    "mobile": MOBILE,
    "residual": RESIDUAL,
    "macro": MACRO,
    "201": BENCH201,
}


def counted(genotype: Any, height: int, width: int, **sizes: Any) -> tuple[int, int]:
    with torch.device("meta"):
        network = build_network(genotype, **sizes)
    return count_parameters(network), count_macs(network, (sizes["in_channels"], height, width))


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_base_and_chosen_entries_are_the_costs_of_the_network(name: str, stem: str) -> None:
    space: SearchSpace | ChoiceSpace = SPACES[name]
    sizes: dict[str, Any] = {"channels": 4, "in_channels": 1, "classes": 3, "stem": stem}
    table = cost_table(space, 37, 30, **sizes)
    for seed in range(20 if stem == "cifar" and name in ("darts", "mobile") else 3):
        genotype = random_genotype(space, seed=seed)
        assert table.cost(genotype)[:2] == counted(genotype, 37, 30, **sizes)


def test_gates_times_entries_give_the_same_sum() -> None:
    table = cost_table(MOBILE, 32, 32, channels=4)
    genotype = random_genotype(MOBILE, seed=1)
    for kind in ("parameters", "macs"):
        gates = [torch.tensor(rows, dtype=torch.float64) for rows in discrete_gates(MOBILE, genotype).values]
        chosen = sum(float((g * t).sum()) for g, t in zip(gates, table.tensors(kind), strict=True))
        assert getattr(table.base, kind) + chosen == getattr(table.cost(genotype), kind)


def test_a_genotype_with_unused_parts_costs_at_most_the_sum() -> None:
    space = build_space("darts", cells=1, nodes=2, reductions=())
    table = cost_table(space, 16, 16, channels=4)
    edges = (Edge("sep_conv_3x3", 0, 2), Edge("skip_connect", 0, 3))
    unused = Genotype((CellGenotype(edges, (3,)),))
    found = counted(unused, 16, 16, channels=4, in_channels=3)
    assert found < tuple(table.cost(unused))
