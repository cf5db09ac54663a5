"""The setting `backend`: what computes a supernet."""

from __future__ import annotations

import torch

from ddarts.errors import SettingsError
from ddarts.kernels import library
from ddarts.nn.batch_norm import synchronise
from ddarts.supernet.backends.inductor import compile_edges
from ddarts.supernet.interface import Searchable
from ddarts.supernet.reference import ReferenceSupernet
from ddarts.supernet.supernet import Supernet


def on_backend(net: Searchable, backend: str, device: torch.device, *, synchronised: bool = False) -> Searchable:
    """Return a supernet that computes what `net` does, in the way that the setting names.

    "torch" differs from "auto" by where it runs: in `ddarts.kernels.library.allowed(False)`.

    Args:
        net: the supernet; what is returned starts at its weights and alphas.
        backend: "auto", "torch", "cpu", "inductor" or "reference".
        device: where it runs.
        synchronised: whether batch statistics are those of all processes.

    Raises:
        SettingsError: the kernels cannot run here, or such a supernet cannot be computed in that way.
    """
    if backend in ("inductor", "reference") and not isinstance(net, Supernet):
        raise SettingsError(f"backend {backend} knows no supernet but that of cells; choose auto or torch")
    if backend == "cpu" and (device.type != "cpu" or library.load() is None):
        reason = f"the device is {device.type}" if device.type != "cpu" else "no build of the kernels runs here"
        raise SettingsError(f"backend cpu is not available: {reason}; choose auto or torch")
    if backend == "reference":
        assert isinstance(net, Supernet)
        net = ReferenceSupernet.like(net)
    if synchronised:
        synchronise(net)
    if backend == "inductor":
        assert isinstance(net, Supernet)
        compile_edges(net)
    return net
