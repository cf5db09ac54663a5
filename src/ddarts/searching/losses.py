"""The terms of the search's loss, as pure functions (paper, section 3.2; specification, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddarts.config.strategies import ZeroOneOptions


@dataclass(frozen=True, eq=False)
class Term:
    """A term of the alpha loss: `weight` times the scalar tensor `value`."""

    weight: float
    value: Tensor


def zero_one_loss(gates: Tensor, kind: Literal["l2", "l1"] = "l2") -> Tensor:
    """L_01 of one cell: -mean (g - 1/2)^2 ("l2") or -mean |g - 1/2| ("l1").

    Lowest (-1/4, or -1/2) when every gate is 0 or 1, highest (0) when all are 1/2.

    Args:
        gates: sigmoid(alpha) of a cell, [edges, operations].
    """
    distance = gates - 0.5
    return -(distance.square() if kind == "l2" else distance.abs()).mean()


def zero_one_weight(
    weight: float, schedule: Literal["constant", "linear", "quadratic"], warmup: float, progress: float
) -> float:
    """w_01 at `progress` (0 to 1) of the search: it rises from 0 to `weight` over the first `warmup` share of it.

    With "constant" it is `weight` throughout, as published. Specification, section 13, shows why a ramp helps.
    """
    if schedule == "constant" or warmup == 0 or progress >= warmup:
        return weight
    share = progress / warmup
    return weight * (share if schedule == "linear" else share * share)


def zero_one_term(gates: Sequence[Tensor], options: ZeroOneOptions, progress: float) -> Term:
    """w_01 at `progress` (0 to 1) of the search, and the sum of L_01 over the searched cells."""
    weight = zero_one_weight(options.zero_one_weight, options.zero_one_schedule, options.zero_one_warmup, progress)
    return Term(weight, torch.stack([zero_one_loss(g, options.zero_one_kind) for g in gates]).sum())


def marginal_contribution(cross_entropy: Tensor, ablated: Tensor) -> Tensor:
    """M = CE(S) - CE(S without the cell); negative when the cell helps."""
    return cross_entropy - ablated


def ablation_scale(marginal: Tensor, cross_entropy: Tensor, floor: float) -> Tensor:
    """nu, which the ablation loss is divided by: |mean of M|, but at least `floor` times CE(S). A scalar.

    At the start all cells contribute alike and the mean passes through 0; the floor keeps the term bounded there.

    Args:
        marginal: M of each cell that has one, [n].
        cross_entropy: CE(S), a scalar.
        floor: share of CE(S).
    """
    least = (floor * cross_entropy.detach().abs()).clamp_min(1e-12)
    return torch.maximum(marginal.detach().mean().abs(), least)


def ablation_losses(marginal: Tensor, cross_entropy: Tensor, floor: float) -> Tensor:
    """L_AB of each cell: (M_i - mean M) / nu, [n].

    They sum to 0; a cell that helps less than the mean has a positive one.
    """
    return (marginal - marginal.mean()) / ablation_scale(marginal, cross_entropy, floor)
