"""How long a network takes for one image on this machine: a glance of half a second, not a benchmark."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn


@dataclass(frozen=True)
class Latency:
    """Time of a forward pass.

    Attributes:
        median_ms: milliseconds an image, one at a time.
        p95_ms: what 95 of 100 passes stay below.
        machine: what it was measured on.
    """

    median_ms: float
    p95_ms: float
    machine: str


def measure_latency(
    network: nn.Module, shape: tuple[int, int, int], *, seconds: float = 0.5, least: int = 3
) -> Latency:
    """Time forward passes of single images on the device of the network; its mode is put back afterwards.

    On a CPU one thread computes: what several threads take for so small a job says more about who else is at work.

    Args:
        network: maps [1, C, H, W] to anything.
        shape: (C, H, W) of the image.
        seconds: about how long to measure.
        least: passes to time at least.
    """
    device = next(network.parameters()).device
    x = torch.zeros(1, *shape, device=device).contiguous(memory_format=torch.channels_last)
    was_training, threads = network.training, torch.get_num_threads()
    network.eval()
    times: list[float] = []
    try:
        torch.set_num_threads(1)
        with torch.inference_mode():
            network(x)  # the first pass chooses kernels
            _wait(device)
            end = time.perf_counter() + seconds
            while len(times) < least or time.perf_counter() < end:
                start = time.perf_counter()
                network(x)
                _wait(device)
                times.append(1000 * (time.perf_counter() - start))
    finally:
        network.train(was_training)
        torch.set_num_threads(threads)
    times.sort()
    return Latency(statistics.median(times), times[int(0.95 * (len(times) - 1))], _machine(device))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, 1 thread" if device.type == "cpu" else device.type


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.processor() or platform.machine() or "CPU"
