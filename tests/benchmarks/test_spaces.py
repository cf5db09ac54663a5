"""benchmarks/tables/spaces.py: the skeletons have the sizes that the tables give."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.tables.spaces import BENCH201, MACRO, Table
from ddarts.cost.counting import count_macs, count_parameters
from ddarts.genotype.choices import ChoiceGenotype
from ddarts.nn.choice_network import ChoiceNetwork
from ddarts.space.choice_space import ChoiceSpace
from ddarts.supernet.choice_supernet import ChoiceSupernet


def table(space: ChoiceSpace) -> Table:
    """The table in $DDARTS_SHARED/data/tables or ../shared/data/tables; skip the test without it."""
    shared = Path(os.environ.get("DDARTS_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    folder = shared / "data" / "tables"
    if not folder.is_dir():
        pytest.skip(f"no tables in {folder}; set DDARTS_SHARED to the folder that holds data/tables/")
    return Table.load(space, folder)


@pytest.mark.slow
def test_macro_networks_have_the_parameters_and_multiply_adds_of_the_table() -> None:
    macro = table(MACRO)
    drawn = random.Random(0).sample(sorted(macro.rows), 48)
    for digits in ("00000000", "22222222", *drawn):
        with torch.device("meta"):
            network = ChoiceNetwork(macro.genotype(digits), channels=32)
        row = macro.rows[digits]
        assert (count_parameters(network), count_macs(network, (3, 32, 32))) == (row.parameters, row.macs), digits


def test_macro_table_is_complete_and_judges() -> None:
    macro = table(MACRO)
    assert len(macro.rows) == MACRO.size == 6561
    assert macro.rows["00000000"].accuracy == pytest.approx((45.32 + 45.33 + 45.44) / 3)
    assert macro.rank(macro.best()) == 1
    assert macro.rank(macro.genotype("22222222")) == 21
    assert macro.lookup(macro.best(22.7e6)).accuracy == pytest.approx(86.29, abs=0.005)
    assert macro.lookup(macro.best(57.15e6)).accuracy == pytest.approx(92.57, abs=0.005)
    assert macro.lookup(macro.best(57.15e6)).macs <= 57.15e6


def test_the_table_of_201_numbers_edges_and_operations_as_the_space_does() -> None:
    bench = table(BENCH201)
    assert len(bench.rows) == BENCH201.size == 15625
    assert bench.lookup(ChoiceGenotype("nasbench-201", ("conv_3x3",) * 6)).accuracy == pytest.approx(93.24, abs=0.01)
    assert bench.lookup(ChoiceGenotype("nasbench-201", ("skip_connect",) * 6)).accuracy == pytest.approx(
        60.78, abs=0.01
    )
    # without any connection to the output the network guesses
    cut_off = ("conv_3x3", "conv_3x3", "none", "conv_3x3", "none", "none")
    assert bench.lookup(ChoiceGenotype("nasbench-201", cut_off)).accuracy == pytest.approx(10, abs=0.1)


def test_201_networks_have_the_published_size() -> None:
    network = ChoiceNetwork(ChoiceGenotype("nasbench-201", ("conv_3x3",) * 6), channels=16)
    assert count_parameters(network) == 1_531_546  # NAS-Bench-201 gives 1.531546 M and 220.12 M
    assert count_macs(network, (3, 32, 32)) == pytest.approx(220.12e6, rel=1e-4)


def test_paths_are_scored_as_the_supernet_computes_them() -> None:
    from benchmarks.tables.macro_search import evaluate_all

    torch.manual_seed(0)
    net = ChoiceSupernet(MACRO, channels=2)
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8)
    scores = evaluate_all(net, x, y, "201201")
    assert sorted(scores) == [f"201201{i}{j}" for i in range(3) for j in range(3)]
    with torch.no_grad():
        for digits, (loss, accuracy) in scores.items():
            genotype = ChoiceGenotype.from_indices(MACRO, [int(d) for d in digits])
            logits = net.trunk(x, net.path(genotype), track=False).logits
            assert loss == pytest.approx(float(F.cross_entropy(logits, y)), rel=1e-5)
            assert accuracy == float((logits.argmax(1) == y).double().mean())
