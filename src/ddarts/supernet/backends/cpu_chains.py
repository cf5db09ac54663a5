"""The chains of `ddarts.supernet.chains`, with their last pointwise convolution and batch norm, in the CPU's kernels.

They take and keep what `ddarts.supernet.backends.torch_chains` does, which has the same in PyTorch's operations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import Tensor

from ddarts.nn.batch_norm import BatchStatistics
from ddarts.nn.pointwise import pointwise
from ddarts.nn.sync_batch_norm import sync_norm_gradient
from ddarts.supernet.backends.cpu import Convolution, Statistics, Step, fits
from ddarts.supernet.backends.torch_chains import Operation
from ddarts.supernet.chains import Depthwise, FanRun, Separable


def can_fuse(operation: Operation, x: Tensor) -> bool:
    """Whether the kernels can run an operation on all edges that leave state `x` [B, C, H, W]."""
    known = isinstance(operation.chain, Depthwise) and operation.weighted
    return known and operation.norm.training and not operation.norm.synchronised and fits(x, x.shape[1])


def run_forward(
    operation: Operation, x: Tensor, taken: Sequence[Tensor], run: FanRun
) -> tuple[list[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """As `plain_chains.run_forward`, for an operation that can be fused."""
    chain = operation.chain
    assert isinstance(chain, Depthwise)
    kept: list[Tensor] = []
    source, of_source = x, None
    if isinstance(chain, Separable):
        convolution = Convolution(run.edges, chain.stride)
        source, z, of_source = convolution.forward(x, taken[0], taken[1], keep_z=run.trained)
        kept = [source if z is None else z, *of_source]
        _track(chain.norm, of_source, source, run)
        convolution = Convolution(run.edges)
    else:
        convolution = Convolution(run.edges, chain.stride, chain.dilation)
    u, z, statistics = convolution.forward(source, taken[-2], taken[-1], of_source, keep_z=run.trained)
    _track(operation.norm, statistics, u, run)
    return [*kept, u if z is None else z, *statistics], (u, *statistics)


def run_backward(
    operation: Operation,
    x: Tensor,
    taken: Sequence[Tensor],
    kept: Sequence[Tensor],
    grad: Tensor,
    scale: Tensor,
    run: FanRun,
    at_x: Tensor | None,
    *,
    wanted: bool,
) -> tuple[Tensor | None, Tensor, list[Tensor | None]]:
    """As `plain_chains.run_backward`, for an operation that can be fused."""
    chain = operation.chain
    assert isinstance(chain, Depthwise)
    *of_chain, z, mean, var = kept
    u = pointwise(z, taken[-1], run.edges) if run.trained else z
    _, dot, total = sync_norm_gradient(grad, u, scale, mean, var, at_x=False)  # of this process: nothing is exchanged
    if not wanted and not run.trained:
        return at_x, dot, [None] * len(taken)
    step = Step(grad, total, dot, u, z, (mean, var), scale, taken[-2], taken[-1])
    if not isinstance(chain, Separable):
        convolution = Convolution(run.edges, chain.stride, chain.dilation)
        found = convolution.backward(step, x, at_x, wanted=wanted, trained=run.trained)
        return found.at_x, dot, [found.at_depthwise, found.at_pointwise]
    z, mean, var = of_chain
    u = pointwise(z, taken[1], run.edges) if run.trained else z
    step = dataclasses.replace(step, norm_x=(mean, var))
    second = Convolution(run.edges).backward(step, u, None, wanted=True, trained=run.trained)
    assert second.at_x is not None
    assert second.sums is not None
    step = Step(second.at_x, second.sums[0], second.sums[1], u, z, (mean, var), None, taken[0], taken[1])
    first = Convolution(run.edges, chain.stride).backward(step, x, at_x, wanted=wanted, trained=run.trained)
    return first.at_x, dot, [first.at_depthwise, first.at_pointwise, second.at_depthwise, second.at_pointwise]


def _track(norm: BatchStatistics, statistics: Statistics, x: Tensor, run: FanRun) -> None:
    if run.track:
        norm.track(*statistics, x.numel() // x.shape[1])
