from __future__ import annotations

import pytest
import torch
from torch import nn

from ddarts.cost.counting import count_macs, count_parameters
from ddarts.errors import GenotypeError
from ddarts.genotype.zoo.lookup import find_architecture
from ddarts.nn.choice_network import AnyNetwork, build_network, load_skeleton
from ddarts.nn.folding import folded
from ddarts.nn.standard import BasicBlock
from ddarts.space.residual import RESIDUAL
from ddarts.space.standard import NETWORKS


def standard(name: str, **options: int | str | bool) -> AnyNetwork:
    return build_network(find_architecture(f"standard:{name}"), **options)


def test_resnet8_is_the_network_of_mlperf_tiny() -> None:
    network = standard("resnet8", channels=16)
    biases = sum(module.out_channels for module in network.modules() if isinstance(module, nn.Conv2d))
    statistics = sum(buffer.numel() for buffer in network.buffers() if buffer.dim())
    assert count_parameters(network) == 77_850
    # its published number counts biases of convolutions, which batch norms make useless, and running statistics
    assert count_parameters(network) + biases + statistics == 78_666
    assert count_macs(network, (3, 32, 32)) == 12_501_632


def test_mobilenet17_costs_what_the_published_mobilenetv2_does() -> None:
    with torch.device("meta"):
        network = standard("mobilenet17", channels=32, classes=1000, stem="imagenet")
    assert count_parameters(network) == 3_504_872
    assert count_macs(network, (3, 224, 224)) == 300_774_272


@pytest.mark.parametrize("name", NETWORKS)
def test_the_number_in_a_name_is_that_of_its_layers(name: str) -> None:
    with torch.device("meta"):
        network = standard(name, channels=2)
    layers = [path for path, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    if name.startswith("resnet"):
        assert len([path for path in layers if "shortcut" not in path]) == int(name.removeprefix("resnet"))
    else:
        assert len(network.genotype) == int(name.removeprefix("mobilenet"))


@pytest.mark.parametrize("name", ["resnet8", "mobilenet11"])
@pytest.mark.parametrize(("stem", "size", "divisor"), [("cifar", 32, 4), ("imagenet", 128, 16)])
def test_the_stem_divides_the_resolution(name: str, stem: str, size: int, divisor: int) -> None:
    divisor *= 2 if name == "mobilenet11" else 1
    with torch.device("meta"):
        network = standard(name, channels=2, stem=stem, in_channels=1)
        features = network.forward_features(torch.empty(1, 1, size, size))
    assert features.shape[2:] == (size // divisor, size // divisor)


def test_a_basic_block_adds_its_input() -> None:
    block = BasicBlock(4, 4).eval()
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x.relu())
    block = BasicBlock(4, 6, 2).eval()
    nn.init.zeros_(block.conv2.weight)
    assert block.shortcut is not None
    torch.testing.assert_close(block(x), block.shortcut(x).relu())


def test_the_expansion_of_a_basic_block_is_between_its_convolutions() -> None:
    block = load_skeleton(RESIDUAL).candidate("basic_e2", 4, 6, 2, affine=False)
    assert isinstance(block, BasicBlock)
    assert block.conv1.weight.shape == (12, 4, 3, 3)
    assert block.conv2.weight.shape == (6, 12, 3, 3)
    assert block.norm1.weight is None
    assert block(torch.randn(1, 4, 7, 7)).shape == (1, 6, 4, 4)


def test_a_shortcut_takes_no_strided_convolution_in_training() -> None:
    # oneDNN's gradient of it writes beyond its memory where channels are few: see ddarts.nn.pointwise.convolve
    block, calls = BasicBlock(2, 4, 2), []
    assert block.shortcut is not None
    block.shortcut.register_forward_hook(lambda *_: calls.append(1))
    block(torch.randn(2, 2, 8, 8)).sum().backward()
    assert not calls
    assert block.shortcut.weight.grad is not None


def test_drop_path_drops_what_a_basic_block_computes() -> None:
    block = BasicBlock(4, 4).eval()
    x = torch.randn(2, 4, 6, 6)
    block.drop_path = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    y = block(x)
    block.drop_path = None
    assert torch.equal(y[0], x[0].relu())
    assert torch.equal(y[1], block(x)[1])
    network = standard("resnet8", channels=2).train()
    network.drop_path = 0.5
    network(torch.randn(3, 3, 8, 8))
    factors = [m.drop_path for m in network.modules() if isinstance(m, BasicBlock)]
    assert len(factors) == 3
    assert all(f is not None and f.shape == (3, 1, 1, 1) for f in factors)


def test_batch_norms_of_a_resnet_are_folded() -> None:
    network = standard("resnet8", channels=4).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -1, 1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    x = torch.randn(2, 3, 16, 16)
    found = folded(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in found.modules())
    torch.testing.assert_close(found(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["standard:resnet9", "standard:", "standard:resnet8/../x"])
def test_an_unknown_network_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(GenotypeError, match=r"unknown standard network .*there are resnet8, resnet14, .*mobilenet17"):
        find_architecture(name)
