from __future__ import annotations

import contextlib
import time

import torch
from torch import nn

from ddarts.cost.latency import WARM_UP, machine, measure_latency, summary, threads_set, time_passes, waiter


class Counting(nn.Module):
    """Counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)
        self.shapes: list[torch.Size] = []
        self.modes: list[bool] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.shapes.append(x.shape)
        self.modes.append(self.training)
        return self.layer(x)


def test_single_images_are_timed_in_evaluation_mode_and_the_mode_is_put_back() -> None:
    network = Counting().train()
    found = measure_latency(network, (3, 8, 6), seconds=0.0, least=7)
    assert network.shapes == [torch.Size([1, 3, 8, 6])] * (WARM_UP + 7)
    assert not any(network.modes)
    assert network.training
    assert 0 < found.median_ms <= found.p95_ms
    assert machine(torch.device("cpu")).endswith("1 thread")


def test_measuring_ends_when_the_time_is_over() -> None:
    network = Counting()
    measure_latency(network, (3, 2, 2), seconds=0.05, least=1)
    assert len(network.shapes) > 10


def test_the_percentile_is_a_time_that_95_of_100_do_not_exceed() -> None:
    found = summary([float(i) for i in range(100, 0, -1)], "pytorch", 2, 1)
    assert (found.median_ms, found.p95_ms, found.fastest_ms, found.passes) == (50.5, 95.0, 1.0, 100)
    assert summary([3.0], "pytorch", 1, 1).p95_ms == 3.0
    assert summary([1.0, 2.0, 9.0], "pytorch", 1, 1).p95_ms == 9.0


def test_slow_calls_are_timed_often_enough_and_fast_ones_long_enough() -> None:
    slow = time_passes(lambda: time.sleep(0.01), seconds=0.001, least=3)
    assert len(slow) == 3
    assert min(slow) >= 10
    assert len(time_passes(lambda: None, seconds=0.02, least=3)) > 3


def test_waiting_for_the_device_is_part_of_the_time() -> None:
    assert min(time_passes(lambda: None, seconds=0.001, least=2, wait=lambda: time.sleep(0.01))) >= 10
    assert waiter(torch.device("cpu"))() is None


def test_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    with contextlib.suppress(KeyError), threads_set(before + 1):
        inside = torch.get_num_threads()
        raise KeyError
    assert inside == before + 1
    assert torch.get_num_threads() == before
