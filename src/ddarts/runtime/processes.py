"""Which of several processes is this one? Told by the environment, without importing torch.

A run on several devices is several processes of the same command, numbered by *rank*. They are started by torchrun, or
by the launcher of Lightning Fabric when the settings ask for more than one device or machine. Rank 0 writes and speaks.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from ddarts.errors import SettingsError


@dataclass(frozen=True)
class Place:
    """The place of this process among those of the run.

    Attributes:
        how: who starts the processes: nobody ("alone"), torchrun, or the launcher of Fabric.
        rank: number of this process, from 0.
        local_rank: its number among those on this machine.
        local_size: processes on this machine.
        machines: how many there are.
    """

    how: Literal["alone", "torchrun", "launcher"] = "alone"
    rank: int = 0
    local_rank: int = 0
    local_size: int = 1
    machines: int = 1

    @property
    def size(self) -> int:
        """Processes on all machines."""
        return self.local_size * self.machines


def find_place(devices: int | None = None, machines: int | None = None) -> Place:
    """Return the place of this process.

    Args:
        devices: devices (and so processes) that the settings ask for on each machine; None for what torchrun gives.
        machines: machines, likewise.

    Raises:
        SettingsError: torchrun has started another number of processes than the settings ask for.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        size, local_size = _number("WORLD_SIZE", 1), _number("LOCAL_WORLD_SIZE", 1)
        there = max(size // local_size, 1)
        for name, wanted, found in (("devices", devices, local_size), ("machines", machines, there)):
            if wanted not in (None, found):
                raise SettingsError(
                    f"{name} = {wanted}, but torchrun has started {local_size} processes on each of {there} machines; "
                    f"leave out --{name}, torchrun decides"
                )
        if size > 1:
            return Place("torchrun", _number("RANK", 0), _number("LOCAL_RANK", 0), local_size, there)
        return Place()
    devices, machines = devices or 1, machines or 1
    if devices * machines == 1:
        return Place()
    machine, local_rank = _number("NODE_RANK", 0), _number("LOCAL_RANK", 0)
    if machines > 1 and not all(os.environ.get(name) for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")):
        raise SettingsError(
            f"machines = {machines} needs NODE_RANK (0 to {machines - 1}), MASTER_ADDR and MASTER_PORT in the "
            "environment of each machine; set them, or start the command with torchrun"
        )
    return Place("launcher", machine * devices + local_rank, local_rank, devices, machines)


def speaks() -> bool:
    """Return whether this process is the one that prints results: rank 0, or the only one."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return _number("RANK", 0) == 0
    if world_size() > 1:  # set by Fabric's launcher for the processes that it starts
        return _number("LOCAL_RANK", 0) == 0 and _number("NODE_RANK", 0) == 0
    return True


def world_size() -> int:
    """Return how many processes the environment speaks of, on all machines; 1 if it does not."""
    return max(_number("WORLD_SIZE", 1), 1)


def local_processes() -> int:
    """Return how many processes of the run there are on this machine, as far as the environment tells."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return max(_number("LOCAL_WORLD_SIZE", 1), 1)
    return world_size()  # Fabric's launcher gives no other way


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default
