"""Batch norm of the supernet, batch norm with ReLU, and batch norm over the parts of a batch held by several processes.

The supernet needs batch norm in steps: measure the statistics, normalise, and the gradient of both, as functions that
autograd functions of the package call. Over several processes (Ioffe & Szegedy, arXiv 1502.03167, section 3) PyTorch's
own `nn.SyncBatchNorm` runs on GPUs only; here PyTorch's batch norm kernels do the passes over memory on any device,
and processes exchange two numbers for each channel each way. Every process must hold equally many values a channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ddarts.errors import SettingsError
from ddarts.kernels import discrete, operators
from ddarts.nn.dispatch import channels_last, on_cpu

#: Added to variances.
EPS = 1e-5

#: Whose statistics normalise a tensor: the running ones, those of its batch, or those of the batches of all processes.
Mode = Literal["running", "batch", "synchronised"]


def norm_relu(norm: nn.BatchNorm2d, x: Tensor, extra: Tensor | None = None, *, relu: bool = True) -> Tensor:
    """Return ReLU(norm(x) + extra) for `x` and `extra` [B, C, H, W]; in training in the package's kernels if they fit.

    Args:
        norm: a batch norm; its running statistics move as in a call.
        x: what is normalised.
        extra: what is added, or None.
        relu: whether ReLU follows.
    """
    if type(norm) is nn.BatchNorm2d and norm.training and _fits(norm, x):
        return _NormReLU.apply(norm, x, extra, norm.weight, norm.bias, relu)  # type: ignore[return-value]
    y = norm(x) if extra is None else extra + norm(x)
    return F.relu_(y) if relu else y


def _fits(norm: nn.BatchNorm2d, x: Tensor) -> bool:
    """Return whether the kernels do the work of a batch norm in training."""
    measures = norm.running_mean is not None and norm.momentum is not None and x.numel() > x.shape[1]
    return measures and on_cpu(x) and torch.is_grad_enabled() and operators.fits(x, x.shape[1])


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        norm: nn.BatchNorm2d,
        x: Tensor,
        extra: Tensor | None,
        scale: Tensor | None,
        shift: Tensor | None,
        relu: bool,
    ) -> Tensor:
        x = channels_last(x)
        y, mean, var = discrete.norm_relu(x, extra, scale, shift, relu, norm.eps)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.momentum is not None
        move_running((norm.running_mean, norm.running_var, norm.momentum), mean, var, x.numel() // x.shape[1])
        ctx.save_for_backward(x, y if relu else None, mean, var, scale)
        ctx.eps, ctx.extra = norm.eps, None if extra is None else extra.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, y, mean, var, scale = ctx.saved_tensors
        grad, masked = grads[0], y is not None and ctx.needs_input_grad[2]
        at_x, at_extra, at_scale, at_shift = discrete.norm_relu_backward(grad, x, y, mean, var, scale, masked, ctx.eps)
        if not masked:
            at_extra = grad
        parameters = (None, None) if scale is None else (at_scale, at_shift)
        return None, at_x, at_extra.to(ctx.extra) if ctx.needs_input_grad[2] else None, *parameters, None


class BatchStatistics(nn.Module):
    """Batch norm without affine parameters, as everywhere in a supernet; an optional scale stands in for them.

    Attributes:
        synchronised: whether training statistics are those of all processes.
        momentum: share of a new batch in the running statistics.
        frozen: whether running statistics stay as they are (`running_statistics`).
    """

    running_mean: Tensor
    running_var: Tensor
    synchronised = False
    momentum = 0.1
    frozen = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    @property
    def mode(self) -> Mode:
        """Whose statistics `measure` returns now. A backward pass needs the mode of its forward pass."""
        return "running" if not self.training else "synchronised" if self.synchronised else "batch"

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Normalise `x` [B, C, H, W] over B, H, W and multiply channel c by ``scale[c]``."""
        if not self.training:
            return normalise(x, self.running_mean, self.running_var, scale)
        mean, var = self.running_mean, self.running_var
        if self.frozen:  # copies and not None: a recomputation must save as many tensors as the first pass did
            mean, var = mean.clone(), var.clone()
        if self.synchronised:
            return sync_batch_norm(x, scale, None, (mean, var, self.momentum))
        check_count(x.numel() // x.shape[1])
        return F.batch_norm(x, mean, var, scale, None, True, self.momentum, EPS)

    def measure(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and biased variance [C] to normalise `x` with, as `mode` says; the running ones move.

        Raises:
            SettingsError: there is only one value a channel.
        """
        if not self.training:
            return self.running_mean, self.running_var
        running = None if self.frozen else (self.running_mean, self.running_var, self.momentum)
        return synchronised_statistics(x, running) if self.synchronised else batch_statistics(x, running)

    def move(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics, unless they are frozen, to mean and biased variance [C] of `count` values."""
        if not self.frozen:
            move_running((self.running_mean, self.running_var, self.momentum), mean, var, count)


def normalise(x: Tensor, mean: Tensor, var: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return scale * (x - mean) / sqrt(var + eps), channel by channel of `x` [B, C, H, W]."""
    return F.batch_norm(x, mean, var, scale, None, False, 0.0, EPS)


def batch_norm_gradient(
    mode: Mode, grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, scale: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients at `x` and at `scale` (None without one).

    Args:
        mode: `BatchStatistics.mode` when mean and variance were measured.
        grad: the gradient at the normalised `x`.
        x, mean, var, scale: what was normalised, and how.
    """
    if mode == "synchronised":
        at_x, at_scale, _ = sync_norm_gradient(grad, x, scale, mean, var)
    else:
        wanted = [True, scale is not None, False]
        at_x, at_scale, _ = torch.ops.aten.native_batch_norm_backward(
            grad, x, scale, mean, var, mean, (var + EPS).rsqrt(), mode == "batch", EPS, wanted
        )
    assert at_x is not None
    return at_x, at_scale if scale is not None else None


@contextmanager
def running_statistics(module: nn.Module, *, track: bool) -> Iterator[None]:
    """Inside, let the batch norms of a module update their running statistics and counts in training only if `track`.

    Batches are normalised as before.
    """
    if track:
        yield
        return
    inside = [module]  # `modules` and assignments to modules would take a sixth of the time of a small search
    for outer in inside:
        inside += filter(None, outer._modules.values())
    ours = [(m, m.frozen) for m in inside if isinstance(m, BatchStatistics)]
    of_pytorch = [m for m in inside if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in of_pytorch]
    for norm, _ in ours:
        object.__setattr__(norm, "frozen", True)
    for norm in of_pytorch:  # they still get their running statistics, as a recomputation needs (see `forward` above)
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, frozen in ours:
            object.__setattr__(norm, "frozen", frozen)
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count


#: running mean, running variance and the momentum by which they move
Running = tuple[Tensor, Tensor, float]


def batch_statistics(x: Tensor, running: Running | None = None) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance [C] of `x` [B, C, H, W] over B, H, W in float32 or better; running ones move.

    Raises:
        SettingsError: there is only one value a channel.
    """
    check_count(x.numel() // x.shape[1])
    return _measure(x, running)


def synchronised_statistics(x: Tensor, running: Running | None = None) -> tuple[Tensor, Tensor]:
    """Return `batch_statistics` over all processes, each of which has as many values.

    Raises:
        SettingsError: there is only one value a channel in all.
    """
    size = distributed.get_world_size()
    count = x.numel() // x.shape[1] * size
    check_count(count)
    local = torch.stack(_measure(x, None))
    every = [torch.empty_like(local) for _ in range(size)]
    distributed.all_gather(every, local)
    mean, var = _combined(*torch.stack(every, 1))
    if running is not None:
        move_running(running, mean, var, count)
    return mean, var


def _measure(x: Tensor, running: Running | None) -> tuple[Tensor, Tensor]:
    channels, count = x.shape[1], x.numel() // x.shape[1]
    if torch.compiler.is_compiling():  # the compiler can fuse a formula with what comes before it, not PyTorch's kernel
        var, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), (0, 2, 3), correction=0)
    elif (parts := _parts(x)) == 1:
        return _measure_at_once(x, running)
    else:
        # the pixels of each part as channels of their own; a view, in channels-last memory
        wide = x.permute(0, 2, 3, 1).reshape(1, 1, count // parts, parts * channels).permute(0, 3, 1, 2)
        mean, var = _combined(*(t.view(parts, channels) for t in _measure_at_once(wide, None)))
    if running is not None:
        move_running(running, mean, var, count)
    return mean, var


def _measure_at_once(x: Tensor, running: Running | None) -> tuple[Tensor, Tensor]:
    mean, var, momentum = running or (None, None, 0.0)
    if mean is None and x.dtype not in (torch.float32, torch.float64):
        # running statistics, though they are thrown away, decide the dtype
        mean, var = torch.zeros(2, x.shape[1], device=x.device).unbind()
    if x.device.type == "meta":  # where operations are counted: PyTorch has the whole norm there, not its half
        return torch.native_batch_norm(x, None, None, mean, var, True, momentum, EPS)[1:]
    return torch.batch_norm_update_stats(x, mean, var, momentum)


#: How many values are added up in a row on the CPU. PyTorch's kernel adds in float32, one value after the other: over
#: the 32768 pixels of a batch it is off by 3e-6, in parts of 512 by 2e-7. That costs no time: in memory, parts are
#: wider than the channels are, which that kernel likes.
_IN_A_ROW = 512


def _parts(x: Tensor) -> int:
    """Return in how many parts of as many pixels the statistics of `x` [B, C, H, W] are taken: 1 for all at once."""
    if x.device.type != "cpu" or x.dtype == torch.float64 or not x.is_contiguous(memory_format=torch.channels_last):
        return 1
    count = x.numel() // x.shape[1]
    wanted = -(-count // _IN_A_ROW)
    return next((parts for parts in range(wanted, 2 * wanted) if count % parts == 0), 1)


def _combined(means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance [C] of parts with as many values each, from those of the parts [parts, C]."""
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)


def move_running(running: Running, mean: Tensor, var: Tensor, count: int) -> None:
    """Move running statistics to those of `count` values a channel."""
    running_mean, running_var, momentum = running
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(var * (count / (count - 1)), momentum)


def check_count(count: int) -> None:
    """Raise SettingsError if a channel has only so many values that nothing can be normalised."""
    if count < 2:
        raise SettingsError("batch norm needs more than one value a channel; use a larger batch or resolution")


def sync_batch_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, running: Running | None, eps: float = EPS
) -> Tensor:
    """Normalise `x` [B, C, H, W] by mean and variance over B, H, W and all processes, as ``F.batch_norm`` in training.

    Gradients are those of the sum of all processes' losses. Running statistics, if given, move.

    Raises:
        SettingsError: there is only one value a channel in all.
    """
    with torch.no_grad():
        mean, var = synchronised_statistics(x, running)
    return _SyncBatchNorm.apply(x, weight, bias, mean, var, eps)  # type: ignore[return-value]


def sync_norm_gradient(
    grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, var: Tensor, eps: float = EPS, *, at_x: bool = True
) -> tuple[Tensor | None, Tensor, Tensor]:
    """Return the gradients at `x`, weight and bias of a batch norm with the statistics of all processes.

    The latter two are those of this process's share of the batch; `grad` is the gradient at the result.
    """
    inverse = (var + eps).rsqrt()
    # as if mean and variance were constants: the gradient at x, and the sums of dy * normalised x and of dy
    found, local_scaled, local_plain = torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, mean, var, mean, inverse, False, eps, [at_x, True, True]
    )
    if not at_x:
        return None, local_scaled, local_plain
    sums = torch.stack([local_scaled, local_plain])
    distributed.all_reduce(sums)
    scaled, plain = sums / (x.numel() // x.shape[1] * distributed.get_world_size())
    factor = inverse if weight is None else inverse * weight
    slope = -factor * scaled * inverse  # what mean and variance add is linear in x, channel by channel
    offset = -factor * plain - slope * mean
    found = found.addcmul_(x, slope.to(x.dtype)[:, None, None]).add_(offset.to(x.dtype)[:, None, None])
    return found, local_scaled, local_plain


class _SyncBatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        found = sync_norm_gradient(grads[0], x, weight, mean, var, ctx.eps, at_x=ctx.needs_input_grad[0])
        wanted = (g if needed else None for g, needed in zip(found, ctx.needs_input_grad, strict=False))
        return *wanted, None, None, None


class SyncBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose training statistics are those of all processes; parameters, names and evaluation alike."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `input` [B, C, H, W]."""
        if not self.training:
            return super().forward(input)
        tracked = self.track_running_stats and self.running_mean is not None
        if tracked and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        assert self.momentum is not None, "a cumulative average is not synchronised"
        running = (self.running_mean, self.running_var, self.momentum) if tracked else None
        return sync_batch_norm(input, self.weight, self.bias, running, self.eps)  # type: ignore[arg-type]


def synchronise(network: nn.Module) -> None:
    """Let every batch norm of a network take its training statistics over all processes.

    Names of parameters and buffers stay, and so do the tensors themselves.
    """
    for module in network.modules():
        if isinstance(module, BatchStatistics):
            module.synchronised = True
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _synchronised(child))


def _synchronised(norm: nn.BatchNorm2d) -> SyncBatchNorm2d:
    new = SyncBatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    new.weight, new.bias = norm.weight, norm.bias
    new.running_mean, new.running_var = norm.running_mean, norm.running_var
    new.num_batches_tracked = norm.num_batches_tracked
    return new.train(norm.training)
