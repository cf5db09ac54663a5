from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from ddarts.config.schema import EngineOptions
from ddarts.errors import RunError
from ddarts.genotype.random import random_genotype
from ddarts.nn.network import Network
from ddarts.runtime.engine import launch
from ddarts.space.cell_space import build_space
from ddarts.training.ema import WeightAverage
from ddarts.training.state import TrainingState


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return launch(EngineOptions(device="cpu", threads=1))


def _state(fabric: Fabric, channels: int = 2, seed: int = 0) -> TrainingState:
    torch.manual_seed(seed)
    network = Network(random_genotype(build_space(cells=1, nodes=1, reductions=()), seed=0), channels=channels)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.randn(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    return TrainingState(network, optimizer, WeightAverage(network, 0.9), fabric)


def test_what_is_saved_is_restored(fabric: Fabric) -> None:
    first, second = _state(fabric, seed=1), _state(fabric, seed=2)
    first.epoch, first.step, first.elapsed_s, first.val_top1 = 3, 7, 1.5, 0.25
    first.meter.load_state_dict({"loss_sum": 4.0, "hits": 1, "count": 2})
    second.load_state_dict(first.state_dict(genotype="g"), "run", genotype="g")
    assert (second.epoch, second.step, second.elapsed_s, second.val_top1) == (3, 7, 1.5, 0.25)
    assert second.meter.loss == 2.0
    for a, b in ((first.network, second.network), (first.best, second.best)):
        assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    buffers = [[s["momentum_buffer"] for s in x.optimizer.state.values()] for x in (first, second)]
    assert all(torch.equal(x, y) for x, y in zip(*buffers, strict=True))


def test_a_checkpoint_of_another_training_is_refused(fabric: Fabric) -> None:
    state = _state(fabric)
    saved = state.state_dict(genotype="g", steps_per_epoch=4)
    with pytest.raises(
        RunError, match=r"run: the checkpoint is of a training with other steps per epoch; give the run"
    ):
        state.load_state_dict(saved, "run", genotype="g", steps_per_epoch=5)


@pytest.mark.parametrize(
    "change",
    [
        {"network": {}},
        {"network": None},
        {"optimizer": {"state": {}, "param_groups": []}},
        {"average": None},
        {"epoch": "three"},
        {"meter": {"loss_sum": 1.0}},
        {"about": []},
    ],
)
def test_a_broken_checkpoint_is_refused_in_one_line(fabric: Fabric, change: dict[str, Any]) -> None:
    state = _state(fabric)
    with pytest.raises(RunError, match=r"run: the checkpoint of the training does not fit") as caught:
        state.load_state_dict({**state.state_dict(genotype="g"), **change}, "run", genotype="g")
    assert "\n" not in str(caught.value)


def test_weights_of_another_size_are_refused(fabric: Fabric) -> None:
    with pytest.raises(RunError, match=r"does not fit \(RuntimeError: .*size mismatch"):
        _state(fabric, channels=3).load_state_dict(_state(fabric, channels=2).state_dict(), "run")


def test_a_weight_that_is_not_finite_is_named(fabric: Fabric) -> None:
    state = _state(fabric)
    assert state.first_not_finite() is None
    with torch.no_grad():
        state.network.classifier.bias[3] = float("inf")
    assert state.first_not_finite() == "classifier.bias"
