"""Memory for activations: counted over the tensors that a forward pass really makes and drops."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_activation_bytes(network: nn.Module, input_shape: Sequence[int], device: str = "meta") -> int:
    """Return the most bytes that the activations of one forward pass fill at any moment, in evaluation mode.

    The pass runs on the meta device, where tensors have sizes and no contents; after every operation the storages that
    are alive are added up, the images included, parameters and buffers left out. So the number is the same on every
    machine. What a kernel uses for itself while it runs (workspaces, copies in another layout) is not in it, nor what
    an allocator keeps in reserve.

    Args:
        network: is not changed.
        input_shape: [batch, channels, height, width].
        device: where the pass runs; "cpu", where it computes, is faster for small networks.
    """
    twin = copy.deepcopy(network).to(device).eval()
    left_out = [*twin.parameters(), *twin.buffers()]
    x = torch.zeros(tuple(input_shape), device=device)
    with torch.no_grad(), _Alive([t.untyped_storage() for t in left_out]) as alive:
        alive.see(x)
        twin(x)
    return alive.peak


class _Alive(TorchDispatchMode):
    """Adds up the storages that are alive after every operation."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep PyTorch from importing its compiler, which takes seconds, to leave this class out."""
        return False

    def __init__(self, left_out: Sequence[torch.UntypedStorage]) -> None:
        super().__init__()
        self.peak = 0
        self._left_out = {storage._cdata for storage in left_out}
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def see(self, tensor: torch.Tensor) -> None:
        """Count the storage of a tensor, once; it is dropped when its last tensor is."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._left_out:
            # The weak reference keeps the address from being given to another storage.
            self._alive.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        # In evaluation mode a batch norm has no statistics of the batch to give: only the meta device makes them.
        kept = result[:1] if "batch_norm" in func.name() else result
        for leaf in tree_leaves(kept):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result
