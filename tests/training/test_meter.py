from __future__ import annotations

import math

import pytest
import torch

from ddarts.training.meter import Meter


def _add(meter: Meter, loss: float, hits: int, count: int) -> None:
    meter.add(torch.tensor(loss), torch.tensor(hits), count)


def test_loss_and_accuracy_are_means_over_images() -> None:
    meter = Meter()
    _add(meter, 1.0, 1, 1)
    _add(meter, 2.0, 0, 3)
    assert meter.flush() is None
    assert meter.loss == pytest.approx(7 / 4)
    assert meter.accuracy == 0.25
    assert meter.last_loss == 2


def test_nothing_read_is_not_a_number() -> None:
    meter = Meter()
    assert meter.flush() is None
    assert math.isnan(meter.loss)
    assert math.isnan(meter.accuracy)


def test_the_first_loss_that_is_not_finite_is_found() -> None:
    for bad in (math.nan, math.inf):
        meter = Meter()
        for loss in (1.0, bad, 1.0, math.nan):
            _add(meter, loss, 0, 1)
        assert meter.flush() == 2
        assert meter.count == 1
        assert not math.isfinite(meter.last_loss)


def test_sums_go_on_after_a_reload() -> None:
    whole, first, second = Meter(), Meter(), Meter()
    for meters, loss in (((whole, first), 0.1), ((whole, first), 0.7)):
        for meter in meters:
            _add(meter, loss, 1, 2)
    first.flush()
    second.load_state_dict(first.state_dict())
    for meter in (whole, second):
        _add(meter, 0.3, 2, 2)
        meter.flush()
    assert (whole.loss, whole.accuracy) == (second.loss, second.accuracy)
