"""The hand-made baselines go through everything that a genotype goes through, at any width and size."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn

import ddarts
from ddarts.cost.counting import count_macs, count_parameters
from ddarts.genotype.deepen import deepen
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.zoo.baselines import BASELINES, baseline
from ddarts.hub.reference_names import reference_names
from ddarts.hub.saved import load_model, save_model
from ddarts.nn.network import Network
from ddarts.nn.pruning import live_cells
from ddarts.nn.resolution import check_resolution
from tests.reference.plain_network import PlainNetwork

#: channels, stem, (height, width)
_SIZES = [(4, "cifar", (32, 32)), (5, "cifar", (32, 32)), (5, "cifar", (33, 47)), (4, "imagenet", (64, 64))]


def _network(genotype: Genotype, channels: int = 4, **options: Any) -> Network:
    torch.manual_seed(0)
    return Network(genotype, channels=channels, classes=3, **options)


@pytest.mark.parametrize(("channels", "stem", "size"), _SIZES)
@pytest.mark.parametrize("name", BASELINES)
def test_forward_and_backward_reach_every_weight(name: str, channels: int, stem: str, size: tuple[int, int]) -> None:
    genotype = baseline(name)
    check_resolution(*size, len(genotype.reductions), stem)
    network = _network(genotype, channels, stem=stem, auxiliary=True)
    logits, auxiliary = network(torch.randn(3, 3, *size))
    assert logits.shape == auxiliary.shape == (3, 3)
    (logits.square().sum() + auxiliary.square().sum()).backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    widths = [level.info["num_chs"] for level in network.levels]
    maps = network.eval().features(torch.randn(1, 3, *size))
    assert [m.shape[1] for m in maps] == widths
    sides = [tuple(math.ceil(side / level.info["reduction"]) for side in size) for level in network.levels]
    assert [tuple(m.shape[2:]) for m in maps] == sides


@pytest.mark.parametrize("name", BASELINES)
def test_a_saved_baseline_comes_back(tmp_path: Path, name: str) -> None:
    network = _network(baseline(name), 5, stem="imagenet", auxiliary=True)
    network(torch.randn(4, 3, 64, 64))  # running statistics of their own
    about = {"classes": "abc", "resolution": (64, 64), "mean": [0.5] * 3, "std": [0.2] * 3, "auxiliary": True}
    save_model(tmp_path, network, **about)
    found = load_model(tmp_path).network
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(found(x), network.eval()(x))
    assert found.genotype == network.genotype
    assert found.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_drawn_and_listed(tmp_path: Path, name: str) -> None:
    ddarts.show(name, out=tmp_path / "x.svg")
    shown = ddarts.show(name)
    drawn = "".join(ElementTree.parse(tmp_path / "x.svg").getroot().itertext())
    names = [row for row, _ in shown.rows()]
    titles = [name for name in names if name.startswith("cell ") or name.startswith("cells ")]
    positions: list[int] = []  # equal cells share an entry: "cells 1-2, 11"
    for title in titles:
        assert title in drawn.lower()
        for part in title.split(" ", 1)[1].split(", "):
            first, _, last = part.partition("-")
            positions += range(int(first), int(last or first) + 1)
    assert sorted(positions) == list(range(len(shown.genotype)))
    for row, network in (("one.svg", False), ("chain.svg", True)):
        ddarts.show(name, out=tmp_path / row, cell=None if network else len(shown.genotype) - 1, network=network)
        ElementTree.parse(tmp_path / row)


@pytest.mark.parametrize("more", [0, 1, 4, 12])
@pytest.mark.parametrize("name", BASELINES)
def test_a_deepened_baseline_keeps_its_reductions_and_learns(name: str, more: int) -> None:
    genotype = baseline(name)
    deeper = deepen(genotype, max(12, len(genotype)) + more)
    assert len(deeper.reductions) == len(genotype.reductions)
    assert set(deeper.operations) <= set(genotype.operations)
    network = _network(deeper)
    network(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []
    last = network.levels[-1].info
    assert last["reduction"] == 2 ** len(genotype.reductions)


@pytest.mark.parametrize(("channels", "stem", "size"), _SIZES)
@pytest.mark.parametrize("name", BASELINES)
def test_parameters_and_macs_are_those_of_the_layers(
    name: str, channels: int, stem: str, size: tuple[int, int]
) -> None:
    network = _network(baseline(name), channels, stem=stem).eval()
    counted = 0

    def count(layer: nn.Module) -> Callable[..., None]:
        def add(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal counted
            weight = layer.weight
            assert isinstance(weight, Tensor)
            counted += output[0].numel() * weight[0].numel()

        return add

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count(layer))
    with torch.no_grad():  # with gradients, some convolutions are computed without their module
        network(torch.randn(1, 3, *size))
    twin = _network(baseline(name), channels, stem=stem)
    assert count_macs(twin, (3, *size)) == counted > 0
    assert count_parameters(twin) == sum(p.numel() for p in twin.parameters())


def test_resnet18_computes_what_plain_modules_compute() -> None:
    genotype = baseline("resnet18")
    torch.manual_seed(0)
    cells = [[(e.operation, e.target, e.source) for e in cell.edges] for cell in genotype.cells]
    plain = PlainNetwork(cells, genotype.reductions, channels=4, classes=3)
    network, state = _network(genotype), plain.state_dict()
    network.load_state_dict({ours: state[theirs] for ours, theirs in reference_names(network).items()})
    x = torch.randn(4, 3, 32, 32)
    for training in (False, True):
        torch.testing.assert_close(network.train(training)(x), plain.train(training)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_every_second_cell_of_a_baseline_takes_no_part(name: str) -> None:
    """All published cells read the cell before the last only, so a chain of them skips every second one."""
    genotype = baseline(name)
    assert live_cells(genotype) == tuple(range((len(genotype) - 1) % 2, len(genotype), 2))
