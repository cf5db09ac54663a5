"""Every build of the kernels against PyTorch's operations in double precision, gradients included."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ddarts.kernels import operators
from ddarts.kernels.library import Library, builds, find
from ddarts.kernels.operators import fits

EPS = 1e-5

separable_conv = torch.ops.ddarts.separable_conv.default
separable_conv_backward = torch.ops.ddarts.separable_conv_backward.default
mixed_sum = torch.ops.ddarts.mixed_sum.default

_BUILDS = [build for build in builds() if find(build)]


@pytest.fixture(params=_BUILDS or [pytest.param("none", marks=pytest.mark.skip(reason="no build of the kernels"))])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    path = find(request.param)
    assert path is not None
    library = Library(path)
    monkeypatch.setattr(operators, "load", lambda: library)
    return request.param


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@dataclass
class _Case:
    """A convolution with its batch norm, in double precision."""

    edges: int
    stride: int
    dilation: int
    x: Tensor
    depthwise: Tensor
    pointwise: Tensor
    scale: Tensor
    grad: Tensor
    norm: tuple[Tensor, Tensor] | None

    @classmethod
    def make(
        cls,
        channels: int,
        edges: int,
        size: tuple[int, int, int],
        kernel: int = 3,
        dilation: int = 1,
        stride: int = 1,
        *,
        normed: bool = False,
    ) -> _Case:
        torch.manual_seed(0)
        wide, (batch, height, width) = edges * channels, size
        x = _last(torch.randn(batch, wide if normed else channels, height, width))
        norm = (torch.randn(wide) / 5, torch.rand(wide) + 0.5) if normed else None
        out = batch, wide, -(-height // stride), -(-width // stride)
        return cls(
            edges,
            stride,
            dilation,
            x,
            torch.randn(wide, 1, kernel, kernel) / kernel,
            torch.randn(wide, channels, 1, 1) / channels**0.5,
            torch.rand(wide) + 0.1,
            _last(torch.randn(out)),
            norm,
        )

    def exact(self) -> dict[str, Tensor]:
        """Everything that the kernels find, by autograd in double precision."""
        leaves = [t.double().requires_grad_() for t in (self.x, self.depthwise, self.pointwise, self.scale)]
        x, depthwise, pointwise, scale = leaves
        at = x
        if self.norm:
            mean, var = (t.double()[:, None, None] for t in self.norm)
            at = (x - mean) * (var + EPS).rsqrt()
            at.retain_grad()
        read = F.relu(at) if self.norm else F.relu(at).repeat(1, self.edges, 1, 1)
        stride, dilation, kernel = self.stride, self.dilation, depthwise.shape[-1]
        z = F.conv2d(read, depthwise, None, stride, dilation * (kernel // 2), dilation, len(depthwise))
        u = F.conv2d(z, pointwise, groups=self.edges)
        F.batch_norm(u, None, None, scale, None, True, 0.0, EPS).backward(self.grad.double())
        assert at.grad is not None
        found = {
            "z": z,
            "u": u,
            "mean": u.mean((0, 2, 3)),
            "var": u.var((0, 2, 3), correction=0),
            "at_x": at.grad,
            "at_depthwise": depthwise.grad,
            "at_pointwise": pointwise.grad,
        }
        if self.norm:
            found |= {"sum": at.grad.sum((0, 2, 3)), "dot": (at.grad * at).sum((0, 2, 3))}
        return {name: t.detach() for name, t in found.items() if t is not None}

    def fused(self) -> dict[str, Tensor]:
        """The same by the kernels."""
        u, z, mean, var = self.forward(keep_z=True)
        at_x = torch.empty_like(self.x, memory_format=torch.channels_last)
        sums, at_depthwise, at_pointwise = self.backward(u, z, mean, var, at_x)
        names = ("z", "u", "mean", "var", "at_x", "at_depthwise", "at_pointwise")
        named = dict(zip(names, (z, u, mean, var, at_x, at_depthwise, at_pointwise), strict=True))
        return named | ({"sum": sums[0], "dot": sums[1]} if self.norm else {})

    def forward(self, *, keep_z: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        norm = self.norm or (None, None)
        return separable_conv(self.x, self.depthwise, self.pointwise, *norm, self.stride, self.dilation, EPS, keep_z)

    def backward(
        self, u: Tensor, z: Tensor | None, mean: Tensor, var: Tensor, at_x: Tensor | None, *, adds: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        dot = (self.grad * (u - mean[:, None, None]) * (var[:, None, None] + EPS).rsqrt()).sum((0, 2, 3))
        total = self.grad.sum((0, 2, 3))
        norm = self.norm or (None, None)
        return separable_conv_backward(
            self.grad, total, dot, u, z, mean, var, self.scale, self.x, self.depthwise, self.pointwise, *norm, at_x,
            self.stride, self.dilation, EPS, adds,
        )  # fmt: skip


def _compare(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, exact in expected.items():
        error = (found[name].double() - exact).norm() / exact.norm()
        assert error < 1e-5, f"{name}: {error:.1e}"


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("size", [(2, 8, 8), (3, 7, 11), (2, 3, 2)])
@pytest.mark.usefixtures("build")
def test_all_results_are_those_of_double_precision(
    size: tuple[int, int, int], kernel: int, dilation: int, normed: bool
) -> None:
    case = _Case.make(16, 3, size, kernel, dilation, normed=normed)
    _compare(case.fused(), case.exact())


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("size", [(2, 8, 8), (3, 7, 11)])
@pytest.mark.usefixtures("build")
def test_so_are_those_of_stride_2(size: tuple[int, int, int], kernel: int, dilation: int) -> None:
    case = _Case.make(16, 2, size, kernel, dilation, stride=2)
    _compare(case.fused(), case.exact())


@pytest.mark.parametrize("channels", [8, 9, 20, 36, 48])
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.usefixtures("build")
def test_channels_need_not_fill_the_lanes(channels: int, normed: bool) -> None:
    case = _Case.make(channels, 2, (2, 5, 9), normed=normed)
    _compare(case.fused(), case.exact())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.usefixtures("build")
def test_images_larger_than_the_cache_are_worked_on_in_bands(stride: int) -> None:
    case = _Case.make(16, 1, (1, 57, 60), 5, 2, stride)
    _compare(case.fused(), case.exact())


@pytest.mark.parametrize(("channels", "dtype"), [(16, torch.float32), (32, torch.bfloat16), (24, torch.float32)])
@pytest.mark.usefixtures("build")
def test_large_images_that_are_written_past_the_caches_are_whole(channels: int, dtype: torch.dtype) -> None:
    case = _Case.make(channels, 2, (4, 37, 61))  # above the 256 kB at which that begins
    case.x = case.x.to(dtype)
    found, expected = case.fused(), case.exact()
    for name in ("z", "u"):
        tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(found[name].double(), expected[name], rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("build")
def test_the_gradient_of_a_state_is_added_to_what_is_there() -> None:
    case = _Case.make(16, 2, (2, 6, 6))
    u, z, mean, var = case.forward(keep_z=False)
    assert z.numel() == 0
    alone, before = torch.empty_like(case.x), _last(torch.randn_like(case.x))
    _, at_depthwise, at_pointwise = case.backward(u, None, mean, var, alone)
    assert at_depthwise.numel() == at_pointwise.numel() == 0
    both = before.clone()
    case.backward(u, None, mean, var, both, adds=True)
    torch.testing.assert_close(both, before + alone)


@pytest.mark.usefixtures("build")
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    case = _Case.make(16, 2, (5, 9, 9), normed=True)
    found = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(case.fused())
    torch.set_num_threads(1)
    one, three = found
    for name in one.keys() - {"at_depthwise", "at_pointwise"}:  # each thread sums these over its own images
        assert torch.equal(one[name], three[name]), name
    torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("build")
def test_memory_that_is_not_channels_last_is_read_as_it_is_meant() -> None:
    case = _Case.make(16, 2, (2, 6, 6))
    expected = case.exact()
    case.x, case.grad = case.x.contiguous(), case.grad.contiguous()
    _compare(case.fused(), expected)


@pytest.mark.usefixtures("build")
def test_what_is_not_a_number_is_not_hidden_by_the_relu() -> None:
    case = _Case.make(16, 1, (1, 4, 4))
    case.x[0, 3, 2, 2] = torch.nan
    _, _, mean, _ = case.forward(keep_z=False)
    assert mean.isnan().all()


@pytest.mark.usefixtures("build")
def test_pytorchs_default_dtype_changes_nothing() -> None:
    case = _Case.make(16, 2, (2, 6, 6), normed=True)
    expected = case.exact()
    torch.set_default_dtype(torch.float64)
    try:
        found = case.fused()
    finally:
        torch.set_default_dtype(torch.float32)
    assert {t.dtype for t in found.values()} == {torch.float32}
    _compare(found, expected)


@pytest.mark.usefixtures("build")
def test_statistics_are_exact_where_the_mean_is_large() -> None:
    case = _Case.make(16, 1, (8, 16, 16))
    case.x = case.x.abs() + 30  # inside the border the result is nearly constant
    u, _, mean, var = case.forward(keep_z=False)
    exact_var, exact_mean = torch.var_mean(u.double(), (0, 2, 3), correction=0)
    torch.testing.assert_close(mean.double(), exact_mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(var.double(), exact_var, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("channels", [16, 11])
@pytest.mark.usefixtures("build")
def test_images_of_bfloat16_are_rounded_and_all_else_is_not(channels: int, normed: bool) -> None:
    case = _Case.make(channels, 2, (2, 7, 9), normed=normed)
    case.x, case.grad = case.x.bfloat16(), case.grad.bfloat16()
    found = case.fused()
    expected = case.exact()
    for name, exact in expected.items():
        rounded = name in ("z", "u", "at_x")
        assert found[name].dtype == (torch.bfloat16 if rounded else torch.float32)
        error = (found[name].double() - exact).norm() / exact.norm()
        assert error < (1e-2 if name in ("at_x", "at_depthwise", "at_pointwise", "sum", "dot") else 4e-3), name
    torch.testing.assert_close(found["mean"].double(), expected["mean"], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("build")
def test_rounding_to_bfloat16_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    values = torch.cat([torch.randn(4000), torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-40, 3.4e38])])
    values = torch.cat([values, 1 + torch.arange(25) / 512])  # among them such that lie in the middle
    s = values[:4032].view(1, 16, 14, 18).contiguous(memory_format=torch.channels_last)
    for factor in (1.0, 1.00390625):
        found = mixed_sum(torch.full((1, 1), factor), [], [], [], [s.bfloat16()], [0], [None], EPS)[0]
        expected = (s.bfloat16().float() * factor).bfloat16()
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("branches", "shared"), [(4, 3), (2, 0), (0, 2)])
@pytest.mark.parametrize("channels", [16, 11])
@pytest.mark.usefixtures("build")
def test_sums_are_gates_times_normalised_results(branches: int, shared: int, channels: int) -> None:
    torch.manual_seed(0)
    edges, size = 3, (2, channels, 5, 6)
    wide = edges * channels
    own = [(_last(torch.randn(2, wide, 5, 6)), torch.randn(wide), torch.rand(wide) + 0.1) for _ in range(branches)]
    common = [_last(torch.randn(size)) for _ in range(shared)]
    columns = [5, 0, 3, 6, 1, 2, 4][: branches + shared]
    gates, before = torch.rand(edges, 7), [None, _last(torch.randn(size)), None]
    u, mean, var = zip(*own, strict=True) if own else ((), (), ())
    found = mixed_sum(gates, u, mean, var, common, columns, before, EPS)
    for e in range(edges):
        expected = torch.zeros(size, dtype=torch.float64) if before[e] is None else before[e].double()
        part = slice(e * channels, (e + 1) * channels)
        for (u, mean, var), column in zip(own, columns, strict=False):
            normal = F.batch_norm(u[:, part].double(), mean[part].double(), var[part].double(), eps=EPS)
            expected = expected + gates[e, column].double() * normal
        for s, column in zip(common, columns[branches:], strict=True):
            expected = expected + gates[e, column].double() * s.double()
        torch.testing.assert_close(found[e].double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("build")
def test_only_single_and_bfloat16_on_the_cpu_with_enough_channels_fit() -> None:
    x = torch.randn(2, 16, 4, 4)
    assert fits(x, 16)
    assert not fits(x, 4)
    assert not fits(x.double(), 16)
    assert fits(x.bfloat16(), 16)
    assert not fits(x.half(), 16)
    assert not fits(x.to("meta"), 16)


# -- as operators of PyTorch -------------------------------------------------------------------------------------------


# PyTorch's tracer looks at .grad of tensors that have none and hides its own warning, but not where warnings are errors
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("differentiated", [False, True])
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.usefixtures("build")
def test_the_convolution_is_registered_as_pytorch_wants_it(normed: bool, differentiated: bool) -> None:
    case = _Case.make(16, 2, (2, 5, 6), normed=normed)
    tensors = [case.x, case.depthwise, case.pointwise, *(case.norm or (None, None))]
    for t in tensors:
        if t is not None:
            t.requires_grad_(differentiated)
    torch.library.opcheck(separable_conv, (*tensors, 1, 1, EPS, True))


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.usefixtures("build")
def test_so_is_its_backward_pass(normed: bool, trained: bool) -> None:
    case = _Case.make(16, 2, (2, 5, 6), normed=normed)
    u, z, mean, var = case.forward(keep_z=trained)
    statistics = mean, var, case.scale
    source = case.x, case.depthwise, case.pointwise, *(case.norm or (None, None)), torch.zeros_like(case.x)
    arguments = case.grad, mean, var, u, z if trained else None, *statistics, *source, 1, 1, EPS, not normed
    torch.library.opcheck(separable_conv_backward, arguments)


@pytest.mark.usefixtures("build")
def test_so_is_the_sum() -> None:
    u, s = _last(torch.randn(2, 32, 5, 6)), _last(torch.randn(2, 16, 5, 6))
    mean, var = torch.randn(32), torch.rand(32)
    torch.library.opcheck(mixed_sum, (torch.rand(2, 5), [u, u], [mean] * 2, [var] * 2, [s], [0, 1, 4], [None, s], EPS))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.usefixtures("build")
def test_autograd_goes_through_the_convolution_and_its_statistics(normed: bool, stride: int) -> None:
    case = _Case.make(16, 2, (2, 6, 7), stride=stride, normed=normed)
    weights = torch.randn(2, 32).double()

    def loss(u: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return (u * case.grad).sum() + (weights[0] * mean).sum() + 10 * (weights[1] * var).sum()

    leaves = [t.clone().requires_grad_() for t in (case.x, case.depthwise, case.pointwise, *(case.norm or ()))]
    norm = leaves[3:] or (None, None)
    u, _, mean, var = separable_conv(*leaves[:3], *norm, stride, 1, EPS, True)
    found = torch.autograd.grad(loss(u, mean, var), leaves)

    exact = [t.detach().double().requires_grad_() for t in leaves]
    x, depthwise, pointwise, *norm = exact
    if norm:
        x = (x - norm[0][:, None, None]) * (norm[1][:, None, None] + EPS).rsqrt()
    read = F.relu(x) if norm else F.relu(x).repeat(1, 2, 1, 1)
    u = F.conv2d(F.conv2d(read, depthwise, None, stride, 1, 1, 32), pointwise, groups=2)
    expected = torch.autograd.grad(loss(u, u.mean((0, 2, 3)), u.var((0, 2, 3), correction=0)), exact)
    for ours, right in zip(found, expected, strict=True):
        assert (ours.double() - right).norm() / right.norm() < 1e-5


@pytest.mark.usefixtures("build")
def test_weights_have_no_gradient_without_what_it_needs() -> None:
    case = _Case.make(16, 1, (2, 4, 4))
    case.depthwise.requires_grad_()
    u, *_ = case.forward(keep_z=False)
    with pytest.raises(RuntimeError, match="call it with keep_z=True"):
        u.sum().backward()


_FEW_THREADS = """
import torch
import ddarts.kernels.operators
torch.set_num_threads(3)
s = torch.randn(4, 16, 8, 8).contiguous(memory_format=torch.channels_last)
(found,) = torch.ops.ddarts.mixed_sum(torch.ones(1, 1), [], [], [], [s], [0], [None], 1e-5)
assert torch.equal(found, s)
"""


@pytest.mark.skipif(not _BUILDS, reason="no build of the kernels")
def test_nothing_is_left_out_when_there_are_fewer_threads_than_asked_for() -> None:
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    subprocess.run([sys.executable, "-c", _FEW_THREADS], env=environment, check=True, timeout=60)
