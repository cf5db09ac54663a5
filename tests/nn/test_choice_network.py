from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.tables.spaces import BENCH201, MACRO
from ddarts.errors import SettingsError
from ddarts.genotype.choices import ChoiceGenotype, random_choices
from ddarts.genotype.random import random_genotype
from ddarts.nn.choice_network import ChoiceNetwork, build_network, load_skeleton
from ddarts.nn.inverted_residual import InvertedResidual, SqueezeExcitation
from ddarts.nn.network import Network
from ddarts.space.cell_space import build_space
from ddarts.space.mobile import MOBILE


def mobile(*, seed: int = 0, **options: int | str | bool) -> ChoiceNetwork:
    torch.manual_seed(seed)
    return ChoiceNetwork(random_choices(MOBILE, seed=seed), **{"channels": 2, **options})  # type: ignore[arg-type]


def test_the_genotype_decides_which_network_is_built() -> None:
    assert type(build_network(random_choices(MOBILE, seed=0), channels=2)) is ChoiceNetwork
    assert type(build_network(random_genotype(build_space(cells=3), seed=0), channels=2)) is Network


@pytest.mark.parametrize(("stem", "size", "side"), [("cifar", 16, 2), ("cifar", 33, 5), ("imagenet", 224, 7)])
def test_mobile_halves_the_resolution_as_its_stem_says(stem: str, size: int, side: int) -> None:
    with torch.device("meta"):
        features = mobile(stem=stem, in_channels=1).forward_features(torch.empty(1, 1, size, size))
    assert features.shape == (1, 160, side, side)


@pytest.mark.parametrize("candidate", MOBILE.choices[0].candidates)
def test_every_candidate_of_mobile_is_what_its_name_says(candidate: str) -> None:
    module = load_skeleton(MOBILE).candidate(candidate, 4, 6, 2, affine=False)
    assert module(torch.randn(2, 4, 7, 7)).shape == (2, 6, 4, 4)
    assert not [m for m in module.modules() if isinstance(m, nn.BatchNorm2d) and m.affine]
    if candidate != "skip":
        assert isinstance(module, InvertedResidual)
        depthwise = module.depthwise
        squeeze = "_se" if module.squeeze else ""
        assert f"mb_e{depthwise.in_channels // 4}_k{depthwise.kernel_size[0]}{squeeze}" == candidate


def test_a_skipped_layer_is_the_identity_where_the_shape_is_kept() -> None:
    skeleton = load_skeleton(MOBILE)
    assert isinstance(skeleton.candidate("skip", 4, 4, 1, affine=True), nn.Identity)
    assert skeleton.candidate("skip", 4, 6, 1, affine=True)(torch.randn(2, 4, 5, 5)).shape == (2, 6, 5, 5)


def test_the_residual_is_added_where_the_shape_is_kept() -> None:
    block = InvertedResidual(4, 4, expansion=3, kernel=5).eval()
    nn.init.zeros_(block.project.weight)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x)
    narrower = InvertedResidual(4, 3, expansion=3, kernel=5).eval()
    nn.init.zeros_(narrower.project.weight)
    assert not narrower(x).any()


def test_squeeze_excitation_scales_channels_by_what_the_means_say() -> None:
    squeeze = SqueezeExcitation(8)
    x = torch.randn(2, 8, 3, 3)
    scale = squeeze.expand(squeeze.reduce(x.mean((2, 3), keepdim=True)).relu())
    assert torch.allclose(squeeze(x), x * (scale / 6 + 0.5).clamp(0, 1))


def test_drop_path_drops_residual_branches_in_training_only() -> None:
    choices = ("mb_e1_k3",) * len(MOBILE)
    network = ChoiceNetwork(ChoiceGenotype("mobile", choices), channels=2)
    blocks = [m for m in network.modules() if isinstance(m, InvertedResidual) and m.residual]
    network.drop_path = 0.5
    x = torch.randn(8, 3, 16, 16)
    network(x)
    assert len(blocks) == 9
    drawn = torch.stack([b.drop_path for b in blocks if b.drop_path is not None])
    assert set(drawn.unique().tolist()) == {0.0, 2.0}
    network.eval()(x)
    assert all(b.drop_path is None for b in blocks)


def test_processes_draw_the_drop_path_of_the_whole_batch() -> None:
    network = mobile()
    network.drop_path = 0.5
    block = next(m for m in network.modules() if isinstance(m, InvertedResidual) and m.residual)
    drawn = []
    for part, images in (((0, 1), 8), ((0, 2), 4), ((1, 2), 4)):
        torch.manual_seed(0)
        network.drop_path_part = part
        network(torch.randn(images, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
        assert block.drop_path is not None
        drawn.append(block.drop_path)
    assert torch.equal(torch.cat(drawn[1:]), drawn[0])


def test_recomputation_changes_no_gradient() -> None:
    x = torch.randn(4, 3, 16, 16)
    gradients = []
    for recompute in (False, True):
        network = mobile(auxiliary=True)
        network.recompute, network.drop_path = recompute, 0.3
        torch.manual_seed(1)
        logits, auxiliary = network(x)
        (logits.square().sum() + auxiliary.square().sum()).backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_auxiliary_head_is_for_training() -> None:
    network = mobile(auxiliary=True)
    x = torch.randn(2, 3, 16, 16)
    assert len(network(x)) == 2
    assert network.eval()(x).shape == (2, 10)


@pytest.mark.parametrize("space", [MACRO, BENCH201])
def test_spaces_of_others_are_built_through_the_same_interface(space) -> None:
    network = build_network(random_choices(space, seed=0), channels=4, in_channels=1, classes=3)
    assert network(torch.randn(2, 1, 16, 16)).shape == (2, 3)


@pytest.mark.parametrize("name", ["channels", "in_channels", "classes"])
def test_sizes_are_at_least_one(name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{name} = 0 is out of range"):
        mobile(**{name: 0})


@pytest.mark.parametrize("skeleton", ["no_such_module:Toy", "math:Toy"])
def test_a_skeleton_that_is_not_there_is_named(skeleton: str) -> None:
    with pytest.raises(SettingsError, match=f"^space mobile: skeleton {skeleton} cannot be imported"):
        load_skeleton(replace(MOBILE, skeleton=skeleton))
