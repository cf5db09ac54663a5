"""What a runtime computes for a network: its kernels, such as a depthwise 3x3 convolution, and how much of each.

Latency is predicted as a linear function of these amounts (`ddarts.cost.device`): each call costs something, each
multiply-add, each number that is read or written. Runtimes compute whole vectors of 4, 8 or 16 channels, and some have
slower kernels where channels do not fill them: onnxruntime took 2.8 ms for a network of 13 channels that took 1.2 ms
with 16. So the amounts are counted a second time, as a feature of its own, where channels are no multiple of 4, 8, 16.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ddarts.nn.operations import Rectified

#: The feature that is 1 in every network: what a call of the runtime costs.
NETWORK = "network: calls"
#: Channels that vectors hold.
_VECTORS = (4, 8, 16)
#: Kernels that are part of the one before, or compute nothing.
_FREE = (
    "empty",
    "empty_like",
    "zeros",
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
)


def kernel_of(feature: str) -> str:
    """Return the kernel that a feature counts, such as ``convolution 1x1``."""
    return feature.partition(":")[0]


def features(module: nn.Module, shape: tuple[int, ...], *, edge: bool = False) -> dict[str, float]:
    """Count the kernels of a forward pass in evaluation mode; nothing is computed.

    Batch norms are taken to be folded into convolutions. Multiply-adds are in millions, numbers in thousands.

    Args:
        module: takes one tensor. It is not changed.
        shape: [channels, height, width] of an image.
        edge: count the module as an edge of a cell: without a ReLU at its begin, which edges share, and with the
            addition of its result to that of another.
    """
    on_meta = all(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
    twin = (module if on_meta else copy.deepcopy(module).to("meta")).eval()
    call: Callable[[Tensor], Any] = twin.after_relu if edge and isinstance(twin, Rectified) else twin
    # In inference mode PyTorch shows whole functions instead of what they compute.
    with torch.inference_mode(False), torch.no_grad(), _Recorder() as recorder:
        result = call(torch.empty(1, *shape, device="meta"))
        if edge:
            torch.add(result, result)
    return dict(recorder.found)


class _Recorder(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep PyTorch from importing its compiler, which takes seconds, to leave this class out."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.found: defaultdict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if "batch_norm" in name:  # the meta device takes long for it
            return args[0], None, None
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple) else result
        if isinstance(first, Tensor) and name not in _FREE and (not func.is_view or name == "slice"):
            self._count(name.strip("_"), args, first)
        return result

    def _count(self, name: str, args: Any, result: Tensor) -> None:
        inputs = [t for t in (args[0] if isinstance(args[0], list | tuple) else [args[0]]) if isinstance(t, Tensor)]
        numbers = {"calls": 1.0, "out": result.numel() / 1e3}
        narrow: list[str] = []  # what is known of channels that fill no vector
        channels = {t.shape[1] for t in inputs if t.dim() == 4}
        if name == "convolution":
            weight, stride, dilation, groups = args[1], args[3], args[5], args[8]
            # of one channel, too
            alone = groups == inputs[0].shape[1] == weight.shape[0] and weight.shape[2:].numel() > 1
            kind = "depthwise" if alone else "convolution" if groups == 1 else "grouped"
            name = f"{kind} {_by(weight.shape[2:])}{_other(' stride', stride)}{_other(' dilation', dilation)}"
            numbers["in"] = inputs[0].numel() / 1e3
            if kind == "depthwise":
                numbers["channels"] = weight.shape[0] / 1e3
            else:
                # Of image channels no vector is made.
                channels = {c for c in channels if c >= _VECTORS[1]}
                numbers["macs"] = result.numel() * math.prod(weight.shape[1:]) / 1e6
                narrow = [f"outputs not of {vector}" for vector in _VECTORS if weight.shape[0] % vector]
        elif "pool2d" in name:
            name = f"{name.partition('2d')[0]}{_other(' stride', args[2] if len(args) > 2 else ())}"
            numbers["channels"] = result.shape[1] / 1e3
        elif name in ("addmm", "mm", "bmm"):
            numbers["macs"] = result.numel() * args[-2 if name == "bmm" else -1].shape[-2] / 1e6
        elif name == "slice" and result.shape == inputs[0].shape:
            return
        narrow += [f"not of {vector}" for vector in _VECTORS if any(c % vector for c in channels)]
        for what, number in numbers.items():
            self.found[f"{name}: {what}"] += number
            for where in narrow:
                self.found[f"{name}: {what}, {where}"] += number


def _by(sizes: Any) -> str:
    return "x".join(str(int(size)) for size in sizes)


def _other(word: str, sizes: Any) -> str:
    """Return sizes that are not all 1, with a word before them."""
    return f"{word} {_by(sizes)}" if any(int(size) != 1 for size in sizes) else ""
