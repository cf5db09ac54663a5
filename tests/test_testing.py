"""The conformance checks accept correct parts (see the tests of these) and report what is wrong with broken ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ddarts.config.strategies import STRATEGIES, StrategyOptions, TrialOptions
from ddarts.data import SOURCES, Images, Loaded, Request
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.random import random_genotype
from ddarts.nn.choice_network import Block, Slot
from ddarts.nn.mobile import Mobile
from ddarts.nn.operations import SimpleConv
from ddarts.searching.strategy import BlackBox, Differentiable, Trial
from ddarts.space.choice_space import ChoiceSpace, chain
from ddarts.space.operations import OPERATIONS, Operation, OperationCost
from ddarts.space.spaces import SPACES
from ddarts.testing import check_operation, check_source, check_space, check_strategy


class Convolution(Operation):
    name = "broken"

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels, affine=affine)
        )


class WrongShape(Convolution):
    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return nn.Conv2d(channels, channels, 3, stride)


class InPlace(Convolution):
    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        class Clear(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                x.detach().clamp_(min=0)
                return x[:, :, ::stride, ::stride]

        return Clear()


class AlwaysAffine(Convolution):
    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return super().build(channels, stride, True)


class HiddenState(Convolution):
    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        class Scaled(nn.Module):
            factor = torch.rand(())

            def forward(self, x: Tensor) -> Tensor:
                return self.factor * x[:, :, ::stride, ::stride]

        return Scaled()


class WrongCosts(Convolution):
    def costs(self, channels: int, stride: int, height: int, width: int) -> OperationCost:
        return OperationCost(1, 1)


class WrongFact(Convolution):
    has_weights = False


class WithoutReLU(SimpleConv):
    def forward(self, x: Tensor) -> Tensor:
        return self.after_relu(x)


class OtherNames(Convolution):
    """Its grouped form has other names of weights."""

    def grouped(self, channels: int, edges: int, stride: int) -> Any:
        return OPERATIONS.get("simple_conv_3x3").grouped(channels, edges, stride)


class WrongGroup(Convolution):
    """Its grouped form begins with a ReLU, which its module does not have."""

    def build(self, channels: int, stride: int, affine: bool) -> nn.Module:
        return WithoutReLU(channels, 3, stride, affine=affine)

    def grouped(self, channels: int, edges: int, stride: int) -> Any:
        return OPERATIONS.get("simple_conv_3x3").grouped(channels, edges, stride)


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (WrongShape, r"operation broken at stride 1: output of an input of shape \(2, 4, 6, 6\): found \(2, 4, 4, 4\)"),
        (InPlace, "its module changes its input in place"),
        (AlwaysAffine, "with affine=False its batch norms must have no scale"),
        (HiddenState, "a new module with the same state dict computes other numbers"),
        (WrongCosts, r"costs\(4, 1, 6, 6\) must be the parameters"),
        (WrongFact, "has_weights is False, but its module has 152 parameters"),
        (OtherNames, "its grouped form has no tensor cells.0.grouped_edges.0.branches.broken.0.weight"),
        (WrongGroup, "operation broken: logits with a cell ablated: differs from the reference by"),
    ],
)
def test_a_broken_operation_is_reported(operation: type[Operation], reason: str) -> None:
    OPERATIONS.register("broken", operation)
    try:
        with pytest.raises(AssertionError, match=reason):
            check_operation("broken")
    finally:
        OPERATIONS.unregister("broken")


class Sigmoid(Differentiable[StrategyOptions]):
    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        return [alpha.sigmoid() for alpha in logits]


class Large(Sigmoid):
    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        return [2 * gate for gate in super().gates(logits)]


class Transposed(Sigmoid):
    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        return [gate.T for gate in super().gates(logits)]


class Detached(Sigmoid):
    def gates(self, logits: Sequence[Tensor]) -> list[Tensor]:
        return [gate * (gate > 0.5) for gate in super().gates(logits)]


class GlobalNoise(Sigmoid):
    def relax(self, logits: Sequence[Tensor], progress: float, draw: torch.Generator) -> list[Tensor]:
        return [gate * torch.rand_like(gate) for gate in self.gates(logits)]


class Stateful(Sigmoid):
    """Counts its steps, which a resumed search does not restore."""

    steps = 0

    def relax(self, logits: Sequence[Tensor], progress: float, draw: torch.Generator) -> list[Tensor]:
        if not logits[0].requires_grad:  # weight steps
            self.steps += 1
        return [gate / (1 + self.steps) for gate in self.gates(logits)]


class Proposals(BlackBox[TrialOptions]):
    def propose(self, number: int, draw: random.Random) -> AnyGenotype:
        return random_genotype(self.space, seed=draw.randrange(10**6))


class GlobalDraws(Proposals):
    def propose(self, number: int, draw: random.Random) -> AnyGenotype:
        return super().propose(number, random.Random())


class Forgetful(Proposals):
    """Depends on the number of results, which `recover` does not restore."""

    told = 0

    def propose(self, number: int, draw: random.Random) -> AnyGenotype:
        return random_genotype(self.space, seed=self.told)

    def feedback(self, trial: Trial) -> None:
        self.told += 1

    def recover(self, history: Sequence[Trial]) -> None:
        pass


class NoBudget(Proposals):
    def rungs(self) -> list[tuple[int, int]]:
        return []


@pytest.mark.parametrize(
    ("implementation", "reason"),
    [
        (Large, "gates that do not lie between 0 and 1"),
        (Transposed, "shapes of the gates that relax returns"),
        (Detached, "some logits get no gradient"),
        (GlobalNoise, "draw from its generator only"),
        (Stateful, "gates of a search that was killed and resumed differ"),
        (GlobalDraws, "of two objects with the same seed and history"),
        (Forgetful, r"of a new object after recover\(history\)"),
        (NoBudget, "must list at least one rung"),
    ],
)
def test_a_broken_strategy_is_reported(implementation: type[Any], reason: str) -> None:
    base = TrialOptions if issubclass(implementation, BlackBox) else StrategyOptions

    class Broken(base):  # type: ignore[misc, valid-type]
        name: str = "broken"

    Broken.implementation = implementation
    STRATEGIES.register("broken", Broken)
    try:
        with pytest.raises(AssertionError, match=f"strategy broken: .*{reason}"):
            check_strategy("broken")
    finally:
        STRATEGIES.unregister("broken")


class WrongChannels(Mobile):
    @staticmethod
    def blocks(slot: Slot, *, channels: int, in_channels: int, stem: str) -> list[Block]:
        block = Mobile.blocks(slot, channels=channels, in_channels=in_channels, stem=stem)
        return [replace(block[0], outputs=channels + 1), *block[1:]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "other"}, "its name must be the one under which it is registered: found 'other'"),
        ({"choices": chain(15, ("skip",))}, "no position of the skeleton uses the choice layer 14"),
        ({"parameter_free": frozenset()}, "candidate skip of layer 1 has 0 parameters"),
        ({"skeleton": f"{__name__}:WrongChannels"}, "output of the block stem with the stem cifar"),
    ],
)
def test_a_broken_space_is_reported(changes: dict[str, Any], reason: str) -> None:
    facts: dict[str, Any] = {"name": "broken", "choices": chain(14, ("skip", "mb_e1_k3")), "parameter_free": {"skip"}}
    space = ChoiceSpace(**facts | {"skeleton": "ddarts.nn.mobile:Mobile"} | changes)
    SPACES.register("broken", space)
    try:
        with pytest.raises(AssertionError, match=f"space broken: {reason}"):
            check_space("broken")
    finally:
        SPACES.unregister("broken")


def test_a_source_with_a_random_order_is_reported() -> None:
    def shuffled(directory: str | None, request: Request) -> Loaded:
        pixels = torch.arange(40 * 64).view(40, 1, 8, 8).to(torch.uint8)
        images = Images(pixels[torch.randperm(40)], torch.arange(40) % 2)
        return Loaded("broken", "broken", ("a", "b"), False, images)

    SOURCES.register("broken", shuffled)
    try:
        with pytest.raises(AssertionError, match="data broken: train images or labels of a second read differ"):
            check_source("broken")
    finally:
        SOURCES.unregister("broken")


def test_the_embedded_digits_pass() -> None:
    check_source("digits")
