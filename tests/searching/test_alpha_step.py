"""The alpha step against its slow twin, and the guards of what it must and must not touch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ddarts.searching.alpha_step import AblationPlan, AlphaOutcome
from ddarts.searching.losses import zero_one_loss
from ddarts.space.cell_space import DARTOPTI_OPERATIONS, SearchSpace, build_space
from ddarts.supernet.cell import MixedCell
from ddarts.supernet.reference import ReferenceSupernet, alpha_gradients_by_definition, marginal_contributions
from ddarts.supernet.supernet import Supernet
from tests.reference.supernet_mapping import load_plain
from tests.searching.gradients import sigmoid_gates, sigmoid_step

W01, WAB, FLOOR = 3.0, 0.7, 0.1

SPACES = {
    "darts": build_space(cells=4, nodes=2, reductions=(1,)),
    "without reductions": build_space(cells=3, nodes=1, reductions=()),
    # baselines stack a cell several times: its alphas are shared, and it may be a reduction in one place only
    "dartopti, shared": SearchSpace(DARTOPTI_OPERATIONS, 1, (2,), (0, 1, 0, 2, 1), (2,)),
    "shared neighbours": SearchSpace(build_space().operations, 1, (2,), (0, 1, 1, 2), (1,)),
}


def make(
    space: SearchSpace = SPACES["darts"], dtype: torch.dtype = torch.float64
) -> tuple[Supernet, ReferenceSupernet, Tensor, Tensor]:
    """Two supernets with the same weights, and a batch."""
    torch.manual_seed(0)
    plain = ReferenceSupernet(space, channels=2, in_channels=3, classes=3)
    net = Supernet(space, channels=2, in_channels=3, classes=3)
    load_plain(net, plain)
    with torch.no_grad():
        net.classifier.weight.mul_(5)  # so that contributions are not all alike
        plain.classifier.weight.mul_(5)
        for alpha in net.alphas:
            alpha.normal_()
    x, y = torch.randn(6, 3, 5, 5, dtype=dtype), torch.randint(0, 3, (6,))
    return net.to(dtype).train(), plain.to(dtype).train(), x, y


def draw(space: SearchSpace, cells: Sequence[int]) -> list[Tensor]:
    random = torch.Generator().manual_seed(7)
    return [torch.rand(len(space.edges), len(space.operations), generator=random, dtype=torch.float64) for _ in cells]


def plan_for(space: SearchSpace, kind: str, cells: Sequence[int] | None = None, **changes: Any) -> AblationPlan:
    cells = range(space.searched_cells) if cells is None else cells
    replacements = draw(space, cells) if kind == "random" else []
    plan = AblationPlan("gradient", kind, list(cells), replacements, WAB, FLOOR)  # type: ignore[arg-type]
    return replace(plan, **changes)


def step(net: Supernet, x: Tensor, y: Tensor, plan: AblationPlan | None, **options: Any) -> AlphaOutcome:
    return sigmoid_step(net, x, y, **{"zero_one_weight": W01, "plan": plan, **options})


def ablated_losses(
    plain: ReferenceSupernet, x: Tensor, y: Tensor, gates: list[Tensor], plan: AblationPlan
) -> tuple[Tensor, Tensor]:
    """CE(S) and CE(S without j) for each j of the plan, by whole passes."""
    losses = []
    for place, cell in enumerate(plan.cells):
        if plan.kind == "zero":
            losses.append(F.cross_entropy(plain.ablated(x, gates, cell), y))
        else:
            swapped = [plan.replacements[place] if i == cell else g for i, g in enumerate(gates)]
            losses.append(F.cross_entropy(plain(x, swapped), y))
    return F.cross_entropy(plain(x, gates), y), torch.stack(losses)


def twin(
    plain: ReferenceSupernet, alphas: Sequence[Tensor], x: Tensor, y: Tensor, plan: AblationPlan, kind_01: str = "l2"
) -> tuple[list[Tensor], Tensor]:
    """For each cell in turn, the gradient of its own L(i) through its own alpha; and M."""
    gradients, marginal = [], torch.zeros(0)
    for i in range(len(alphas)):
        own = [a.detach().clone().requires_grad_(k == i) for k, a in enumerate(alphas)]
        gates = [torch.sigmoid(a) for a in own]
        whole, without = ablated_losses(plain, x, y, gates, plan)
        marginal = whole - without
        mean = marginal.mean()
        nu = torch.maximum(mean.abs(), plan.floor * whole).detach()
        contribution = marginal[i] if len(plan.cells) == len(alphas) else whole  # a sample: see its own test
        loss = whole + W01 * zero_one_loss(gates[i], kind_01) + plan.weight * (contribution - mean) / nu  # type: ignore[arg-type]
        gradients += torch.autograd.grad(loss, own[i])
    return gradients, marginal.detach()


@pytest.mark.parametrize("kind", ["zero", "random"])
@pytest.mark.parametrize("name", SPACES)
def test_one_backward_pass_gives_every_cell_the_gradient_of_its_own_loss(name: str, kind: str) -> None:
    space = SPACES[name]
    net, plain, x, y = make(space)
    plan = plan_for(space, kind)
    found = step(net, x, y, plan)
    gradients, marginal = twin(plain, list(net.alphas), x, y, plan)
    for mine, its in zip(found.gradients, gradients, strict=True):
        assert torch.allclose(mine, its, rtol=1e-9, atol=1e-12)
    assert torch.allclose(found.marginal, marginal, rtol=1e-9, atol=1e-12)
    assert marginal.std() > 1e-3  # the cells differ, or the test would say little


@pytest.mark.parametrize("kind", ["zero", "random"])
def test_the_reference_s_losses_have_the_same_gradients_and_contributions(kind: str) -> None:
    net, plain, x, y = make()
    plain.set_alphas([alpha.tolist() for alpha in net.alphas])
    plan = plan_for(net.space, kind)
    drawn = plan.replacements or None
    options = {"zero_one_weight": W01, "ablation_weight": WAB, "floor": FLOOR, "replacements": drawn}
    found = step(net, x, y, plan)
    for mine, its in zip(found.gradients, alpha_gradients_by_definition(plain, x, y, **options), strict=True):
        assert torch.allclose(mine, its, rtol=1e-9, atol=1e-12)
    whole, marginal = marginal_contributions(plain, x, y, sigmoid_gates(plain), drawn)
    assert torch.allclose(found.cross_entropy, whole, rtol=1e-12)
    assert torch.allclose(found.marginal, marginal, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["zero", "random"])
def test_a_sample_of_cells_stands_for_all_of_them(kind: str) -> None:
    """The mean over the sample takes the place of the mean over all cells; nu also knows the others' running means."""
    space = SPACES["darts"]
    net, plain, x, y = make(space)
    known = torch.tensor([-0.7, 0.1])
    plan = plan_for(space, kind, [1, 3], known=known)
    found = step(net, x, y, plan)
    alphas = [a.detach().clone().requires_grad_() for a in net.alphas]
    gates = [torch.sigmoid(a) for a in alphas]
    whole, without = ablated_losses(plain, x, y, gates, plan)
    marginal = (whole - without).detach()
    nu = torch.maximum(torch.cat([marginal, known.double()]).mean().abs(), FLOOR * whole.detach())
    loss = whole + W01 * sum(zero_one_loss(g) for g in gates) + WAB * without.mean() / nu
    for mine, its in zip(found.gradients, torch.autograd.grad(loss, alphas), strict=True):
        assert torch.allclose(mine, its, rtol=1e-9, atol=1e-12)
    assert torch.allclose(found.marginal, marginal, rtol=1e-9)


def test_the_mean_of_all_samples_is_the_gradient_of_all_cells() -> None:
    """With nu at its floor, which does not depend on the sample, the estimate is unbiased."""
    space = SPACES["darts"]
    net, _, x, y = make(space)
    floor = 100.0
    everything = step(net, x, y, plan_for(space, "zero", floor=floor, weight=1e3)).gradients
    samples = [step(net, x, y, plan_for(space, "zero", [i], floor=floor, weight=1e3)).gradients for i in range(4)]
    for i, whole in enumerate(everything):
        assert torch.allclose(torch.stack([s[i] for s in samples]).mean(0), whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("use", ["gradient", "monitor"])
@pytest.mark.parametrize("kind", ["zero", "random"])
def test_monitoring_measures_what_the_gradient_uses(use: str, kind: str) -> None:
    space = SPACES["dartopti, shared"]
    net, plain, x, y = make(space)
    plan = plan_for(space, kind, use=use)
    with torch.no_grad():
        whole, without = ablated_losses(plain, x, y, sigmoid_gates(net), plan)
    found = step(net, x, y, plan)
    assert torch.allclose(found.marginal, whole - without, rtol=1e-9, atol=1e-12)
    assert torch.allclose(found.cross_entropy, whole, rtol=1e-9)


# -- every term moves something ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zero", "random"])
@pytest.mark.parametrize("cells", [None, [0, 2]])
def test_the_ablation_weight_changes_the_gradients(kind: str, cells: list[int] | None) -> None:
    """The published code builds the term from detached numbers: no weight, however large, changes anything."""
    net, _, x, y = make()
    found = [step(net, x, y, plan_for(net.space, kind, cells, weight=w)).gradients for w in (0.0, 0.7, 1000.0)]
    for i in range(4):
        for a in range(3):
            for b in range(a):
                assert (found[a][i] - found[b][i]).abs().max() > 1e-6, (i, a, b)
    without = step(net, x, y, None).gradients
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(found[0], without, strict=True))


@pytest.mark.parametrize("kind", ["zero", "random"])
def test_monitor_and_off_are_bit_for_bit_a_search_without_the_term(kind: str) -> None:
    net, _, x, y = make(dtype=torch.float32)
    none = step(net, x, y, None)
    for use in ("monitor", "off"):
        plan = plan_for(net.space, kind, use=use, weight=1000.0)
        plan = replace(plan, replacements=[r.float() for r in plan.replacements])
        found = step(net, x, y, plan)
        assert all(torch.equal(a, b) for a, b in zip(found.gradients, none.gradients, strict=True))
        assert len(found.marginal) == (4 if use == "monitor" else 0)
        assert torch.equal(found.cross_entropy, none.cross_entropy)


@pytest.mark.parametrize("kind", ["l2", "l1"])
def test_the_zero_one_weight_adds_the_gradient_of_its_loss(kind: str) -> None:
    net, _, x, y = make()
    base = step(net, x, y, None, zero_one_weight=0.0)
    with_term = step(net, x, y, None, zero_one_weight=2.0, zero_one_kind=kind)
    for before, after, alpha in zip(base.gradients, with_term.gradients, net.alphas, strict=True):
        own = alpha.detach().clone().requires_grad_()
        (term,) = torch.autograd.grad(zero_one_loss(torch.sigmoid(own), kind), own)  # type: ignore[arg-type]
        assert term.abs().min() > 0
        assert torch.allclose(after, before + 2 * term, rtol=1e-9, atol=1e-12)
    total = sum(zero_one_loss(torch.sigmoid(a.detach()), kind).item() for a in net.alphas)  # type: ignore[arg-type]
    assert with_term.terms["zero_one"].value.item() == pytest.approx(total)


def test_the_cross_entropy_and_the_hits_are_those_of_the_whole_network() -> None:
    net, plain, x, y = make()
    found = step(net, x, y, plan_for(net.space, "zero"))
    logits = plain(x, sigmoid_gates(net))
    assert found.cross_entropy.item() == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-9)
    assert found.correct.item() == (logits.argmax(1) == y).sum().item()


# -- and nothing else --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zero", "random"])
@pytest.mark.parametrize("use", ["gradient", "monitor", "off"])
def test_an_alpha_step_touches_no_weight_no_gradient_and_no_running_statistic(use: str, kind: str) -> None:
    net, _, x, y = make()
    net.weight_parameters()[0].grad = torch.ones_like(net.weight_parameters()[0])  # of a weight step before
    before = {name: t.clone() for name, t in net.state_dict().items()}
    gradients = {name: p.grad for name, p in net.named_parameters()}
    step(net, x, y, plan_for(net.space, kind, use=use))
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert all(p.grad is gradients[name] for name, p in net.named_parameters())
    assert torch.equal(net.weight_parameters()[0].grad, torch.ones_like(net.weight_parameters()[0]))
    assert all(p.requires_grad for p in net.parameters())
    assert all(m.track_running_stats for m in net.stem.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_weights_need_gradients_again_after_a_step_that_failed() -> None:
    net, _, x, _ = make()
    with pytest.raises(IndexError):
        step(net, x, torch.full((6,), 99), None)
    assert all(p.requires_grad for p in net.parameters())


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def passes() -> Iterator[list[None]]:
    """One entry for each cell that is computed."""
    found: list[None] = []

    def count(module: torch.nn.Module, *_: object) -> None:
        if isinstance(module, MixedCell):
            found.append(None)

    with torch.nn.modules.module.register_module_forward_hook(count):
        yield found


@pytest.mark.parametrize("use", ["gradient", "monitor"])
def test_branches_compute_only_what_comes_after_the_ablated_cell(passes: list[None], use: str) -> None:
    net, _, x, y = make(build_space(cells=6, nodes=1, reductions=()))
    step(net, x, y, plan_for(net.space, "zero", use=use))
    assert len(passes) == 6 + (5 + 4 + 3 + 2 + 1 + 0)
    passes.clear()
    step(net, x, y, plan_for(net.space, "random", use=use))
    assert len(passes) == 6 + (6 + 5 + 4 + 3 + 2 + 1)


class Held:
    """Counts the bytes that graphs keep for their backward passes."""

    now = peak = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.bytes = tensor, tensor.numel() * tensor.element_size()
        Held.now += self.bytes
        Held.peak = max(Held.peak, Held.now)

    def __del__(self) -> None:
        Held.now -= self.bytes


def kept(net: Supernet, x: Tensor, y: Tensor, plan: AblationPlan | None) -> int:
    """Return the most bytes that lie in graphs at one time."""
    Held.now = Held.peak = 0
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        step(net, x, y, plan)
    return Held.peak


def test_memory_holds_the_trunk_and_one_branch() -> None:
    """The published code keeps the graphs of n + 1 whole passes."""
    net, _, x, y = make(build_space(cells=6, nodes=1, reductions=()))
    alone = kept(net, x, y, None)
    assert kept(net, x, y, plan_for(net.space, "zero")) < 1.9 * alone
    assert kept(net, x, y, plan_for(net.space, "random")) < 2.1 * alone
    assert kept(net, x, y, plan_for(net.space, "random", use="monitor")) == alone


# -- precision ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["gradient", "monitor"])
def test_a_loss_scale_leaves_gradients_and_contributions_as_they_are(use: str) -> None:
    net, _, x, y = make()
    plan = plan_for(net.space, "zero", use=use)
    plain, scaled = step(net, x, y, plan), step(net, x, y, plan, loss_scale=1024.0)
    assert all(
        torch.allclose(a, b, rtol=1e-12, atol=1e-15) for a, b in zip(plain.gradients, scaled.gradients, strict=True)
    )
    assert torch.equal(plain.marginal, scaled.marginal)


@pytest.mark.parametrize("kind", ["zero", "random"])
@pytest.mark.parametrize("use", ["gradient", "monitor"])
def test_bf16_comes_near_float32(use: str, kind: str) -> None:
    net, _, x, y = make(dtype=torch.float32)
    plan = plan_for(net.space, kind, use=use)
    plan = replace(plan, replacements=[r.float() for r in plan.replacements])
    exact = step(net, x, y, plan)
    half = step(net, x, y, plan, autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    for a, b in zip(exact.gradients, half.gradients, strict=True):
        assert b.dtype == torch.float32
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0) > 0.85  # of so small a net, at worst
    assert torch.allclose(exact.marginal, half.marginal, atol=0.2)  # two channels, six images: a rough figure
    assert not torch.equal(exact.cross_entropy, half.cross_entropy)


@pytest.mark.parametrize("use", ["off", "monitor", "gradient"])
@pytest.mark.parametrize("kind", ["zero", "random"])
@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_computing_cells_twice_gives_the_same_bits(space: SearchSpace, kind: str, use: str) -> None:
    net, _, x, y = make(space)
    plan = plan_for(space, kind, use=use)
    once = step(net, x, y, plan)
    net.recompute = True
    twice = step(net, x, y, plan)
    assert all(torch.equal(a, b) for a, b in zip(once.gradients, twice.gradients, strict=True))
    torch.testing.assert_close(once.marginal, twice.marginal)  # a branch without saved results strides in another way
