"""Grouped edges run by the CPU's kernels against the same run by PyTorch's operations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from ddarts.errors import SettingsError
from ddarts.kernels import library, operators
from ddarts.space.cell_space import DARTS_OPERATIONS
from ddarts.supernet.backends import cpu
from ddarts.supernet.grouped_edges import GroupedEdges

pytestmark = pytest.mark.skipif(library.load() is None, reason="no build of the kernels")


def _everything(group: GroupedEdges, *, trained: bool, wanted: bool, kernels: bool) -> dict[str, Tensor]:
    """Sums, gradients and running statistics of one pass forward and backward."""
    group = copy.deepcopy(group)
    torch.manual_seed(1)
    size = 3, group.channels, 9, 8
    x = torch.randn(size).contiguous(memory_format=torch.channels_last).requires_grad_(wanted)
    gates = torch.rand(group.edges, len(DARTS_OPERATIONS)).requires_grad_()
    for p in group.parameters():
        p.requires_grad_(trained)
    with pytest.MonkeyPatch.context() as patch:
        if not kernels:
            patch.setattr(operators, "load", lambda: None)
        sums, _ = group.mix(group(x), gates)
        sum((s * torch.randn(s.shape)).sum() for s in sums).backward()  # type: ignore[union-attr]
    found = {f"sum {i}": s.detach() for i, s in enumerate(sums)} | dict(group.named_buffers())
    leaves = {"x": x, "gates": gates} | dict(group.named_parameters())
    return found | {f"at {name}": t.grad for name, t in leaves.items() if t.grad is not None}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("edges", [1, 3])
@pytest.mark.parametrize(("trained", "wanted"), [(True, True), (True, False), (False, True), (False, False)])
def test_grouped_edges_are_the_same_either_way(stride: int, edges: int, trained: bool, wanted: bool) -> None:
    torch.manual_seed(0)
    group = GroupedEdges(DARTS_OPERATIONS, 16, edges, stride)
    found = _everything(group, trained=trained, wanted=wanted, kernels=True)
    expected = _everything(group, trained=trained, wanted=wanted, kernels=False)
    assert found.keys() == expected.keys()
    assert any(name.startswith("at branches") for name in found) is trained
    assert ("at x" in found) is wanted
    for name, t in expected.items():
        error = (found[name] - t).norm() / t.norm()
        assert error < 2e-5, f"{name}: {error:.1e}"


def test_what_the_kernels_do_not_take_is_left_to_pytorch() -> None:
    x = torch.randn(2, 16, 4, 4)
    assert cpu.fits(x, 16, ["batch", "batch"])
    assert not cpu.fits(x, 16, ["batch", "running"])
    assert not cpu.fits(x, 16, ["synchronised"])
    assert not cpu.fits(x.double(), 16)


def test_one_value_a_channel_cannot_be_normalised() -> None:
    group = GroupedEdges(("dil_conv_3x3",), 16, 1, 2)
    with pytest.raises(SettingsError, match="more than one value a channel"):
        group.mix(group(torch.randn(1, 16, 2, 2)), torch.rand(1, 1))
