"""The kernels as operators of PyTorch, `torch.ops.ddarts.*`: autograd, tracing and export know them.

- `separable_conv`: ReLU - depthwise - pointwise convolution on E edges, and the batch statistics of the result.
- `separable_conv_backward`: its gradients and those of the batch norm after it, in one pass over memory.
- `mixed_sum`: gates times normalized results, added up on each edge of a supernet.
- `relu_pointwise`, `relu_pointwise_backward`: ReLU - pointwise convolution, as the former two.
- `node_sum`, `node_sums`: what enters a node of a discrete network, added up; and what its batch norms' gradients need.
- `pool`, `pool_backward`: 3x3 pools.

Shapes: B images, E edges, C channels. The input of a separable convolution is one image [B, C, H, W] that all edges
share, or, with the mean and variance of the batch norm before it, an image for each edge [B, E * C, H, W]. Images are
float32 or bfloat16 and are read as channels-last; everything else is float32. `fits` reports whether a build of the
kernels can run; where it cannot, `ddarts.supernet.backends.pytorch` and the modules of `ddarts.nn` compute the same.

Autograd knows the gradients of `separable_conv`; the other operators are called by autograd functions of the package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ddarts.kernels.library import Library, counts, load, pointers

_OPERATORS = torch.library.Library("ddarts", "DEF")
_OPERATORS.define(
    "separable_conv(Tensor x, Tensor depthwise, Tensor pointwise, Tensor? mean_x, Tensor? var_x, int stride, "
    "int dilation, float eps, bool keep_z, Tensor? scale_x=None, Tensor? shift_x=None) "
    "-> (Tensor u, Tensor z, Tensor mean, Tensor var)"
)
_OPERATORS.define(
    "separable_conv_backward(Tensor grad, Tensor sum, Tensor dot, Tensor u, Tensor? z, Tensor mean, Tensor var, "
    "Tensor? scale, Tensor x, Tensor depthwise, Tensor pointwise, Tensor? mean_x, Tensor? var_x, Tensor(a!)? at_x, "
    "int stride, int dilation, float eps, bool adds, Tensor? scale_x=None, Tensor? shift_x=None) "
    "-> (Tensor sums_x, Tensor at_depthwise, Tensor at_pointwise)"
)
_OPERATORS.define(
    "mixed_sum(Tensor gates, Tensor[] u, Tensor[] mean, Tensor[] var, Tensor[] shared, int[] columns, "
    "Tensor?[] before, float eps) -> Tensor[]"
)
_OPERATORS.define("relu_pointwise(Tensor x, Tensor[] weights, int stride) -> (Tensor u, Tensor mean, Tensor var)")
_OPERATORS.define(
    "relu_pointwise_backward(Tensor grad, Tensor sum, Tensor dot, Tensor u, Tensor mean, Tensor var, Tensor? scale, "
    "Tensor x, Tensor[] weights, Tensor(a!)? at_x, int stride, float eps, bool adds) "
    "-> (Tensor at_first, Tensor at_second)"
)
_OPERATORS.define(
    "node_sum(Tensor[] u, Tensor?[] mean, Tensor?[] var, Tensor?[] scale, Tensor?[] shift, float eps) -> Tensor"
)
_OPERATORS.define(
    "node_sums(Tensor grad, Tensor[] u, Tensor?[] mean, Tensor?[] var, float eps) -> (Tensor sum, Tensor dot)"
)
_OPERATORS.define("pool(Tensor x, int stride, bool maximum) -> (Tensor y, Tensor position)")
_OPERATORS.define("pool_backward(Tensor grad, Tensor position, Tensor(a!) at_x, int stride, bool maximum) -> ()")

#: With fewer channels most lanes of the kernels would be empty.
_FEWEST_CHANNELS = 8

#: Names of the dtypes of images; weights, statistics and all arithmetic are float32.
_PRECISIONS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

_LAST = torch.channels_last


def fits(x: Tensor, channels: int) -> bool:
    """Return whether a build of the kernels takes images like `x` [B, ..., H, W] to edges of `channels` channels."""
    if x.device.type != "cpu" or x.dtype not in _PRECISIONS or channels < _FEWEST_CHANNELS or x.numel() == 0:
        return False
    return (library := load()) is not None and (library.has_threads or torch.get_num_threads() == 1)


def _separable_conv(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    mean_x: Tensor | None,
    var_x: Tensor | None,
    stride: int,
    dilation: int,
    eps: float,
    keep_z: bool,
    scale_x: Tensor | None = None,
    shift_x: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return u [B, E * C, H', W'], z of the same size or empty, and the mean and biased variance [E * C] of u."""
    u, z, mean, var = found = _empty_results(x, depthwise, stride, keep_z)
    x, depthwise, pointwise = _image(x, x.dtype), _numbers(depthwise), _numbers(pointwise)
    mean_x, var_x, scale_x, shift_x = map(_numbers, (mean_x, var_x, scale_x, shift_x))
    _library().run(
        "forward",
        _PRECISIONS[x.dtype],
        x=x.data_ptr(),
        mean=_pointer(mean_x),
        var=_pointer(var_x),
        scale=_pointer(scale_x),
        shift=_pointer(shift_x),
        depthwise=depthwise.data_ptr(),
        pointwise=pointwise.data_ptr(),
        z=z.data_ptr() if keep_z else None,
        u=u.data_ptr(),
        mean_u=mean.data_ptr(),
        var_u=var.data_ptr(),
        stride=stride,
        dilation=dilation,
        eps=eps,
        **_sizes(x, depthwise, pointwise),
    )
    return found


def _empty_results(x: Tensor, depthwise: Tensor, stride: int, keep_z: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    batch, _, height, width = x.shape
    size = batch, len(depthwise), (height - 1) // stride + 1, (width - 1) // stride + 1
    u = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=_LAST)
    mean = torch.empty(len(depthwise), dtype=torch.float32, device=x.device)
    return u, torch.empty_like(u) if keep_z else x.new_empty(0), mean, torch.empty_like(mean)


def _separable_conv_backward(
    grad: Tensor,
    sum: Tensor,
    dot: Tensor,
    u: Tensor,
    z: Tensor | None,
    mean: Tensor,
    var: Tensor,
    scale: Tensor | None,
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    mean_x: Tensor | None,
    var_x: Tensor | None,
    at_x: Tensor | None,
    stride: int,
    dilation: int,
    eps: float,
    adds: bool,
    scale_x: Tensor | None = None,
    shift_x: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Go back from the result of the batch norm after `separable_conv`.

    Args:
        grad: the gradient at that result [B, E * C, H', W'].
        sum, dot: sums [E * C] of `grad`, and of `grad` times the normalized u.
        u, z, mean, var: what the forward pass returned; None for z leaves out the gradients of the weights.
        scale: of the batch norm [E * C], or None.
        x, depthwise, pointwise, mean_x, var_x, stride, dilation, eps, scale_x, shift_x: what the forward pass took.
        at_x: channels-last memory for the gradient at x, or at the result of the batch norm before it; None for none.
        adds: add to what `at_x` holds; for an x that all edges share.

    Returns:
        with mean_x and var_x the sums [2, E * C] of at_x, and of at_x times the normalized x; the gradients at the
        depthwise and pointwise weights. What was not asked for is empty.
    """
    assert at_x is None or (at_x.dtype == x.dtype and at_x.is_contiguous(memory_format=_LAST))
    sums, at_depthwise, at_pointwise = found = _empty_gradients(x, depthwise, pointwise, z, mean_x)
    grad, u, x = (_image(t, x.dtype) for t in (grad, u, x))
    z = None if z is None else _image(z, x.dtype)
    numbers = [_numbers(t) for t in (mean, var, scale, sum, dot, mean_x, var_x, scale_x, shift_x, depthwise, pointwise)]
    _library().run(
        "backward",
        _PRECISIONS[x.dtype],
        grad=grad.data_ptr(),
        u=u.data_ptr(),
        z=_pointer(z),
        x=x.data_ptr(),
        **dict(zip(_NUMBERS, map(_pointer, numbers), strict=True)),
        at_x=_pointer(at_x),
        sum_x=None if mean_x is None else sums[0].data_ptr(),
        dot_x=None if mean_x is None else sums[1].data_ptr(),
        at_depthwise=None if z is None else at_depthwise.data_ptr(),
        at_pointwise=None if z is None else at_pointwise.data_ptr(),
        stride=stride,
        dilation=dilation,
        eps=eps,
        adds=int(adds),
        **_sizes(x, depthwise, pointwise),
    )
    return found


_NUMBERS = ["mean", "var", "scale", "sum", "dot", "mean_x", "var_x", "scale_x", "shift_x", "depthwise", "pointwise"]


def _empty_gradients(
    x: Tensor, depthwise: Tensor, pointwise: Tensor, z: Tensor | None, mean_x: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    sizes = (
        (0,) if mean_x is None else (2, len(depthwise)),
        *((0,) if z is None else w.shape for w in (depthwise, pointwise)),
    )
    sums, at_depthwise, at_pointwise = (torch.empty(s, dtype=torch.float32, device=x.device) for s in sizes)
    return sums, at_depthwise, at_pointwise


def _mixed_sum(
    gates: Tensor,
    u: Sequence[Tensor],
    mean: Sequence[Tensor],
    var: Sequence[Tensor],
    shared: Sequence[Tensor],
    columns: Sequence[int],
    before: Sequence[Tensor | None],
    eps: float,
) -> list[Tensor]:
    """Return for each edge before + the sum over operations of gate * BN(u) + that of gate * shared result.

    Args:
        gates: [E, operations].
        u, mean, var: of the operations that differ on the edges, [B, E * C, H, W] and [E * C].
        shared: results [B, C, H, W] of the operations that all edges share.
        columns: of the gates of the former, then of the latter.
        before: for each edge [B, C, H, W], or None for nothing.
        eps: added to variances.
    """
    edges, operations = gates.shape
    sums = _empty_sums(gates, u, mean, var, shared, columns, before, eps)
    gates, dtype = gates.float().contiguous(), sums[0].dtype
    lists = {
        "u": [_image(t, dtype) for t in u],
        "mean": [_numbers(t) for t in mean],
        "var": [_numbers(t) for t in var],
        "shared": [_image(t, dtype) for t in shared],
        "before": [None if t is None else _image(t, dtype) for t in before],
        "sums": sums,
    }
    batch, channels, height, width = sums[0].shape
    _library().run(
        "sums",
        _PRECISIONS[dtype],
        **{name: pointers([_pointer(t) for t in tensors]) for name, tensors in lists.items()},
        gates=gates.data_ptr(),
        columns=counts(columns),
        pixels=batch * height * width,
        channels=channels,
        edges=edges,
        operations=operations,
        branches=len(u),
        shares=len(shared),
        threads=torch.get_num_threads(),
        eps=eps,
    )
    return sums


def _empty_sums(
    gates: Tensor,
    u: Sequence[Tensor],
    mean: Any,
    var: Any,
    shared: Sequence[Tensor],
    columns: Any,
    before: Any,
    eps: float,
) -> list[Tensor]:
    one = u[0] if u else shared[0]
    batch, channels, height, width = one.shape
    size = batch, channels // len(gates) if u else channels, height, width
    return [torch.empty(size, dtype=one.dtype, device=one.device, memory_format=_LAST) for _ in range(len(gates))]


def _relu_pointwise(x: Tensor, weights: Sequence[Tensor], stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return u [B, O, H', W'], and its mean and biased variance [O].

    Args:
        x: [B, I, H, W].
        weights: [O, I, 1, 1]; or two, the second of which reads pixels that lie one row and one column further and
            whose results follow those of the first (a factorized reduction).
        stride: 1 or 2.
    """
    u, mean, var = found = _empty_pointwise(x, weights, stride)
    x = _image(x, x.dtype)
    first = 0
    for offset, weight in enumerate(map(_numbers, weights)):
        _library().run(
            "pointwise",
            _PRECISIONS[x.dtype],
            weight=weight.data_ptr(),
            mean_u=mean.data_ptr() + 4 * first,
            var_u=var.data_ptr() + 4 * first,
            **_pointwise_arguments(x, u, weight, stride, offset, first),
        )
        first += len(weight)
    return found


def _pointwise_arguments(x: Tensor, u: Tensor, weight: Tensor, stride: int, offset: int, first: int) -> dict[str, Any]:
    """What both passes take for the results from channel `first` of `u` on."""
    batch, inputs, height, width = x.shape
    return {
        "x": x.data_ptr(),
        "u": u.data_ptr() + first * u.element_size(),
        "batch": batch,
        "height": height,
        "width": width,
        "inputs": inputs,
        "outputs": len(weight),
        "wide": u.shape[1],
        "stride": stride,
        "offset": offset,
        "threads": min(torch.get_num_threads(), batch),
    }


def _empty_pointwise(x: Tensor, weights: Sequence[Tensor], stride: int) -> tuple[Tensor, Tensor, Tensor]:
    batch, _, height, width = x.shape
    size = batch, sum(map(len, weights)), (height - 1) // stride + 1, (width - 1) // stride + 1
    u = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=_LAST)
    mean = torch.empty(size[1], dtype=torch.float32, device=x.device)
    return u, mean, torch.empty_like(mean)


def _relu_pointwise_backward(
    grad: Tensor,
    sum: Tensor,
    dot: Tensor,
    u: Tensor,
    mean: Tensor,
    var: Tensor,
    scale: Tensor | None,
    x: Tensor,
    weights: Sequence[Tensor],
    at_x: Tensor | None,
    stride: int,
    eps: float,
    adds: bool,
) -> tuple[Tensor, Tensor]:
    """Go back from the result of the batch norm after `relu_pointwise`; return the gradients at the weights.

    That of a second weight is empty without one.

    Args:
        grad, sum, dot, u, mean, var, scale: as of `separable_conv_backward`, with O channels.
        x, weights, stride: what the forward pass took.
        at_x: channels-last memory for the gradient at x, or None for none.
        eps: of the batch norm.
        adds: add to what `at_x` holds.
    """
    assert at_x is None or (at_x.dtype == x.dtype and at_x.is_contiguous(memory_format=_LAST))
    grad, u, x = (_image(t, x.dtype) for t in (grad, u, x))
    numbers = {"sum": sum, "dot": dot, "mean": mean, "var": var} | ({} if scale is None else {"scale": scale})
    numbers = {name: _numbers(t) for name, t in numbers.items()}
    if at_x is not None and not adds and (stride > 1 or len(weights) > 1):
        at_x.zero_()  # not every pixel is read
        adds = True
    found = _empty_pointwise_gradients(weights)
    first = 0
    for offset, (weight, at_weight) in enumerate(zip(map(_numbers, weights), found, strict=False)):
        _library().run(
            "pointwise",
            _PRECISIONS[x.dtype],
            weight=weight.data_ptr(),
            grad=grad.data_ptr() + first * grad.element_size(),
            at_x=_pointer(at_x),
            at_weight=at_weight.data_ptr(),
            adds=int(adds),
            eps=eps,
            **{name: t.data_ptr() + 4 * first for name, t in numbers.items()},
            **_pointwise_arguments(x, u, weight, stride, offset, first),
        )
        first += len(weight)
    return found


def _empty_pointwise_gradients(weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    first = torch.empty_like(weights[0], dtype=torch.float32, memory_format=torch.contiguous_format)
    if len(weights) == 1:
        return first, first.new_empty(0)
    return first, torch.empty_like(weights[1], dtype=torch.float32, memory_format=torch.contiguous_format)


def _node_sum(
    u: Sequence[Tensor],
    mean: Sequence[Tensor | None],
    var: Sequence[Tensor | None],
    scale: Sequence[Tensor | None],
    shift: Sequence[Tensor | None],
    eps: float,
) -> Tensor:
    """Return the sum over terms of scale * (u - mean) / sqrt(var + eps) + shift; without a mean, of u: [B, C, H, W].

    Args:
        u: of each term [B, C, H, W].
        mean, var, scale, shift: of each term [C], or None.
        eps: added to variances.
    """
    total = torch.empty_like(u[0], memory_format=_LAST)
    _run_nodes(total, u, mean, var, eps, scale=scale, shift=shift)
    return total


def _node_sums(
    grad: Tensor, u: Sequence[Tensor], mean: Sequence[Tensor | None], var: Sequence[Tensor | None], eps: float
) -> tuple[Tensor, Tensor]:
    """Return the sums [C] of `grad` [B, C, H, W], and [terms, C] of `grad` times each normalised u (0 without a mean).

    The arguments are those of `node_sum`.
    """
    sum, dot = found = _empty_node_sums(grad, u)
    _run_nodes(_image(grad, u[0].dtype), u, mean, var, eps, sum=sum.data_ptr(), dot=dot.data_ptr())
    return found


def _empty_node_sums(grad: Tensor, u: Sequence[Tensor], *_: Any) -> tuple[Tensor, Tensor]:
    channels = grad.shape[1]
    return grad.new_empty(channels, dtype=torch.float32), grad.new_zeros((len(u), channels), dtype=torch.float32)


def _run_nodes(sums: Tensor, u: Sequence[Tensor], mean: Any, var: Any, eps: float, **more: Any) -> None:
    batch, channels, height, width = sums.shape
    images = [_image(t, sums.dtype) for t in u]
    lists = {"mean": mean, "var": var} | {name: t for name, t in more.items() if not isinstance(t, int)}
    numbers = {name: [_numbers(t) for t in tensors] for name, tensors in lists.items()}
    _library().run(
        "nodes",
        _PRECISIONS[sums.dtype],
        u=pointers([t.data_ptr() for t in images]),
        sums=sums.data_ptr(),
        pixels=batch * height * width,
        channels=channels,
        terms=len(u),
        threads=torch.get_num_threads(),
        eps=eps,
        **more | {name: pointers([_pointer(t) for t in tensors]) for name, tensors in numbers.items()},
    )


def _pool(x: Tensor, stride: int, maximum: bool) -> tuple[Tensor, Tensor]:
    """Return the 3x3 pool of x [B, C, H, W], and which pixels are the maxima (uint8; empty for averages).

    Averages do not count padding.
    """
    y, position = found = _empty_pool(x, stride, maximum)
    _run_pools(_image(x, x.dtype), y, position, x.shape, stride, maximum, backward=0)
    return found


def _empty_pool(x: Tensor, stride: int, maximum: bool) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = x.shape
    size = batch, channels, (height - 1) // stride + 1, (width - 1) // stride + 1
    y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=_LAST)
    return y, torch.empty_like(y, dtype=torch.uint8) if maximum else x.new_empty(0, dtype=torch.uint8)


def _pool_backward(grad: Tensor, position: Tensor, at_x: Tensor, stride: int, maximum: bool) -> None:
    """Add the gradient at the input of `pool` to `at_x` [B, C, H, W], channels-last."""
    assert at_x.is_contiguous(memory_format=_LAST)
    _run_pools(_image(grad, at_x.dtype), at_x, position, at_x.shape, stride, maximum, backward=1)


def _run_pools(x: Tensor, y: Tensor, position: Tensor, shape: Any, stride: int, maximum: bool, backward: int) -> None:
    batch, channels, height, width = shape
    _library().run(
        "pools",
        _PRECISIONS[x.dtype],
        x=x.data_ptr(),
        y=y.data_ptr(),
        position=position.data_ptr() if maximum else None,
        batch=batch,
        height=height,
        width=width,
        channels=channels,
        stride=stride,
        backward=backward,
        threads=min(torch.get_num_threads(), batch),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, depthwise, pointwise, mean_x, var_x, *ctx.options, keep_z, scale_x, shift_x = inputs
    ctx.save_for_backward(x, depthwise, pointwise, mean_x, var_x, scale_x, shift_x, *output)
    ctx.keep_z = keep_z
    ctx.mark_non_differentiable(output[1])


def _gradients(ctx: Any, at_u: Tensor, _at_z: Any, at_mean: Tensor, at_var: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients of `separable_conv` at its tensors, from those at u and at its statistics.

    The backward kernel goes back through a batch norm, whose gradient at u is a linear function of u for each channel.
    The gradient at_u + at_mean / n + 2 at_var (u - mean) / n is such a function too, and these arguments give it.
    """
    x, depthwise, pointwise, mean_x, var_x, scale_x, shift_x, u, z, mean, var = ctx.saved_tensors
    stride, dilation, eps = ctx.options
    trained = any(ctx.needs_input_grad[1:3])
    if trained and not ctx.keep_z:
        raise RuntimeError("ddarts::separable_conv has no gradients at its weights without z; call it with keep_z=True")
    scale = (var + eps).sqrt()
    at_x = torch.empty_like(x, memory_format=_LAST)
    sums, at_depthwise, at_pointwise = torch.ops.ddarts.separable_conv_backward(
        at_u, -at_mean, -2 * scale * at_var, u, z if trained else None, mean, var, scale,
        x, depthwise, pointwise, mean_x, var_x, at_x, stride, dilation, eps, False, scale_x, shift_x,
    )  # fmt: skip
    at_norm = at_affine = (None, None)
    if var_x is not None:
        inverse = (var_x + eps).rsqrt()
        factor = inverse if scale_x is None else inverse * scale_x
        at_x = at_x * factor.to(at_x.dtype)[:, None, None]
        at_norm = -factor * sums[0], -factor * inverse / 2 * sums[1]
        at_affine = None if scale_x is None else sums[1], None if shift_x is None else sums[0]
    at_weights = (at_depthwise, at_pointwise) if trained else (None, None)
    return at_x, *at_weights, *at_norm, None, None, None, None, *at_affine


_OPERATORS.impl("separable_conv", _separable_conv, "CPU")
_OPERATORS.impl("separable_conv_backward", _separable_conv_backward, "CPU")
_OPERATORS.impl("mixed_sum", _mixed_sum, "CPU")
_OPERATORS.impl("relu_pointwise", _relu_pointwise, "CPU")
_OPERATORS.impl("relu_pointwise_backward", _relu_pointwise_backward, "CPU")
_OPERATORS.impl("node_sum", _node_sum, "CPU")
_OPERATORS.impl("node_sums", _node_sums, "CPU")
_OPERATORS.impl("pool", _pool, "CPU")
_OPERATORS.impl("pool_backward", _pool_backward, "CPU")
torch.library.register_autograd("ddarts::separable_conv", _gradients, setup_context=_save, lib=_OPERATORS)


@torch.library.register_fake("ddarts::separable_conv", lib=_OPERATORS)
def _(
    x: Tensor,
    depthwise: Tensor,
    pointwise: Tensor,
    mean_x: Any,
    var_x: Any,
    stride: int,
    dilation: int,
    eps: float,
    keep_z: bool,
    *affine: Any,
) -> Any:
    return _empty_results(x, depthwise, stride, keep_z)


@torch.library.register_fake("ddarts::separable_conv_backward", lib=_OPERATORS)
def _(
    grad: Tensor, sum: Tensor, dot: Tensor, u: Tensor, z: Any, mean: Any, var: Any, scale: Any, x: Tensor, *rest: Any
) -> Any:
    depthwise, pointwise, mean_x, *_ = rest
    return _empty_gradients(x, depthwise, pointwise, z, mean_x)


torch.library.register_fake("ddarts::mixed_sum", _empty_sums, lib=_OPERATORS)
torch.library.register_fake("ddarts::relu_pointwise", _empty_pointwise, lib=_OPERATORS)
torch.library.register_fake("ddarts::node_sums", _empty_node_sums, lib=_OPERATORS)
torch.library.register_fake("ddarts::pool", _empty_pool, lib=_OPERATORS)


@torch.library.register_fake("ddarts::node_sum", lib=_OPERATORS)
def _(u: Sequence[Tensor], *_: Any) -> Tensor:
    return torch.empty_like(u[0], memory_format=_LAST)


@torch.library.register_fake("ddarts::relu_pointwise_backward", lib=_OPERATORS)
def _(*arguments: Any) -> tuple[Tensor, Tensor]:
    return _empty_pointwise_gradients(arguments[8])


@torch.library.register_fake("ddarts::pool_backward", lib=_OPERATORS)
def _(*_: Any) -> None:
    return None


def _direct(implementation: Callable[..., Any], operator: Callable[..., Any]) -> Callable[..., Any]:
    """Return the operator, without PyTorch's dispatch where that has nothing to do: it takes half of a small call."""

    def call(first: Any, *rest: Any) -> Any:
        plain = type(first if isinstance(first, Tensor) else first[0]) is Tensor and not torch.is_grad_enabled()
        return implementation(first, *rest) if plain else operator(first, *rest)

    return call


#: The operators as autograd functions of the package call them.
separable_conv = _direct(_separable_conv, torch.ops.ddarts.separable_conv.default)
separable_conv_backward = _direct(_separable_conv_backward, torch.ops.ddarts.separable_conv_backward.default)
mixed_sum = _direct(_mixed_sum, torch.ops.ddarts.mixed_sum.default)
relu_pointwise = _direct(_relu_pointwise, torch.ops.ddarts.relu_pointwise.default)
relu_pointwise_backward = _direct(_relu_pointwise_backward, torch.ops.ddarts.relu_pointwise_backward.default)
node_sum = _direct(_node_sum, torch.ops.ddarts.node_sum.default)
node_sums = _direct(_node_sums, torch.ops.ddarts.node_sums.default)
pool = _direct(_pool, torch.ops.ddarts.pool.default)
pool_backward = _direct(_pool_backward, torch.ops.ddarts.pool_backward.default)


def _library() -> Library:
    library = load()
    assert library is not None, "call `fits` first"
    return library


def _sizes(x: Tensor, depthwise: Tensor, pointwise: Tensor) -> dict[str, int]:
    batch, _, height, width = x.shape
    wide, channels = pointwise.shape[:2]
    return {
        "batch": batch,
        "height": height,
        "width": width,
        "channels": channels,
        "edges": wide // channels,
        "kernel": depthwise.shape[-1],
        "threads": min(torch.get_num_threads(), batch),
    }


def _pointer(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def _image(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` as the kernels read images: of this dtype, channels-last without gaps."""
    return (x if x.dtype == dtype else x.to(dtype)).contiguous(memory_format=_LAST)


def _numbers(x: Tensor | None) -> Any:
    """`x` as the kernels read weights and statistics."""
    return None if x is None else x.float().contiguous()
