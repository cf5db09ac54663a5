"""ReLU, depthwise and pointwise convolution and batch statistics of a fan in one pass over memory: the CPU's kernels.

PyTorch runs each of them by itself, and each reads and writes tensors of the size of all edges. The kernels
(`ddarts.kernels`) carry a few pixels at a time through all of them. `ddarts.supernet.chains` has the same in PyTorch's
operations, for every other device and precision; tests compare the two, gradients included.

Shapes: B images, E edges, C channels of the cell; a source is a state [B, C, H, W] that all edges share, or, with the
statistics of its batch norm, an image for each edge [B, E * C, H, W]. Images are float32 or bfloat16 and
channels-last, all else is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddarts.kernels.library import Library, counts, load, pointers
from ddarts.nn.dispatch import on_cpu
from ddarts.nn.sync_batch_norm import EPS, check_count

#: Fewer channels would leave most lanes of the kernels empty.
_FEWEST_CHANNELS = 8

#: Names of the dtypes of images; weights, statistics and all arithmetic are float32.
_PRECISIONS = {torch.float32: "float32", torch.bfloat16: "bfloat16"}

_IMAGES = ("x", "u", "z", "grad")

#: mean and biased variance [E * C]
Statistics = tuple[Tensor, Tensor]


def fits(x: Tensor, channels: int) -> bool:
    """Whether the kernels are there and take a state `x` [B, C, H, W] to edges of `channels` channels."""
    if not on_cpu(x) or x.dtype not in _PRECISIONS or channels < _FEWEST_CHANNELS or x.numel() == 0:
        return False
    return (library := load()) is not None and (library.has_threads or torch.get_num_threads() == 1)


@dataclass(frozen=True)
class Convolution:
    """ReLU - depthwise - pointwise convolution on E edges, without parameters.

    Attributes:
        edges: E.
        stride, dilation: of the depthwise convolution, 1 or 2.
    """

    edges: int
    stride: int = 1
    dilation: int = 1

    def forward(
        self, x: Tensor, depthwise: Tensor, pointwise: Tensor, norm: Statistics | None = None, *, keep_z: bool
    ) -> tuple[Tensor, Tensor | None, Statistics]:
        """Run it, and measure its result.

        Args:
            x: the source.
            depthwise: [E * C, 1, k, k].
            pointwise: [E * C, C, 1, 1].
            norm: statistics of the source's batch norm, if it has one.
            keep_z: also return what lies between the convolutions.

        Returns:
            u [B, E * C, H', W'], z of the same size or None, and the statistics of u.

        Raises:
            SettingsError: there is only one value a channel.
        """
        wide, (batch, _, height, width) = len(depthwise), x.shape
        size = batch, wide, (height - 1) // self.stride + 1, (width - 1) // self.stride + 1
        check_count(size[0] * size[2] * size[3])
        u = torch.empty(size, dtype=x.dtype, device="cpu", memory_format=torch.channels_last)
        z = torch.empty_like(u) if keep_z else None
        mean, var = _numbers(2, wide).unbind()
        mean_x, var_x = norm or (None, None)
        read = {"x": x, "mean": mean_x, "var": var_x, "depthwise": depthwise, "pointwise": pointwise}
        written = {"z": z, "u": u, "mean_u": mean, "var_u": var}
        self._run(_library().forward, x.dtype, read, written)
        return u, z, (mean, var)

    def backward(self, step: Step, x: Tensor, at_x: Tensor | None, *, wanted: bool, trained: bool) -> Gradients:
        """Go back through it and the batch norm after it.

        Args:
            step: what the forward pass computed and was given, and the gradient at the batch norm's result.
            x: the source.
            at_x: a gradient at a shared source that the one found here is added to; None for nothing.
            wanted: the gradient at the source.
            trained: the gradients at the weights.
        """
        found = None
        if wanted:
            found = torch.empty_like(x, memory_format=torch.channels_last) if at_x is None else _dense(at_x, x.dtype)
        sums = _numbers(2, len(step.depthwise)) if step.norm_x else None
        at_depthwise, at_pointwise = (
            _numbers(*weight.shape) if trained else None for weight in (step.depthwise, step.pointwise)
        )
        mean_x, var_x = step.norm_x or (None, None)
        read = {
            "grad": step.grad,
            "u": step.u,
            "z": step.z if trained else None,
            "mean": step.norm[0],
            "var": step.norm[1],
            "scale": step.scale,
            "sum": step.sum,
            "dot": step.dot,
            "x": x,
            "mean_x": mean_x,
            "var_x": var_x,
            "depthwise": step.depthwise,
            "pointwise": step.pointwise,
        }
        written = {
            "at_x": found,
            "sum_x": sums if sums is None else sums[0],
            "dot_x": sums if sums is None else sums[1],
            "at_depthwise": at_depthwise,
            "at_pointwise": at_pointwise,
        }
        self._run(_library().backward, x.dtype, read, written, adds=int(at_x is not None))
        return Gradients(found, sums, at_depthwise, at_pointwise)

    def _run(
        self,
        call: Callable[..., None],
        dtype: torch.dtype,
        read: dict[str, Tensor | None],
        written: dict[str, Tensor | None],
        **flags: int,
    ) -> None:
        dense = {  # held until the call is over
            name: None if t is None else _dense(t, dtype if name in _IMAGES else torch.float32)
            for name, t in read.items()
        }
        x, weight = dense["x"], dense["depthwise"]
        assert x is not None
        assert weight is not None
        batch, _, height, width = x.shape
        tensors = dense | written
        call(
            _PRECISIONS[dtype],
            **{name: None if t is None else t.data_ptr() for name, t in tensors.items()},
            batch=batch,
            height=height,
            width=width,
            channels=len(weight) // self.edges,
            edges=self.edges,
            kernel=weight.shape[-1],
            stride=self.stride,
            dilation=self.dilation,
            threads=min(torch.get_num_threads(), batch),
            eps=EPS,
            **flags,
        )


@dataclass(frozen=True)
class Step:
    """What `Convolution.backward` starts from.

    Attributes:
        grad: the gradient at the result of the batch norm after the convolution, [B, E * C, H', W'].
        sum: sums of `grad` [E * C].
        dot: sums of `grad` times the normalised u [E * C].
        u: the batch norm's input; z: what lies between the convolutions, needed only if weights are trained.
        norm: the batch norm's statistics; scale: its scale [E * C] or None.
        depthwise, pointwise: the weights.
        norm_x: statistics of the source's batch norm, if it has one.
    """

    grad: Tensor
    sum: Tensor
    dot: Tensor
    u: Tensor
    z: Tensor | None
    norm: Statistics
    scale: Tensor | None
    depthwise: Tensor
    pointwise: Tensor
    norm_x: Statistics | None = None


@dataclass(frozen=True)
class Gradients:
    """What `Convolution.backward` has found.

    Attributes:
        at_x: at the source, or at the result of its batch norm; None if not wanted.
        sums: with a batch norm: sums of `at_x` [E * C], and of `at_x` times its result [E * C].
        at_depthwise, at_pointwise: at the weights; None if they are not trained.
    """

    at_x: Tensor | None
    sums: Tensor | None
    at_depthwise: Tensor | None
    at_pointwise: Tensor | None


def weighted_sums(
    gates: Tensor,
    branches: Sequence[tuple[Tensor, Tensor, Tensor]],
    shared: Sequence[Tensor],
    columns: Sequence[int],
    before: Sequence[Tensor | None],
) -> list[Tensor]:
    """Sums over operations of gate * BN(u), and of gate * shared result, on each edge, added to what was there.

    Args:
        gates: [E, operations].
        branches: u [B, E * C, H, W], mean and variance [E * C] of the operations with weights of their own.
        shared: results [B, C, H, W] of the operations that all edges share.
        columns: of the gates of the branches, then of the shared.
        before: for each edge [B, C, H, W], or None for nothing.
    """
    edges, operations = gates.shape
    images = [u for u, _, _ in branches] or list(shared)
    batch, channels, height, width = images[0].shape
    channels = channels // edges if branches else channels
    gates, dtype = _dense(gates), images[0].dtype
    lists = {
        "u": [_dense(u, dtype) for u, _, _ in branches],
        "mean": [_dense(mean) for _, mean, _ in branches],
        "var": [_dense(var) for _, _, var in branches],
        "shared": [_dense(s, dtype) for s in shared],
        "before": [None if t is None else _dense(t, dtype) for t in before],
    }
    size = batch, channels, height, width
    sums = [torch.empty(size, dtype=dtype, device="cpu", memory_format=torch.channels_last) for _ in before]
    _library().sums(
        _PRECISIONS[dtype],
        **{name: pointers([None if t is None else t.data_ptr() for t in tensors]) for name, tensors in lists.items()},
        sums=pointers([t.data_ptr() for t in sums]),
        gates=gates.data_ptr(),
        columns=counts(columns),
        pixels=batch * height * width,
        channels=channels,
        edges=edges,
        operations=operations,
        branches=len(branches),
        shares=len(shared),
        threads=torch.get_num_threads(),
        eps=EPS,
    )
    return sums


def _library() -> Library:
    library = load()
    assert library is not None, "ask `fits` first"
    return library


def _numbers(*size: int) -> Tensor:
    """Room for float32 numbers, whatever PyTorch's defaults are."""
    return torch.empty(size, dtype=torch.float32, device="cpu")


def _dense(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """`x` as the kernels read it: of this dtype, without gaps, images channels-last."""
    x = x.to(dtype)
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.contiguous()
