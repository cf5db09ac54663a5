"""Which tensors go the ways that are made for the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from ddarts.nn.dispatch import on_cpu


def test_tensors_on_the_cpu_do_and_others_do_not() -> None:
    assert on_cpu(torch.zeros(1))
    assert not on_cpu(torch.zeros(1, device="meta"))


def test_under_a_compiler_none_does() -> None:
    def asked(x: Tensor) -> Tensor:
        return x + 1 if on_cpu(x) else x

    assert torch.compile(asked, backend="eager", fullgraph=True)(torch.zeros(1)).item() == 0
    torch.compiler.reset()
