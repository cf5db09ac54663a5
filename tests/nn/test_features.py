from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from ddarts.errors import SettingsError
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.random import random_genotype
from ddarts.genotype.zoo.baselines import BASELINES, baseline
from ddarts.nn.network import Network
from ddarts.space.cell_space import build_space


def _genotype(seed: int = 0, cells: int = 6) -> Genotype:
    return random_genotype(build_space("dartopti", cells=cells, nodes=2), seed=seed)


def _network(stem: str = "imagenet", seed: int = 0, **options: int) -> Network:
    torch.manual_seed(seed)
    return Network(_genotype(seed), channels=4, classes=3, stem=stem, **options)


def _networks() -> list[tuple[str, Genotype]]:
    return [(name, baseline(name)) for name in BASELINES] + [(f"random{seed}", _genotype(seed)) for seed in range(3)]


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize(("name", "genotype"), _networks())
def test_maps_have_the_channels_and_the_size_that_feature_info_says(name: str, genotype: Genotype, stem: str) -> None:
    network = Network(genotype, channels=2, stem=stem).eval()
    modules = dict(network.named_modules())
    for height, width in ((64, 64), (33, 50), (129, 7)):
        maps = network.features(torch.randn(1, 3, height, width))
        assert len(maps) == len(network.feature_info)
        for found, info in zip(maps, network.feature_info, strict=True):
            reduction = info["reduction"]
            assert found.shape == (1, info["num_chs"], -(-height // reduction), -(-width // reduction)), name
            assert info["module"] in modules
    reductions = [info["reduction"] for info in network.feature_info]
    assert reductions == sorted(set(reductions))


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
@pytest.mark.parametrize(("name", "genotype"), _networks())
def test_every_parameter_receives_a_gradient_from_the_logits(name: str, genotype: Genotype, stem: str) -> None:
    torch.manual_seed(1)
    network = Network(genotype, channels=2, classes=3, stem=stem)
    network(torch.randn(4, 3, 65, 64)).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == [], name


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_features_then_head_is_the_forward_pass(stem: str) -> None:
    network = _network(stem).eval()
    for size in ((32, 32), (31, 45)):
        x = torch.randn(2, 3, *size)
        assert torch.equal(network.forward_head(network.forward_features(x)), network(x))
        assert torch.equal(network.features(x)[-1], network.forward_features(x))


def test_maps_are_those_of_the_modules_that_are_named() -> None:
    network = _network().eval()
    seen: dict[str, torch.Tensor] = {}
    modules = dict(network.named_modules())
    names = [info["module"] for info in network.feature_info]
    for name in names:
        modules[name].register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    maps = network.features(torch.randn(1, 3, 40, 40))
    assert all(torch.equal(seen[name], found) for name, found in zip(names, maps, strict=True))
    assert names[0] == "stem.norm2"
    assert names[-1] == "cells.5"


def test_the_level_at_which_no_cell_works_is_the_stems() -> None:
    edges = (Edge("skip_connect", 0, 2), Edge("skip_connect", 1, 2))
    halving = CellGenotype(edges, (2,), reduction=True)
    network = Network(Genotype((halving, halving)), channels=4, stem="imagenet")
    assert [(info["reduction"], info["module"]) for info in network.feature_info] == [
        (2, "stem.norm2"),
        (4, "stem.norm3"),
        (8, "cells.0"),
        (16, "cells.1"),
    ]


@pytest.mark.parametrize(("chosen", "expected"), [(None, [0, 1, 2, 3]), (2, [2, 3]), ([1], [1]), ((0, -1), [0, 3])])
def test_levels_can_be_chosen(chosen: int | list[int] | None, expected: list[int]) -> None:
    network = _network().eval()
    x = torch.randn(1, 3, 32, 32)
    every = network.features(x)
    assert all(torch.equal(a, every[i]) for a, i in zip(network.features(x, chosen), expected, strict=True))


@pytest.mark.parametrize("chosen", [0, -1, 5, [4], [-5], []])
def test_a_level_that_is_not_there_is_an_error(chosen: int | list[int]) -> None:
    with pytest.raises(SettingsError, match=r"levels .*: the network has 4, 0 to 3, of reductions 2, 4, 8, 16"):
        _network().features(torch.randn(1, 3, 32, 32), chosen)


def test_cells_after_the_levels_asked_for_are_not_run() -> None:
    network = _network().eval()
    network.cells["5"].forward = lambda *_: pytest.fail("not needed")  # type: ignore[method-assign]
    network.features(torch.randn(1, 3, 32, 32), [0, 1, 2])


@pytest.mark.parametrize("kept", [[0], [1], [2], [3], [0, 2], [1, 3]])
@pytest.mark.parametrize(("name", "genotype"), _networks())
def test_a_trimmed_network_has_the_same_maps_and_no_idle_weights(
    name: str, genotype: Genotype, kept: list[int]
) -> None:
    network = Network(genotype, channels=2, stem="imagenet", auxiliary=True).eval()
    x = torch.randn(2, 3, 64, 64)
    trimmed = copy.deepcopy(network)
    trimmed.keep_levels(kept)
    trimmed.classifier = nn.Identity()
    maps = trimmed.features(x, kept)
    assert all(torch.equal(a, b) for a, b in zip(maps, network.features(x, kept), strict=True))
    assert torch.equal(trimmed.forward_features(x), maps[-1])
    assert trimmed(x).shape == (2, trimmed.outputs)
    sum(m.sum() for m in trimmed.train().features(x, kept)).backward()
    assert [n for n, p in trimmed.named_parameters() if p.grad is None] == [], name


def test_a_level_that_was_not_kept_is_an_error() -> None:
    network = _network()
    network.keep_levels([0, 2])
    for levels in ([3], 2, None):
        with pytest.raises(SettingsError, match="level 3 is gone: keep_levels was not told to keep it"):
            network.features(torch.randn(1, 3, 32, 32), levels)
    network.keep_levels([0])
    with pytest.raises(SettingsError, match="level 2 is gone"):
        network.keep_levels([2])


def test_recomputation_changes_neither_results_nor_gradients_nor_statistics() -> None:
    plain = _network(seed=2, auxiliary=True)
    plain.drop_path = 0.3
    thrifty = copy.deepcopy(plain)
    thrifty.recompute = True
    x = torch.randn(4, 3, 32, 32)
    results = []
    for network in (plain, thrifty):
        torch.manual_seed(5)
        logits, auxiliary = network(x)
        (logits.square().mean() + auxiliary.square().mean()).backward()
        results.append(logits)
    assert torch.equal(*results)
    for (name, a), b in zip(plain.named_parameters(), thrifty.parameters(), strict=True):
        assert a.grad is not None
        torch.testing.assert_close(b.grad, a.grad, msg=name)
    for (name, a), b in zip(plain.named_buffers(), thrifty.buffers(), strict=True):
        assert torch.equal(a, b), name


def test_recomputation_keeps_fewer_tensors() -> None:
    kept = []
    for recompute in (False, True):
        network = _network()
        network.recompute = recompute
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            network(torch.randn(4, 3, 64, 64))
        kept.append(sum(sizes))
    assert kept[1] < 0.5 * kept[0]
