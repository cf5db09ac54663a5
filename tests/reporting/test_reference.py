from __future__ import annotations

import pytest
import torch

from ddarts.errors import RunError
from ddarts.nn.tasks import Task
from ddarts.reporting.reference import (
    Paired,
    bootstrapped_difference,
    comparison_of,
    judged,
    paired_difference,
    title_of,
)


def test_mcnemars_test_counts_images_that_one_network_finds() -> None:
    # 5 against 15: 2 * sum(C(20, k), k <= 5) / 2**20
    paired = paired_difference([*range(100, 115)], [*range(5)], 1000)
    assert paired.difference == pytest.approx((5 - 15) / 1000)
    assert paired.p == pytest.approx(2 * 21_700 / 2**20)
    assert paired_difference([1, 2], [1, 2], 10) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("only_first", range(25))
def test_the_interval_excludes_0_exactly_if_the_test_finds_a_difference(only_first: int) -> None:
    paired = paired_difference(range(100, 100 + 24 - only_first), range(only_first), 200)
    assert (paired.low > 0 or paired.high < 0) == (paired.p < 0.05)
    assert paired.low <= paired.difference <= paired.high


def test_a_bootstrap_finds_a_clear_difference_and_none_in_noise() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (300, 2), generator=random).double()
    noise = torch.randn(300, 2, generator=random)
    sure, unsure, other = (
        {"labels": labels, "outputs": labels * d + noise.roll(k, 0)} for k, d in enumerate((3, 1, 1))
    )
    found = bootstrapped_difference(sure, unsure)
    assert found.p < 0.01
    assert 0 < found.low < found.difference < found.high
    assert bootstrapped_difference(unsure, sure).difference == -found.difference
    assert bootstrapped_difference(sure, sure) == (0.0, 0.0, 0.0, 1.0)
    assert bootstrapped_difference(unsure, other).p > 0.05


def test_the_bootstrap_of_errors_is_the_interval_of_a_paired_mean() -> None:
    random = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 400, generator=random).double() + torch.tensor([[1.0], [1.1]])
    labels = torch.zeros(400, 1)
    found = bootstrapped_difference({"labels": labels, "errors": first}, {"labels": labels, "errors": second})
    difference = second - first
    half = 1.96 * difference.std().item() / 20
    assert found.difference == pytest.approx(difference.mean().item())
    assert found.low == pytest.approx(difference.mean().item() - half, abs=0.1 * half)
    assert found.high == pytest.approx(difference.mean().item() + half, abs=0.1 * half)


def test_differences_of_other_scores_are_put_in_words() -> None:
    paired = Paired(1.25, 0.5, 2.0, 0.01)
    assert judged("ResNet-8", paired, Task.of({"task": "regression"})) == (
        "better than ResNet-8 of the same size by 1.25 in mean absolute error (0.5 to 2)"
    )
    assert judged("ResNet-8", Paired(0.01, -0.01, 0.03, 0.4), Task("multi-label")) == (
        "not distinguishable from ResNet-8 of the same size (difference -1.0 to 3.0 points of mean average precision)"
    )
    assert judged("ResNet-8", Paired(0.0, 0.0, 0.0, 1.0), Task("multi-label")) == (
        "not distinguishable from ResNet-8 of the same size (difference 0.0 to 0.0 points of mean average precision)"
    )


def test_a_difference_is_put_in_words() -> None:
    title = title_of("standard:resnet14")
    assert judged(title, Paired(0.012, 0.003, 0.021, 0.01)) == (
        "better than ResNet-14 of the same size by 1.2 points (0.3 to 2.1)"
    )
    assert judged(title, Paired(-0.012, -0.021, -0.003, 0.01)) == (
        "worse than ResNet-14 of the same size by 1.2 points (0.3 to 2.1)"
    )
    assert judged(title_of("standard:mobilenet11"), Paired(0.001, -0.01, 0.012, 0.8)) == (
        "not distinguishable from MobileNetV2 (11 blocks) of the same size (difference -1.0 to 1.2 points)"
    )
    assert judged(title, Paired(0.0, 0.0, 0.0, 1.0)) == (
        "not distinguishable from ResNet-14 of the same size (right and wrong on the same images)"
    )


def test_numbers_of_the_standard_network_are_put_in_words() -> None:
    other = {"title": "ResNet-8", "channels": 4, "parameters": 90, "test_top1": 0.9, "count": 100, "verdict": "good"}
    found = comparison_of({"parameters": 1000, "test_top1": 0.95, "macs": 5, "reference": other})
    assert found is not None
    assert (found.title, found.verdict) == ("ResNet-8, C = 4", "good")
    assert found.numbers == {"parameters": "90", "test_top1": "90.00 % (82.56 % to 94.48 %)"}
    assert comparison_of({"parameters": 1000}) is None
    with pytest.raises(RunError, match="damaged"):
        comparison_of({"parameters": 1, "reference": {"parameters": "many"}})
