"""The layers and sums of a mixed operation in PyTorch's operations, forward and backward: for every device and dtype.

`ddarts.supernet.backends.cpu` has the same in the CPU's kernels. Both save the same tensors for the backward pass.

PyTorch's autograd saves the input of every convolution, batch norm and ReLU, and in a supernet these are what fills
memory. Saved here is one tensor for each depthwise convolution, which is expensive to repeat; the rest is computed
again. Under autocast everything runs in the working precision, statistics in float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ddarts.nn.batch_norm import EPS, BatchStatistics, Mode, batch_norm_gradient, normalise
from ddarts.nn.convolution import depthwise, depthwise_input_gradient, depthwise_weight_gradient
from ddarts.nn.dispatch import channels_last, on_cpu
from ddarts.nn.pointwise import pointwise, pointwise_input_gradient, pointwise_weight_gradient

#: dtypes whose sums are exact enough to take a normalisation apart into scale and shift
_EXACT = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Layer:
    """ReLU - depthwise convolution - pointwise convolution - batch norm on E edges, without the weights.

    Attributes:
        norm: the batch norm.
        stride, dilation: of the depthwise convolution, 1 or 2.
    """

    norm: BatchStatistics
    stride: int = 1
    dilation: int = 1


class Result(NamedTuple):
    """The input of a batch norm u [B, E * C, H, W], and the mean and biased variance [E * C] that normalise it."""

    u: Tensor
    mean: Tensor
    var: Tensor


class Saved(NamedTuple):
    """What a layer saves for the backward pass.

    Attributes:
        z: the input of the pointwise convolution if weights are trained, whose gradient needs it; else its output u.
        mean, var: of u.
    """

    z: Tensor
    mean: Tensor
    var: Tensor


class LayerGradients(NamedTuple):
    """What goes back through a layer.

    Attributes:
        at_input: at the state, added to what was there, or at the normalised result of the layer before.
        sums: in the latter case, if the backend has them, sums [2, E * C] of that, and of that times the result.
        at_scale: at the batch norm's scale [E * C].
        at_weights: at the weights.
    """

    at_input: Tensor | None
    sums: Tensor | None
    at_scale: Tensor | None
    at_weights: tuple[Tensor | None, ...]


class State:
    """A state x [B, C, H, W] in one pass, forward or backward, over the E edges that leave it.

    Attributes:
        trained: whether weights want gradients.
    """

    def __init__(self, x: Tensor, edges: int, *, trained: bool) -> None:
        self.x, self.edges, self.trained = x, edges, trained
        self._wide: Tensor | None = None

    @property
    def wide(self) -> Tensor:
        """max(x, 0) once for every edge, [B, E * C, H, W]; computed once."""
        if self._wide is None:
            relu = F.relu(self.x)  # `repeat` would lose channels-last
            self._wide = relu if self.edges == 1 else torch.cat([relu] * self.edges, 1)
        return self._wide

    def gradient(self, at_wide: Tensor, at_x: Tensor | None) -> Tensor:
        """Return the gradient at x from that at `wide`, added to `at_x`."""
        first, *others = at_wide.split(self.x.shape[1], 1)
        total = first if not others else first + others[0]
        for other in others[1:]:
            total.add_(other)
        found = torch.ops.aten.threshold_backward(total, self.x, 0)
        return found if at_x is None else at_x.add_(found)


def forward(layer: Layer, state: State, before: Result | None, weights: Sequence[Tensor]) -> tuple[Saved, Result]:
    """Run a layer up to the statistics of its batch norm.

    Args:
        layer: the layer.
        state: what the first layer of an operation reads.
        before: what any other layer reads: the result of the layer before.
        weights: of its convolutions, [E * C, 1, k, k] and [E * C, C, 1, 1].
    """
    read = state.wide if before is None else F.relu_(normalise(*before))
    z = depthwise(read, weights[0].to(read.dtype), layer.stride, layer.dilation)
    return forward_pointwise(layer.norm, state, z, weights[1])


def forward_pointwise(norm: BatchStatistics, state: State, z: Tensor, weight: Tensor | None) -> tuple[Saved, Result]:
    """Run what follows z [B, E * I, H, W]: a pointwise convolution, if it has a weight, and the statistics."""
    u = z if weight is None else pointwise(z, weight, state.edges)
    mean, var = norm.measure(u)
    return Saved(z if state.trained else u, mean, var), Result(u, mean, var)


def restored(saved: Saved, weight: Tensor | None, state: State) -> Result:
    """Return the result of a layer from what it has saved."""
    u = pointwise(saved.z, weight, state.edges) if state.trained and weight is not None else saved.z
    return Result(u, saved.mean, saved.var)


def backward(
    layer: Layer,
    mode: Mode,
    state: State,
    before: Result | None,
    weights: Sequence[Tensor],
    saved: Saved,
    result: Result,
    grad: Tensor,
    *,
    scale: Tensor | None,
    sums: Tensor | None,
    at_x: Tensor | None,
    wanted: bool,
) -> LayerGradients:
    """Go back through a layer from the gradient at the result of its batch norm.

    Args:
        layer, state, before, weights: as in the forward pass.
        mode: of the batch norm in the forward pass.
        saved, result: what the forward pass saved and computed.
        grad: the gradient [B, E * C, H', W'].
        scale: of the batch norm [E * C], or None.
        sums: `LayerGradients.sums` of the layer after it.
        at_x: the gradient at the state that other operations have found, to be added to.
        wanted: whether a gradient at what the layer reads is.
    """
    at_z, at_scale, at_pointwise = backward_pointwise(mode, state, weights[1], saved, result, grad, scale)
    if not wanted and not state.trained:
        return LayerGradients(at_x, None, at_scale, (None, None))
    weight, at_depthwise = weights[0].to(at_z.dtype), None
    read = None if before is None else F.relu_(normalise(*before))
    if state.trained:
        wide = state.wide if read is None else read
        at_depthwise = depthwise_weight_gradient(at_z, wide, weight, layer.stride, layer.dilation)
    if not wanted:
        return LayerGradients(at_x, None, at_scale, (at_depthwise, at_pointwise))
    height, width = (state.x if read is None else read).shape[2:]
    at_read = depthwise_input_gradient(at_z, weight, layer.stride, layer.dilation, (height, width))
    found = state.gradient(at_read, at_x) if read is None else torch.ops.aten.threshold_backward(at_read, read, 0)
    return LayerGradients(found, None, at_scale, (at_depthwise, at_pointwise))


def backward_pointwise(
    mode: Mode, state: State, weight: Tensor | None, saved: Saved, result: Result, grad: Tensor, scale: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Go back through `forward_pointwise`; return the gradients at z, at the scale and at the weight."""
    at_u, at_scale = batch_norm_gradient(mode, grad, *result, scale)
    if weight is None:
        return at_u, at_scale, None
    at_weight = pointwise_weight_gradient(at_u, saved.z, weight, state.edges) if state.trained else None
    return pointwise_input_gradient(at_u, weight, state.edges), at_scale, at_weight


class MixedResults(NamedTuple):
    """What a mixed operation computes that does not depend on gates.

    Attributes:
        grouped: of each operation that differs on the edges.
        shared: the normalised result [B, C, H, W] of each operation that is the same on all edges.
        columns: of the gates of the former, then of the latter.
    """

    grouped: tuple[Result, ...]
    shared: tuple[Tensor, ...]
    columns: tuple[int, ...]


def mixed_sum(gates: Tensor, results: MixedResults, before: Sequence[Tensor | None]) -> list[Tensor]:
    """Return for each edge before + the sum over operations of gate * BN(u) + that of gate * shared result.

    Args:
        gates: [E, operations], without a graph.
        results: of the operations.
        before: for each edge [B, C, H, W], or None for nothing.
    """
    of_edges = gates.unbind(1)  # picked one by one: indexing by a list would make a GPU wait
    chosen = [of_edges[column] for column in results.columns]
    of_grouped, of_shared = chosen[: len(results.grouped)], chosen[len(results.grouped) :]
    of_edge: Sequence[Tensor | None] = [None] * len(gates)
    if results.grouped:
        total = _grouped_total(torch.stack(of_grouped), results.grouped)
        of_edge = total.split(total.shape[1] // len(gates), 1)
    pairs: list[list[tuple[Tensor, float]]] = [[] for _ in before]
    if of_shared:
        weights = torch.stack(of_shared, 1)  # [E, shared operations]
        if _adds_one_by_one(results.shared[0]):
            pairs = [list(zip(results.shared, row, strict=True)) for row in weights.tolist()]
        else:
            mixed = _images(weights, _rows(results.shared), results.shared[0])
            of_edge = [m if part is None else part + m for part, m in zip(of_edge, mixed, strict=True)]
    return [_edge_total(*edge) for edge in zip(before, of_edge, pairs, strict=True)]


def _grouped_total(gates: Tensor, grouped: Sequence[Result]) -> Tensor:
    """Return the sum over operations of gate * BN(u) on each edge, [B, E * C, H, W], by gates [operations, E]."""
    u = grouped[0].u
    scales = gates.repeat_interleave(u.shape[1] // gates.shape[1], 1)  # [operations, E * C]
    if u.dtype in _EXACT:
        scales = scales * (torch.stack([r.var for r in grouped]) + EPS).rsqrt()
        shift = -(scales * torch.stack([r.mean for r in grouped])).sum(0)[:, None, None]
        factors = scales[:, :, None, None].unbind()
        total = torch.addcmul(shift, u, factors[0])
        for result, factor in zip(grouped[1:], factors[1:], strict=True):
            total.addcmul_(result.u, factor)
        return total
    first, *others = (normalise(*result, scale) for result, scale in zip(grouped, scales, strict=True))
    for other in others:
        first.add_(other)
    return first


def _edge_total(before: Tensor | None, part: Tensor | None, pairs: list[tuple[Tensor, float]]) -> Tensor:
    """Add up what a node has received, an edge's part, and gate * shared result over the pairs of them."""
    starts = [t for t in (before, part) if t is not None]
    if len(starts) == 2:
        new = starts[0] + starts[1]
    elif not pairs:
        new = starts[0].clone(memory_format=torch.channels_last)
    else:
        (first, gate), *pairs = pairs
        new = torch.add(starts[0], first, alpha=gate) if starts else first * gate
    for s, gate in pairs:
        new.add_(s, alpha=gate)
    return new


def shared_gradients(
    gates: Tensor, grads: Sequence[Tensor], normal: Sequence[Tensor], columns: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the gradients at the normalised results of the shared operations, and [E] at the gates of each.

    Args:
        gates: [E, operations].
        grads: the gradient [B, C, H, W] at each edge's sum.
        normal: the results [B, C, H, W].
        columns: of their gates.
    """
    if _adds_one_by_one(normal[0]):
        rows, found, at_gates = gates.tolist(), [], []
        for column, s in zip(columns, normal, strict=True):
            at_gates.append(torch.stack([_dot(g, s) for g in grads]))
            total = grads[0] * rows[0][column]
            for grad, row in zip(grads[1:], rows[1:], strict=True):
                total.add_(grad, alpha=row[column])
            found.append(total)
        return found, at_gates
    of_edges, edges = gates.unbind(1), _rows(grads)
    at_gates = list((_rows(normal) @ edges.t()).unbind())
    return _images(torch.stack([of_edges[column] for column in columns]), edges, normal[0]), at_gates


def _adds_one_by_one(x: Tensor) -> bool:
    """Return whether shared operations are added to the edges one by one: fast on a CPU, and exact enough in float32.

    Else one matrix product does it, which rounds once; on a GPU it is fewer operations to start, and reads no gate.
    """
    return on_cpu(x) and x.dtype in _EXACT


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors [B, C, H, W] as the rows of a matrix."""
    return torch.stack([channels_last(t).permute(0, 2, 3, 1).reshape(-1) for t in tensors])


def _images(weights: Tensor, rows: Tensor, like: Tensor) -> list[Tensor]:
    """Return the weighted sums [n] of `rows` by weights [n, rows], as images of the shape of `like`."""
    b, c, h, w = like.shape
    return [m.view(b, h, w, c).permute(0, 3, 1, 2) for m in (weights.to(rows.dtype) @ rows).unbind()]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the sum of a * b over two tensors [B, C, H, W], a scalar."""
    return torch.dot(*[channels_last(t).permute(0, 2, 3, 1).reshape(-1) for t in (a, b)])
