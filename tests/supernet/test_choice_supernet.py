from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from benchmarks.tables.spaces import BENCH201, MACRO
from ddarts.genotype.choices import random_choices
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.mobile import MOBILE
from ddarts.space.residual import RESIDUAL
from ddarts.supernet.choice_supernet import ChoiceSupernet, MixedChoice

SPACES = (MACRO, BENCH201, MOBILE, RESIDUAL)


def supernet(space: ChoiceSpace = MACRO, *, channels: int = 2) -> ChoiceSupernet:
    torch.manual_seed(0)
    return ChoiceSupernet(space, channels=channels, classes=4)


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def gates(net: ChoiceSupernet, seed: int = 2) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.rand(alpha.shape, generator=random).requires_grad_() for alpha in net.alphas]


def slots(net: ChoiceSupernet) -> Iterator[tuple[str, MixedChoice]]:
    return ((name, m) for name, m in net.named_modules() if isinstance(m, MixedChoice))


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def test_a_gate_of_zero_is_the_same_as_adding_zero_times_the_candidate() -> None:
    net, x = supernet(), images()
    path = net.path(random_choices(MACRO, seed=3))
    nearly = [gate.clamp(min=1e-30) for gate in path]  # too small to change a sum, but every candidate is computed
    assert torch.equal(net(x, path), net(x, nearly))


def test_a_gate_of_zero_computes_nothing() -> None:
    net, genotype = supernet(), random_choices(MACRO, seed=3)
    computed = []
    for _, mixed in slots(net):
        for index, candidate in enumerate(mixed.candidates):
            candidate.register_forward_hook(lambda *_, at=(mixed.choice, index): computed.append(at))
    net(images(), net.path(genotype))
    assert computed == list(enumerate(genotype.indices))
    net(images(), [torch.zeros_like(alpha) for alpha in net.alphas])
    assert len(computed) == len(MACRO)


def test_only_the_path_gets_gradients() -> None:
    net, genotype = supernet(), random_choices(MACRO, seed=3)
    net(images(), net.path(genotype)).square().sum().backward()
    for _, mixed in slots(net):
        for index, candidate in enumerate(mixed.candidates):
            with_gradient = [p.grad is not None for p in candidate.parameters()]
            assert all(with_gradient) if index == genotype.indices[mixed.choice] else not any(with_gradient)


def test_the_mixed_operation_is_the_sum_of_its_candidates_by_their_gates() -> None:
    mixed = MixedChoice(0, [nn.Identity(), nn.ReLU(), nn.Hardtanh()], 2, 1, "input")
    mixed.gates, mixed.values = torch.tensor([0.5, 0.0, 2.0]), [0.5, 0.0, 2.0]
    x = torch.randn(2, 2, 3, 3)
    assert torch.equal(mixed(x), 0.5 * x + 2 * x.clamp(-1, 1))


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", ["removed", "replaced"])
def test_a_branch_is_the_whole_network_with_the_choice_ablated(space: ChoiceSpace, kind: str) -> None:
    net, x = supernet(space), images()
    given = gates(net)
    trunk = net.trunk(x, given, track=False)
    for searched in (0, len(space) - 1):
        replacement = None if kind == "removed" else torch.full_like(given[searched], 0.3)
        starts = [trunk.states[k] for k in net.branch_starts(searched)]
        logits = net.branch(searched, starts, given, replacement)
        if replacement is not None:
            whole = net.trunk(x, [*given[:searched], replacement, *given[searched + 1 :]], track=False).logits
            assert torch.equal(logits, whole)
        assert not torch.allclose(logits, trunk.logits)


def test_a_removed_layer_passes_its_input_on() -> None:
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(MixedChoice(0, [nn.ReLU()], 4, 1, "input")(x), x)
    assert torch.equal(MixedChoice(0, [nn.ReLU()], 4, 1, "zeros")(x), torch.zeros_like(x))


def test_a_removed_layer_that_changes_the_shape_averages_and_fills_with_zeros() -> None:
    x = torch.randn(2, 4, 5, 5)
    wider = MixedChoice(0, [nn.ReLU()], 6, 2, "input")(x)
    assert wider.shape == (2, 6, 3, 3)
    assert torch.allclose(wider[:, :4, 0, 0], x[:, :, :2, :2].mean((2, 3)))
    assert torch.allclose(wider[:, :4, 2, 2], x[:, :, 4, 4])
    assert not wider[:, 4:].any()
    assert torch.equal(MixedChoice(0, [nn.ReLU()], 3, 1, "input")(x), x[:, :3])


def test_only_a_tracked_pass_in_training_moves_running_statistics() -> None:
    net, x = supernet(), images()
    given, before = gates(net), state(net)
    trunk = net.trunk(x, given, track=False)
    net.branch(2, [trunk.states[k] for k in net.branch_starts(2)], given, None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(net).items())
    net.eval()(x, given)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state(net).items())
    net.train()(x, given)
    moved = {name for name, tensor in state(net).items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if "running" in name or "num_batches" in name}


@pytest.mark.parametrize("track", [False, True])
def test_recomputation_changes_neither_gradients_nor_statistics(track: bool) -> None:
    nets = [supernet(), supernet()]
    nets[1].recompute = True
    found = []
    for net in nets:
        given = gates(net)
        net.trunk(images(), given, track=track).logits.square().sum().backward()
        found.append([*(g.grad for g in given), *(p.grad for p in net.weight_parameters()), *net.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_gradient_of_a_gate_is_the_effect_of_its_candidate() -> None:
    net = supernet().double()
    x, given = images().double(), [g.detach().double().requires_grad_() for g in gates(supernet())]

    def loss(gates: list[Tensor]) -> Tensor:
        return net.trunk(x, gates, track=False).logits.square().sum()

    loss(given).backward()
    moved = copy.deepcopy(given)
    with torch.no_grad():
        moved[3][0, 1] += 1e-6
        difference = (loss(moved) - loss(given)) / 1e-6
    assert given[3].grad is not None
    assert torch.allclose(given[3].grad[0, 1], difference, rtol=1e-4)


def test_a_choice_that_is_used_in_many_cells_is_one_alpha_with_many_weights() -> None:
    net = supernet(BENCH201)
    assert len(net.alphas) == 6
    assert sum(1 for _ in slots(net)) == 6 * 15
    assert net.branch_starts(5) == (1,)
