"""The kernels of discrete networks as operators of PyTorch, `torch.ops.ddarts.*` (see `ddarts.kernels.operators`).

- `relu_pointwise`, `relu_pointwise_backward`: ReLU - pointwise convolution and the batch statistics of the result, or
  two such convolutions of stride 2 side by side; and the gradients, with those of the batch norm after it.
- `node_sum`, `node_sums`: what enters a node, added up; and the sums that its batch norms' gradients need.
- `norm_relu`, `norm_relu_backward`: batch norm by the statistics of the batch, a sum, ReLU; and the gradients.
- `conv3x3`, `conv3x3_backward`: 3x3 convolution of stride 1 by Winograd's minimal filtering; and the gradients.
- `pool`, `pool_backward`: 3x3 pools.

Separable convolutions are those of the supernet, with one edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddarts.kernels import operators
from ddarts.kernels.library import pointers
from ddarts.kernels.operators import LAST, PRECISIONS, build_in_use, floats, image, pointer, register


def _relu_pointwise(x: Tensor, weights: Sequence[Tensor], stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return u [B, O, H', W'], and its mean and biased variance [O].

    Args:
        x: [B, I, H, W].
        weights: [O, I, 1, 1]; or two, the second of which reads pixels that lie one row and one column further and
            whose results follow those of the first (a factorized reduction).
        stride: 1 or 2.
    """
    u, mean, var = found = _empty_pointwise(x, weights, stride)
    x = image(x, x.dtype)
    first = 0
    for offset, weight in enumerate(map(floats, weights)):
        build_in_use().run(
            "pointwise",
            PRECISIONS[x.dtype],
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
    u = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=LAST)
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
    assert at_x is None or (at_x.dtype == x.dtype and at_x.is_contiguous(memory_format=LAST))
    grad, u, x = (image(t, x.dtype) for t in (grad, u, x))
    numbers = {"sum": sum, "dot": dot, "mean": mean, "var": var} | ({} if scale is None else {"scale": scale})
    numbers = {name: floats(t) for name, t in numbers.items()}
    if at_x is not None and not adds and (stride > 1 or len(weights) > 1):
        at_x.zero_()  # not every pixel is read
        adds = True
    found = _empty_pointwise_gradients(weights)
    first = 0
    for offset, (weight, at_weight) in enumerate(zip(map(floats, weights), found, strict=False)):
        build_in_use().run(
            "pointwise",
            PRECISIONS[x.dtype],
            weight=weight.data_ptr(),
            grad=grad.data_ptr() + first * grad.element_size(),
            at_x=pointer(at_x),
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
    total = torch.empty_like(u[0], memory_format=LAST)
    _run_nodes(total, u, mean, var, eps, scale=scale, shift=shift)
    return total


def _node_sums(
    grad: Tensor, u: Sequence[Tensor], mean: Sequence[Tensor | None], var: Sequence[Tensor | None], eps: float
) -> tuple[Tensor, Tensor]:
    """Return the sums [C] of `grad` [B, C, H, W], and [terms, C] of `grad` times each normalised u (0 without a mean).

    The arguments are those of `node_sum`.
    """
    sum, dot = found = _empty_node_sums(grad, u)
    _run_nodes(image(grad, u[0].dtype), u, mean, var, eps, sum=sum.data_ptr(), dot=dot.data_ptr())
    return found


def _empty_node_sums(grad: Tensor, u: Sequence[Tensor], *_: Any) -> tuple[Tensor, Tensor]:
    channels = grad.shape[1]
    return grad.new_empty(channels, dtype=torch.float32), grad.new_zeros((len(u), channels), dtype=torch.float32)


def _run_nodes(sums: Tensor, u: Sequence[Tensor], mean: Any, var: Any, eps: float, **more: Any) -> None:
    batch, channels, height, width = sums.shape
    images = [image(t, sums.dtype) for t in u]
    lists = {"mean": mean, "var": var} | {name: t for name, t in more.items() if not isinstance(t, int)}
    numbers = {name: [floats(t) for t in tensors] for name, tensors in lists.items()}
    build_in_use().run(
        "nodes",
        PRECISIONS[sums.dtype],
        u=pointers([t.data_ptr() for t in images]),
        sums=sums.data_ptr(),
        pixels=batch * height * width,
        channels=channels,
        terms=len(u),
        threads=torch.get_num_threads(),
        eps=eps,
        **more | {name: pointers([pointer(t) for t in tensors]) for name, tensors in numbers.items()},
    )


def _norm_relu(
    x: Tensor, extra: Tensor | None, scale: Tensor | None, shift: Tensor | None, relu: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return scale * (x - mean) / sqrt(var + eps) + shift + extra, after ReLU if told; mean and biased variance [C].

    Args:
        x, extra: [B, C, H, W]; extra may be None.
        scale, shift: [C], or None.
        relu: whether ReLU follows.
        eps: added to variances.
    """
    y, mean, var = found = _empty_norm(x)
    extra = None if extra is None else image(extra, x.dtype)
    numbers = {"mean": mean, "var": var, "scale": floats(scale), "shift": floats(shift)}
    _run_norms(image(x, x.dtype), numbers, eps, y=y.data_ptr(), extra=pointer(extra), relu=int(relu))
    return found


def _empty_norm(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    mean = torch.empty(x.shape[1], dtype=torch.float32, device=x.device)
    return torch.empty_like(x, memory_format=LAST), mean, torch.empty_like(mean)


def _norm_relu_backward(
    grad: Tensor,
    x: Tensor,
    y: Tensor | None,
    mean: Tensor,
    var: Tensor,
    scale: Tensor | None,
    extra: bool,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients at x, at `extra` (empty if not told), at scale and at shift [C].

    Args:
        grad: the gradient at y [B, C, H, W].
        y: what the forward pass returned, or None if it had no ReLU.
        x, mean, var, scale, eps: of the forward pass.
        extra: whether the gradient at what was added is wanted.
    """
    at_x, at_extra, dot, sum = found = _empty_norm_gradients(grad, x, y, mean, var, scale, extra, eps)
    grad, y = image(grad, x.dtype), None if y is None else image(y, x.dtype)
    numbers = {"mean": floats(mean), "var": floats(var), "scale": floats(scale), "sum": sum, "dot": dot}
    outputs = {"at_x": at_x.data_ptr(), "at_extra": at_extra.data_ptr() if extra else None}
    _run_norms(image(x, x.dtype), numbers, eps, y=pointer(y), grad=grad.data_ptr(), **outputs)
    return found


def _empty_norm_gradients(
    grad: Tensor, x: Tensor, y: Any, mean: Tensor, var: Any, scale: Any, extra: bool, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    at_x = torch.empty_like(x, memory_format=LAST)
    dot = torch.empty_like(mean, dtype=torch.float32)
    return at_x, torch.empty_like(at_x) if extra else x.new_empty(0), dot, torch.empty_like(dot)


def _run_norms(x: Tensor, numbers: dict[str, Tensor | None], eps: float, **more: Any) -> None:
    batch, channels, height, width = x.shape
    build_in_use().run(
        "norms",
        PRECISIONS[x.dtype],
        x=x.data_ptr(),
        pixels=batch * height * width,
        channels=channels,
        threads=torch.get_num_threads(),
        eps=eps,
        **more | {name: pointer(t) for name, t in numbers.items()},
    )


def _conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """Return the convolution [B, O, H, W] of x [B, I, H, W] by weight [O, I, 3, 3], with a pixel of padding."""
    y = _empty_conv3x3(x, weight)
    _run_winograd(x, weight, len(weight), y=y.data_ptr())
    return y


def _empty_conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    batch, _, height, width = x.shape
    return torch.empty((batch, len(weight), height, width), dtype=x.dtype, device=x.device, memory_format=LAST)


def _conv3x3_backward(grad: Tensor, x: Tensor, weight: Tensor, wants_x: bool, wants_weight: bool) -> Any:
    """Return the gradients of `conv3x3` at x and at weight (float32); what is not wanted is empty."""
    at_x, at_weight = found = _empty_conv3x3_gradients(grad, x, weight, wants_x, wants_weight)
    grad = image(grad, x.dtype)
    if wants_x:
        _run_winograd(grad, weight, x.shape[1], y=at_x.data_ptr(), transposed=1)
    if wants_weight:
        _run_winograd(x, weight, len(weight), grad=grad.data_ptr(), at_weight=at_weight.data_ptr())
    return found


def _empty_conv3x3_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, wants_x: bool, wants_weight: bool
) -> tuple[Tensor, Tensor]:
    at_x = torch.empty_like(x, memory_format=LAST) if wants_x else x.new_empty(0)
    size = weight.shape if wants_weight else (0,)
    return at_x, torch.empty(size, dtype=torch.float32, device=x.device)


def _run_winograd(x: Tensor, weight: Tensor, outputs: int, **more: int) -> None:
    batch, inputs, height, width = x.shape
    x, weight = image(x, x.dtype), floats(weight)
    build_in_use().run(
        "winograd",
        PRECISIONS[x.dtype],
        x=x.data_ptr(),
        weight=weight.data_ptr(),
        batch=batch,
        height=height,
        width=width,
        inputs=inputs,
        outputs=outputs,
        threads=min(torch.get_num_threads(), batch),
        **more,
    )


def _pool(x: Tensor, stride: int, maximum: bool) -> tuple[Tensor, Tensor]:
    """Return the 3x3 pool of x [B, C, H, W], and which pixels are the maxima (uint8; empty for averages).

    Averages do not count padding.
    """
    y, position = found = _empty_pool(x, stride, maximum)
    _run_pools(image(x, x.dtype), y, position, x.shape, stride, maximum, backward=0)
    return found


def _empty_pool(x: Tensor, stride: int, maximum: bool) -> tuple[Tensor, Tensor]:
    batch, channels, height, width = x.shape
    size = batch, channels, (height - 1) // stride + 1, (width - 1) // stride + 1
    y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=LAST)
    return y, torch.empty_like(y, dtype=torch.uint8) if maximum else x.new_empty(0, dtype=torch.uint8)


def _pool_backward(grad: Tensor, position: Tensor, at_x: Tensor, stride: int, maximum: bool) -> None:
    """Add the gradient at the input of `pool` to `at_x` [B, C, H, W], channels-last."""
    assert at_x.is_contiguous(memory_format=LAST)
    _run_pools(image(grad, at_x.dtype), at_x, position, at_x.shape, stride, maximum, backward=1)


def _run_pools(x: Tensor, y: Tensor, position: Tensor, shape: Any, stride: int, maximum: bool, backward: int) -> None:
    batch, channels, height, width = shape
    build_in_use().run(
        "pools",
        PRECISIONS[x.dtype],
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


def _fake_node_sum(u: Sequence[Tensor], *_: Any) -> Tensor:
    return torch.empty_like(u[0], memory_format=LAST)


def _fake_pointwise_backward(*arguments: Any) -> tuple[Tensor, Tensor]:
    return _empty_pointwise_gradients(arguments[8])


def _nothing(*_: Any) -> None:
    return None


relu_pointwise = register(
    "relu_pointwise(Tensor x, Tensor[] weights, int stride) -> (Tensor u, Tensor mean, Tensor var)",
    _relu_pointwise,
    _empty_pointwise,
)
relu_pointwise_backward = register(
    "relu_pointwise_backward(Tensor grad, Tensor sum, Tensor dot, Tensor u, Tensor mean, Tensor var, Tensor? scale, "
    "Tensor x, Tensor[] weights, Tensor(a!)? at_x, int stride, float eps, bool adds) "
    "-> (Tensor at_first, Tensor at_second)",
    _relu_pointwise_backward,
    _fake_pointwise_backward,
)
node_sum = register(
    "node_sum(Tensor[] u, Tensor?[] mean, Tensor?[] var, Tensor?[] scale, Tensor?[] shift, float eps) -> Tensor",
    _node_sum,
    _fake_node_sum,
)
node_sums = register(
    "node_sums(Tensor grad, Tensor[] u, Tensor?[] mean, Tensor?[] var, float eps) -> (Tensor sum, Tensor dot)",
    _node_sums,
    _empty_node_sums,
)


def _save_conv3x3(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _conv3x3_gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    found = conv3x3_backward(grad, x, weight, *wanted)
    at_x, at_weight = (t if wants else None for t, wants in zip(found, wanted, strict=True))
    return at_x, None if at_weight is None else at_weight.to(weight.dtype)


norm_relu = register(
    "norm_relu(Tensor x, Tensor? extra, Tensor? scale, Tensor? shift, bool relu, float eps) "
    "-> (Tensor y, Tensor mean, Tensor var)",
    _norm_relu,
    _empty_norm,
)
norm_relu_backward = register(
    "norm_relu_backward(Tensor grad, Tensor x, Tensor? y, Tensor mean, Tensor var, Tensor? scale, bool extra, "
    "float eps) -> (Tensor at_x, Tensor at_extra, Tensor at_scale, Tensor at_shift)",
    _norm_relu_backward,
    _empty_norm_gradients,
)
conv3x3 = register("conv3x3(Tensor x, Tensor weight) -> Tensor", _conv3x3, _empty_conv3x3)
conv3x3_backward = register(
    "conv3x3_backward(Tensor grad, Tensor x, Tensor weight, bool wants_x, bool wants_weight) "
    "-> (Tensor at_x, Tensor at_weight)",
    _conv3x3_backward,
    _empty_conv3x3_gradients,
)
torch.library.register_autograd(
    "ddarts::conv3x3", _conv3x3_gradients, setup_context=_save_conv3x3, lib=operators.OPERATORS
)
pool = register("pool(Tensor x, int stride, bool maximum) -> (Tensor y, Tensor position)", _pool, _empty_pool)
pool_backward = register(
    "pool_backward(Tensor grad, Tensor position, Tensor(a!) at_x, int stride, bool maximum) -> ()",
    _pool_backward,
    _nothing,
)
