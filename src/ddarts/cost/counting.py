"""The size of a network: parameters, multiply-accumulate operations, bytes of its weights file."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ddarts.space.operations import Operation, OperationCost

#: Names of the types in a safetensors file.
_DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
#: Bytes that the header of a safetensors file takes for one tensor, about.
_HEADER = 110

#: Inputs up to so many numbers are faster computed than sent through the meta device.
SMALL = 2**15


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
    return count(copy.deepcopy(module).to("meta"), input_shape).macs


def count(module: nn.Module, input_shape: Sequence[int]) -> OperationCost:
    """Return all costs of a module, which is left in evaluation mode; see `count_macs`.

    It may be on any device: the meta device, where nothing is computed, or a real one, which is faster for small
    networks. The size is that of the tensors, with about what a header takes for each.
    """
    device = next((p.device for p in module.parameters()), torch.get_default_device())
    with torch.no_grad(), Flops() as flops:
        module.eval()(torch.zeros(1, *input_shape, device=device))
    tensors = module.state_dict().values()
    size = sum(t.numel() * t.element_size() + _HEADER for t in tensors)
    return OperationCost(count_parameters(module), flops.total // 2, size)


class Flops(TorchDispatchMode):
    """Adds up what PyTorch's formulas say; `FlopCounterMode` keeps a tree of modules too, and takes much longer."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep PyTorch from importing its compiler, which takes seconds, to leave this class out."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()  # the meta device takes long for these, which change no shape and multiply nothing
        if "batch_norm" in name:
            return args[0], None, None
        if name in ("aten::relu", "aten::relu_"):
            return args[0]
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def file_bytes(network: nn.Module) -> int:
    """Return how many bytes the file ``model.safetensors`` of a network has, without its auxiliary head."""
    state = [(n, t) for n, t in network.state_dict().items() if not n.startswith("auxiliary.")]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in sorted(state, key=lambda item: (-item[1].element_size(), item[0])):
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8 + end


def operation_cost(operation: Operation, channels: int, stride: int, height: int, width: int) -> OperationCost:
    """Return the costs of an operation on one image of `channels` x `height` x `width`, counted on the meta device."""
    small = channels * height * width <= SMALL
    with torch.random.fork_rng(devices=[]), torch.device("cpu" if small else "meta"):
        module = operation.build(channels, stride, True)
    return count(module, (channels, height, width))
