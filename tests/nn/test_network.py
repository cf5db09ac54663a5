from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from ddarts.errors import SettingsError
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.random import random_genotype
from ddarts.nn.auxiliary import AuxiliaryHead, pool_to_2x2
from ddarts.nn.network import Network
from ddarts.space.cell_space import build_space
from ddarts.space.operations import BUILT_IN_OPERATIONS


def _genotype(cells: int = 3, nodes: int = 2, reductions: tuple[int, ...] | None = None, seed: int = 0) -> Genotype:
    return random_genotype(build_space("dartopti", cells=cells, nodes=nodes, reductions=reductions), seed=seed)


def _chain(*operations: str, reduction: bool = False) -> CellGenotype:
    """A cell whose nodes each read state 0 and state 1 by the given operations."""
    edges = [Edge(name, source, i + 2) for i, name in enumerate(operations) for source in (0, 1)]
    return CellGenotype(tuple(edges), tuple(range(2, len(operations) + 2)), reduction)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("in_channels", [1, 3, 5])
def test_any_width_and_any_number_of_image_channels_work(channels: int, in_channels: int) -> None:
    network = Network(_genotype(), channels=channels, in_channels=in_channels, classes=7)
    assert network(torch.randn(2, in_channels, 9, 8)).shape == (2, 7)


def test_channels_double_and_the_side_halves_at_each_reduction_anywhere() -> None:
    genotype = Genotype(tuple(_chain("max_pool_3x3", reduction=r) for r in (True, True, False, True)))
    network = Network(genotype, channels=4).eval()
    shapes = [tuple(f.shape) for f in network.features(torch.randn(2, 3, 16, 15))]
    assert shapes == [(2, 12, 16, 15), (2, 8, 8, 8), (2, 16, 4, 4), (2, 32, 2, 2)]
    assert network.forward_features(torch.randn(2, 3, 16, 15)).shape == (2, 32, 2, 2)


def test_features_are_the_outputs_before_pooling_and_classifier() -> None:
    network = Network(_genotype(cells=6), channels=4).eval()
    x = torch.randn(2, 3, 8, 8)
    last = network.features(x)[-1]
    assert torch.equal(last, network.forward_features(x))
    torch.testing.assert_close(network(x), network.classifier(last.mean((2, 3))))


def test_the_output_width_counts_only_nodes_with_an_input() -> None:
    edges = (Edge("simple_conv_1x1", 0, 2), Edge("simple_conv_1x1", 3, 4), Edge("simple_conv_1x1", 1, 5))
    network = Network(Genotype((CellGenotype(edges, (2, 3, 4, 5)),)), channels=4)
    assert network.outputs == 8
    assert network.forward_features(torch.randn(2, 3, 4, 4)).shape[1] == 8
    assert {n for n, _ in network.named_parameters() if ".operations.1." in n} == set()


def test_operations_on_one_edge_are_summed() -> None:
    one = Genotype((CellGenotype((Edge("max_pool_3x3", 1, 2),), (2,)),))
    two = Genotype((CellGenotype((Edge("max_pool_3x3", 1, 2), Edge("skip_connect", 1, 2)), (2,)),))
    both, pool = Network(two, channels=4).eval(), Network(one, channels=4).eval()
    pool.load_state_dict(both.state_dict())  # neither operation holds weights
    x = torch.randn(2, 3, 6, 6)
    state = both.cells["0"].preprocess1(both.stem.norm(both.stem.conv(x)))
    torch.testing.assert_close(both.forward_features(x), pool.forward_features(x) + state)


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_every_parameter_receives_a_gradient(stem: str) -> None:
    for seed in range(3):
        network = Network(_genotype(cells=4, nodes=3, seed=seed), channels=4, classes=3, stem=stem, auxiliary=True)
        logits, auxiliary = network(torch.randn(4, 3, 17, 16))
        (logits.square().sum() + auxiliary.square().sum()).backward()
        without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert without == []


def test_parameter_names_are_a_public_format() -> None:
    genotype = Genotype(
        (_chain("skip_connect"), _chain("sep_conv_3x3", reduction=True), _chain("conv_3x1_1x3", "bottleneck_1x3x1"))
    )
    names = {n.rsplit(".", 1)[0] for n, _ in Network(genotype, channels=4, auxiliary=True).named_parameters()}
    separable = ("depthwise1", "pointwise1", "norm1", "depthwise2", "pointwise2", "norm2")
    bottleneck = [f"{part}{i}" for i in (1, 2, 3, 4) for part in ("conv", "norm")]
    assert names == {
        "stem.conv",
        "stem.norm",
        *(f"cells.{i}.preprocess{k}.{part}" for i in (0, 1) for k in (0, 1) for part in ("conv", "norm")),
        *(f"cells.1.operations.{e}.{part}" for e in (0, 1) for part in separable),
        *(f"cells.2.preprocess0.{part}" for part in ("conv1", "conv2", "norm")),
        *(f"cells.2.preprocess1.{part}" for part in ("conv", "norm")),
        *(f"cells.2.operations.{e}.{part}" for e in (0, 1) for part in ("along_width", "along_height", "norm")),
        *(f"cells.2.operations.{e}.{part}" for e in (2, 3) for part in bottleneck),
        *(f"auxiliary.{part}" for part in ("conv1", "norm1", "conv2", "norm2", "classifier")),
        "classifier",
    }


def test_a_cell_that_nobody_reads_is_not_built_and_changes_nothing() -> None:
    skip_one = CellGenotype((Edge("simple_conv_3x3", 0, 2),), (2,))  # reads the cell before the last only
    network = Network(Genotype((skip_one, skip_one, dataclasses.replace(skip_one, reduction=True))), channels=4)
    assert list(network.cells) == ["0", "2"]
    assert network.cells["2"].preprocess1 is None
    assert [tuple(f.shape[1:]) for f in network.features(torch.randn(2, 3, 8, 8))] == [(4, 8, 8), (8, 4, 4)]


def test_a_stem_state_that_nobody_reads_is_not_built() -> None:
    even = CellGenotype((Edge("simple_conv_3x3", 0, 2),), (2,))  # cell 2 reads cell 0, which reads the first state
    network = Network(Genotype((even, even, even)), channels=4, stem="imagenet")
    assert [name for name, _ in network.stem.named_children()] == ["conv1", "norm1", "conv2", "norm2"]
    network(torch.randn(2, 3, 17, 16)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_the_auxiliary_head_speaks_in_training_only() -> None:
    network = Network(_genotype(cells=3), channels=4, classes=5, auxiliary=True)
    x = torch.randn(2, 3, 8, 8)
    logits, auxiliary = network(x)
    assert logits.shape == auxiliary.shape == (2, 5)
    assert network.eval()(x).shape == (2, 5)
    assert Network(_genotype(cells=3), channels=4).train()(x).shape == (2, 10)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 7, 8, 16, 33])
def test_the_auxiliary_head_fits_any_resolution(side: int) -> None:
    head = AuxiliaryHead(4, 6)
    assert head(torch.rand(2, 4, side, 1)).shape == (2, 6)
    assert head(torch.rand(2, 4, side, side + 3)).shape == (2, 6)


def test_auxiliary_pooling_is_that_of_darts_where_darts_has_one() -> None:
    for side, stride in ((8, 3), (7, 2)):
        x = torch.randn(2, 3, side, side)
        expected = nn.functional.avg_pool2d(x, 5, stride, count_include_pad=False)
        torch.testing.assert_close(pool_to_2x2(x), expected, rtol=0, atol=0)


def test_auxiliary_windows_reach_both_ends() -> None:
    for side in (2, 3, 5, 12):
        corner = torch.zeros(1, 1, side, side)
        corner[0, 0, -1, -1] = 1
        assert pool_to_2x2(corner).flatten().gt(0).tolist() == [False, False, False, True]


def _drop_path_results(genotype: Genotype, drop_path: float) -> tuple[Tensor, Tensor]:
    """Return last cell outputs [B, ...] with and without drop-path, batch norms in evaluation mode."""
    torch.manual_seed(0)
    network = Network(genotype, channels=4).eval()
    network.training = True  # drop-path looks at the network's mode, batch norm at its own
    x = torch.randn(400, 3, 4, 4)
    plain = network.forward_features(x)
    network.drop_path = drop_path
    return network.forward_features(x), plain


def test_drop_path_drops_whole_images_and_scales_the_rest() -> None:
    one_pool = Genotype((CellGenotype((Edge("avg_pool_3x3", 1, 2),), (2,)),))
    dropped, plain = _drop_path_results(one_pool, 0.4)
    kept = dropped.flatten(1).abs().sum(1) > 0
    assert 0.5 < kept.float().mean() < 0.7
    torch.testing.assert_close(dropped[kept], plain[kept] / 0.6)


def test_drop_path_draws_each_operation_by_itself() -> None:
    two = Genotype((CellGenotype((Edge("avg_pool_3x3", 1, 2), Edge("max_pool_3x3", 1, 3)), (2, 3)),))
    dropped, _ = _drop_path_results(two, 0.5)
    first, second = (dropped[:, i : i + 4].flatten(1).abs().sum(1) > 0 for i in (0, 4))
    assert 0.4 < (first != second).float().mean() < 0.6


def test_drop_path_spares_identities_and_evaluation() -> None:
    identity = Genotype((CellGenotype((Edge("skip_connect", 1, 2),), (2,)),))
    dropped, plain = _drop_path_results(identity, 0.9)
    assert torch.equal(dropped, plain)
    network = Network(_genotype(), channels=4).eval()
    network.drop_path = 0.9
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(network(x), network(x))


def test_drop_path_hits_a_skip_connection_that_halves() -> None:
    halving = Genotype((CellGenotype((Edge("skip_connect", 1, 2),), (2,), reduction=True),))
    dropped, plain = _drop_path_results(halving, 0.5)
    assert not torch.equal(dropped, plain)


def test_drop_path_follows_the_seed() -> None:
    network = Network(_genotype(), channels=4)
    network.drop_path = 0.5
    x = torch.randn(4, 3, 8, 8)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(network(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_channels_last_gives_the_same_numbers() -> None:
    network = Network(_genotype(cells=4, nodes=3), channels=4).eval()
    x = torch.randn(2, 3, 9, 9)
    plain = network(x)
    network.to(memory_format=torch.channels_last)
    torch.testing.assert_close(network(x.to(memory_format=torch.channels_last)), plain, rtol=1e-4, atol=1e-5)


def test_every_operation_trains_in_bf16() -> None:
    cells = tuple(_chain(*BUILT_IN_OPERATIONS, reduction=r) for r in (False, True))
    network = Network(Genotype(cells), channels=4, auxiliary=True)
    network.drop_path = 0.2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, auxiliary = network(torch.randn(4, 3, 8, 8))
        loss = logits.float().square().mean() + auxiliary.float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(("name", "value"), [("channels", 0), ("in_channels", 0), ("classes", -1)])
def test_sizes_below_one_are_an_error(name: str, value: int) -> None:
    with pytest.raises(SettingsError, match=rf"{name} = {value} is out of range"):
        Network(_genotype(), **{name: value})


def test_an_unknown_stem_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"unknown stem 'imagnet'; did you mean 'imagenet'\?"):
        Network(_genotype(), stem="imagnet")
