from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from ddarts.config.schema import SearchOptions, SearchSettings
from ddarts.config.strategies import DDartsOptions
from ddarts.errors import DDartsError, RunError
from ddarts.runtime.engine import launch
from ddarts.searching.alpha_step import AblationPlan
from ddarts.searching.state import SearchState
from ddarts.searching.strategies.d_darts import DDarts
from ddarts.space.cell_space import build_space
from ddarts.supernet.supernet import Supernet
from tests.searching.gradients import sigmoid_gates

SETTINGS = SearchSettings(device="cpu", threads=1, search=SearchOptions(cells=2, nodes=1, channels=2))
ABOUT = {"images": 40, "steps_per_epoch": 5, "classes": 3}


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return launch(SETTINGS)


def make(fabric: Fabric, seed: int = 0) -> SearchState:
    torch.manual_seed(seed)
    net = Supernet(build_space(cells=2, nodes=1, reductions=(1,)), channels=2, in_channels=1, classes=3)
    return SearchState(net.to(memory_format=torch.channels_last), DDarts(DDartsOptions()), SETTINGS.search, fabric)


def move(state: SearchState) -> None:
    """One step of both optimizers, as in a search."""
    x = torch.linspace(-1, 1, 4 * 36).view(4, 1, 6, 6)
    y = torch.tensor([0, 1, 2, 0])
    loss = torch.nn.functional.cross_entropy(state.net(x, sigmoid_gates(state.net)), y)
    state.net.zero_grad()
    loss.backward()
    state.alpha_optimizer.step()
    state.weight_optimizer.step()
    state.on_alphas.add(loss, torch.tensor(2), 4)
    state.on_weights.add(loss, torch.tensor(1), 4)
    state.on_alphas.flush()
    state.on_weights.flush()
    state.contributions.add(AblationPlan("monitor", "zero", [1]), torch.tensor([-0.5]))
    state.step += 1


def through_a_file(state: SearchState) -> dict[str, Any]:
    memory = io.BytesIO()
    torch.save(state.state_dict(**ABOUT), memory)
    memory.seek(0)
    return torch.load(memory, weights_only=True)


def test_a_state_goes_on_from_a_file_bit_for_bit(fabric: Fabric) -> None:
    state, other = make(fabric), make(fabric, seed=1)
    move(state)
    state.epoch, state.elapsed_s, state.stopped = 3, 1.5, "epoch 2: enough"
    state.best = (2, 0.75, state.gates())
    other.load_state_dict(through_a_file(state), "run", **ABOUT)
    assert (other.epoch, other.step, other.elapsed_s, other.stopped) == (3, 1, 1.5, "epoch 2: enough")
    assert other.best == state.best
    for _ in range(2):
        move(state)
        move(other)
    assert all(
        torch.equal(a, b) for a, b in zip(state.net.state_dict().values(), other.net.state_dict().values(), strict=True)
    )
    assert other.on_alphas.state_dict() == state.on_alphas.state_dict()
    assert other.on_weights.state_dict() == state.on_weights.state_dict()
    assert other.contributions.epoch_means() == state.contributions.epoch_means()


def test_adam_holds_the_very_alphas_of_the_network_after_loading(fabric: Fabric) -> None:
    """The published code rebinds the alphas on loading, and its optimizer goes on with those that nobody reads."""
    state, other = make(fabric), make(fabric, seed=1)
    move(state)
    other.load_state_dict(through_a_file(state), "run", **ABOUT)
    (group,) = other.alpha_optimizer.param_groups
    assert all(a is b for a, b in zip(group["params"], other.net.architecture_parameters(), strict=True))
    before = other.gates()
    move(other)
    assert other.gates() != before


def test_a_new_state_has_nothing_to_show(fabric: Fabric) -> None:
    state, other = make(fabric), make(fabric, seed=1)
    other.load_state_dict(through_a_file(state), "run", **ABOUT)
    assert (other.epoch, other.step, other.best, other.stopped) == (1, 0, None, None)
    assert other.gates() == state.gates()


@pytest.mark.parametrize(("name", "value"), [("images", 41), ("steps_per_epoch", 6), ("classes", 4)])
def test_a_checkpoint_of_another_search_is_refused(fabric: Fabric, name: str, value: int) -> None:
    saved = through_a_file(make(fabric))
    words = name.replace("_", " ")
    with pytest.raises(RunError, match=rf"run: the checkpoint is of a search with {words} \d+, not {value}; give the"):
        make(fabric).load_state_dict(saved, "run", **ABOUT | {name: value})


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(saved: dict[str, Any]) -> None:
        *most, last = path
        for key in most:
            saved = saved[key]
        del saved[last]

    return change


def put(value: Any, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(saved: dict[str, Any]) -> None:
        *most, last = path
        for key in most:
            saved = saved[key]
        saved[last] = value

    return change


@pytest.mark.parametrize(
    "damage",
    [
        drop("net"),
        drop("about"),
        drop("net", "alphas.0"),
        put(torch.zeros(3), "net", "alphas.0"),
        put({}, "net"),
        put(None, "net"),
        put("text", "net", "alphas.0"),
        put(7, "about"),
        put({}, "about"),
        drop("alpha_optimizer", "param_groups"),
        put(torch.zeros(2), "alpha_optimizer", "state", 0, "exp_avg"),
        put(torch.zeros(2), "weight_optimizer", "state", 0, "momentum_buffer"),
        put([], "weight_optimizer"),
        put("three", "epoch"),
        put(float("inf"), "epoch"),
        put(None, "step"),
        drop("on_alphas", "hits"),
        put([1], "contributions", "seen"),
        put(torch.zeros(9), "contributions", "running"),
        put([1], "best"),
        put([1, 0.5, {"format": "other"}], "best"),
        put([1, 0.5, None], "best"),
        put({}, "elapsed_s"),
    ],
)
def test_a_damaged_checkpoint_is_one_line_that_names_the_run(
    fabric: Fabric, damage: Callable[[dict[str, Any]], None]
) -> None:
    state = make(fabric)
    move(state)
    saved = through_a_file(state)
    damage(saved)
    with pytest.raises(DDartsError) as caught:
        make(fabric).load_state_dict(saved, "runs/mine", **ABOUT)
    text = str(caught.value)
    assert text.startswith("runs/mine: ")
    assert "\n" not in text
    assert len(text) < 500


def test_what_is_not_finite_is_named(fabric: Fabric) -> None:
    state = make(fabric)
    assert state.first_not_finite() is None
    with torch.no_grad():
        state.net.alphas[1][0, 2] = torch.inf
    assert state.first_not_finite() == "alphas.1"
    state = make(fabric)
    with torch.no_grad():
        state.net.stem.norm.running_var[0] = torch.nan
    assert state.first_not_finite() == "stem.norm.running_var"
