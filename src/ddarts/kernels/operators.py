"""The kernels as operators of PyTorch, `torch.ops.ddarts.*`: autograd, tracing and export know them.

- `separable_conv`: ReLU - depthwise - pointwise convolution on E edges, and the batch statistics of the result.
- `separable_conv_backward`: its gradients and those of the batch norm after it, in one pass over memory.
- `mixed_sum`: gates times normalized results, added up on each edge of a supernet.

Those that discrete networks need besides are in `ddarts.kernels.discrete`.

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

OPERATORS = torch.library.Library("ddarts", "DEF")

#: With fewer channels most lanes of the kernels would be empty.
_FEWEST_CHANNELS = 8

#: Names of the dtypes of images; weights, statistics and all arithmetic are float32.
PRECISIONS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

LAST = torch.channels_last


def fits(x: Tensor, channels: int) -> bool:
    """Return whether a build of the kernels takes images like `x` [B, ..., H, W] to edges of `channels` channels."""
    if x.device.type != "cpu" or x.dtype not in PRECISIONS or channels < _FEWEST_CHANNELS or x.numel() == 0:
        return False
    return (library := load()) is not None and (library.has_threads or torch.get_num_threads() == 1)


def _direct(implementation: Callable[..., Any], operator: Callable[..., Any]) -> Callable[..., Any]:
    """Return the operator, without PyTorch's dispatch where that has nothing to do: it takes half of a small call."""

    def call(first: Any, *rest: Any) -> Any:
        plain = type(first if isinstance(first, Tensor) else first[0]) is Tensor and not torch.is_grad_enabled()
        return implementation(first, *rest) if plain else operator(first, *rest)

    return call


def register(schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]) -> Callable[..., Any]:
    """Define an operator, and return it as autograd functions of the package call it.

    Args:
        schema: its name and types.
        implementation: on the CPU.
        fake: its results as empty tensors of the same shapes, for tracing.
    """
    name = schema.partition("(")[0]
    OPERATORS.define(schema)
    OPERATORS.impl(name, implementation, "CPU")
    torch.library.register_fake(f"ddarts::{name}", fake, lib=OPERATORS)
    return _direct(implementation, getattr(torch.ops.ddarts, name).default)


def build_in_use() -> Library:
    """Return the build that runs."""
    library = load()
    assert library is not None, "call `fits` first"
    return library


def pointer(t: Tensor | None) -> int | None:
    """Return the address of a tensor; None of none."""
    return None if t is None else t.data_ptr()


def image(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` as the kernels read images: of this dtype, channels-last without gaps."""
    return (x if x.dtype == dtype else x.to(dtype)).contiguous(memory_format=LAST)


def floats(x: Tensor | None) -> Any:
    """`x` as the kernels read weights and statistics."""
    return None if x is None else x.float().contiguous()


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
    x, depthwise, pointwise = image(x, x.dtype), floats(depthwise), floats(pointwise)
    mean_x, var_x, scale_x, shift_x = map(floats, (mean_x, var_x, scale_x, shift_x))
    build_in_use().run(
        "forward",
        PRECISIONS[x.dtype],
        x=x.data_ptr(),
        mean=pointer(mean_x),
        var=pointer(var_x),
        scale=pointer(scale_x),
        shift=pointer(shift_x),
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
    u = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=LAST)
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
    assert at_x is None or (at_x.dtype == x.dtype and at_x.is_contiguous(memory_format=LAST))
    sums, at_depthwise, at_pointwise = found = _empty_gradients(x, depthwise, pointwise, z, mean_x)
    grad, u, x = (image(t, x.dtype) for t in (grad, u, x))
    z = None if z is None else image(z, x.dtype)
    numbers = [floats(t) for t in (mean, var, scale, sum, dot, mean_x, var_x, scale_x, shift_x, depthwise, pointwise)]
    build_in_use().run(
        "backward",
        PRECISIONS[x.dtype],
        grad=grad.data_ptr(),
        u=u.data_ptr(),
        z=pointer(z),
        x=x.data_ptr(),
        **dict(zip(_NUMBERS, map(pointer, numbers), strict=True)),
        at_x=pointer(at_x),
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
        "u": [image(t, dtype) for t in u],
        "mean": [floats(t) for t in mean],
        "var": [floats(t) for t in var],
        "shared": [image(t, dtype) for t in shared],
        "before": [None if t is None else image(t, dtype) for t in before],
        "sums": sums,
    }
    batch, channels, height, width = sums[0].shape
    build_in_use().run(
        "sums",
        PRECISIONS[dtype],
        **{name: pointers([pointer(t) for t in tensors]) for name, tensors in lists.items()},
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
    return [torch.empty(size, dtype=one.dtype, device=one.device, memory_format=LAST) for _ in range(len(gates))]


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
    at_x = torch.empty_like(x, memory_format=LAST)
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


def _fake_separable_conv(
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


def _fake_separable_conv_backward(
    grad: Tensor, sum: Tensor, dot: Tensor, u: Tensor, z: Any, mean: Any, var: Any, scale: Any, x: Tensor, *rest: Any
) -> Any:
    depthwise, pointwise, mean_x, *_ = rest
    return _empty_gradients(x, depthwise, pointwise, z, mean_x)


separable_conv = register(
    "separable_conv(Tensor x, Tensor depthwise, Tensor pointwise, Tensor? mean_x, Tensor? var_x, int stride, "
    "int dilation, float eps, bool keep_z, Tensor? scale_x=None, Tensor? shift_x=None) "
    "-> (Tensor u, Tensor z, Tensor mean, Tensor var)",
    _separable_conv,
    _fake_separable_conv,
)
separable_conv_backward = register(
    "separable_conv_backward(Tensor grad, Tensor sum, Tensor dot, Tensor u, Tensor? z, Tensor mean, Tensor var, "
    "Tensor? scale, Tensor x, Tensor depthwise, Tensor pointwise, Tensor? mean_x, Tensor? var_x, Tensor(a!)? at_x, "
    "int stride, int dilation, float eps, bool adds, Tensor? scale_x=None, Tensor? shift_x=None) "
    "-> (Tensor sums_x, Tensor at_depthwise, Tensor at_pointwise)",
    _separable_conv_backward,
    _fake_separable_conv_backward,
)
mixed_sum = register(
    "mixed_sum(Tensor gates, Tensor[] u, Tensor[] mean, Tensor[] var, Tensor[] shared, int[] columns, "
    "Tensor?[] before, float eps) -> Tensor[]",
    _mixed_sum,
    _empty_sums,
)
torch.library.register_autograd("ddarts::separable_conv", _gradients, setup_context=_save, lib=OPERATORS)
