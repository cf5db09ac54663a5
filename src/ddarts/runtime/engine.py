"""Devices, precision, threads and processes behind one door: Lightning Fabric.

Fabric (and torch) take seconds to import, so they are imported when an engine is launched, not before.
"""

from __future__ import annotations

import atexit
import inspect
import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, Protocol

from ddarts.errors import SettingsError
from ddarts.runtime.distributed import Ranks, current, set_current
from ddarts.runtime.processes import Place, find_place

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class EngineOptions(Protocol):
    """What the engine reads of a stage's settings (`ddarts.config.schema.EngineOptions`)."""

    @property
    def device(self) -> str:
        """See there."""
        ...

    @property
    def precision(self) -> str:
        """See there."""
        ...

    @property
    def threads(self) -> int | None:
        """See there."""
        ...

    @property
    def devices(self) -> int | None:
        """See there."""
        ...

    @property
    def machines(self) -> int | None:
        """See there."""
        ...


_PRECISIONS: dict[str, Any] = {"float32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def resolve_device(name: str) -> tuple[str, int]:
    """Return (accelerator, index) for `auto`, `cpu`, `cuda` or `cuda:N`, checking that it is there.

    Raises:
        SettingsError: an unknown name, or a device that this machine does not have.
    """
    import torch

    cuda = torch.cuda.is_available()
    kind, colon, number = name.partition(":")
    if name == "auto":
        return ("cuda", 0) if cuda else ("cpu", 0)
    if kind == "cuda" and (not colon or number.isdecimal()):
        if not cuda:
            raise SettingsError(
                f"device {name!r} is not available: torch finds no CUDA GPU; use --device cpu or --device auto"
            )
        index, count = int(number or 0), torch.cuda.device_count()
        if index >= count:
            raise SettingsError(
                f"device {name!r} is not available: this machine has {count} CUDA GPU{'s' if count > 1 else ''}, "
                f"cuda:0{f' to cuda:{count - 1}' if count > 1 else ''}; use one of those or --device auto"
            )
        return "cuda", index
    if name == "mps":  # PyTorch has no float64 there, nor batch_norm_update_stats
        raise SettingsError(
            "device 'mps' lacks operations of PyTorch that a search needs; use --device cpu, which has its own kernels"
        )
    if name == "cpu":
        return "cpu", 0
    raise SettingsError(f"device = {name!r} is unknown; use auto, cpu, cuda or cuda:N (N = 0, 1, ...)")


def check_engine(options: EngineOptions) -> tuple[str, int]:
    """Check device, precision and processes without launching anything; return what `resolve_device` returns.

    Raises:
        SettingsError: the device is not available, cannot compute in this precision, or there are too few.
    """
    accelerator, index = resolve_device(options.device)
    place = find_place(options.devices, options.machines)
    if place.size > 1:
        _check_devices(options.device, accelerator, place)
    if options.precision == "fp16" and accelerator == "cpu":
        raise SettingsError(
            "precision 'fp16' needs a GPU: its loss scaling has no CPU form; use --precision bf16 or float32"
        )
    return accelerator, index


def launch(options: EngineOptions) -> Fabric:
    """Set threads, device and precision, and return a launched Fabric: on one device, or one of those joined.

    bf16 and fp16 keep the weights in float32 and compute in mixed precision, fp16 with loss scaling.

    Raises:
        SettingsError: CUDA is asked for where there is none, or fp16 on a CPU; or several devices are asked for,
            and `join` was not called before.
    """
    place = find_place(options.devices, options.machines)
    if place.size != current().size:
        raise SettingsError(
            f"{place.size} processes where {current().size} is expected; several devices serve run, search and train, "
            "and the same number from the start of the program to its end"
        )
    return _launch(options, place)


def join(options: EngineOptions) -> Ranks:
    """Start the other processes of the run if the settings ask for some, and connect to them.

    Under torchrun they are there already; else Fabric starts the same command once more for every further device. Alone
    nothing happens, and nothing is imported.

    Raises:
        SettingsError: as `check_engine`.
    """
    check_engine(options)
    place = find_place(options.devices, options.machines)
    if place.size > 1 and current().size == 1:
        fabric = _launch(options, place)
        set_current(Ranks(fabric.global_rank, fabric.world_size, fabric.device))
        if fabric.device.type == "cpu":  # for NCCL, Fabric does it
            atexit.register(_leave)
    return current()


def _leave() -> None:
    """End gloo's threads before the interpreter does: one that still runs then aborts the process now and then."""
    from torch import distributed

    if distributed.is_initialized():
        distributed.destroy_process_group()


def _check_devices(name: str, accelerator: str, place: Place) -> None:
    """Raise SettingsError unless there is a device for each process of this machine."""
    import torch

    if ":" in name:
        raise SettingsError(f"device {name!r} is one device, for {place.local_size} processes; use --device cuda")
    if accelerator == "cuda" and place.local_size > torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise SettingsError(
            f"{place.local_size} processes on a machine of {count} CUDA GPU{'s' if count > 1 else ''}; "
            f"use --devices {count}, or --device cpu"
        )
    if place.how == "launcher" and hasattr(sys, "ps1"):
        raise SettingsError(
            "devices and machines start the program again in other processes, which an interactive session cannot; "
            "use the command line or a script"
        )


def _launch(options: EngineOptions, place: Place) -> Fabric:
    import torch

    accelerator, index = check_engine(options)
    threads = threads_of(options)
    torch.set_num_threads(threads)
    if accelerator == "cuda":
        _compute_exactly()
    _quieten()
    with warnings.catch_warnings():
        # importing Fabric for the first time warns about the machine and about its own dependencies
        warnings.simplefilter("ignore")
        from lightning_fabric import Fabric

        _quieten()  # once more: its import sets the level
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment
        from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

        if place.size > 1:
            from lightning_fabric.strategies.ddp import DDPStrategy

            fabric = Fabric(
                accelerator=accelerator,
                devices=place.local_size,
                num_nodes=place.machines,
                # running statistics stay each rank's own; rank 0's are copied where they count (see docs/scaling.md)
                strategy=DDPStrategy(**_own_buffers()),
                precision=_PRECISIONS[options.precision],
                plugins=[TorchElasticEnvironment() if place.how == "torchrun" else LightningEnvironment()],
            )
        else:
            fabric = Fabric(
                accelerator=accelerator,
                devices=1 if accelerator == "cpu" else [index],
                strategy="auto",
                precision=_PRECISIONS[options.precision],
            )
        fabric.launch()
    torch.set_num_threads(threads)  # Fabric's launcher may have set its own
    return fabric


def threads_of(options: EngineOptions) -> int:
    """Return the CPU threads of a process: those of the settings, else its share of the cores."""
    place = find_place(options.devices, options.machines)
    return options.threads or max(available_cores() // place.local_size, 1)


def _compute_exactly() -> None:
    """Let CUDA compute in full float32, and cuDNN choose among deterministic algorithms, the same ones in every run."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def _own_buffers() -> dict[str, Any]:
    """Return the option of DistributedDataParallel that copies no buffers in a step; PyTorch has renamed it."""
    from torch.nn.parallel import DistributedDataParallel

    new = "forward_sync_buffers"
    return {new if new in inspect.signature(DistributedDataParallel).parameters else "broadcast_buffers": False}


def available_cores() -> int:
    """Return how many CPU cores this process may use (a container or `taskset` may allow fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def _quieten() -> None:
    """Silence what Fabric says at every start ("Using 32-bit precision", "GPU available: False", ...)."""
    for name in ("lightning_fabric", "lightning.fabric", "lightning_utilities"):
        logging.getLogger(name).setLevel(logging.ERROR)
