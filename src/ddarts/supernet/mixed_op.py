"""A fan from its state to the sums of the nodes that its edges lead to, in one function.

Over the edge from state x to a node with gates g, the node receives

    sum over the operations with weights of their own:   g_o BN(W_o z_o(x))
  + sum over the operations that all edges share:        g_k BN(s_k(x)), or g_k x for the identity

where z_o is a chain of `ddarts.supernet.chains`. A batch norm without affine parameters is a scale and a shift for
each channel, so weighing and adding up take one pass over memory for each operation. Of z_o and u_o = W_o z_o one is
kept for the backward pass, of s_k the raw pool; autograd alone keeps them, so that recomputation can drop them. The
gradient of a gate is the batch norm's own scale gradient.

The plain composition is `ddarts.supernet.reference`. It cannot be differentiated twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ddarts.nn.batch_norm import EPS, BatchStatistics
from ddarts.nn.dispatch import on_cpu
from ddarts.supernet.backends import cpu_chains, torch_chains
from ddarts.supernet.backends.cpu import fits, weighted_sums
from ddarts.supernet.backends.torch_chains import Operation
from ddarts.supernet.chains import Chain, FanRun, channels_last, spread, working

#: dtypes whose sums are exact enough to take a normalisation apart into scale and shift
_EXACT = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Branch:
    """An operation with weights of its own on each of E edges.

    Attributes:
        chain: what it does before the last pointwise convolution.
        taken: the tensors that the chain takes.
        weight: that convolution [E * C, I, 1, 1], if there is one.
        norm: its last batch norm.
        column: its column of the gates.
    """

    chain: Chain
    taken: tuple[Tensor, ...]
    weight: Tensor | None
    norm: BatchStatistics
    column: int


@dataclass(frozen=True)
class Shared:
    """An operation whose result is the same on all edges.

    Attributes:
        x: the result [B, C, H', W'].
        norm: its batch norm; None for the identity.
        column: its column of the gates.
    """

    x: Tensor
    norm: BatchStatistics | None
    column: int


@dataclass(frozen=True)
class Measured:
    """What `weigh` has computed that does not depend on gates, to be weighed by others.

    Attributes:
        branches: of each operation with weights of its own, u [B, E * C, H', W'], mean and variance [E * C].
        shared: of each shared operation, the normalised result [B, C, H', W'].
        columns: the columns of their gates.
    """

    branches: tuple[tuple[Tensor, Tensor, Tensor], ...]
    shared: tuple[Tensor, ...]
    columns: tuple[list[int], list[int]]


def weigh(
    x: Tensor,
    gates: Tensor,
    branches: Sequence[Branch],
    shared: Sequence[Shared],
    sums: Sequence[Tensor | None],
    *,
    track: bool,
    keep: bool = False,
) -> tuple[list[Tensor], Measured | None]:
    """Add what a state sends over its E edges to the sums of the nodes that they lead to.

    Args:
        x: the state [B, C, H, W].
        gates: [E, operations].
        branches, shared: the operations.
        sums: what each of the E nodes has received so far, [B, C, H', W']; None for nothing.
        track: move the running statistics.
        keep: also return what can be weighed again with other gates; no gradient reaches that.

    Returns:
        the new sums, and what was kept.
    """
    call = _Call(branches, shared, track, keep)
    if not call.reads_state:
        x = x.detach()  # it reaches the nodes through other functions
    taken = [t for b in branches for t in (*b.taken, *([] if b.weight is None else [b.weight]))]
    tensors = [*taken, *(s.x for s in shared), *sums]
    if torch.is_grad_enabled():
        new = _Weigh.apply(call, working(x), gates, *tensors)
    else:
        new = call.run(None, working(x), gates, tensors)
    return list(new), call.measured.pop() if keep else None  # type: ignore[arg-type]


def weigh_again(gates: Tensor, measured: Measured, sums: Sequence[Tensor | None]) -> list[Tensor]:
    """As `weigh`, without a graph, of what it has kept."""
    return _sums(gates.detach(), measured, sums)


def _sums(gates: Tensor, measured: Measured, before: Sequence[Tensor | None]) -> list[Tensor]:
    """Sums over operations of gate * BN(u), and over edges."""
    one = measured.branches[0][0] if measured.branches else measured.shared[0]
    if fits(one, one.shape[1] // len(gates) if measured.branches else one.shape[1]):
        columns = [*measured.columns[0], *measured.columns[1]]
        return weighted_sums(gates, measured.branches, measured.shared, columns, before)
    return _Sum(gates, measured).run(before)


class _Sum:
    """`_sums` in PyTorch's operations."""

    def __init__(self, gates: Tensor, measured: Measured) -> None:
        self._edges, self._branches, self._shared = len(gates), measured.branches, measured.shared
        of_branches, of_shared = measured.columns
        self._scales = self._factors = self._shift = None
        of_edges = gates.unbind(1)  # picked one by one: indexing by a list would make a GPU wait
        if self._shared:
            self._weights = torch.stack([of_edges[c] for c in of_shared], 1)  # [E, shared operations]
        if self._branches:
            u = self._branches[0][0]
            scales = torch.stack([of_edges[c] for c in of_branches])
            self._scales = scales.repeat_interleave(u.shape[1] // self._edges, 1)  # [branches, E * C]
            if u.dtype in _EXACT:
                factors = self._scales * (torch.stack([var for _, _, var in self._branches]) + EPS).rsqrt()
                self._shift = -(factors * torch.stack([mean for _, mean, _ in self._branches])).sum(0)[:, None, None]
                self._factors = factors[:, :, None, None].unbind()

    def run(self, sums: Sequence[Tensor | None]) -> list[Tensor]:
        """Return the new sums."""
        slices: Sequence[Tensor | None] = [None] * self._edges
        if self._branches:
            total = self._branch_total()
            slices = total.split(total.shape[1] // self._edges, 1)
        pairs: list[list[tuple[Tensor, float]]] = [[] for _ in sums]
        if self._shared and _adds_one_by_one(self._shared[0]):
            pairs = [list(zip(self._shared, row, strict=True)) for row in self._weights.tolist()]
        elif self._shared:
            slices = self._mix_at_once(slices)
        return [_edge_total(*edge) for edge in zip(sums, slices, pairs, strict=True)]

    def _mix_at_once(self, slices: Sequence[Tensor | None]) -> list[Tensor]:
        """Add the shared operations to each edge's part, by one matrix product."""
        b, c, h, w = self._shared[0].shape
        rows = _flat(self._shared)
        mixed = [m.view(b, h, w, c).permute(0, 3, 1, 2) for m in (self._weights.to(rows.dtype) @ rows).unbind()]
        return [m if part is None else part + m for part, m in zip(slices, mixed, strict=True)]

    def _branch_total(self) -> Tensor:
        """Sum over the operations with weights of their own, [B, E * C, H', W']."""
        if self._factors is not None:
            assert self._shift is not None
            total = torch.addcmul(self._shift, self._branches[0][0], self._factors[0])
            for (u, _, _), factor in zip(self._branches[1:], self._factors[1:], strict=True):
                total.addcmul_(u, factor)
            return total
        assert self._scales is not None
        parts = (
            torch.nn.functional.batch_norm(u, mean, var, scale, None, False, 0.0, EPS)
            for (u, mean, var), scale in zip(self._branches, self._scales, strict=True)
        )
        total = next(parts)
        for part in parts:
            total.add_(part)
        return total


def _edge_total(before: Tensor | None, part: Tensor | None, pairs: list[tuple[Tensor, float]]) -> Tensor:
    """What a node has received, and an edge's part of the branches, and gate * shared result over the pairs of them."""
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


def _adds_one_by_one(x: Tensor) -> bool:
    """Whether shared operations are added to the edges one by one: fast on a CPU, and exact enough in float32.

    Else one matrix product does it, which rounds once; on a GPU it is fewer operations to start, and reads no gate.
    """
    return on_cpu(x) and x.dtype in _EXACT


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors [B, C, H, W] as the rows of a matrix."""
    return torch.stack([channels_last(t).permute(0, 2, 3, 1).reshape(-1) for t in tensors])


class _Call:
    """One call of `weigh`. It outlives the call, so it must not hold what autograd keeps."""

    def __init__(self, branches: Sequence[Branch], shared: Sequence[Shared], track: bool, keep: bool) -> None:
        self.operations = [Operation(b.chain, b.weight is not None, b.norm, b.column) for b in branches]
        self.shared = [(s.norm, s.column) for s in shared]
        self.track, self.keep = track, keep
        self.reads_state = any(b.chain.reads_state for b in branches)
        self.measured: list[Measured] = []

    def parts(self, tensors: Sequence[Any]) -> tuple[list[Sequence[Any]], Sequence[Any], Sequence[Any]]:
        """What each operation takes, the shared results, and the sums, out of all that autograd sees (or knows)."""
        taken, start = [], 0
        for operation in self.operations:
            taken.append(tensors[start : start + operation.takes])
            start += operation.takes
        end = start + len(self.shared)
        return taken, tensors[start:end], tensors[end:]

    def run(self, ctx: Any, x: Tensor, gates: Tensor, tensors: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Compute the new sums; with a `ctx`, keep there what the backward pass needs."""
        taken, raw, sums = self.parts(tensors)
        trained = ctx is not None and self._are_trained(ctx.needs_input_grad[3:])
        kept, found = self._run_branches(x, len(gates), taken, trained)
        shared = []
        for (norm, _), s in zip(self.shared, raw, strict=True):
            if norm is not None:
                mean, var = norm.measure(s, track=self.track)
                kept += [mean, var]
                s = norm.apply_to(s, mean, var)
            shared.append(s)
        columns = [o.column for o in self.operations], [column for _, column in self.shared]
        measured = Measured(tuple(found), tuple(shared), columns)
        if self.keep:
            self.measured.append(measured)
        if ctx is not None:
            ctx.call, ctx.trained, ctx.given = self, trained, [s is not None for s in sums]
            weights = [t if is_weight else None for t, is_weight in zip(tensors, self._weights(), strict=False)]
            ctx.save_for_backward(x, gates, *weights, *raw, *kept)
        return tuple(_sums(gates.detach(), measured, sums))

    def _run_branches(
        self, x: Tensor, edges: int, taken: Sequence[Sequence[Tensor]], trained: bool
    ) -> tuple[list[Tensor], list[tuple[Tensor, Tensor, Tensor]]]:
        """Run every chain to its end; return what the backward pass needs, and u, mean and variance of each."""
        fused = self.fused(x)
        wide = spread(x, edges) if self.reads_state and not all(fused) else None
        run = FanRun(wide, _size(x), edges, self.track, trained)
        kept: list[Tensor] = []
        found = []
        for operation, tensors, is_fused in zip(self.operations, taken, fused, strict=True):
            forward = cpu_chains.run_forward if is_fused else torch_chains.run_forward
            of_operation, measured = forward(operation, x, tensors, run)
            kept += of_operation
            found.append(measured)
        return kept, found

    def fused(self, x: Tensor) -> list[bool]:
        """Which operations the CPU's kernels run."""
        return [cpu_chains.can_fuse(operation, x) for operation in self.operations]

    def _weights(self) -> list[bool]:
        """Whether each tensor that operations take is a weight; else autograd has computed it."""
        return [
            is_weight
            for o in self.operations
            for is_weight in (*[o.chain.reads_state] * o.chain.takes, *[True] * o.weighted)
        ]

    def _are_trained(self, wanted: Sequence[bool]) -> bool:
        return any(want and is_weight for want, is_weight in zip(wanted, self._weights(), strict=False))


class _Weigh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, gates: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        return call.run(ctx, x, gates, tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        call: _Call = ctx.call
        x, gates, *saved = ctx.saved_tensors
        taken, raw, kept = call.parts(saved)
        kept = list(kept)
        grads = tuple(channels_last(g) for g in grads)
        at_gates: list[Tensor | None] = [None] * gates.shape[1]  # each [E]
        at_x, at_taken = _branch_gradients(ctx, x, gates, grads, taken, kept, at_gates)
        at_raw = _shared_gradients(call, gates, grads, raw, kept, at_gates)
        at_sums = [g if given else None for g, given in zip(grads, ctx.given, strict=True)]
        every = [gates.new_zeros(len(gates)) if g is None else g.to(gates.dtype) for g in at_gates]
        return None, at_x, torch.stack(every, 1), *at_taken, *at_raw, *at_sums


def _branch_gradients(
    ctx: Any,
    x: Tensor,
    gates: Tensor,
    grads: Sequence[Tensor],
    taken: Sequence[Sequence[Tensor]],
    kept: list[Tensor],
    at_gates: list[Tensor | None],
) -> tuple[Tensor | None, list[Tensor | None]]:
    """Gradients at the state and at what the operations take; those at gates are filled in.

    What belongs to the branches is taken from the front of `kept`.
    """
    call: _Call = ctx.call
    edges, trained = len(gates), ctx.trained
    at_x: Tensor | None = None
    at_taken: list[Tensor | None] = []
    if not call.operations:
        return at_x, at_taken
    grad = torch.cat(list(grads), 1) if edges > 1 else grads[0]
    scales = gates.t().repeat_interleave(grad.shape[1] // edges, 1)  # [operations, E * C]
    fused = call.fused(x)
    wide = spread(x, edges) if trained and call.reads_state and not all(fused) else None
    run = FanRun(wide, _size(x), edges, call.track, trained)
    for operation, tensors, is_fused in zip(call.operations, taken, fused, strict=True):
        backward = cpu_chains.run_backward if is_fused else torch_chains.run_backward
        kept_here = [kept.pop(0) for _ in range(operation.keeps)]
        at_x, at_scale, at_own = backward(
            operation, x, tensors, kept_here, grad, scales[operation.column], run, at_x, wanted=ctx.needs_input_grad[1]
        )
        at_gates[operation.column] = at_scale.view(edges, -1).sum(1)
        at_taken += at_own
    return at_x, at_taken


def _shared_gradients(
    call: _Call,
    gates: Tensor,
    grads: Sequence[Tensor],
    raw: Sequence[Tensor],
    kept: list[Tensor],
    at_gates: list[Tensor | None],
) -> list[Tensor]:
    """Gradients at the shared operations' results; those at gates are filled in."""
    if not raw:
        return []
    norms, columns = zip(*call.shared, strict=True)
    statistics = [(None, None) if norm is None else (kept.pop(0), kept.pop(0)) for norm in norms]
    normal = [
        s if norm is None else norm.apply_to(s, *pair) for norm, s, pair in zip(norms, raw, statistics, strict=True)
    ]
    if _adds_one_by_one(raw[0]):
        rows = gates.tolist()
        found = []
        for column, s in zip(columns, normal, strict=True):
            at_gates[column] = torch.stack([_dot(g, s) for g in grads])
            total = grads[0] * rows[0][column]
            for grad, row in zip(grads[1:], rows[1:], strict=True):
                total.add_(grad, alpha=row[column])
            found.append(total)
    else:
        b, c, h, w = raw[0].shape
        edges = _flat(grads)
        of_edges = gates.unbind(1)
        weights = torch.stack([of_edges[column] for column in columns]).to(edges.dtype)  # [shared operations, E]
        for column, at_gate in zip(columns, (_flat(normal) @ edges.t()).unbind(), strict=True):
            at_gates[column] = at_gate
        found = [row.view(b, h, w, c).permute(0, 3, 1, 2) for row in (weights @ edges).unbind()]
    return [
        at if norm is None else norm.gradient(at, s, *pair)[0]
        for norm, at, s, pair in zip(norms, found, raw, statistics, strict=True)
    ]


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of a * b over two tensors [B, C, H, W], a scalar."""
    return torch.dot(*[channels_last(t).permute(0, 2, 3, 1).reshape(-1) for t in (a, b)])
