"""How long something takes, called again and again."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

#: Passes that are not counted: the first ones choose kernels and fill caches.
WARM_UP = 2


@dataclass(frozen=True)
class Latency:
    """Time of one forward pass.

    Attributes:
        runtime: "pytorch" or "onnxruntime".
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
    if device.type == "mps":
        return torch.mps.synchronize
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
