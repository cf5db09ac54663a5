"""ReLU, depthwise and pointwise convolutions of a supernet's edges, with little kept for the backward pass.

PyTorch's autograd keeps the input of every convolution, batch norm and ReLU. In a supernet these are what fills memory,
and most of them are one cheap operation away from another. Kept here is one tensor for each convolution that is dear to
repeat (the depthwise ones); the rest is computed again: where weights are trained, the input of the pointwise
convolution is kept, whose weight gradient needs it; where they are frozen, as in the alpha step, its output, which the
batch norm's gradient needs.

A chain is what an operation does to a state before its last pointwise convolution and batch norm. Chains have their
backward pass written out, so that one autograd function (`ddarts.supernet.mixed_op`) can run a fan from end to end.
Under autocast everything runs in the working precision, statistics in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ddarts.nn.batch_norm import BatchStatistics
from ddarts.nn.convolution import depthwise, depthwise_input_gradient, depthwise_weight_gradient
from ddarts.nn.pointwise import pointwise, pointwise_input_gradient, pointwise_weight_gradient


def working(x: Tensor) -> Tensor:
    """`x` in the precision in which autocast would run a convolution of it."""
    kind = x.device.type
    if kind != "meta" and torch.is_autocast_enabled(kind):
        return x.to(torch.get_autocast_dtype(kind))
    return x


def channels_last(x: Tensor) -> Tensor:
    """`x` [B, C, H, W] in channels-last memory; it is returned as it is if it lies so."""
    return x.contiguous(memory_format=torch.channels_last)


def spread(x: Tensor, edges: int) -> Tensor:
    """max(x, 0) of a state [B, C, H, W] once for every edge, [B, E * C, H, W]."""
    relu = F.relu(x)
    return relu if edges == 1 else torch.cat([relu] * edges, 1)  # `repeat` would lose channels-last


def spread_gradient(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient at `x` of `spread` from the one at its result."""
    first, *others = grad.split(x.shape[1], 1)
    total = first if not others else first + others[0]
    for other in others[1:]:
        total.add_(other)
    return torch.ops.aten.threshold_backward(total, x, 0)


@dataclass(frozen=True)
class FanRun:
    """What all operations of a fan share in one pass forward or backward.

    Attributes:
        wide: the rectified state once for every edge [B, E * C, H, W]; None where nothing reads it.
        size: H and W.
        edges: E.
        track: move running statistics.
        trained: weights want gradients.
    """

    wide: Tensor | None
    size: tuple[int, int]
    edges: int
    track: bool
    trained: bool


class Chain:
    """An operation up to its last pointwise convolution, on all E edges that leave a state.

    It holds no tensor: those that it takes are given to every call, so that only autograd keeps them.

    Attributes:
        takes: how many tensors it takes.
        keeps: how many tensors `forward` keeps for `backward`.
        reads_state: whether it starts from the rectified state once for every edge, and what it takes are weights.
    """

    takes = 1
    keeps = 0
    reads_state = True

    def forward(self, taken: Sequence[Tensor], run: FanRun) -> tuple[Tensor, list[Tensor]]:
        """Return the chain's result [B, E * I, H', W'] and what `backward` needs."""
        raise NotImplementedError

    def backward(
        self, taken: Sequence[Tensor], grad: Tensor, kept: Sequence[Tensor], run: FanRun
    ) -> tuple[Tensor | None, tuple[Tensor | None, ...]]:
        """Gradients at the state once for every edge and at what was taken, from the one at the result.

        Args:
            taken: the weights.
            grad: the gradient at the chain's result.
            kept: what `forward` kept.
            run: the same fan's; its `wide` is needed only if weights are trained.
        """
        raise NotImplementedError


class Given(Chain):
    """Something that autograd has computed [B, E * I, H', W'], and that is taken as it is."""

    reads_state = False

    def forward(self, taken: Sequence[Tensor], run: FanRun) -> tuple[Tensor, list[Tensor]]:
        """Return it."""
        return taken[0], []

    def backward(
        self, taken: Sequence[Tensor], grad: Tensor, kept: Sequence[Tensor], run: FanRun
    ) -> tuple[Tensor | None, tuple[Tensor | None, ...]]:
        """Hand the gradient on."""
        return None, (grad,)


class Depthwise(Chain):
    """One depthwise convolution. It takes its weight [E * C, 1, k, k].

    Args:
        stride, dilation: 1 or 2.
    """

    def __init__(self, stride: int, dilation: int = 1) -> None:
        self.stride, self.dilation = stride, dilation

    def forward(self, taken: Sequence[Tensor], run: FanRun) -> tuple[Tensor, list[Tensor]]:
        """Convolve."""
        assert run.wide is not None
        return depthwise(run.wide, taken[0].to(run.wide.dtype), self.stride, self.dilation), []

    def backward(
        self, taken: Sequence[Tensor], grad: Tensor, kept: Sequence[Tensor], run: FanRun
    ) -> tuple[Tensor | None, tuple[Tensor | None, ...]]:
        """The gradients of the convolution."""
        weight, at_weight = taken[0].to(grad.dtype), None
        if run.trained:
            assert run.wide is not None
            at_weight = depthwise_weight_gradient(grad, run.wide, weight, self.stride, self.dilation)
        return depthwise_input_gradient(grad, weight, self.stride, self.dilation, run.size), (at_weight,)


class Separable(Depthwise):
    """Depthwise - pointwise - batch norm - ReLU - depthwise: a separable convolution up to its second pointwise one.

    It takes the weights of its three convolutions [E * C, 1, k, k], [E * C, C, 1, 1], [E * C, 1, k, k].

    Args:
        norm: the batch norm.
        stride: of the first convolution.
    """

    takes = 3
    keeps = 3

    def __init__(self, norm: BatchStatistics, stride: int) -> None:
        super().__init__(stride)
        self.norm = norm

    def forward(self, taken: Sequence[Tensor], run: FanRun) -> tuple[Tensor, list[Tensor]]:
        """Run all of it."""
        _, inner, second = taken
        z, _ = super().forward(taken, run)
        u = pointwise(z, inner, run.edges)
        mean, var = self.norm.measure(u, track=run.track)
        relu = F.relu_(self.norm.apply_to(u, mean, var))
        return depthwise(relu, second.to(u.dtype)), [z if run.trained else u, mean, var]

    def backward(
        self, taken: Sequence[Tensor], grad: Tensor, kept: Sequence[Tensor], run: FanRun
    ) -> tuple[Tensor | None, tuple[Tensor | None, ...]]:
        """Back through all of it."""
        (z, mean, var), (_, inner, second) = kept, taken
        u = pointwise(z, inner, run.edges) if run.trained else z
        relu = F.relu_(self.norm.apply_to(u, mean, var))
        second = second.to(u.dtype)
        at_inner = at_second = None
        if run.trained:
            at_second = depthwise_weight_gradient(grad, relu, second, 1, 1)
        grad = depthwise_input_gradient(grad, second, 1, 1, (u.shape[2], u.shape[3]))
        grad = torch.ops.aten.threshold_backward(grad, relu, 0)
        grad, _ = self.norm.gradient(grad, u, mean, var)
        if run.trained:
            at_inner = pointwise_weight_gradient(grad, z, inner, run.edges)
        grad = pointwise_input_gradient(grad, inner, run.edges)
        at_wide, (at_first,) = super().backward(taken, grad, (), run)
        return at_wide, (at_first, at_inner, at_second)


def relu_pointwise_norm(x: Tensor, weight: Tensor, norm: BatchStatistics, *, track: bool) -> Tensor:
    """ReLU - pointwise convolution - batch norm: [B, I, H, W] by [O, I, 1, 1] to [B, O, H, W].

    Of all that, only `x` is kept. It cannot be differentiated twice.
    """
    return _ReluPointwiseNorm.apply(working(x), weight, norm, track)  # type: ignore[return-value]


class _ReluPointwiseNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, norm: BatchStatistics, track: bool) -> Tensor:
        u = pointwise(F.relu(x), weight, 1)
        mean, var = norm.measure(u, track=track)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.norm = norm
        return norm.apply_to(u, mean, var)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, mean, var = ctx.saved_tensors
        relu = F.relu(x)
        grad, _ = ctx.norm.gradient(channels_last(grads[0]), pointwise(relu, weight, 1), mean, var)
        at_x = at_weight = None
        if ctx.needs_input_grad[1]:
            at_weight = pointwise_weight_gradient(grad, relu, weight, 1)
        if ctx.needs_input_grad[0]:
            at_x = torch.ops.aten.threshold_backward(pointwise_input_gradient(grad, weight, 1), x, 0)
        return at_x, at_weight, None, None
