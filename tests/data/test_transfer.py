"""Where batches come from and how they get to a device; there is no GPU in these tests, so only what leads there."""

from __future__ import annotations

import torch

from ddarts.data import transfer
from ddarts.data.transfer import fits, send


def test_on_one_device_nothing_is_copied() -> None:
    x = torch.randn(3)
    assert send(x, torch.device("cpu")) is x
    assert send(x, torch.device("meta")).device.type == "meta"


def test_images_stay_on_a_gpu_if_they_take_a_quarter_of_what_is_free_at_most(monkeypatch) -> None:
    monkeypatch.setattr(transfer.torch.cuda, "mem_get_info", lambda device: (400, 1000))
    assert fits(100, torch.device("cuda"))
    assert not fits(101, torch.device("cuda"))
    assert not fits(1, torch.device("cpu"))
