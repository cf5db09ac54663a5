"""Batch norm over two processes against PyTorch's own over the whole batch."""

from __future__ import annotations

import torch

from ddarts.ranks import Ranks
from tests.together import norm_and_gradients, worked_together


def test_two_processes_normalise_and_differentiate_as_one_with_the_whole_batch() -> None:
    parts = [torch.load(worked_together() / f"numbers{rank}.pt", weights_only=True)["norm"] for rank in range(2)]
    whole = norm_and_gradients(Ranks())
    assert parts[0].keys() == whole.keys()
    for name, expected in whole.items():
        both = [part[name] for part in parts]
        if name in ("y", "x"):
            found = torch.cat(both)
        elif name in ("0.weight", "0.bias"):  # each process has the sum over its own part
            found = both[0] + both[1]
        else:
            assert torch.equal(both[0], both[1])
            found = both[0]
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10, msg=lambda m, name=name: f"{name}: {m}")
