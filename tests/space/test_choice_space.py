from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.tables.spaces import BENCH201, MACRO
from ddarts.cost.counting import count_macs
from ddarts.errors import SettingsError
from ddarts.genotype.choices import ChoiceGenotype
from ddarts.genotype.starting import original_genotype
from ddarts.nn.choice_network import build_network
from ddarts.space.choice_space import Choice, ChoiceSpace, chain
from ddarts.space.mobile import CANDIDATES, MOBILE, SKIP, STAGES
from ddarts.space.spaces import SPACES
from ddarts.testing import check_space


def space(**changes: Any) -> ChoiceSpace:
    return ChoiceSpace(**{"name": "toy", "choices": chain(2, ("a", "b")), "skeleton": "module:Toy", **changes})


def test_a_chain_has_one_choice_a_layer() -> None:
    assert chain(2, ("a", "b")) == (Choice("layer 0", ("a", "b")), Choice("layer 1", ("a", "b")))


def test_the_size_is_the_number_of_architectures() -> None:
    assert space(choices=(Choice("x", ("a", "b", "c")), Choice("y", ("a", "b")))).size == 6


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"choices": ()}, "0 choices, expected 1 to 1000"),
        ({"choices": chain(1001, ("a",))}, "1001 choices, expected 1 to 1000"),
        ({"choices": chain(1, ())}, "the candidates of layer 0, .*, must be distinct, 1 to 1000"),
        ({"choices": chain(1, ("a", "a"))}, "the candidates of layer 0, .*, must be distinct, 1 to 1000"),
        ({"skeleton": "module"}, "skeleton 'module' must be written module:attribute"),
        ({"skeleton": ":Toy"}, "skeleton ':Toy' must be written module:attribute"),
        ({"known": ("a",)}, r"known = \['a'\] must name a candidate of every choice"),
        ({"known": ("a", "c")}, r"known = \['a', 'c'\] must name a candidate of every choice"),
    ],
)
def test_a_space_is_checked(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(SettingsError, match=f"^space toy: {reason}"):
        space(**changes)


def test_mobile_has_a_choice_a_layer_of_kernel_expansion_squeeze_and_skip() -> None:
    mobile = SPACES.get("mobile")
    assert len(mobile) == sum(stage.layers for stage in STAGES) == 14
    assert all(choice.candidates == CANDIDATES for choice in mobile.choices)
    assert len(CANDIDATES) == 3 * 3 * 2 + 1
    assert mobile.reductions == (2, 5, 11)


def test_the_standard_resnets_are_in_the_space_residual() -> None:
    sizes: dict[str, Any] = {"channels": 4, "stem": "cifar"}
    for name, layers in (("resnet8", 1), ("resnet14", 2)):
        choices = ((("basic_e1",) * layers) + (SKIP,) * (3 - layers)) * 3
        with torch.device("meta"):
            built = build_network(ChoiceGenotype("residual", choices), **sizes)
            known = build_network(original_genotype(f"standard:{name}"), **sizes)
        shapes, expected = ([p.shape for p in network.parameters()] for network in (built, known))
        assert shapes == expected
        assert count_macs(built, (3, 32, 32)) == count_macs(known, (3, 32, 32))
    assert len(SPACES.get("residual")) == 9


@pytest.mark.parametrize("name", ["darts", MOBILE.name, "residual", MACRO.name, BENCH201.name])
def test_a_space_passes_the_conformance_checks(name: str) -> None:
    check_space(name)
