from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.kernels import operators
from ddarts.nn.network import Network
from ddarts.nn.pointwise import convolve, pointwise, pointwise_input_gradient, pointwise_weight_gradient
from ddarts.space.cell_space import build_space
from ddarts.space.operations import BUILT_IN_OPERATIONS
from ddarts.supernet.supernet import Supernet


@pytest.mark.parametrize("stride", [1, 2, (1, 2)])
@pytest.mark.parametrize("size", [(8, 8), (7, 5), (1, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_it_is_the_convolution_with_its_gradients(
    stride: int | tuple[int, int], size: tuple[int, int], groups: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 1, stride, groups=groups, bias=False).double()
    x = torch.randn(3, 4, *size, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    expected = conv(x.contiguous())
    found = convolve(conv, x)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
    weights = torch.randn_like(expected)
    both = [torch.autograd.grad(y, [x, conv.weight], weights) for y in (found, expected)]
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-13) for a, b in zip(*both, strict=True))


def test_larger_kernels_are_left_alone() -> None:
    conv = nn.Conv2d(2, 2, 3, 2, 1, bias=False)
    x = torch.randn(1, 2, 6, 6)
    assert torch.equal(convolve(conv, x), conv(x))


class Strided(TorchDispatchMode):
    """Collects the 1x1 convolutions with a stride that reach PyTorch's kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        backward = func is torch.ops.aten.convolution_backward.default
        if backward or func is torch.ops.aten.convolution.default:
            weight, stride = (args[2], args[4]) if backward else (args[1], args[3])
            if weight.shape[2:] == (1, 1) and any(s > 1 for s in stride):
                self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def test_no_network_gives_a_strided_1x1_convolution_to_the_kernel_that_overruns_its_memory() -> None:
    with Strided() as strided:
        nn.Conv2d(4, 4, 1, 2)(torch.randn(1, 4, 4, 4))
    assert strided.found  # the net catches such fish
    supernet = Supernet(build_space("dartopti", cells=3, nodes=1), channels=2, classes=2)
    cell = CellGenotype(tuple(Edge(name, i % 2, 2) for i, name in enumerate(BUILT_IN_OPERATIONS)), (2,))
    reduction = CellGenotype(cell.edges, (2,), reduction=True)
    network = Network(Genotype((cell, reduction, cell, reduction)), channels=2, classes=2, auxiliary=True)
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    with Strided() as strided:
        supernet(x, [torch.sigmoid(alpha) for alpha in supernet.alphas]).sum().backward()
        sum(y.sum() for y in network(x)).backward()
    assert strided.found == []


@pytest.mark.parametrize("size", [(8, 8), (16, 12), (5, 7), (1, 1), (16, 16)])
@pytest.mark.parametrize(("groups", "inputs", "outputs"), [(1, 6, 4), (3, 4, 4), (2, 8, 2)])
def test_grouped_pointwise_convolutions_and_their_gradients_are_pytorchs(
    size: tuple[int, int], groups: int, inputs: int, outputs: int
) -> None:
    x = torch.randn(2, groups * inputs, *size, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(groups * outputs, inputs, 1, 1, dtype=torch.float64)
    x.requires_grad_()
    weight.requires_grad_()
    expected = F.conv2d(x, weight, groups=groups)
    found = pointwise(x, weight, groups)
    torch.testing.assert_close(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    grad = torch.randn_like(expected)
    at_x, at_weight = torch.autograd.grad(expected, (x, weight), grad)
    with torch.no_grad():
        torch.testing.assert_close(pointwise_input_gradient(grad, weight, groups), at_x)
        torch.testing.assert_close(pointwise_weight_gradient(grad, x, weight, groups), at_weight)


def _last(*size: int) -> torch.Tensor:
    return torch.randn(size).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("inputs", "outputs"), [(8, 16), (12, 12)])
def test_3x3_convolutions_with_gradients_are_pytorchs(inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    x, grad = _last(3, inputs, 7, 6).requires_grad_(), _last(3, outputs, 7, 6)
    if not operators.fits(x, inputs):
        pytest.skip("no build of the kernels")
    y = convolve(conv, x)
    assert "ddarts_conv3x3" in type(y.grad_fn).__name__
    with torch.no_grad():
        assert convolve(conv, x).equal(conv(x))
    found = torch.autograd.grad(y, (x, conv.weight), grad)
    expected = torch.autograd.grad(conv(x), (x, conv.weight), grad)
    torch.testing.assert_close((y, *found), (conv(x), *expected), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("options", [{"stride": 2}, {"dilation": 2, "padding": 2}, {"groups": 2}, {"padding": 0}])
def test_other_3x3_convolutions_are_left_to_pytorch(options: dict[str, int]) -> None:
    conv = nn.Conv2d(16, 16, 3, **{"padding": 1, "bias": False} | options)
    x = _last(2, 16, 8, 8).requires_grad_()
    assert convolve(conv, x).equal(conv(x))
