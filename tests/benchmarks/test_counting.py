"""benchmarks/counting.py: what an operation costs, and which lines carry numbers from the host to the device."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("counting")


def test_multiply_adds_of_forward_and_both_gradients_count_twice_each(counting: Any) -> None:
    conv = nn.Conv2d(6, 4, 3, padding=1, groups=2, bias=False, device="meta")
    x = torch.zeros(2, 6, 8, 8, device="meta", requires_grad=True)
    forward = 2 * (2 * 4 * 8 * 8) * (6 // 2 * 3 * 3)
    with counting.StepCounter() as found:
        y = conv(x)
    assert found.flop == forward
    assert found.bytes == 4 * (x.numel() + conv.weight.numel() + y.numel())
    with counting.StepCounter() as found:
        y.sum().backward()
    assert found.flop == 2 * forward
    with counting.StepCounter() as found:
        torch.zeros(3, 5, device="meta") @ torch.zeros(5, 7, device="meta")
    assert found.flop == 2 * 3 * 5 * 7


def test_lists_as_indices_and_copies_are_transfers_and_numbers_and_buffers_are_not(counting: Any) -> None:
    x, place = torch.zeros(4, 4, device="meta"), torch.zeros(2, dtype=torch.long, device="meta")
    with counting.StepCounter([place]) as found:
        (x * 2.0 + x[1] + torch.tensor(3.0))[place]
        x[x[0].argsort()]
        x[torch.arange(2, device="meta")]
    assert not found.transfers
    with counting.StepCounter() as found:
        x[[0, 2]]
        x + torch.zeros(4).to("meta")
    assert sum(found.transfers.values()) == 2


def test_reading_a_number_fails(counting: Any) -> None:
    with counting.StepCounter(), pytest.raises(RuntimeError, match="item"):
        bool(torch.zeros(3, device="meta").isfinite().all())


def test_a_step_of_every_variant_can_be_counted(counting: Any) -> None:
    sizes = counting.Sizes(cells=3, nodes=1, channels=2, batch=2, resolution=8)
    off = counting.count_step("off", sizes)
    assert off["weight"].flop > off["alpha"].flop > 0  # the alpha step wants no gradients of weights
    for variant in ("monitor-random", "monitor-zero", "gradient-zero-2"):
        found = counting.count_step(variant, sizes)
        assert found["alpha"].flop > off["alpha"].flop
        assert found["weight"].flop == off["weight"].flop
