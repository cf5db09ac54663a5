"""The size of a network: parameters and multiply-accumulate operations."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from ddarts.space.operations import Operation, OperationCost


def count_parameters(module: nn.Module, *, auxiliary: bool = False) -> int:
    """Return the number of trainable scalars; those of the auxiliary head, of no use after training, only if asked."""
    head = getattr(module, "auxiliary", None)
    left_out = 0 if auxiliary or not isinstance(head, nn.Module) else sum(p.numel() for p in head.parameters())
    return sum(p.numel() for p in module.parameters()) - left_out


def count_macs(module: nn.Module, input_shape: Sequence[int]) -> int:
    """Return the multiply-accumulate operations of one forward pass in evaluation mode (no auxiliary head).

    Convolutions and matrix products count, as in the literature's "FLOPs" of cell networks; batch norm, pooling and
    additions do not. The module is not changed; nothing is computed (the count runs on the meta device).

    Args:
        module: the network.
        input_shape: [channels, height, width] of one image.
    """
    from torch.utils.flop_counter import FlopCounterMode

    twin = copy.deepcopy(module).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(torch.empty(1, *input_shape, device="meta"))
    return counter.get_total_flops() // 2


def operation_cost(operation: Operation, channels: int, stride: int, height: int, width: int) -> OperationCost:
    """Return the costs of an operation on one image of `channels` x `height` x `width`, counted on the meta device."""
    with torch.device("meta"):
        module = operation.build(channels, stride, True)
    return OperationCost(count_parameters(module), count_macs(module, (channels, height, width)))
