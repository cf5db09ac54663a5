"""The operators of discrete networks against PyTorch's operations in double precision, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ddarts.kernels import (
    discrete,  # noqa: F401  registers the operators
    operators,
)
from ddarts.kernels.library import Library, builds, find

EPS = 1e-5
ops = torch.ops.ddarts

_BUILDS = [build for build in builds() if find(build)]


@pytest.fixture(
    params=_BUILDS or [pytest.param("none", marks=pytest.mark.skip(reason="no build of the kernels"))], autouse=True
)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    path = find(request.param)
    assert path is not None
    library = Library(path)
    monkeypatch.setattr(operators, "load", lambda: library)
    torch.manual_seed(0)


def _last(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size).to(dtype).contiguous(memory_format=torch.channels_last)


def _close(ours: Tensor, exact: Tensor, tolerance: float = 1e-5) -> None:
    assert ours.shape == exact.shape
    assert (ours.double() - exact).norm() <= tolerance * (exact.norm() + 1e-3)


def _norm(u: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return F.batch_norm(u, None, None, scale, shift, True, 0.0, EPS)


_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", _TOLERANCE)
@pytest.mark.parametrize(
    ("size", "inputs", "outputs"), [((3, 6, 8), 24, (8,)), ((2, 7, 5), 13, (36,)), ((2, 1, 3), 9, (4, 5))]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_convolutions_and_their_gradients(
    size: tuple[int, int, int], inputs: int, outputs: tuple[int, ...], stride: int, dtype: torch.dtype
) -> None:
    if len(outputs) == 2 and stride == 1:
        stride = 2  # a factorized reduction has a stride
    total = sum(outputs)
    x = _last(size[0], inputs, *size[1:], dtype=dtype)
    weights = [torch.randn(n, inputs, 1, 1) for n in outputs]
    scale, shift = torch.rand(total) + 0.5, torch.randn(total)
    u, mean, var = ops.relu_pointwise(x, weights, stride)
    grad = _last(*u.shape, dtype=dtype)

    exact = [t.double().requires_grad_() for t in (x, *weights, scale, shift)]
    leaf, *leaves = exact
    odd = size[1] % 2 if stride == 2 else 0, size[2] % 2 if stride == 2 else 0
    read = F.pad(F.relu(leaf), (0, odd[1], 0, odd[0]))
    parts = [F.conv2d(read[:, :, i:, i:], w, None, stride) for i, w in enumerate(leaves[:-2])]
    expected_u = torch.cat(parts, 1)
    tolerance = _TOLERANCE[dtype]
    _close(u, expected_u, tolerance)
    _close(mean, expected_u.mean((0, 2, 3)), tolerance)
    _close(var, expected_u.var((0, 2, 3), correction=0), tolerance)
    expected = torch.autograd.grad(_norm(expected_u, *leaves[-2:]), exact, grad.double())

    total_sums, dot = ops.node_sums(grad, [u], [mean], [var], EPS)
    _close(total_sums, expected[-1], tolerance)
    _close(dot[0], expected[-2], tolerance)
    known = _last(*x.shape, dtype=dtype)
    for at_x, before in ((torch.empty_like(x), 0), (known.clone(), known)):
        found = ops.relu_pointwise_backward(
            grad, total_sums, dot[0], u, mean, var, scale, x, weights, at_x, stride, EPS, before is known
        )
        _close(at_x, expected[0] + before, 2 * tolerance)
        for ours, right in zip(found, expected[1:-2], strict=False):
            _close(ours, right, 2 * tolerance)


@pytest.mark.parametrize("dtype", _TOLERANCE)
@pytest.mark.parametrize("channels", [8, 20])
def test_the_sum_of_a_node_takes_batch_norms_and_plain_images(channels: int, dtype: torch.dtype) -> None:
    images = [_last(3, channels, 5, 6, dtype=dtype) for _ in range(3)]
    mean, var, scale, shift = (torch.rand(2, channels) + 0.5 for _ in range(4))
    lists = ([mean[0], None, mean[1]], [var[0], None, var[1]], [scale[0], None, scale[1]], [shift[0], None, shift[1]])
    found = ops.node_sum(images, *lists, EPS)
    expected = images[1].double()
    for i, k in ((0, 0), (2, 1)):
        expected = expected + F.batch_norm(
            images[i].double(), mean[k].double(), var[k].double(), scale[k].double(), shift[k].double(), False, 0.0, EPS
        )
    _close(found, expected, _TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", _TOLERANCE)
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("size", [(3, 8, 6, 8), (2, 13, 5, 7), (4, 36, 8, 4), (6, 32, 32, 32)])  # the last is streamed
def test_batch_norm_with_a_sum_and_relu_and_its_gradients(
    size: tuple[int, int, int, int], added: bool, relu: bool, affine: bool, dtype: torch.dtype
) -> None:
    x, extra, grad = (_last(*size, dtype=dtype) + 3 * (i == 0) for i in range(3))
    scale, shift = torch.rand(size[1]) + 0.5, torch.randn(size[1])
    numbers = (scale, shift) if affine else (None, None)
    y, mean, var = ops.norm_relu(x, extra if added else None, *numbers, relu, EPS)

    leaf, more, *parameters = (t.double().requires_grad_() for t in (x, extra, scale, shift))
    expected = F.batch_norm(leaf, None, None, *(parameters if affine else (None, None)), True, 0.0, EPS)
    expected = expected + more if added else expected
    expected = expected * (y > 0) if relu else expected  # near 0 the two need not agree where the ReLU passes
    tolerance = _TOLERANCE[dtype]
    _close(y, expected, tolerance)
    _close(mean, leaf.mean((0, 2, 3)), tolerance)
    _close(var, leaf.var((0, 2, 3), correction=0), tolerance)

    found = ops.norm_relu_backward(grad, x, y if relu else None, mean, var, numbers[0], added, EPS)
    wanted = [leaf, *([more] if added else []), *(parameters if affine else [])]
    exact = list(torch.autograd.grad(expected, wanted, grad.double()))
    _close(found[0], exact.pop(0), tolerance)
    if added:
        _close(found[1], exact.pop(0), tolerance)
    for ours, theirs in zip(found[2:], exact, strict=False):
        _close(ours, theirs, tolerance)


def test_batch_norm_shows_what_is_not_a_number() -> None:
    x = _last(2, 8, 4, 4)
    x[0, 3, 1, 1] = float("nan")
    y, *_ = ops.norm_relu(x, None, None, None, True, EPS)
    assert y[:, 3].isnan().all()
    assert not y[:, :3].isnan().any()


@pytest.mark.parametrize("dtype", _TOLERANCE)
@pytest.mark.parametrize(
    ("size", "outputs"),
    [((3, 8, 6, 8), 8), ((2, 13, 5, 7), 9), ((5, 9, 1, 3), 20), ((9, 16, 2, 2), 12), ((1, 8, 3, 70), 8)],
)
def test_3x3_convolutions_and_their_gradients(
    size: tuple[int, int, int, int], outputs: int, dtype: torch.dtype
) -> None:
    x, weight = _last(*size, dtype=dtype).requires_grad_(), torch.randn(outputs, size[1], 3, 3, requires_grad=True)
    y = ops.conv3x3(x, weight)
    grad = _last(*y.shape, dtype=dtype)
    exact = [t.detach().double().requires_grad_() for t in (x, weight)]
    expected = F.conv2d(*exact, padding=1)
    tolerance = _TOLERANCE[dtype]
    _close(y.detach(), expected, tolerance)
    found = torch.autograd.grad(y, (x, weight), grad)
    for ours, theirs in zip(found, torch.autograd.grad(expected, exact, grad.double()), strict=True):
        _close(ours, theirs, tolerance)


def test_the_gradients_of_3x3_convolutions_stay_exact_over_many_images() -> None:
    x, weight = _last(64, 8, 32, 32) + 1, torch.randn(16, 8, 3, 3)
    grad = _last(64, 16, 32, 32)
    _, found = ops.conv3x3_backward(grad, x, weight, False, True)
    exact = torch.nn.grad.conv2d_weight(x.double(), weight.shape, grad.double(), padding=1)
    _close(found, exact, 1e-6)


def test_a_3x3_convolution_shows_what_is_not_a_number() -> None:
    x = _last(1, 8, 8, 8)
    x[0, 2, 5, 5] = float("nan")
    assert ops.conv3x3(x, torch.randn(8, 8, 3, 3))[0, :, 4:7, 4:7].isnan().all()


@pytest.mark.parametrize("maximum", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "height", "width"), [(8, 6, 5), (13, 1, 4), (16, 7, 8)])
def test_pools_and_their_gradients(channels: int, height: int, width: int, stride: int, maximum: bool) -> None:
    x = _last(2, channels, height, width).round(decimals=0)  # with equal values: the first is the maximum
    exact = x.double().requires_grad_()
    if maximum:
        expected = F.max_pool2d(exact, 3, stride, 1)
    else:
        expected = F.avg_pool2d(exact, 3, stride, 1, count_include_pad=False)
    y, position = ops.pool(x, stride, maximum)
    _close(y, expected.detach())
    grad, at_x = _last(*y.shape), _last(*x.shape)
    before = at_x.double()
    ops.pool_backward(grad, position, at_x, stride, maximum)
    _close(at_x, before + torch.autograd.grad(expected, exact, grad.double())[0])


def test_a_maximum_that_is_not_a_number_is_seen() -> None:
    x = _last(1, 8, 4, 4)
    x[0, 3, 1, 1] = float("nan")
    y, _ = ops.pool(x, 1, True)
    assert torch.equal(y.isnan(), F.max_pool2d(x, 3, 1, 1).isnan())


@pytest.mark.parametrize("channels", [8, 12])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_batch_norm_before_a_separable_convolution_may_be_affine(channels: int, stride: int) -> None:
    x = _last(3, channels, 6, 7)
    tensors = [torch.randn(channels, 1, 3, 3), torch.randn(channels, channels, 1, 1)]
    mean, var, scale, shift = (
        torch.randn(channels),
        torch.rand(channels) + 0.5,
        torch.randn(channels),
        torch.randn(channels),
    )
    leaves = [t.clone().requires_grad_() for t in (x, *tensors, mean, var, scale, shift)]
    u, *_ = ops.separable_conv(*leaves[:5], stride, 1, EPS, True, *leaves[5:])
    grad = _last(*u.shape)
    found = torch.autograd.grad(u, leaves, grad)
    exact = [t.detach().double().requires_grad_() for t in leaves]
    m, v, s, b = (t[:, None, None] for t in exact[3:])
    read = F.relu((exact[0] - m) * (v + EPS).rsqrt() * s + b)
    right = F.conv2d(F.conv2d(read, exact[1], None, stride, 1, 1, channels), exact[2])
    _close(u.detach(), right.detach())
    for ours, other in zip(found, torch.autograd.grad(right, exact, grad.double()), strict=True):
        _close(ours, other)


# PyTorch's tracer looks at .grad of tensors that have none and hides its own warning, but not where warnings are errors
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_the_operators_are_registered_as_pytorch_wants_them() -> None:
    x, u, weights = _last(2, 8, 5, 6), _last(2, 4, 5, 6), [torch.randn(4, 8, 1, 1)]
    mean, var = torch.randn(4), torch.rand(4)
    check = torch.library.opcheck
    check(ops.relu_pointwise.default, (x, weights, 1))
    check(
        ops.relu_pointwise_backward.default,
        (u, mean, mean, u, mean, var, var, x, weights, torch.zeros_like(x), 1, EPS, True),
    )
    check(ops.node_sum.default, ([u, u], [mean, None], [var, None], [var, None], [mean, None], EPS))
    check(ops.node_sums.default, (u, [u, u], [mean, None], [var, None], EPS))
    check(ops.norm_relu.default, (u, u, var, mean, True, EPS))
    check(ops.norm_relu_backward.default, (u, u, u, mean, var, var, True, EPS))
    check(ops.conv3x3.default, (x.requires_grad_(), torch.randn(4, 8, 3, 3, requires_grad=True)))
    x = x.detach()
    check(ops.conv3x3_backward.default, (u, x, torch.randn(4, 8, 3, 3), True, True))
    check(ops.pool.default, (x, 1, True))
    check(ops.pool_backward.default, (x, torch.zeros_like(x, dtype=torch.uint8), torch.zeros_like(x), 1, True))
