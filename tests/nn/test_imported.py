"""Networks of torchvision and timm as networks of choices."""

import copy
import functools

import pytest
import torch
from torch import nn

from ddarts.cost.counting import count_macs, count_parameters
from ddarts.cost.tables import cost_table
from ddarts.errors import GenotypeError, SettingsError
from ddarts.genotype.choices import ChoiceGenotype
from ddarts.genotype.starting import original_genotype
from ddarts.nn.choice_network import ChoiceNetwork
from ddarts.nn.imported import (
    Imported,
    alternative,
    build_original,
    exported_network,
    imported_network,
    load_original,
    outline,
)
from ddarts.nn.preprocessing import ModelError
from ddarts.nn.resolution import check_images
from ddarts.space.choice_space import find_choice_space
from ddarts.space.imported import FAMILIES
from ddarts.supernet.choice_supernet import ChoiceSupernet

SOME = (
    "torchvision:resnet18",
    "timm:resnext50_32x4d",
    "torchvision:mobilenet_v2",
    "torchvision:mobilenet_v3_small",
    "timm:resnet26d",
    "timm:mobilenetv2_050",
    "timm:mobilenetv3_small_050",
    "timm:legacy_xception",
    "timm:xception41",
    "torchvision:inception_v3",
    "timm:inception_v4",
)
SMALL = "timm:mobilenetv3_small_050"


@functools.lru_cache(1)  # tests copy it, or take no more of it
def original(name: str, classes: int = 5) -> nn.Module:
    """Build a network whose batch norms, statistics included, are not those of a new network."""
    torch.manual_seed(0)
    network = build_original(name, classes=classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean = torch.randn(module.num_features) * 0.1
            module.running_var = torch.rand(module.num_features) + 0.5
    return network.eval()


def least(name: str) -> int:
    """Return the smallest side of images of Inception, 0 of networks that take small ones."""
    return side if (side := find_choice_space(name).smallest) > 9 else 0


@pytest.mark.parametrize("name", SOME)
@torch.no_grad()
def test_it_computes_the_function_of_the_original(name: str):
    network = original(name)
    x = torch.randn(2, 3, 48 + least(name), 40 + least(name))
    torch.testing.assert_close(imported_network(name, network)(x), network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SOME)
@torch.no_grad()
def test_the_supernet_on_the_path_of_the_original_computes_its_function(name: str):
    network, space = original(name), find_choice_space(name)
    supernet = ChoiceSupernet(space, classes=5, skeleton=Imported(space, network)).eval()
    imported = imported_network(name, network)
    supernet.classifier.load_state_dict(imported.classifier.state_dict())
    x = torch.randn(2, 3, 33 + least(name), 33 + least(name))
    torch.testing.assert_close(supernet(x, supernet.path(imported.genotype)), network(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SOME)
@torch.no_grad()
def test_every_alternative_has_the_shape_of_the_block_and_the_network_returns_to_the_class_of_the_original(name: str):
    space = find_choice_space(name)
    x = torch.randn(2, 3, 33 + least(name), 33 + least(name))
    for shift in range(max(len(choice.candidates) for choice in space.choices)):
        indices = [(i + shift) % len(choice.candidates) for i, choice in enumerate(space.choices)]
        genotype = ChoiceGenotype.from_indices(space, indices)
        network = ChoiceNetwork(genotype, classes=5, skeleton=Imported(space, original(name))).eval()
        back = exported_network(network)
        assert type(back) is type(original(name))
        torch.testing.assert_close(back(x), network(x))


def test_every_listed_network_has_the_blocks_of_its_space():
    for library, families in FAMILIES.items():
        for family in families:
            for network in family.networks:
                name = f"{library}:{network}"
                whole = outline(name, classes=10)
                paths = [choice.name for choice in find_choice_space(name).choices]
                blocks = {path for path in paths if whole.get_submodule(path) is not None}
                parts = {*blocks, *family.paths.stem, *family.paths.head, *family.paths.pooled, family.paths.classifier}
                inside = sum(p.numel() for part in parts for p in whole.get_submodule(part).parameters())
                assert inside == sum(p.numel() for p in whole.parameters()), name


@torch.no_grad()
def test_alternatives_take_over_weights():
    block = copy.deepcopy(original("torchvision:resnet18").layer1[0])  # type: ignore[index]
    x = torch.randn(1, 64, 9, 9).relu()
    for name in ("squeeze", "kernel5"):
        torch.testing.assert_close(alternative(name, block, 64, inherit=True)(x), block(x))
        assert not torch.allclose(alternative(name, block, 64, inherit=False)(x), block(x))
    exact = copy.deepcopy(block)
    kernels = torch.randn(64, 1, 3, 3), torch.randn(64, 64, 1, 1)
    exact.conv1.weight.copy_(kernels[1] * kernels[0].transpose(0, 1))  # type: ignore[union-attr]
    exact.conv2 = nn.Conv2d(64, 64, 1, bias=False)  # type: ignore[assignment]
    for name in ("separable3", "separable5"):
        torch.testing.assert_close(alternative(name, exact, 64, inherit=True)(x), exact(x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_narrow_drops_the_weak_channels():
    block = copy.deepcopy(original("torchvision:resnet50").layer1[1])  # type: ignore[index]
    for conv, norm in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
        conv.weight[::2] *= 1e-3
        for tensor in (norm.weight, norm.bias):
            tensor[::2] = 0
    x = torch.randn(1, 256, 7, 7)
    narrow = alternative("narrow", block, 256, inherit=True)
    assert narrow.conv2.weight.shape == (32, 32, 3, 3)  # type: ignore[union-attr]
    torch.testing.assert_close(narrow(x), block(x))


def test_weights_are_checked_against_the_network():
    state = original(SMALL, classes=7).state_dict()
    assert load_original(SMALL, state, "f").classifier.out_features == 7  # type: ignore[union-attr]
    with pytest.raises(ModelError, match=r"f: no tensor fc.weight"):
        load_original("timm:resnet18", state, "f")
    with pytest.raises(ModelError, match=r"f lacks the tensor conv_stem.weight"):
        load_original(SMALL, {k: v for k, v in state.items() if k != "conv_stem.weight"}, "f")
    with pytest.raises(ModelError, match=r"f holds, and .* the tensor extra"):
        load_original(SMALL, state | {"extra": torch.ones(1)}, "f")
    with pytest.raises(ModelError, match=r"f: classifier.bias has the shape \[3\], .* has \[7\]"):
        load_original(SMALL, state | {"classifier.bias": torch.ones(3)}, "f")


def test_heads_that_only_the_published_training_uses_may_be_in_the_file_or_not():
    name = "torchvision:inception_v3"
    network = build_original(name, classes=3)
    extra = {"AuxLogits.fc.weight": torch.ones(3, 768), "AuxLogits.conv0.bn.num_batches_tracked": torch.tensor(1)}
    assert load_original(name, network.state_dict() | extra, "f").fc.out_features == 3  # type: ignore[union-attr]
    with pytest.raises(ModelError, match=r"f holds, and .* the tensor Aux.weight"):
        load_original(name, network.state_dict() | {"Aux.weight": torch.ones(1)}, "f")


@pytest.mark.parametrize("name", ["torchvision:inception_v3", "timm:legacy_xception", "timm:xception71"])
def test_the_cost_of_a_space_of_blocks_that_round_down_is_that_of_its_networks(name: str):
    space, shape = find_choice_space(name), (3, 107, 107)
    indices = [i % len(choice.candidates) for i, choice in enumerate(space.choices)]
    genotype = ChoiceGenotype.from_indices(space, indices)
    with torch.device("meta"):
        network = ChoiceNetwork(genotype, classes=7)
    cost = cost_table(space, *shape[1:], classes=7).cost(genotype)
    assert (cost.parameters, cost.macs) == (count_parameters(network), count_macs(network, shape))


def test_images_that_do_not_reach_the_end_of_inception_are_refused():
    name = "torchvision:inception_v3"
    for of in (find_choice_space(name), original_genotype(name)):
        check_images(75, 80, of)
        with pytest.raises(SettingsError, match=r"images of 74x80 pixels are too small for .*_v3; .* at least 75"):
            check_images(74, 80, of)
        with pytest.raises(SettingsError, match="at least 150"):
            check_images(149, 149, of, half=0.3)


def test_another_network_is_refused_with_the_list():
    with pytest.raises(
        GenotypeError, match=r"torchvision:vgg11 cannot be searched: of torchvision, resnet18, .* can be"
    ):
        find_choice_space("torchvision:vgg11")


def test_images_of_one_channel():
    space = find_choice_space("torchvision:mobilenet_v3_small")
    network = ChoiceNetwork(ChoiceGenotype.from_indices(space, [0] * len(space)), in_channels=1, classes=2)
    assert network.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 2)
