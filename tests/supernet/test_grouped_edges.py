"""One group: all operations on all edges that leave a state. Its numbers are compared in test_supernet.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ddarts.errors import GenotypeError, SettingsError
from ddarts.nn.batch_norm import BatchStatistics, Mode
from ddarts.nn.operations import build_candidate
from ddarts.nn.recompute import recomputed
from ddarts.space.cell_space import DARTOPTI_OPERATIONS, DARTS_OPERATIONS, build_space
from ddarts.space.operations import BUILT_IN_OPERATIONS
from ddarts.supernet.backends import pytorch
from ddarts.supernet.cell import MixedCell
from ddarts.supernet.grouped_edges import GroupedEdges, mix_again

_POOLS_AND_SKIP = ("max_pool_3x3", "avg_pool_3x3", "skip_connect")


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("operations", [DARTS_OPERATIONS, DARTOPTI_OPERATIONS, *((o,) for o in BUILT_IN_OPERATIONS)])
def test_every_tensor_stays_channels_last(operations: tuple[str, ...], stride: int) -> None:
    """A single tensor in the other memory order makes all that follows it several times slower."""
    group = GroupedEdges(operations, 6, 3, stride)
    lost = []

    def look(name: str, tensors: object) -> None:
        for t in tensors if isinstance(tensors, (tuple, list)) else [tensors]:
            if isinstance(t, Tensor) and t.ndim == 4 and not t.is_contiguous(memory_format=torch.channels_last):
                lost.append(name)

    for name, module in group.named_modules():
        if isinstance(module, (nn.Conv2d, BatchStatistics)):
            module.register_forward_hook(lambda _m, inputs, out, name=name: (look(name, inputs), look(name, out))[0])
    x = _channels_last(torch.randn(2, 6, 8, 8))
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            output = group(x)
            look("shared", [s.x for s in output.shared])
            parts, saved = group.mix(output, torch.rand(3, len(operations)), keep=True)
        assert saved is not None
        assert saved.mixed is not None
        look("saved", [*(u for u, _, _ in saved.mixed.grouped), *saved.mixed.shared])
        look("sums", parts)
    assert lost == []


@pytest.mark.parametrize("stride", [1, 2])
def test_every_gradient_stays_channels_last(stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = []
    original = pytorch.batch_norm_gradient

    def gradient(mode: Mode, grad: Tensor, x: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor | None]:
        found = original(mode, grad, x, *rest)
        lost.extend(t.stride() for t in (grad, x, found[0]) if not t.is_contiguous(memory_format=torch.channels_last))
        return found

    monkeypatch.setattr(pytorch, "batch_norm_gradient", gradient)
    group = GroupedEdges(DARTS_OPERATIONS, 6, 3, stride)
    x = _channels_last(torch.randn(2, 6, 8, 8)).requires_grad_()
    sums, _ = group.mix(group(x), torch.rand(3, 7))
    torch.stack(sums).pow(2).sum().backward()
    assert x.grad is not None
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
    assert lost == []


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", BUILT_IN_OPERATIONS)
def test_each_edge_has_separate_weights_and_its_gate_scales_it(name: str, stride: int) -> None:
    torch.manual_seed(0)
    group = GroupedEdges((name,), 4, 3, stride).double()
    x = torch.randn(2, 4, 7, 5, dtype=torch.float64)
    output = group(x)
    ones, _ = group.mix(output, torch.ones(3, 1, dtype=torch.float64))
    shape = (2, 4, 7, 5) if stride == 1 else (2, 4, 4, 3)
    assert [tuple(p.shape) for p in ones] == [shape] * 3
    scaled, _ = group.mix(output, torch.tensor([[0.5], [0.0], [0.25]], dtype=torch.float64))
    for part, one, gate in zip(scaled, ones, (0.5, 0.0, 0.25), strict=True):
        torch.testing.assert_close(part, gate * one)
    differ = not torch.allclose(ones[0], ones[1])
    assert differ == any(True for _ in group.parameters())


@pytest.mark.parametrize("name", _POOLS_AND_SKIP)
def test_what_holds_no_weights_is_the_plain_operation_on_every_edge(name: str) -> None:
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    group = GroupedEdges((name,), 4, 2, 1).double()
    expected = build_candidate(name, 4, 1).double()(x)
    for part in group.mix(group(x), torch.ones(2, 1, dtype=torch.float64))[0]:
        torch.testing.assert_close(part, expected)


def test_operations_add_up() -> None:
    torch.manual_seed(0)
    group = GroupedEdges(DARTOPTI_OPERATIONS, 4, 2, 1).double()
    output = group(torch.randn(2, 4, 6, 6, dtype=torch.float64))
    gates = torch.rand(2, 12, dtype=torch.float64)
    total, _ = group.mix(output, gates)
    singly = [group.mix(output, gates * (torch.arange(12) == k))[0] for k in range(12)]
    for edge in range(2):
        torch.testing.assert_close(total[edge], torch.stack([parts[edge] for parts in singly]).sum(0))


@pytest.mark.parametrize("stride", [1, 2])
def test_what_was_saved_is_mixed_again_as_if_computed_anew(stride: int) -> None:
    """A branch multiplies the trunk's saved results by other gates, which must not change them."""
    group = GroupedEdges(DARTOPTI_OPERATIONS, 4, 2, stride)
    output = group(torch.randn(2, 4, 6, 6))
    sums = [torch.randn(2, 4, 6 // stride, 6 // stride), None]
    gates, other = torch.rand(2, 12), torch.rand(2, 12)
    first, saved = group.mix(output, gates, sums, keep=True)
    assert saved is not None
    assert saved.mixed is not None
    before = [t.clone() for t in (*(u for u, _, _ in saved.mixed.grouped), *saved.mixed.shared)]
    again = mix_again(other, saved, sums)
    assert all(torch.equal(a, b) for a, b in zip(again, group.mix(output, other, sums)[0], strict=True))
    assert all(
        torch.equal(a, b)
        for a, b in zip((*(u for u, _, _ in saved.mixed.grouped), *saved.mixed.shared), before, strict=True)
    )
    assert all(torch.equal(a, b) for a, b in zip(mix_again(gates, saved, sums), first, strict=True))


def test_sums_are_added_to_and_their_gradient_is_handed_on() -> None:
    torch.manual_seed(0)
    group = GroupedEdges(DARTS_OPERATIONS, 4, 3, 1).double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    gates = torch.rand(3, 7, dtype=torch.float64)
    before = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    alone, _ = group.mix(group(x), gates)
    sums, _ = group.mix(group(x), gates, [before, None, before])
    torch.testing.assert_close(sums[0], alone[0] + before)
    torch.testing.assert_close(sums[1], alone[1])
    (found,) = torch.autograd.grad(2 * sums[0].sum() + 3 * sums[1].sum() + 5 * sums[2].sum(), before)
    torch.testing.assert_close(found, torch.full_like(found, 7))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("operations", [DARTOPTI_OPERATIONS, *((o,) for o in BUILT_IN_OPERATIONS)])
def test_gradients_are_numerically_right(operations: tuple[str, ...], stride: int, training: bool) -> None:
    torch.manual_seed(3)
    group = GroupedEdges(operations, 2, 2, stride).double().train(training)
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    gates = torch.rand(2, len(operations), dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, gates: Tensor, *weights: Tensor) -> Tensor:
        return torch.stack(group.mix(group(x), gates)[0])

    together = len(operations) > 1  # each alone is checked number by number
    assert torch.autograd.gradcheck(run, (x, gates, *group.parameters()), atol=1e-4, fast_mode=together)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("operations", [DARTS_OPERATIONS, _POOLS_AND_SKIP])
def test_a_gpu_s_way_of_adding_shared_operations_gives_the_same(
    operations: tuple[str, ...], stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    group = GroupedEdges(operations, 4, 3, stride).double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    before = torch.randn(2, 4, 6 // stride, 6 // stride, dtype=torch.float64, requires_grad=True)
    gates = torch.rand(3, len(operations), dtype=torch.float64, requires_grad=True)
    found = []
    for one_by_one in (True, False):
        monkeypatch.setattr(pytorch, "_adds_one_by_one", lambda _x, answer=one_by_one: answer)
        sums, _ = group.mix(group(x), gates, [before, None, before])
        found.append((*sums, *torch.autograd.grad(torch.stack(sums).pow(3).sum(), (x, gates, before))))
    torch.testing.assert_close(found[0], found[1])


def test_frozen_weights_change_no_gradient_and_less_is_kept() -> None:
    torch.manual_seed(0)
    group = GroupedEdges(DARTOPTI_OPERATIONS, 4, 2, 1).double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    gates = torch.rand(2, 12, dtype=torch.float64, requires_grad=True)

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(torch.stack(group.mix(group(x), gates)[0]).pow(3).sum(), (x, gates))

    with_weights = gradients()
    group.requires_grad_(False)
    torch.testing.assert_close(gradients(), with_weights)


def test_the_backward_pass_finds_six_tensors_an_edge_and_not_fifteen() -> None:
    """What PyTorch's own autograd keeps of the operations of DARTS is 15 tensors of the size of all edges together."""
    group = GroupedEdges(DARTS_OPERATIONS, 8, 4, 1)
    x = torch.randn(2, 8, 16, 16)
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if t.ndim == 4 and t.shape[-1] == 16:
            kept[t.data_ptr()] = t.numel()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        group.mix(group(x), torch.rand(4, 7))
    assert sum(kept.values()) <= 6 * 4 * x.numel() + 5 * x.numel()


def test_the_state_is_not_changed() -> None:
    for stride in (1, 2):
        x = torch.randn(2, 4, 6, 6)
        before = x.clone()
        group = GroupedEdges(DARTOPTI_OPERATIONS, 4, 2, stride)
        group.mix(group(x), torch.rand(2, 12))
        assert torch.equal(x, before)


def test_pools_share_one_norm_and_skips_need_none() -> None:
    group = GroupedEdges(DARTS_OPERATIONS, 4, 5, 1)
    assert set(group.pool_norms) == {"max_pool_3x3", "avg_pool_3x3"}
    assert all(norm.running_mean.shape == (4,) for norm in group.pool_norms.values())
    assert "skip_connect" not in group.branches
    assert "skip_connect" in GroupedEdges(DARTS_OPERATIONS, 4, 5, 2).branches


def test_an_unknown_operation_is_named_with_the_nearest() -> None:
    with pytest.raises(GenotypeError, match="unknown operation 'sep_conv_3x4'; did you mean 'sep_conv_3x3'"):
        GroupedEdges(("sep_conv_3x4",), 4, 2, 1)


# -- batch statistics --------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_pytorchs_batch_norm() -> None:
    ours, theirs = BatchStatistics(3), nn.BatchNorm2d(3, affine=False)
    for k in range(3):
        x = torch.randn(4, 3, 5, 5) * (k + 1) + k
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    ours.eval()
    theirs.eval()
    scale = torch.tensor([1.0, 0.5, 0.0])
    expected = theirs(x) * scale.view(1, 3, 1, 1)
    torch.testing.assert_close(ours(x, scale), expected)  # evaluation never moves them
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)


def test_the_gradient_of_the_scale_is_that_of_a_product() -> None:
    norm, plain = BatchStatistics(3).double(), nn.BatchNorm2d(3, affine=False).double()
    x = torch.randn(4, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    scale = torch.rand(3, dtype=torch.float64, requires_grad=True)
    found = torch.autograd.grad(norm(x, scale).pow(3).sum(), (x, scale))
    expected = torch.autograd.grad((plain(x) * scale.view(1, 3, 1, 1)).pow(3).sum(), (x, scale))
    torch.testing.assert_close(found, expected)


def test_a_single_value_a_channel_cannot_be_normalised_and_the_message_says_so() -> None:
    norm = BatchStatistics(3)
    with pytest.raises(SettingsError, match="more than one value a channel; use a larger batch or resolution"):
        norm(torch.randn(1, 3, 1, 1))
    norm(torch.randn(2, 3, 1, 1))
    norm.eval()
    assert norm(torch.randn(1, 3, 1, 1)).shape == (1, 3, 1, 1)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("channels", [4, 8])
def test_a_mode_that_changes_before_the_backward_pass_changes_no_gradient(channels: int, recompute: bool) -> None:
    """In 4 channels on PyTorch's operations, in 8 on the CPU's kernels, and with the input's norm in a cell."""
    torch.manual_seed(0)
    space = build_space(cells=1, nodes=1, reductions=())
    cell = MixedCell(space, channels, channels, channels, concat=(2,), reduction=False, halve_0=False)
    states = [_channels_last(torch.randn(3, channels, 6, 6)).requires_grad_() for _ in range(2)]
    gates = torch.rand(len(space.edges), len(space.operations), requires_grad=True)
    leaves = [*states, gates, *cell.parameters()]

    def gradients(*, evaluates: bool) -> tuple[Tensor, ...]:
        cell.train()
        out = recomputed(cell, *states, gates) if recompute else cell(*states, gates)
        cell.train(not evaluates)
        found = torch.autograd.grad(out.pow(2).sum(), leaves)
        assert cell.training is not evaluates
        return found

    for found, expected in zip(gradients(evaluates=True), gradients(evaluates=False), strict=True):
        assert torch.equal(found, expected)
