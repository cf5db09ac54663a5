"""From the host to a device without making the host wait."""

from __future__ import annotations

import torch
from torch import Tensor

#: Share of a GPU's free memory that images may take to stay there.
_SHARE = 0.25


def send(x: Tensor, device: torch.device) -> Tensor:
    """`x` on `device`. To a GPU it goes from pinned memory, since a copy from any other makes the host wait for it."""
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


def fits(size: int, device: torch.device) -> bool:
    """Whether `size` bytes of images may stay on `device` for good: on a GPU, if they leave three quarters of it."""
    return device.type == "cuda" and size <= _SHARE * torch.cuda.mem_get_info(device)[0]
