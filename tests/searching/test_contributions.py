from __future__ import annotations

from typing import Any

import pytest
import torch

from ddarts.config.strategies import DDartsOptions
from ddarts.searching.alpha_step import AblationPlan
from ddarts.searching.contributions import Contributions
from ddarts.space.cell_space import build_space
from ddarts.supernet.supernet import Supernet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net() -> Supernet:
    return Supernet(build_space(cells=5, nodes=1), channels=2, classes=2)


def options(**changes: Any) -> DDartsOptions:
    return DDartsOptions(**changes)


def test_all_cells_are_ablated_unless_a_sample_is_asked_for(net: Supernet) -> None:
    plan = Contributions(5, CPU).plan(options(ablation_weight=0.3, ablation_floor=0.2), net, 0, 0)
    assert plan == AblationPlan("gradient", "zero", [0, 1, 2, 3, 4], [], 0.3, 0.2)
    assert Contributions(5, CPU).plan(options(ablation_sample=99), net, 0, 0).cells == [0, 1, 2, 3, 4]


def test_off_plans_nothing(net: Supernet) -> None:
    plan = Contributions(5, CPU).plan(options(ablation="off"), net, 0, 0)
    assert plan.use == "off"
    assert not plan.cells


def test_samples_are_drawn_anew_each_step_and_reach_every_cell(net: Supernet) -> None:
    contributions = Contributions(5, CPU)
    plans = [contributions.plan(options(ablation_sample=2), net, 0, step).cells for step in range(30)]
    assert all(len(set(cells)) == 2 and list(cells) == sorted(cells) for cells in plans)
    assert {c for cells in plans for c in cells} == {0, 1, 2, 3, 4}
    assert len({tuple(cells) for cells in plans}) > 5


def test_a_plan_depends_on_seed_and_step_alone(net: Supernet) -> None:
    wanted = options(ablation_kind="random", ablation_sample=3)

    def plan(seed: int, step: int) -> AblationPlan:
        return Contributions(5, CPU).plan(wanted, net, seed, step)

    first, again, later, other = plan(0, 4), plan(0, 4), plan(0, 5), plan(1, 4)
    assert first.cells == again.cells
    assert all(torch.equal(a, b) for a, b in zip(first.replacements, again.replacements, strict=True))
    for different in (later, other):
        assert not torch.equal(first.replacements[0], different.replacements[0])


def test_replacement_gates_are_independent_and_uniform(net: Supernet) -> None:
    plans = [Contributions(5, CPU).plan(options(ablation_kind="random"), net, 0, step) for step in range(40)]
    draws = torch.stack([torch.stack(list(p.replacements)) for p in plans])
    assert draws.shape == (40, 5, *net.alphas[0].shape)
    assert ((draws >= 0) & (draws < 1)).all()
    assert abs(draws.mean() - 0.5) < 0.02
    assert abs(draws.var() - 1 / 12) < 0.01
    assert len(draws.unique()) > 0.99 * draws.numel()


def take(contributions: Contributions, cells: list[int], *values: float) -> None:
    contributions.add(AblationPlan("monitor", "zero", cells), torch.tensor(values))


def test_running_means_start_at_the_first_value_and_forget_slowly() -> None:
    contributions = Contributions(3, CPU)
    take(contributions, [0, 2], -1.0, -3.0)
    take(contributions, [0], -2.0)
    assert torch.allclose(contributions.running, torch.tensor([-1.1, 0.0, -3.0]))


def test_an_epoch_has_its_own_means() -> None:
    contributions = Contributions(3, CPU)
    take(contributions, [0, 2], -1.0, -3.0)
    take(contributions, [0], -2.0)
    assert contributions.epoch_means() == [-1.5, None, -3.0]
    contributions.new_epoch()
    assert contributions.epoch_means() == [None, None, None]
    take(contributions, [1], -4.0)
    assert contributions.epoch_means() == [None, -4.0, None]
    assert torch.allclose(contributions.running, torch.tensor([-1.0 - 0.1, -4.0, -3.0]))


def test_a_step_without_ablations_adds_nothing() -> None:
    contributions = Contributions(3, CPU)
    contributions.add(AblationPlan(), torch.zeros(0))
    assert contributions.epoch_means() == [None] * 3


def test_a_sample_knows_the_running_means_of_the_cells_it_leaves_out(net: Supernet) -> None:
    contributions = Contributions(5, CPU)
    wanted = options(ablation_sample=1)
    assert contributions.plan(wanted, net, 0, 0).known is None  # nothing has been seen yet
    take(contributions, [1, 3], -1.0, -3.0)
    for step in range(20):
        plan = contributions.plan(wanted, net, 0, step)
        expected = [v for c, v in ((1, -1.0), (3, -3.0)) if c not in plan.cells]
        assert plan.known is not None
        assert plan.known.tolist() == expected
    take(contributions, [0, 2, 4], 0.0, 0.0, 0.0)
    assert contributions.plan(options(), net, 0, 0).known is None  # all are measured


def test_they_go_on_from_what_was_saved() -> None:
    before, after = Contributions(3, CPU), Contributions(3, CPU)
    take(before, [0, 2], -1.0, -3.0)
    after.load_state_dict(before.state_dict())
    for contributions in (before, after):
        take(contributions, [0, 1], -5.0, -7.0)
    assert torch.equal(before.running, after.running)
    assert before.epoch_means() == after.epoch_means()
    assert before.seen == after.seen


@pytest.mark.parametrize(
    "change", [{"seen": [1]}, {"counts": [1] * 4}, {"running": torch.zeros(1)}, {"sums": None}, {"seen": ["a"] * 3}]
)
def test_what_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    contributions = Contributions(3, CPU)
    with pytest.raises((TypeError, ValueError)):
        contributions.load_state_dict(contributions.state_dict() | change)


def test_an_epoch_tells_the_ablation_loss_of_the_cells_that_it_ablated() -> None:
    contributions = Contributions(3, torch.device("cpu"))
    assert contributions.epoch_losses(1.0, 0.1) == [None, None, None]
    contributions.add(AblationPlan(use="monitor", cells=[0, 2]), torch.tensor([-0.2, -0.6]))
    assert contributions.epoch_losses(1.0, 0.1) == [pytest.approx(0.5), None, pytest.approx(-0.5)]
