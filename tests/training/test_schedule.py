from __future__ import annotations

import pytest

from ddarts.config.schema import TrainOptions
from ddarts.training.schedule import cosine, drop_path_at, is_evaluated, learning_rate


def test_the_learning_rate_falls_from_start_to_end_along_half_a_cosine() -> None:
    rates = [cosine(0.1, 0.02, step, 100) for step in range(101)]
    assert rates[0] == 0.1
    assert rates[50] == pytest.approx(0.06)
    assert rates[100] == pytest.approx(0.02)
    assert rates == sorted(rates, reverse=True)


def test_the_learning_rate_rises_in_the_warm_up_and_falls_from_its_largest_value() -> None:
    options = TrainOptions(lr=0.2, lr_min=0.02, warmup=0.25, schedule="linear")
    rates = [learning_rate(options, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.2 / 26)
    assert rates[12] == pytest.approx(0.1)
    assert rates[25] == max(rates) == 0.2
    assert rates[63] == pytest.approx(0.2 + (0.02 - 0.2) * 38 / 75)
    assert rates[100] == pytest.approx(0.02)
    curved = options.model_copy(update={"schedule": "cosine"})
    assert learning_rate(curved, 25 + 25, 100) == pytest.approx(cosine(0.2, 0.02, 25, 75))
    plain = TrainOptions(lr=0.2, lr_min=0.02)
    assert [learning_rate(plain, step, 9) for step in range(9)] == [cosine(0.2, 0.02, step, 9) for step in range(9)]


def test_drop_path_rises_linearly_to_the_last_epoch() -> None:
    assert [drop_path_at(0.2, epoch, 5) for epoch in range(1, 6)] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert drop_path_at(0.2, 1, 1) == 0


def test_validation_is_evaluated_at_the_end_and_about_fifty_times() -> None:
    assert all(is_evaluated(epoch, 20) for epoch in range(1, 21))
    assert 50 <= sum(is_evaluated(epoch, 600) for epoch in range(1, 601)) <= 51
    assert is_evaluated(599, 599)
