import torch
from torch import nn

from ddarts.cost.latency import measure_latency


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
    assert network.shapes == [torch.Size([1, 3, 8, 6])] * 8  # one to warm up
    assert not any(network.modes)
    assert network.training
    assert 0 < found.median_ms <= found.p95_ms
    assert found.machine.endswith("1 thread")


def test_measuring_ends_when_the_time_is_over() -> None:
    network = Counting()
    measure_latency(network, (3, 2, 2), seconds=0.05, least=1)
    assert len(network.shapes) > 10
