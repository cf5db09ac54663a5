from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddarts.training.restore import load_optimizer


def pair(kind: str) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    """Parameters, one of them channels-last, and their optimizer after two steps."""
    torch.manual_seed(0)
    parameters = [
        nn.Parameter(torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)),
        nn.Parameter(torch.randn(5)),
        nn.Parameter(torch.randn(2)),  # never has a gradient
    ]
    optimizer = (
        torch.optim.Adam(parameters, lr=0.1)
        if kind == "adam"
        else torch.optim.SGD(parameters, lr=0.1, momentum=0.9, fused=True)
    )
    for _ in range(2):
        move(parameters, optimizer)
    return parameters, optimizer


def move(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    for p in parameters[:2]:
        p.grad = p.detach().sin()
    optimizer.step()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(kind: str, layout: torch.memory_format) -> None:
    parameters, optimizer = pair(kind)
    saved = copy.deepcopy(optimizer.state_dict())
    for values in saved["state"].values():
        for name, value in values.items():
            if value is not None and value.ndim == 4:
                values[name] = value.contiguous(memory_format=layout)
    kept = [p.detach().clone() for p in parameters]
    move(parameters, optimizer)
    move(parameters, optimizer)
    others, fresh = pair(kind)
    with torch.no_grad():
        for p, value in zip(others, kept, strict=True):
            p.copy_(value)
    load_optimizer(fresh, saved)
    move(others, fresh)
    move(others, fresh)
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))


def test_rates_are_taken_over_and_other_hyperparameters_are_the_optimizers_own() -> None:
    _, optimizer = pair("sgd")
    saved = optimizer.state_dict()
    saved["param_groups"][0] |= {"lr": 7.0, "momentum": "much", "nesterov": None}
    load_optimizer(optimizer, saved)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]) == (7.0, 0.9)


def test_an_optimizer_that_has_not_moved_yet_can_be_restored() -> None:
    parameter = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    load_optimizer(optimizer, optimizer.state_dict())
    assert not optimizer.state


def _state(saved: dict[str, Any], name: str, value: object) -> None:
    saved["state"][0][name] = value


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        ("sgd", "momentum_buffer", torch.zeros(3), r"momentum_buffer of a parameter of shape \[4, 3, 3, 3\] is \[3\]"),
        ("sgd", "momentum_buffer", torch.zeros(()), r"is \[\]"),
        ("sgd", "momentum_buffer", "much", "is str"),
        ("adam", "exp_avg", None, "exp_avg of .* is NoneType"),
        ("adam", "exp_avg_sq", torch.zeros(3, 4, 3, 3), r"exp_avg_sq of .* is \[3, 4, 3, 3\]"),
        ("adam", "step", torch.zeros(9), r"step of .* is \[9\]"),
    ],
)
def test_state_of_another_shape_is_refused_before_a_kernel_runs_over_its_end(
    kind: str, name: str, value: Tensor | str | None, message: str
) -> None:
    _, optimizer = pair(kind)
    saved = optimizer.state_dict()
    _state(saved, name, value)
    with pytest.raises(ValueError, match=message):
        load_optimizer(optimizer, saved)


def test_a_buffer_that_repeats_one_number_in_memory_is_spread_out() -> None:
    parameters, optimizer = pair("sgd")
    saved = optimizer.state_dict()
    _state(saved, "momentum_buffer", torch.zeros(1).expand(4, 3, 3, 3))
    load_optimizer(optimizer, saved)
    assert optimizer.state[parameters[0]]["momentum_buffer"].stride() == parameters[0].stride()


def test_state_of_other_parameters_is_refused() -> None:
    _, optimizer = pair("sgd")
    other = optimizer.state_dict()
    other["state"]["x" * 99] = {}
    with pytest.raises(ValueError, match="the optimizer has no parameter 'xxxx"):
        load_optimizer(optimizer, other)
    fewer = optimizer.state_dict()
    fewer["param_groups"][0]["params"] = [0]
    with pytest.raises(ValueError, match="another number of parameters"):
        load_optimizer(optimizer, fewer)
