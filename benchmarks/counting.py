"""What a search step computes, moves and waits for, found without computing anything.

    python benchmarks/counting.py --variant gradient-zero

The step runs on PyTorch's meta device, where tensors have shapes and no numbers. Every operation is seen on its way:

- its floating-point operations (a multiply-add is two), if it is a convolution or a matrix product;
- its bytes: what it reads and writes, if nothing stays in the processor's caches from one operation to the next;
- whether it carries numbers from the host to the device. On a GPU every such transfer makes the host wait for all
  that it has asked for before, unless its memory is pinned; so does reading a number, which fails on the meta device.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from measuring import ROOT
from steps import VARIANTS, Sizes, build_steps
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
_OURS = (str(ROOT / "src"), str(ROOT / "benchmarks"))
_KINDS = {
    "convolution, gradients": ("convolution_backward",),
    "convolution": ("convolution",),
    "batch norm, gradients": ("batch_norm_backward",),
    "batch norm": ("batch_norm",),
    "pools and their gradients": ("pool2d",),
    "ReLU and its gradient": ("relu", "threshold"),
    "sums and products by gates": ("aten.add", "aten.mul", "aten.mm", "aten.bmm"),
    "laying side by side": ("aten.cat", "aten.stack", "aten.copy", "aten.clone", "aten.slice_backward"),
    "optimisers and clipping": ("_foreach", "_fused", "aten.sgd", "vector_norm", "lerp", "addcmul", "addcdiv", "sqrt"),
}
_PRODUCTS = (_aten.mm.default, _aten.bmm.default, _aten.addmm.default, _aten.baddbmm.default)


class StepCounter(TorchDispatchMode):
    """Counts while it is entered.

    Attributes:
        flop: floating-point operations of convolutions and matrix products.
        bytes: bytes read and written by all operations but views.
        operations: number of operations but views: on a GPU about the number of kernels.
        kinds: bytes and number of operations, by kind of operation.
        transfers: for each line of this repository, how often it took numbers from the host to the device.
    """

    def __init__(self, buffers: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._on_device = list(buffers)  # whole numbers that are on the device already
        self.flop = self.bytes = self.operations = 0
        self.kinds: dict[str, tuple[int, int]] = {}
        self.transfers: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        written = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        if self._transfers(func, args, read, written):
            self.transfers[_caller()] += 1
        self._on_device += [t for t in written if not t.is_floating_point() and t.device.type == "meta"]
        if func.is_view or not any(t.device.type == "meta" for t in (*read, *written)):
            return result
        self.operations += 1
        moved = sum(t.numel() * t.element_size() for t in (*read, *written))
        self.bytes += moved
        kind = next((kind for kind, words in _KINDS.items() if any(w in str(func) for w in words)), "the rest")
        before = self.kinds.get(kind, (0, 0))
        self.kinds[kind] = (before[0] + moved, before[1] + 1)
        self.flop += _flop(func, args, result)
        return result

    def _transfers(self, func: Any, args: Any, read: list[Tensor], written: list[Tensor]) -> bool:
        if func is _aten.index.Tensor:  # x[[0, 2]] makes a tensor of the list and takes it to the device, unseen
            indices = [t for t in args[1] if t is not None]
            return any(all(t is not known for known in self._on_device) for t in indices)
        on_host = any(t.device.type == "cpu" and t.ndim > 0 for t in read)  # a single number travels with the kernel
        return on_host and any(t.device.type == "meta" for t in (*read, *written))


def _flop(func: Any, args: Any, result: Any) -> int:
    if func is _aten.convolution.default:
        return 2 * result.shape[0] * result.shape[2] * result.shape[3] * args[1].numel()
    if func is _aten.convolution_backward.default:
        gradient, weight, wanted = args[0], args[2], args[10]
        return 2 * gradient.shape[0] * gradient.shape[2] * gradient.shape[3] * weight.numel() * sum(wanted[:2])
    if func in _PRODUCTS:
        left = args[-2]
        return 2 * result.numel() * left.shape[-1]
    return 0


def _caller() -> str:
    """The innermost line of the package, or of the benchmarks, that is being run."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_OURS) and name != __file__:
            return f"{Path(name).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "elsewhere"


def count_step(variant: str, sizes: Sizes, precision: str = "float32") -> dict[str, StepCounter]:
    """Count one alpha step and one weight step of a variant of the package."""
    steps = build_steps(variant, sizes, device="meta", precision=precision)
    counted = {}
    for name, step in (("alpha", steps.alpha), ("weight", steps.weight)):
        with StepCounter(steps.network.buffers()) as counted[name]:
            step()
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    Sizes.add_options(parser)
    parser.add_argument(
        "--variant", choices=[v for v in VARIANTS if not v.startswith("plain")], default="monitor-random"
    )
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    args = parser.parse_args()
    counted = count_step(args.variant, Sizes.of(args), args.precision)
    for name, found in counted.items():
        print(
            f"{name} step: {found.flop / 1e9:.1f} GFLOP, {found.bytes / 1e9:.1f} GB, {found.operations} operations, "
            f"{sum(found.transfers.values())} transfers from the host"
        )
        for kind, (moved, number) in sorted(found.kinds.items(), key=lambda item: -item[1][0]):
            print(f"  {moved / 1e9:7.2f} GB {100 * moved / found.bytes:3.0f} % {number:6} operations  {kind}")
        for place, number in found.transfers.most_common():
            print(f"  {number:6} transfers at {place}")


if __name__ == "__main__":
    main()
