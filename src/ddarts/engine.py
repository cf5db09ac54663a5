"""Devices, precision and threads behind one door: Lightning Fabric.

Fabric (and torch) take seconds to import, so they are imported when an engine is launched, not before.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

from ddarts.config import EngineOptions
from ddarts.errors import SettingsError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PRECISIONS: dict[str, Any] = {"float32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def resolve_device(name: str) -> tuple[str, int]:
    """Return (accelerator, index) for `auto`, `cpu`, `cuda`, `cuda:N` or `mps`, checking that it is there.

    Raises:
        SettingsError: an unknown name, or a device that this machine does not have.
    """
    import torch

    cuda = torch.cuda.is_available()
    kind, colon, number = name.partition(":")
    if name == "auto":
        return ("cuda", 0) if cuda else ("mps", 0) if torch.backends.mps.is_available() else ("cpu", 0)
    if kind == "cuda" and (not colon or number.isdecimal()):
        if not cuda:
            raise SettingsError(
                f"device {name!r} is not there: torch sees no CUDA GPU; use --device cpu or --device auto"
            )
        index, count = int(number or 0), torch.cuda.device_count()
        if index >= count:
            raise SettingsError(
                f"device {name!r} is not there: this machine has {count} CUDA GPU{'s' if count > 1 else ''}, "
                f"cuda:0{f' to cuda:{count - 1}' if count > 1 else ''}; use one of those or --device auto"
            )
        return "cuda", index
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise SettingsError("device 'mps' is not there: torch sees no Apple GPU; use --device cpu or --device auto")
        return "mps", 0
    if name == "cpu":
        return "cpu", 0
    raise SettingsError(f"device = {name!r} is unknown; use auto, cpu, cuda, cuda:N (N = 0, 1, ...) or mps")


def check_engine(options: EngineOptions) -> tuple[str, int]:
    """Check device and precision without launching anything; return what `resolve_device` returns.

    Raises:
        SettingsError: the device is not there, or cannot compute in this precision.
    """
    accelerator, index = resolve_device(options.device)
    if options.precision == "fp16" and accelerator == "cpu":
        raise SettingsError(
            "precision 'fp16' needs a GPU: its loss scaling has no CPU form; use --precision bf16 or float32"
        )
    return accelerator, index


def launch(options: EngineOptions) -> Fabric:
    """Set threads, device and precision, and return a launched Fabric on one device.

    bf16 and fp16 keep the weights in float32 and compute in mixed precision, fp16 with loss scaling.

    Raises:
        SettingsError: CUDA or MPS is asked for where there is none, or fp16 on a CPU.
    """
    import torch

    accelerator, index = check_engine(options)
    torch.set_num_threads(options.threads or available_cores())
    _quieten()
    with warnings.catch_warnings():
        # importing Fabric for the first time warns about the machine and about its own dependencies
        warnings.simplefilter("ignore")
        from lightning_fabric import Fabric

        fabric = Fabric(
            accelerator=accelerator,
            devices=1 if accelerator == "cpu" else [index],
            strategy="auto",
            precision=_PRECISIONS[options.precision],
        )
        fabric.launch()
    return fabric


def available_cores() -> int:
    """Return how many CPU cores this process may use (a container or `taskset` may allow fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def _quieten() -> None:
    """Silence what Fabric says at every start ("Using 32-bit precision", "GPU available: False", ...)."""
    for name in ("lightning_fabric", "lightning.fabric", "lightning_utilities"):
        logging.getLogger(name).setLevel(logging.ERROR)
