"""The training pass of a cell of the discrete network in the CPU's kernels, forward and backward as one function.

The modules of a cell run ReLU, convolutions, batch norm and sum one after the other, and autograd keeps the result of
each. Here ReLU and convolutions are one pass over memory that takes the batch statistics along; batch norms are applied
where their results are read, by the next convolution or by the sum of a node; and every operation adds its gradient to
that of the state it reads. `fits` tells when a cell can run so; all else runs its modules, to the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ddarts.kernels import discrete, operators
from ddarts.nn.batch_norm import EPS, check_count
from ddarts.nn.dispatch import channels_last, on_cpu, working
from ddarts.nn.operations import DilatedConv, FactorizedReduce, ReLUConvBN, SeparableConv

_foreach_mul = torch.ops.aten._foreach_mul.ScalarList
_foreach_lerp = torch.ops.aten._foreach_lerp_.Scalar
_foreach_add = torch.ops.aten._foreach_add_.Scalar


@dataclass(frozen=True, slots=True)
class _Result:
    """What an operation gives to a sum: `u`, or with statistics the batch norm of it."""

    u: Tensor
    mean: Tensor | None = None
    var: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None

    @property
    def measured(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return self.u, self.mean, self.var


#: [C] of the gradient at a batch norm's result, and of that times the normalised input
_Sums = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class _Layer:
    """One ReLU - depthwise - pointwise - batch norm."""

    depthwise: nn.Conv2d
    pointwise: nn.Conv2d
    norm: nn.BatchNorm2d


class _Tape:
    """What the forward pass keeps for the backward pass, which reads it from the end."""

    def __init__(self) -> None:
        self.tensors: list[Tensor | None] = []
        self.norms: list[tuple[nn.BatchNorm2d, Tensor, Tensor, int]] = []

    def keep(self, *tensors: Tensor | None) -> None:
        self.tensors.extend(tensors)

    def take(self, count: int) -> list[Any]:
        assert len(self.tensors) >= count
        taken = self.tensors[-count:]
        del self.tensors[-count:]
        return taken

    def move_running_statistics(self) -> None:
        """Move the running statistics of all batch norms as `nn.BatchNorm2d` does."""
        moving: Any = [entry for entry in self.norms if entry[0].momentum]
        for momentum in {norm.momentum for norm, *_ in moving}:
            norms, means, variances, counts = zip(*(e for e in moving if e[0].momentum == momentum), strict=True)
            unbiased = _foreach_mul(variances, [count / (count - 1) for count in counts])
            _foreach_lerp([norm.running_mean for norm in norms], means, momentum)
            _foreach_lerp([norm.running_var for norm in norms], unbiased, momentum)
        steps = [norm.num_batches_tracked for norm, *_ in self.norms if norm.num_batches_tracked is not None]
        if steps:
            _foreach_add(steps, 1)


@dataclass(frozen=True, slots=True)
class _Gradients:
    """Where a backward pass writes."""

    states: dict[int, Tensor]  # of each state, complete when its node is reached
    parameters: dict[Tensor, Tensor]


class _Convolutions:
    """A separable or a dilated convolution."""

    def __init__(self, module: SeparableConv | DilatedConv) -> None:
        if isinstance(module, SeparableConv):
            self.layers = [
                _Layer(module.depthwise1, module.pointwise1, module.norm1),
                _Layer(module.depthwise2, module.pointwise2, module.norm2),
            ]
        else:
            self.layers = [_Layer(module.depthwise, module.pointwise, module.norm)]

    def forward(self, x: Tensor, tape: _Tape) -> _Result:
        before = _Result(x)
        for layer in self.layers:
            depthwise, pointwise, norm = layer.depthwise, layer.pointwise, layer.norm
            stride, dilation = depthwise.stride[0], depthwise.dilation[0]
            u, z, mean, var = operators.separable_conv(
                before.u, depthwise.weight, pointwise.weight, before.mean, before.var, stride, dilation, EPS, True,
                before.scale, before.shift,
            )  # fmt: skip
            tape.keep(before.u, before.mean, before.var, z)
            tape.norms.append((norm, mean, var, _count(u)))
            before = _Result(u, mean, var, norm.weight, norm.bias)
        return before

    def backward(self, result: _Result, grad: Tensor, sums: _Sums, source: int, to: _Gradients, tape: _Tape) -> None:
        u, mean, var = result.measured
        for layer in reversed(self.layers):
            depthwise, pointwise, norm = layer.depthwise, layer.pointwise, layer.norm
            x, mean_x, var_x, z = tape.take(4)
            to.parameters[norm.bias], to.parameters[norm.weight] = sums
            first = mean_x is None
            known = to.states.get(source) if first else None
            at_x = torch.empty_like(x) if known is None else known
            before = None if first else self.layers[0].norm
            of_x, to.parameters[depthwise.weight], to.parameters[pointwise.weight] = operators.separable_conv_backward(
                grad, *sums, u, z, mean, var, norm.weight, x, depthwise.weight, pointwise.weight, mean_x, var_x, at_x,
                depthwise.stride[0], depthwise.dilation[0], EPS, known is not None,
                None if before is None else before.weight, None if before is None else before.bias,
            )  # fmt: skip
            if first:
                to.states[source] = at_x
            else:
                sums = of_x[0], of_x[1]
            u, mean, var, grad = x, mean_x, var_x, at_x


class _Pointwise:
    """A 1x1 convolution or a factorized reduction: ReLU - convolution - batch norm."""

    def __init__(self, module: ReLUConvBN | FactorizedReduce) -> None:
        self.norm = module.norm
        if isinstance(module, FactorizedReduce):
            self.convolutions = [module.conv1, *([] if module.conv2 is None else [module.conv2])]
        else:
            self.convolutions = [module.conv]
        self.stride = self.convolutions[0].stride[0]

    @property
    def weights(self) -> list[Tensor]:
        return [conv.weight for conv in self.convolutions]

    def forward(self, x: Tensor, tape: _Tape) -> _Result:
        u, mean, var = discrete.relu_pointwise(x, self.weights, self.stride)
        tape.keep(x)
        tape.norms.append((self.norm, mean, var, _count(u)))
        return _Result(u, mean, var, self.norm.weight, self.norm.bias)

    def backward(self, result: _Result, grad: Tensor, sums: _Sums, source: int, to: _Gradients, tape: _Tape) -> None:
        (x,) = tape.take(1)
        to.parameters[self.norm.bias], to.parameters[self.norm.weight] = sums
        known = to.states.get(source)
        at_x = to.states[source] = torch.empty_like(x) if known is None else known
        found = discrete.relu_pointwise_backward(
            grad, *sums, *result.measured, self.norm.weight, x, self.weights, at_x, self.stride, EPS,
            known is not None,
        )  # fmt: skip
        to.parameters.update(zip(self.weights, found, strict=False))


class _Pool:
    def __init__(self, module: nn.MaxPool2d | nn.AvgPool2d) -> None:
        self.maximum, self.stride = isinstance(module, nn.MaxPool2d), cast(int, module.stride)

    def forward(self, x: Tensor, tape: _Tape) -> _Result:
        y, position = discrete.pool(x, self.stride, self.maximum)
        tape.keep(x, position)
        return _Result(y)

    def backward(self, result: _Result, grad: Tensor, sums: _Sums, source: int, to: _Gradients, tape: _Tape) -> None:
        x, position = tape.take(2)
        if source not in to.states:
            to.states[source] = torch.zeros_like(x)
        discrete.pool_backward(grad, position, to.states[source], self.stride, self.maximum)


class _Identity:
    def forward(self, x: Tensor, tape: _Tape) -> _Result:
        return _Result(x)

    def backward(self, result: _Result, grad: Tensor, sums: _Sums, source: int, to: _Gradients, tape: _Tape) -> None:
        if source in to.states:
            to.states[source].add_(grad)
        else:  # other operations still read this gradient
            to.states[source] = grad.clone(memory_format=torch.channels_last)


_Operation = _Convolutions | _Pointwise | _Pool | _Identity


def _operation(module: nn.Module) -> _Operation | None:
    """Return how the kernels run a module, or None where they cannot."""
    match module:
        case SeparableConv() if module.depthwise1.kernel_size[0] in (3, 5):
            return _Convolutions(module)
        case DilatedConv() if module.depthwise.kernel_size[0] in (3, 5):
            return _Convolutions(module)
        case ReLUConvBN() if module.conv.kernel_size == (1, 1):
            return _Pointwise(module)
        case FactorizedReduce():
            return _Pointwise(module)
        case nn.MaxPool2d() | nn.AvgPool2d() if module.kernel_size == 3:
            return _Pool(module)
        case nn.Identity():
            return _Identity()
    return None


class FusedCell:
    """The modules of a cell as the kernels run them.

    Args:
        entrances: the module that makes state 0 and 1 from the inputs; None where nobody reads it.
        nodes: for each node what enters it: (number of its drop-path mask or None, module, state that it reads).
        concat: the states whose concatenation is the output.
        channels: C of every state.
    """

    def __init__(
        self,
        entrances: Sequence[nn.Module | None],
        nodes: Mapping[int, Sequence[tuple[int | None, nn.Module, int]]],
        concat: Sequence[int],
        channels: int,
    ) -> None:
        self.channels, self.concat = channels, tuple(concat)
        found = [(i, module) for i, module in enumerate(entrances) if module is not None]
        self.entrances = [(i, _operation(module)) for i, module in found]
        self.nodes = [(k, [(m, _operation(module), s) for m, module, s in edges]) for k, edges in nodes.items()]
        modules = [module for _, module in found] + [module for edges in nodes.values() for _, module, _ in edges]
        self.possible = all(_operation(module) is not None for module in modules)
        # where the batch norms are: others may take their place (ddarts.nn.batch_norm.synchronise)
        self.norms = [
            (owner, name)
            for module in modules
            for owner in module.modules()
            for name, norm in owner.named_children()
            if isinstance(norm, nn.BatchNorm2d)
        ]
        self._modules = [owner for module in modules for owner in module.modules()]
        # not the parameters themselves, which `load_state_dict(..., assign=True)` replaces
        self._weighted = [(m, name) for m in self._modules for name, p in m._parameters.items() if p is not None]

    @property
    def parameters(self) -> list[Tensor | None]:
        """All parameters of the cell; None for one that is gone (pruning and parametrisations take them away)."""
        return [owner._parameters.get(name) for owner, name in self._weighted]

    def fits(self, *inputs: Tensor | None) -> bool:
        """Return whether the kernels can run the cell now.

        In training with a graph, every parameter trained and in float32, and nothing hooked to a module that is passed
        over.
        """
        if not all(isinstance(x, Tensor | None) for x in inputs):  # a graph is traced: it is made of the modules
            return False
        x = next(working(x) for x in inputs if x is not None)
        return (
            self.possible
            and torch.is_grad_enabled()
            and on_cpu(x)
            and operators.fits(x, self.channels)
            and all(_is_plain(getattr(owner, name)) for owner, name in self.norms)
            and all(p is not None and p.requires_grad and p.dtype == torch.float32 for p in self.parameters)
            and not any(_is_hooked(module) for module in self._modules)
        )

    def __call__(self, input0: Tensor | None, input1: Tensor | None, masks: Tensor | None) -> Tensor:
        """Run the cell as `ddarts.nn.network.Cell.forward` does; the inputs need not be rectified."""
        inputs = [None if x is None else channels_last(working(x)) for x in (input0, input1)]
        return _Function.apply(self, masks, *inputs, *self.parameters)  # type: ignore[return-value]

    def steps(self) -> Iterator[tuple[int, list[tuple[int | None, Any, int]]]]:
        """Yield every state with what is added up in it, in order; inputs i are the states i - 2."""
        for i, entrance in self.entrances:
            yield i, [(None, entrance, i - 2)]
        yield from self.nodes


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: FusedCell, masks: Tensor | None, *tensors: Any) -> Tensor:
        states = {-2: tensors[0], -1: tensors[1]}
        tape = _Tape()
        for target, edges in cell.steps():
            results = [operation.forward(states[source], tape) for _, operation, source in edges]
            added = results
            if masks is not None:
                added = [_dropped(result, masks, m) for result, (m, *_) in zip(results, edges, strict=True)]
            states[target] = _sum(added)
            for result in results:
                tape.keep(*result.measured)
        tape.move_running_statistics()
        ctx.cell, ctx.shapes = cell, {state: states[state].shape for state in cell.concat}
        # the parameters too, so that autograd refuses a backward pass after they have changed
        ctx.save_for_backward(masks, *tensors[2:], *tape.tensors)
        if len(cell.concat) == 1:
            return states[cell.concat[0]]
        return torch.cat([states[state] for state in cell.concat], 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        cell, tape = ctx.cell, _Tape()
        masks, *saved = ctx.saved_tensors
        tape.tensors = saved[len(cell.parameters) :]
        parts = grads[0].split(cell.channels, 1)
        # the node's gradient is written to: a copy, of a single node too
        copies = [part.clone(memory_format=torch.channels_last) for part in parts]
        to = _Gradients(dict(zip(cell.concat, copies, strict=True)), {})
        for target, edges in reversed(list(cell.steps())):
            kept = [_Result(*tape.take(3)) for _ in edges][::-1]
            grad = to.states.pop(target)
            plain = masks is None or all(m is None for m, *_ in edges)
            shared = _sums(grad, kept) if plain else []
            for k in reversed(range(len(edges))):
                m, operation, source = edges[k]
                at = grad
                if plain:
                    sums = shared[k]
                else:
                    at = grad if m is None or masks is None else grad * masks[m].to(grad.dtype)
                    (sums,) = _sums(at, [kept[k]])
                operation.backward(kept[k], at, sums, source, to, tape)
        assert not tape.tensors
        inputs = (to.states.get(i) for i in (-2, -1))
        return None, None, *inputs, *(to.parameters[parameter] for parameter in cell.parameters)


def _is_plain(norm: nn.BatchNorm2d) -> bool:
    moves = norm.training and norm.track_running_stats and norm.momentum is not None
    return type(norm) is nn.BatchNorm2d and moves and norm.eps == EPS


def _is_hooked(module: nn.Module) -> bool:
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(hooks)


def _sum(results: Sequence[_Result]) -> Tensor:
    return discrete.node_sum(
        [r.u for r in results],
        [r.mean for r in results],
        [r.var for r in results],
        [r.scale for r in results],
        [r.shift for r in results],
        EPS,
    )


def _dropped(result: _Result, masks: Tensor, number: int | None) -> _Result:
    """The result times its drop-path factors."""
    if number is None:
        return result
    return _Result(_sum([result]) * masks[number].to(result.u.dtype))


def _sums(grad: Tensor, results: Sequence[_Result]) -> list[_Sums]:
    """The sums [C] of `grad`, and of `grad` times each normalised result."""
    if all(result.mean is None for result in results):
        return [(grad, grad)] * len(results)  # nobody reads them
    u, mean, var = ([*numbers] for numbers in zip(*(result.measured for result in results), strict=True))
    sum, dot = discrete.node_sums(grad, u, mean, var, EPS)
    return [(sum, of_one) for of_one in dot]


def _count(u: Tensor) -> int:
    """How many values of a channel a batch norm sees.

    Raises:
        SettingsError: only one.
    """
    count = u.numel() // u.shape[1]
    check_count(count)
    return count
