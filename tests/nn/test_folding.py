"""Folding batch norms leaves the logits what they are, and leaves no batch norm that follows a convolution."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ddarts.genotype.choices import random_choices
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.nn.choice_network import build_network
from ddarts.nn.folding import folded
from ddarts.nn.network import Network
from ddarts.space.mobile import MOBILE
from ddarts.space.operations import BUILT_IN_OPERATIONS


def every_operation(*, reduction: bool) -> CellGenotype:
    edges = [Edge(name, i % 2, 2 + i % 3) for i, name in enumerate(BUILT_IN_OPERATIONS)]
    return CellGenotype((*edges, Edge("skip_connect", 2, 4)), (2, 3, 4), reduction)


CELLS = Genotype((every_operation(reduction=False), every_operation(reduction=True)))


def with_statistics(network: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Return a network in evaluation mode whose batch norms are not those of a new one."""
    torch.manual_seed(0)
    for _ in range(3):
        network(torch.randn(shape))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return network.eval()


@pytest.mark.parametrize(
    ("genotype", "stem", "side"),
    [(CELLS, "cifar", 9), (CELLS, "imagenet", 32), (random_choices(MOBILE, seed=1), "cifar", 16)],
)
def test_logits_are_the_same_and_every_batch_norm_is_gone(genotype, stem: str, side: int) -> None:
    shape = (4, 3, side, side)
    network = build_network(genotype, channels=3, in_channels=3, classes=5, stem=stem, auxiliary=True)
    network = with_statistics(network, shape)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    lean = folded(network)
    x = torch.randn(shape)
    torch.testing.assert_close(lean(x), network(x).detach(), rtol=1e-5, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in lean.modules())
    assert not any(name.startswith("auxiliary") for name in lean.state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class Foreign(nn.Module):
    """What another package may bring: it looks at values, so it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x) if x.mean() < 100 else x


def test_modules_of_other_packages_stay_as_they_are() -> None:
    network = Network(CELLS, channels=3)
    name = next(iter(network.cells["0"].operations))  # type: ignore[union-attr]
    network.cells["0"].operations[name] = Foreign()  # type: ignore[union-attr]
    network = with_statistics(network, (4, 3, 8, 8))
    lean, x = folded(network), torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(lean(x), network(x).detach(), rtol=1e-5, atol=1e-5)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in lean.modules()) == 1


class NormAct(nn.BatchNorm2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).relu()


class HalvedConv(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) / 2


def test_subclasses_of_other_packages_that_do_more_stay() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4), HalvedConv(4, 4, 1), nn.BatchNorm2d(4))
    ring = nn.Conv2d(4, 2, 3, padding=1, padding_mode="circular", bias=False)
    network = with_statistics(network.extend([ring, nn.BatchNorm2d(2)]), (4, 3, 8, 8))
    lean, x = folded(network), torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(lean(x), network(x).detach(), rtol=1e-5, atol=1e-5)
    assert [name for name, m in lean.named_modules() if isinstance(m, nn.BatchNorm2d)] == ["1", "3"]


def test_a_batch_norm_after_anything_else_stays() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    network = with_statistics(network.append(nn.BatchNorm2d(2)), (4, 3, 8, 8))
    lean, x = folded(network), torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(lean(x), network(x).detach(), rtol=1e-5, atol=1e-5)
    assert [name for name, m in lean.named_modules() if isinstance(m, nn.BatchNorm2d)] == ["0", "3"]
