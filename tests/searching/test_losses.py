from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddarts.searching.losses import (
    ablation_losses,
    ablation_scale,
    marginal_contribution,
    zero_one_loss,
    zero_one_weight,
)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("gates", "l2", "l1"),
    [
        ((0.5, 0.5), 0.0, 0.0),
        ((0.0, 1.0), -0.25, -0.5),
        ((1.0, 0.5), -0.125, -0.25),
        ((0.25, 0.9), -(0.0625 + 0.16) / 2, -(0.25 + 0.4) / 2),
    ],
)
def test_the_zero_one_loss_by_hand(gates: tuple[float, ...], l2: float, l1: float) -> None:
    assert zero_one_loss(tensor(*gates)[None]).item() == pytest.approx(l2, abs=1e-15)
    assert zero_one_loss(tensor(*gates)[None], "l1").item() == pytest.approx(l1, abs=1e-15)


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_descending_the_zero_one_loss_drives_every_gate_to_its_nearer_end(kind: str) -> None:
    alpha = tensor(-2.0, -0.1, 0.1, 2.0).requires_grad_()
    (gradient,) = torch.autograd.grad(zero_one_loss(torch.sigmoid(alpha), kind), alpha)  # type: ignore[arg-type]
    assert torch.equal(-gradient.sign(), alpha.sign())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_zero_one_loss_is_bounded(gates: list[float]) -> None:
    assert -0.25 <= zero_one_loss(tensor(*gates)).item() <= 0
    assert -0.5 <= zero_one_loss(tensor(*gates), "l1").item() <= 0


@pytest.mark.parametrize(
    ("schedule", "warmup", "progress", "expected"),
    [
        ("constant", 0.8, 0.0, 9.0),
        ("linear", 0.8, 0.0, 0.0),
        ("linear", 0.8, 0.2, 2.25),
        ("quadratic", 0.8, 0.2, 0.5625),
        ("quadratic", 0.8, 0.4, 2.25),
        ("quadratic", 0.8, 0.8, 9.0),
        ("linear", 0.8, 1.0, 9.0),
        ("quadratic", 0.0, 0.0, 9.0),  # no warm-up
        ("linear", 1.0, 0.5, 4.5),
    ],
)
def test_the_schedules_of_the_zero_one_weight_by_hand(
    schedule: str, warmup: float, progress: float, expected: float
) -> None:
    assert zero_one_weight(9.0, schedule, warmup, progress) == pytest.approx(expected)  # type: ignore[arg-type]


@given(st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_ramp_never_falls_and_stays_within_its_weight(warmup: float, a: float, b: float) -> None:
    for schedule in ("constant", "linear", "quadratic"):
        early, late = (zero_one_weight(7.0, schedule, warmup, p) for p in sorted((a, b)))  # type: ignore[arg-type]
        assert 0 <= early <= late <= 7


def test_a_cell_that_helps_has_a_negative_contribution() -> None:
    assert marginal_contribution(tensor(1.5), tensor(2.0)).item() == -0.5


def test_nu_is_the_size_of_the_mean_contribution_but_not_below_its_floor() -> None:
    ce = tensor(2.0)[0]
    assert ablation_scale(tensor(-1.0, -2.0), ce, 0.1).item() == 1.5
    assert ablation_scale(tensor(1.0, 2.0), ce, 0.1).item() == 1.5
    assert ablation_scale(tensor(-1.0, 1.0), ce, 0.1).item() == pytest.approx(0.2)  # the mean passes through 0
    assert ablation_scale(tensor(0.0, 0.0), 0 * ce, 0.1).item() > 0


def test_nu_is_a_constant_to_the_gradient() -> None:
    marginal, ce = tensor(-1.0, -2.0).requires_grad_(), tensor(2.0)[0].requires_grad_()
    assert not ablation_scale(marginal, ce, 0.1).requires_grad


def test_the_ablation_losses_by_hand() -> None:
    found = ablation_losses(tensor(-0.1, -0.3, -0.8), tensor(1.0)[0], 0.1)
    assert torch.allclose(found, tensor(0.3, 0.1, -0.4) / 0.4)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12), st.floats(0.01, 5), st.floats(0.01, 1))
def test_the_ablation_losses_sum_to_zero_and_are_bounded_by_the_floor(
    marginal: list[float], cross_entropy: float, floor: float
) -> None:
    m = tensor(*marginal)
    found = ablation_losses(m, tensor(cross_entropy)[0], floor)
    assert abs(found.sum().item()) < 1e-9 * (1 + 12 * 6 / (floor * cross_entropy))
    assert found.abs().max() <= (m - m.mean()).abs().max() / (floor * cross_entropy) + 1e-12


@pytest.mark.parametrize("shift", [-2.0, 0.0, 2.0])
def test_a_cell_that_helps_less_than_the_mean_is_punished_whatever_the_sign_of_the_mean(shift: float) -> None:
    """The published form, -(M - mean) / mean, turns round where the mean contribution is positive."""
    worse, middle, better = ablation_losses(tensor(0.5, 0.0, -0.5) + shift, tensor(2.0)[0], 0.1).tolist()
    assert worse > 0 > better
    assert middle == pytest.approx(0)
