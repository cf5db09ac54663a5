"""A cell in the CPU's kernels computes what its modules compute: outputs, gradients, running statistics."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.random import random_genotype
from ddarts.kernels.library import load
from ddarts.nn.batch_norm import synchronise
from ddarts.nn.fused_cell import FusedCell
from ddarts.nn.network import Cell, Network
from ddarts.space.cell_space import DARTS_OPERATIONS, build_space

pytestmark = pytest.mark.skipif(load() is None, reason="no build of the kernels")


def _every_operation() -> Genotype:
    """Every operation from both inputs, from a node, and two skips into one node."""
    edges = [Edge(name, source, source + 2) for name in DARTS_OPERATIONS for source in (0, 1)]
    edges += [Edge("skip_connect", 2, 3), Edge("skip_connect", 2, 4), Edge("skip_connect", 3, 4)]
    cell = CellGenotype(tuple(edges), (2, 3, 4), False)
    return Genotype((cell, CellGenotype(cell.edges, (4, 2), True), cell))


def _random(seed: int) -> Genotype:
    return random_genotype(build_space(cells=4, nodes=3), seed=seed)


def _step(network: Network, x: Tensor, y: Tensor) -> Tensor:
    torch.manual_seed(3)  # of drop-path
    logits = network(x)
    assert isinstance(logits, Tensor)
    loss = F.cross_entropy(logits, y)
    loss.backward()
    return loss


@pytest.mark.parametrize(
    ("genotype", "channels", "size"),
    [
        (_every_operation(), 8, (3, 16, 16)),
        (_every_operation(), 12, (2, 9, 7)),
        (_random(0), 16, (5, 8, 8)),
        (_random(1), 20, (2, 12, 12)),
    ],
)
@pytest.mark.parametrize("drop_path", [0.0, 0.4])
def test_a_step_equals_that_of_modules_in_double_precision(
    genotype: Genotype, channels: int, size: tuple[int, int, int], drop_path: float
) -> None:
    torch.manual_seed(0)
    network = Network(genotype, channels=channels, classes=5).train()
    exact = copy.deepcopy(network).double()
    network.drop_path = exact.drop_path = drop_path
    x, y = torch.randn(size[0], 3, *size[1:]), torch.arange(size[0])
    cell = network.cells["0"]
    assert isinstance(cell, Cell)
    assert cell._fused.fits(torch.empty(1, channels, 8, 8))
    torch.testing.assert_close(_step(network, x, y).double(), _step(exact, x.double(), y), rtol=1e-6, atol=1e-6)
    for (name, ours), theirs in zip(network.named_parameters(), exact.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        error = (ours.grad - theirs.grad).norm() / (theirs.grad.norm() + 1e-6)
        assert error < 2e-5, name
    for (name, ours), theirs in zip(network.named_buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-5, atol=1e-6, msg=name)


def test_a_recomputed_cell_gives_the_same_gradients_and_moves_statistics_once() -> None:
    torch.manual_seed(0)
    network = Network(_random(2), channels=8, classes=3).train()
    other = copy.deepcopy(network)
    other.recompute = True
    x, y = torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2])
    assert torch.equal(_step(network, x, y), _step(other, x, y))
    for ours, theirs in zip(network.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]
    for ours, theirs in zip(network.buffers(), other.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_bfloat16_images_are_taken_under_autocast() -> None:
    torch.manual_seed(0)
    network = Network(_random(3), channels=16, classes=3).train()
    exact = copy.deepcopy(network)
    x, y = torch.randn(8, 3, 8, 8), torch.arange(8) % 3
    expected = _step(exact, x, y)
    with torch.autocast("cpu", torch.bfloat16):
        loss = _step(network, x, y)
    torch.testing.assert_close(loss.float(), expected, rtol=0.05, atol=0.05)
    together = [torch.cat([p.grad.flatten() for p in n.parameters() if p.grad is not None]) for n in (network, exact)]
    assert F.cosine_similarity(*together, 0) > 0.95


def _frozen(network: Network) -> None:
    network.cells["0"].get_parameter("preprocess1.conv.weight").requires_grad = False


def _evaluated_norm(network: Network) -> None:
    next(m for m in network.cells["0"].modules() if isinstance(m, nn.BatchNorm2d)).eval()


def _hooked(network: Network) -> None:
    network.cells["0"].get_submodule("operations.0").register_forward_hook(lambda *_: None)


def _pruned(network: Network) -> None:
    prune.identity(network.cells["0"].get_submodule("preprocess1.conv"), "weight")


def _averaging_norm(network: Network) -> None:
    next(m for m in network.cells["0"].modules() if isinstance(m, nn.BatchNorm2d)).momentum = None


@pytest.mark.parametrize(
    "change",
    [_frozen, _evaluated_norm, synchronise, Network.double, Network.bfloat16, _hooked, _pruned, _averaging_norm],
)
def test_what_the_kernels_cannot_do_is_left_to_the_modules(change: object) -> None:
    network = Network(_random(4), channels=8, classes=3).train()
    x = torch.randn(2, 8, 8, 8)
    fused = network.cells["0"]._fused
    assert isinstance(fused, FusedCell)
    assert fused.fits(x)
    change(network)  # type: ignore[operator]
    assert not fused.fits(x.to(next(network.parameters()).dtype))


def test_a_backward_pass_after_the_weights_have_changed_is_refused() -> None:
    network = Network(_random(4), channels=8, classes=3).train()
    logits = network(torch.randn(2, 3, 8, 8))
    assert isinstance(logits, Tensor)
    with torch.no_grad():
        network.cells["0"].get_parameter("preprocess1.conv.weight").mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        logits.sum().backward()


def test_an_operation_that_the_kernels_do_not_know_keeps_its_cell_on_modules() -> None:
    edges = (Edge("simple_conv_3x3", 0, 2), Edge("skip_connect", 1, 2))
    network = Network(Genotype((CellGenotype(edges, (2,), False),)), channels=8, classes=3)
    assert not network.cells["0"]._fused.possible  # type: ignore[union-attr]


def test_parameters_and_batch_norms_may_be_replaced() -> None:
    torch.manual_seed(0)
    source = Network(_every_operation(), channels=8, classes=3).train()
    with torch.device("meta"):
        network = Network(_every_operation(), channels=8, classes=3).train()
    network.load_state_dict(source.state_dict(), assign=True)
    for module in network.modules():  # assigned parameters need no gradient
        module.requires_grad_()
    x, y = torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2])
    assert torch.equal(_step(network, x, y), _step(source, x, y))
    for ours, theirs in zip(network.parameters(), source.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]


def test_a_single_value_a_channel_is_refused() -> None:
    from ddarts.errors import SettingsError

    network = Network(_random(5), channels=8, classes=3).train()
    with pytest.raises((SettingsError, ValueError)):
        network(torch.randn(1, 3, 1, 1))
