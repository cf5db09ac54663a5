from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ddarts.deploy.agreement import Agreement, check, compare
from ddarts.nn.preprocessing import ModelError

LINEAR = nn.Linear(3, 2, bias=False).requires_grad_(False)
X = torch.ones(4, 3)


def test_differences_are_found_wherever_they_are() -> None:
    def last_only(x: Tensor) -> Tensor:
        y = LINEAR(x).clone()
        if len(x) > 1:
            y[-1, 0] += 0.5
        return y

    def single_only(x: Tensor) -> Tensor:
        return LINEAR(x) + (0.25 if len(x) == 1 else 0.0)

    assert compare(LINEAR, LINEAR, X).logits == 0
    assert compare(LINEAR, last_only, X).logits == pytest.approx(0.5)
    assert compare(LINEAR, single_only, X).logits == pytest.approx(0.25)
    assert compare(LINEAR, single_only, X).probabilities == pytest.approx(0, abs=1e-6)


def test_other_shapes_and_no_numbers_are_errors() -> None:
    for wrong in (lambda x: LINEAR(x)[:, :1], lambda x: LINEAR(x) * float("nan")):
        with pytest.raises(ModelError, match="the exported network gives"):
            compare(LINEAR, wrong, X)


def test_the_tolerance_is_that_of_the_largest_logit() -> None:
    check(Agreement(4, 0.9e-4, 0.0, 0.1), 1e-4, "x")
    check(Agreement(4, 9e-4, 0.0, 10.0), 1e-4, "x")
    with pytest.raises(ModelError, match=r"x differs from PyTorch by 0\.0011 on 4 images, more than 0\.001;"):
        check(Agreement(4, 1.1e-3, 0.0, 10.0), 1e-4, "x")
