r"""The mixed operations of all edges that leave one state, in one function from the state to the sums of the nodes.

Over the edge from state x to a node with gates g, the node receives (paper, section 3.1)

    sum over the operations that differ on the edges:    g_o BN(W_o z_o(x))
  + sum over the operations that all edges share:        g_k BN(s_k(x)), or g_k x for the identity

where z_o is all that comes before the last pointwise convolution. A batch norm without affine parameters is a scale and
a shift for each channel, so multiplying by the gate and adding up take one pass over memory for each operation. The
gradient of a gate is the batch norm's own scale gradient. Tensors that the backward pass needs are saved by autograd
alone, so that recomputation can drop them.

The plain composition is `ddarts.supernet.reference`. It cannot be differentiated twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ddarts.nn.batch_norm import BatchStatistics, Mode, batch_norm_gradient, normalise
from ddarts.nn.dispatch import channels_last, working
from ddarts.supernet.backends import cpu, pytorch
from ddarts.supernet.backends.pytorch import Layer, MixedResults, Result, Saved, State


class Gradients(NamedTuple):
    """Gradients of an operation: at the state, at the scale of its last batch norm [E * C], and at its inputs."""

    at_x: Tensor | None
    at_scale: Tensor
    at_inputs: list[Tensor | None]


class DepthwiseSeparable:
    """Layers of ReLU - depthwise - pointwise convolution - batch norm on all E edges that leave a state.

    It holds no tensors but those of the batch norms. Its inputs are the weights: those of each layer's depthwise and
    pointwise convolution, [E * C, 1, k, k] and [E * C, C, 1, 1], in the order of the layers.
    """

    reads_state = True

    def __init__(self, *layers: Layer) -> None:
        self.layers = layers
        self.norms = tuple(layer.norm for layer in layers)

    def forward(self, state: State, inputs: Sequence[Tensor], modes: Sequence[Mode]) -> tuple[list[Saved], Result]:
        """Return what each layer saves, and the last one's result before its batch norm."""
        backend = cpu if cpu.fits(state.x, state.x.shape[1], modes) else pytorch
        saved: list[Saved] = []
        result = None
        for layer, *weights in zip(self.layers, inputs[::2], inputs[1::2], strict=True):
            of_layer, result = backend.forward(layer, state, result, weights)
            saved.append(of_layer)
        assert result is not None
        return saved, result

    def backward(
        self,
        state: State,
        inputs: Sequence[Tensor],
        modes: Sequence[Mode],
        saved: Sequence[Saved],
        grad: Tensor,
        scale: Tensor,
        at_x: Tensor | None,
        *,
        wanted: bool,
    ) -> Gradients:
        """Go back from the gradient at the result of the last batch norm.

        Args:
            state, inputs, modes: as in the forward pass.
            saved: what it saved.
            grad: the gradient [B, E * C, H', W'].
            scale: of the last batch norm [E * C].
            at_x: the gradient at the state that other operations have found, to be added to.
            wanted: whether a gradient at the state is.
        """
        backend = cpu if cpu.fits(state.x, state.x.shape[1], modes) else pytorch
        at_inputs: list[Tensor | None] = []
        result, sums, at_scale, last = pytorch.restored(saved[-1], inputs[-1], state), None, None, len(saved) - 1
        for i in range(last, -1, -1):
            before = pytorch.restored(saved[i - 1], inputs[2 * i - 1], state) if i else None
            found = backend.backward(
                self.layers[i],
                modes[i],
                state,
                before,
                inputs[2 * i : 2 * i + 2],
                saved[i],
                result,
                grad,
                scale=scale if i == last else None,
                sums=sums,
                at_x=None if i else at_x,
                wanted=wanted or (i > 0 and state.trained),
            )
            at_scale = found.at_scale if i == last else at_scale
            at_inputs[:0] = found.at_weights
            if found.at_input is None or before is None:
                at_x = found.at_input
                break
            grad, sums, result = found.at_input, found.sums, before
        assert at_scale is not None
        return Gradients(at_x, at_scale, at_inputs + [None] * (len(inputs) - len(at_inputs)))


class PrecomputedOperation:
    """Something that autograd has computed on all E edges: a pointwise convolution, if it has one, and batch norm.

    Its inputs are z [B, E * I, H', W'], and the weight [E * C, I, 1, 1] of the pointwise convolution if there is one.
    """

    reads_state = False

    def __init__(self, norm: BatchStatistics) -> None:
        self.norms = (norm,)

    def forward(self, state: State, inputs: Sequence[Tensor], modes: Sequence[Mode]) -> tuple[list[Saved], Result]:
        """Return what is saved, and the result before the batch norm."""
        z, weight = (*inputs, None)[:2]
        assert z is not None
        saved, result = pytorch.forward_pointwise(self.norms[0], state, z, weight)
        return [saved], result

    def backward(
        self,
        state: State,
        inputs: Sequence[Tensor],
        modes: Sequence[Mode],
        saved: Sequence[Saved],
        grad: Tensor,
        scale: Tensor,
        at_x: Tensor | None,
        *,
        wanted: bool,
    ) -> Gradients:
        """Go back, as `DepthwiseSeparable.backward`; the gradient at z goes to autograd."""
        weight = inputs[1] if len(inputs) > 1 else None
        result = pytorch.restored(saved[0], weight, state)
        at_z, at_scale, at_weight = pytorch.backward_pointwise(modes[0], state, weight, saved[0], result, grad, scale)
        assert at_scale is not None
        return Gradients(at_x, at_scale, [at_z, at_weight][: len(inputs)])


@dataclass(frozen=True)
class Grouped:
    """An operation that differs on the E edges, its weights as groups of convolutions.

    Attributes:
        operation: what to compute.
        inputs: its inputs.
        column: its column of the gates.
    """

    operation: DepthwiseSeparable | PrecomputedOperation
    inputs: tuple[Tensor, ...]
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


def mixed_op(
    x: Tensor,
    gates: Tensor,
    grouped: Sequence[Grouped],
    shared: Sequence[Shared],
    sums: Sequence[Tensor | None],
    *,
    keep: bool = False,
) -> tuple[list[Tensor], MixedResults | None]:
    """Add what a state sends over its E edges to the sums of the nodes that they lead to.

    Args:
        x: the state [B, C, H, W].
        gates: [E, operations].
        grouped, shared: the operations.
        sums: what each of the E nodes has received so far, [B, C, H', W']; None for nothing.
        keep: also return the operations' results, for `remix`; no gradient reaches them.

    Returns:
        the new sums, and the results.
    """
    call = _Call(grouped, shared, keep)
    if not any(g.operation.reads_state for g in grouped):
        x = x.detach()  # it reaches the nodes through other functions
    tensors = [*(t for g in grouped for t in g.inputs), *(s.x for s in shared), *sums]
    if torch.is_grad_enabled():
        new = _MixedOp.apply(call, working(x), gates, *tensors)
    else:
        new = call.run(None, working(x), gates, tensors)
    return list(new), call.results.pop() if keep else None  # type: ignore[arg-type]


def remix(gates: Tensor, results: MixedResults, sums: Sequence[Tensor | None]) -> list[Tensor]:
    """Return what `mixed_op` does, without a graph, from results that it has kept and other gates."""
    one = results.grouped[0].u if results.grouped else results.shared[0]
    channels = one.shape[1] // len(gates) if results.grouped else one.shape[1]
    backend = cpu if cpu.fits(one, channels) else pytorch
    return backend.mixed_sum(gates.detach(), results, sums)


class _Saved(NamedTuple):
    """All that the backward pass needs.

    Attributes:
        x, gates: of the call.
        inputs: of each grouped operation its weights, None in the place of what autograd has computed.
        shared: of each shared operation the result.
        layers: of each layer of each grouped operation.
        statistics: of each shared operation with a batch norm the mean and variance [C].
    """

    x: Tensor
    gates: Tensor
    inputs: Sequence[Sequence[Any]]
    shared: Sequence[Tensor]
    layers: Sequence[Sequence[Saved]]
    statistics: Sequence[tuple[Tensor, Tensor]]

    def tensors(self) -> list[Tensor | None]:
        """All of it in one list."""
        layers = chain(*chain(*self.layers))
        return [self.x, self.gates, *chain(*self.inputs), *self.shared, *layers, *chain(*self.statistics)]


class _Call:
    """One call of `mixed_op`. It outlives the call, so it must not hold tensors that autograd saves."""

    def __init__(self, grouped: Sequence[Grouped], shared: Sequence[Shared], keep: bool) -> None:
        self.operations = [g.operation for g in grouped]
        self.modes: list[tuple[Mode, ...]] = [tuple(norm.mode for norm in o.norms) for o in self.operations]
        self.counts = [len(g.inputs) for g in grouped]
        self.norms = [s.norm for s in shared]
        self.norm_modes: list[Mode | None] = [None if norm is None else norm.mode for norm in self.norms]
        self.columns = (*(g.column for g in grouped), *(s.column for s in shared))
        self.keep = keep
        self.results: list[MixedResults] = []

    def split(self, tensors: Sequence[Any]) -> tuple[list[list[Any]], list[Any], list[Any]]:
        """Return the inputs of each operation, the shared results and the sums, out of what autograd sees of them."""
        left = iter(tensors)
        inputs = [list(islice(left, count)) for count in self.counts]
        return inputs, list(islice(left, len(self.norms))), list(left)

    def saved(self, tensors: Sequence[Any]) -> _Saved:
        """Undo `_Saved.tensors`."""
        left = iter(tensors)
        x, gates = next(left), next(left)
        inputs = [list(islice(left, count)) for count in self.counts]
        shared = list(islice(left, len(self.norms)))
        layers = [[Saved(*islice(left, 3)) for _ in o.norms] for o in self.operations]
        statistics: list[Any] = [tuple(islice(left, 2)) for norm in self.norms if norm is not None]
        assert next(left, None) is None
        return _Saved(x, gates, inputs, shared, layers, statistics)

    def weights(self, inputs: Sequence[Sequence[Any]]) -> list[list[Any]]:
        """Return `inputs` with None in the place of what autograd has computed."""
        pairs = zip(self.operations, inputs, strict=True)
        return [list(row) if o.reads_state else [None, *row[1:]] for o, row in pairs]

    def run(self, ctx: Any, x: Tensor, gates: Tensor, tensors: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """Compute the new sums; with a `ctx`, save there what the backward pass needs."""
        inputs, raw, sums = self.split(tensors)
        trained = ctx is not None and any(chain(*self.weights(self.split(ctx.needs_input_grad[3:])[0])))
        state = State(x, len(gates), trained=trained)
        layers, found, shared, statistics = [], [], [], []
        for operation, of_operation, modes in zip(self.operations, inputs, self.modes, strict=True):
            saved, result = operation.forward(state, of_operation, modes)
            layers.append(saved)
            found.append(result)
        for norm, s in zip(self.norms, raw, strict=True):
            if norm is not None:
                statistics.append(norm.measure(s))
                s = normalise(s, *statistics[-1])
            shared.append(s)
        results = MixedResults(tuple(found), tuple(shared), self.columns)
        if self.keep:
            self.results.append(results)
        if ctx is not None:
            ctx.call, ctx.trained, ctx.given = self, trained, [s is not None for s in sums]
            ctx.save_for_backward(*_Saved(x, gates, self.weights(inputs), raw, layers, statistics).tensors())
        return tuple(remix(gates, results, sums))


class _MixedOp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor, gates: Tensor, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        return call.run(ctx, x, gates, tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        call: _Call = ctx.call
        saved = call.saved(ctx.saved_tensors)
        grads = tuple(channels_last(g) for g in grads)
        at_gates: list[Tensor | None] = [None] * saved.gates.shape[1]  # each [E]
        at_x: Tensor | None = None
        at_inputs: list[Tensor | None] = []
        for column, found in _grouped_gradients(
            call, saved, grads, trained=ctx.trained, wanted=ctx.needs_input_grad[1]
        ):
            at_x, at_gates[column] = found.at_x, found.at_scale.view(len(grads), -1).sum(1)
            at_inputs += found.at_inputs
        at_shared, at_shared_gates = _shared_gradients(call, saved, grads)
        for column, at_gate in zip(call.columns[len(call.operations) :], at_shared_gates, strict=True):
            at_gates[column] = at_gate
        at_sums = [g if given else None for g, given in zip(grads, ctx.given, strict=True)]
        gates = saved.gates
        every = [gates.new_zeros(len(gates)) if g is None else g.to(gates.dtype) for g in at_gates]
        return None, at_x, torch.stack(every, 1), *at_inputs, *at_shared, *at_sums


def _grouped_gradients(
    call: _Call, saved: _Saved, grads: Sequence[Tensor], *, trained: bool, wanted: bool
) -> Iterator[tuple[int, Gradients]]:
    """Yield the column and the gradients of each grouped operation; the last `at_x` is the sum of all."""
    if not call.operations:
        return
    edges, at_x = len(grads), None
    grad = torch.cat(list(grads), 1) if edges > 1 else grads[0]
    scales = saved.gates.t().repeat_interleave(grad.shape[1] // edges, 1)  # [operations, E * C]
    state = State(saved.x, edges, trained=trained)
    rows = zip(call.operations, saved.inputs, call.modes, saved.layers, call.columns, strict=False)
    for operation, inputs, modes, layers, column in rows:
        found = operation.backward(state, inputs, modes, layers, grad, scales[column], at_x, wanted=wanted)
        at_x = found.at_x
        yield column, found


def _shared_gradients(call: _Call, saved: _Saved, grads: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the gradients at the results of the shared operations, and [E] at the gates of each."""
    if not saved.shared:
        return [], []
    left = iter(saved.statistics)
    statistics = [None if norm is None else next(left) for norm in call.norms]
    normal = [s if pair is None else normalise(s, *pair) for s, pair in zip(saved.shared, statistics, strict=True)]
    columns = call.columns[len(call.operations) :]
    found, at_gates = pytorch.shared_gradients(saved.gates, grads, normal, columns)
    rows = zip(call.norm_modes, found, saved.shared, statistics, strict=True)
    return [
        at if mode is None or pair is None else batch_norm_gradient(mode, at, s, *pair)[0] for mode, at, s, pair in rows
    ], at_gates
