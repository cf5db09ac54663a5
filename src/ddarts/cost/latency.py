"""How long a network takes for a forward pass, called again and again on this machine."""

from __future__ import annotations

import contextlib
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

#: Passes that are not counted: the first ones choose kernels and fill caches.
WARM_UP = 2


@dataclass(frozen=True)
class Latency:
    """Time of one forward pass.

    Attributes:
        runtime: "pytorch", "onnxruntime" or "onnxruntime int8".
        batch: images a pass.
        threads: CPU threads.
        median_ms, p95_ms: milliseconds a pass: half of the passes, and 95 of 100, took no longer.
        fastest_ms: milliseconds of the fastest pass; far below the median where other processes want the processor.
        passes: how many were timed.
    """

    runtime: str
    batch: int
    threads: int
    median_ms: float
    p95_ms: float
    fastest_ms: float
    passes: int


def time_passes(
    call: Callable[[], object], *, seconds: float, least: int = 5, wait: Callable[[], None] = lambda: None
) -> list[float]:
    """Call `call` for about `seconds`, `least` times at least, after a warm-up; return the milliseconds of each call.

    Args:
        call: what to time.
        seconds: about how long.
        least: calls to time, however long they take.
        wait: returns when the device has finished.
    """
    for _ in range(WARM_UP):
        call()
        wait()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        wait()
        times.append(1000 * (time.perf_counter() - start))
    return times


def summary(times: Sequence[float], runtime: str, batch: int, threads: int) -> Latency:
    """Return median and 95th percentile (the smallest time that 95 of 100 do not exceed) of times in milliseconds."""
    ordered = sorted(times)
    p95 = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return Latency(runtime, batch, threads, statistics.median(ordered), p95, ordered[0], len(ordered))


def waiter(device: torch.device) -> Callable[[], None]:
    """Return what waits until the device has finished."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


@contextlib.contextmanager
def threads_set(threads: int) -> Iterator[None]:
    """Let torch compute with so many CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    was_training = network.training
    network.eval()
    try:
        with threads_set(1), torch.inference_mode():
            times = time_passes(lambda: network(x), seconds=seconds, least=least, wait=waiter(device))
    finally:
        network.train(was_training)
    return summary(times, "pytorch", 1, 1)


def machine(device: torch.device) -> str:
    """Return what `measure_latency` measures on, such as the name of the processor and "1 thread"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{_processor()}, 1 thread"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.processor() or platform.machine() or "CPU"
