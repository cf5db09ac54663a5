"""Batch norm without affine parameters, taken apart: measuring, normalising, and the gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ddarts.nn.sync_batch_norm import (
    EPS,
    check_count,
    move_running,
    own_statistics,
    sync_batch_norm,
    sync_norm_gradient,
    sync_statistics,
)


class BatchStatistics(nn.Module):
    """Batch norm without affine parameters, as everywhere in a supernet; an optional scale stands in for them.

    `track` decides whether a training pass moves the running statistics: only the weight step's trunk pass does.

    Attributes:
        synchronised: whether training statistics are those of all processes (`ddarts.nn.sync_batch_norm`).
        momentum: share of a new batch in the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    synchronised = False
    momentum = 0.1

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, *, track: bool, scale: Tensor | None = None) -> Tensor:
        """Normalise `x` [B, C, H, W] over B, H, W and multiply channel c by ``scale[c]``."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, scale, None, False, 0.0, EPS)
        mean, var = (self.running_mean, self.running_var) if track else (None, None)
        if self.synchronised:
            return sync_batch_norm(x, scale, None, mean, var, self.momentum)
        check_count(x.numel() // x.shape[1])
        return F.batch_norm(x, mean, var, scale, None, True, self.momentum, EPS)

    def measure(self, x: Tensor, *, track: bool) -> tuple[Tensor, Tensor]:
        """Mean and biased variance [C] to normalise `x` with: of this batch in training, else the running ones.

        Raises:
            SettingsError: there is only one value a channel.
        """
        if not self.training:
            return self.running_mean, self.running_var
        running = (self.running_mean, self.running_var, self.momentum) if track else None
        return sync_statistics(x, running) if self.synchronised else own_statistics(x, running)

    def track(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics to mean and biased variance [C] of `count` values a channel."""
        move_running((self.running_mean, self.running_var, self.momentum), mean, var, count)

    def apply_to(self, x: Tensor, mean: Tensor, var: Tensor, scale: Tensor | None = None) -> Tensor:
        """Normalise `x` [B, C, H, W] with what `measure` returned."""
        return F.batch_norm(x, mean, var, scale, None, False, 0.0, EPS)

    def gradient(
        self, grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The gradients at `x` and at `scale` (None without one), `grad` being the one at the result."""
        if self.training and self.synchronised:
            at_x, at_scale, _ = sync_norm_gradient(grad, x, scale, mean, var)
            assert at_x is not None
            return at_x, at_scale if scale is not None else None
        wanted = [True, scale is not None, False]
        at_x, at_scale, _ = torch.ops.aten.native_batch_norm_backward(
            grad, x, scale, mean, var, mean, (var + EPS).rsqrt(), self.training, EPS, wanted
        )
        return at_x, at_scale if scale is not None else None
