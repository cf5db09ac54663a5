"""The alpha step of D-DARTS for tests of networks: sigmoid gates and the zero-one loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddarts.searching.alpha_step import AlphaOutcome, alpha_gradients
from ddarts.searching.losses import Term, zero_one_loss
from ddarts.supernet.interface import Searchable


def sigmoid_gates(net: Searchable) -> list[Tensor]:
    return [torch.sigmoid(alpha) for alpha in net.alphas]


def sigmoid_step(
    net: Searchable, x: Tensor, y: Tensor, *, zero_one_weight: float, zero_one_kind: Any = "l2", **options: Any
) -> AlphaOutcome:
    gates = sigmoid_gates(net)

    def terms() -> dict[str, Term]:
        value = torch.stack([zero_one_loss(g, zero_one_kind) for g in gates]).sum()
        return {"zero_one": Term(zero_one_weight, value)}

    return alpha_gradients(net, x, y, gates, regulariser=terms, **options)
