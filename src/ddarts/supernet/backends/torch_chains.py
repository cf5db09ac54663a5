"""An operation of a fan from its state to its last batch norm, forward and back, in PyTorch's operations.

`ddarts.supernet.backends.cpu_chains` has the same in the CPU's kernels. Both take and keep the same tensors, so that
either can go back from what the other has kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ddarts.nn.batch_norm import BatchStatistics
from ddarts.nn.pointwise import pointwise, pointwise_input_gradient, pointwise_weight_gradient
from ddarts.supernet.chains import Chain, FanRun, spread_gradient


@dataclass(frozen=True)
class Operation:
    """An operation with weights of its own on each of E edges, without its tensors.

    Attributes:
        chain: what it does before the last pointwise convolution.
        weighted: whether there is such a convolution.
        norm: its last batch norm.
        column: its column of the gates.
    """

    chain: Chain
    weighted: bool
    norm: BatchStatistics
    column: int

    @property
    def takes(self) -> int:
        """How many tensors it takes, the weight of the last pointwise convolution included."""
        return self.chain.takes + self.weighted

    @property
    def keeps(self) -> int:
        """How many tensors it keeps for the backward pass: the chain's; z or u; mean and variance."""
        return self.chain.keeps + 3


def run_forward(
    operation: Operation, x: Tensor, taken: Sequence[Tensor], run: FanRun
) -> tuple[list[Tensor], tuple[Tensor, Tensor, Tensor]]:
    """Run an operation from state `x` to the input of its last batch norm.

    Args:
        operation: what to run.
        x: [B, C, H, W].
        taken: its weights, that of the last pointwise convolution included.
        run: the fan's.

    Returns:
        what the backward pass needs, and u [B, E * C, H', W'] with its mean and variance [E * C].
    """
    chain = operation.chain
    z, of_chain = chain.forward(taken[: chain.takes], run)
    u = pointwise(z, taken[-1], run.edges) if operation.weighted else z
    mean, var = operation.norm.measure(u, track=run.track)
    return [*of_chain, z if run.trained else u, mean, var], (u, mean, var)


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
    """Go back from the gradient at the result of an operation's last batch norm.

    Args:
        operation, x, taken, run: as in the forward pass.
        kept: what it kept.
        grad: [B, E * C, H', W'].
        scale: of the batch norm [E * C].
        at_x: the gradient at `x` that other operations have found, to be added to.
        wanted: whether a gradient at `x` is.

    Returns:
        the gradients at `x`, at the scale, and at what was taken.
    """
    chain, edges = operation.chain, run.edges
    *of_chain, z, mean, var = kept
    weight = taken[-1] if operation.weighted else None
    u = pointwise(z, weight, edges) if run.trained and weight is not None else z
    at_z, at_scale = operation.norm.gradient(grad, u, mean, var, scale)
    assert at_scale is not None
    del u
    at_weight: list[Tensor | None] = []
    if weight is not None:
        at_weight = [pointwise_weight_gradient(at_z, z, weight, edges) if run.trained else None]
        at_z = pointwise_input_gradient(at_z, weight, edges)
    at_wide, at_own = chain.backward(taken[: chain.takes], at_z, of_chain, run)
    if at_wide is not None and wanted:
        part = spread_gradient(at_wide, x)
        at_x = part if at_x is None else at_x.add_(part)
    return at_x, at_scale, [*at_own, *at_weight]
