"""The layers and sums of `ddarts.supernet.backends.pytorch` in the CPU's kernels, `torch.ops.ddarts`.

PyTorch runs ReLU, both convolutions and the batch statistics one after the other, and each reads and writes tensors of
the size of all edges. The kernels carry a few pixels at a time through all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ddarts.kernels import operators
from ddarts.nn.batch_norm import EPS, Mode, check_count, sync_norm_gradient
from ddarts.nn.dispatch import channels_last, on_cpu
from ddarts.supernet.backends.pytorch import Layer, LayerGradients, MixedResults, Result, Saved, State


def fits(x: Tensor, channels: int, modes: Sequence[Mode] = ()) -> bool:
    """Return whether the kernels take images like `x` to edges of `channels` channels, with norms in these modes."""
    return on_cpu(x) and all(mode == "batch" for mode in modes) and operators.fits(x, channels)


def forward(layer: Layer, state: State, before: Result | None, weights: Sequence[Tensor]) -> tuple[Saved, Result]:
    """Run a layer, as `pytorch.forward` does."""
    x, mean_x, var_x = before or (state.x, None, None)
    count = x.shape[0] * -(-x.shape[2] // layer.stride) * -(-x.shape[3] // layer.stride)
    check_count(count)
    u, z, mean, var = operators.separable_conv(
        x, *weights, mean_x, var_x, layer.stride, layer.dilation, EPS, state.trained
    )
    layer.norm.move(mean, var, count)
    return Saved(z if state.trained else u, mean, var), Result(u, mean, var)


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
    """Go back through a layer, as `pytorch.backward` does."""
    if sums is None:  # of this process: nothing is exchanged
        _, dot, total = sync_norm_gradient(grad, result.u, scale, result.mean, result.var, at_x=False)
    else:
        total, dot = sums
    if not wanted and not state.trained:
        return LayerGradients(at_x, None, dot, (None, None))
    x, mean_x, var_x = before or (state.x, None, None)
    found = at_x
    if wanted:
        found = torch.empty_like(x, memory_format=torch.channels_last) if at_x is None else channels_last(at_x)
    sums, *at_weights = operators.separable_conv_backward(
        grad, total, dot, result.u, saved.z if state.trained else None, result.mean, result.var, scale,
        x, *weights, mean_x, var_x, found if wanted else None, layer.stride, layer.dilation, EPS, at_x is not None,
    )  # fmt: skip
    return LayerGradients(found, sums, dot, tuple(at_weights) if state.trained else (None, None))


def mixed_sum(gates: Tensor, results: MixedResults, before: Sequence[Tensor | None]) -> list[Tensor]:
    """Add up an edge's operations, as `pytorch.mixed_sum` does."""
    u, mean, var = zip(*results.grouped, strict=True) if results.grouped else ((), (), ())
    return operators.mixed_sum(gates, u, mean, var, results.shared, results.columns, before, EPS)
