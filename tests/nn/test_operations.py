from __future__ import annotations

import pytest
import torch
from torch import nn

from ddarts.errors import GenotypeError, SettingsError
from ddarts.nn.operations import (
    FactorizedReduce,
    Rectified,
    ReLUConvBN,
    build_candidate,
    build_operation,
)
from ddarts.space.cell_space import DARTS_OPERATIONS
from ddarts.space.operations import BUILT_IN_OPERATIONS


@pytest.mark.parametrize("name", BUILT_IN_OPERATIONS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_stride_2_halves_rounding_up_and_stride_1_keeps_the_size(name: str, channels: int) -> None:
    for height, width in ((1, 1), (1, 2), (5, 8), (7, 3)):
        x = torch.randn(2, channels, height, width)
        assert build_operation(name, channels, 1)(x).shape == x.shape
        assert build_operation(name, channels, 2)(x).shape == (2, channels, -(-height // 2), -(-width // 2))


@pytest.mark.parametrize("name", BUILT_IN_OPERATIONS)
def test_every_parameter_receives_a_gradient_and_the_input_is_not_changed(name: str) -> None:
    for stride in (1, 2):
        operation = build_operation(name, 4, stride)
        x = torch.randn(3, 4, 6, 6, requires_grad=True)
        before = x.detach().clone()
        operation(x).square().sum().backward()
        assert torch.equal(x.detach(), before)
        assert x.grad is not None
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in operation.parameters())


@pytest.mark.parametrize("name", BUILT_IN_OPERATIONS)
def test_a_rectified_input_can_be_shared(name: str) -> None:
    for stride in (1, 2):
        operation = build_operation(name, 4, stride).eval()
        if isinstance(operation, Rectified):
            x = torch.randn(2, 4, 6, 6)
            shared = torch.relu(x)
            before = shared.clone()
            torch.testing.assert_close(operation.after_relu(shared), operation(x), rtol=0, atol=0)
            assert torch.equal(shared, before)


def test_without_affine_no_batch_norm_has_parameters() -> None:
    for name in BUILT_IN_OPERATIONS:
        for stride in (1, 2):
            norms = [
                m for m in build_operation(name, 4, stride, affine=False).modules() if isinstance(m, nn.BatchNorm2d)
            ]
            assert all(n.weight is None and n.bias is None for n in norms)


def test_identity_costs_nothing_and_pools_hold_no_parameters() -> None:
    assert isinstance(build_operation("skip_connect", 4, 1), nn.Identity)
    for name in ("max_pool_3x3", "avg_pool_3x3"):
        assert list(build_operation(name, 4, 2).parameters()) == []


def test_average_pooling_does_not_count_padding() -> None:
    ones = torch.ones(1, 2, 5, 5)
    for stride in (1, 2):
        pooled = build_operation("avg_pool_3x3", 2, stride)(ones)
        torch.testing.assert_close(pooled, torch.ones_like(pooled))


@pytest.mark.parametrize(
    ("name", "reach"),
    [
        ("sep_conv_3x3", 2),  # two 3x3 kernels
        ("sep_conv_5x5", 4),
        ("dil_conv_3x3", 2),
        ("dil_conv_5x5", 4),
        ("simple_conv_1x1", 0),
        ("simple_conv_3x3", 1),
        ("conv_3x1_1x3", 1),
        ("conv_7x1_1x7", 3),
        ("bottleneck_1x3x1", 1),
        ("max_pool_3x3", 1),
        ("avg_pool_3x3", 1),
        ("skip_connect", 0),
    ],
)
def test_an_output_pixel_sees_as_far_as_the_kernel_reaches(name: str, reach: int) -> None:
    torch.manual_seed(0)  # with few channels, a ReLU may leave a pixel without any
    operation = build_operation(name, 8, 1).eval()
    x = torch.rand(1, 8, 15, 15, requires_grad=True)
    operation(x)[0, :, 7, 7].sum().backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    columns = x.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    if name == "max_pool_3x3":  # only the largest pixel counts
        assert rows.min() >= 7 - reach
        assert rows.max() <= 7 + reach
    else:
        assert (rows.min(), rows.max()) == (7 - reach, 7 + reach)
        assert (columns.min(), columns.max()) == (7 - reach, 7 + reach)


def test_factorized_reduction_sees_even_and_odd_pixels() -> None:
    reduce = FactorizedReduce(1, 3)  # two channels from even pixels, one from odd ones
    assert reduce.conv1.out_channels == 2
    assert reduce.conv2 is not None
    assert reduce.conv2.out_channels == 1
    x = torch.zeros(2, 1, 5, 5)
    x[:, :, 4, 4] = 1  # even position at the border of an odd side
    with torch.no_grad():
        reduce.conv1.weight.fill_(1)
        reduce.conv2.weight.fill_(1)
    reduce.eval()
    assert reduce(x)[0, :, 2, 2].tolist() == pytest.approx([1, 1, 0], abs=1e-4)
    x.zero_()[:, :, 3, 3] = 1
    assert reduce(x)[0, :, 1, 1].tolist() == pytest.approx([0, 0, 1], abs=1e-4)


def test_relu_conv_bn_changes_the_width() -> None:
    assert ReLUConvBN(6, 4)(torch.randn(2, 6, 3, 3)).shape == (2, 4, 3, 3)


def test_an_unknown_operation_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(GenotypeError, match=r"unknown operation 'sep_conv_3x4'; did you mean 'sep_conv_3x3'\?"):
        build_operation("sep_conv_3x4", 4, 1)


def test_another_stride_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"stride 3 of max_pool_3x3: only 1 and 2"):
        build_operation("max_pool_3x3", 4, 3)


@pytest.mark.parametrize("name", BUILT_IN_OPERATIONS)
def test_a_candidate_of_a_search_ends_with_a_batch_norm_without_parameters(name: str) -> None:
    *_, last = build_candidate(name, 4, 2).modules()
    assert isinstance(last, nn.BatchNorm2d)
    assert not last.affine


def test_all_of_the_darts_space_can_be_built() -> None:
    assert set(DARTS_OPERATIONS) <= set(BUILT_IN_OPERATIONS)
    for name in BUILT_IN_OPERATIONS:
        build_operation(name, 2, 1)
