from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.detection import FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.segmentation import DeepLabV3
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from ddarts.errors import DDartsError
from ddarts.genotype.random import random_genotype
from ddarts.hub.backbones import FeatureBackbone, PyramidBackbone, find_network
from ddarts.hub.saved import save_model
from ddarts.nn.network import Network
from ddarts.space.cell_space import build_space


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    genotype = random_genotype(build_space("darts", cells=5, nodes=2), seed=3)
    return Network(genotype, channels=4, classes=2, stem="imagenet", auxiliary=True).eval()


def test_maps_have_names_and_are_those_of_the_network(network: Network) -> None:
    backbone = FeatureBackbone(network, [1, -1], names=["low", "out"]).eval()
    x = torch.randn(1, 3, 50, 33)
    maps = backbone(x)
    expected = network.features(x, [1, 3])
    assert list(maps) == ["low", "out"]
    assert all(torch.equal(a, b) for a, b in zip(maps.values(), expected, strict=True))
    assert backbone.out_channels == maps["out"].shape[1]
    assert [info["reduction"] for info in backbone.feature_info] == [4, 16]


def test_the_network_that_is_given_stays_what_it_was(network: Network) -> None:
    x = torch.randn(1, 3, 32, 32)
    before, names = network(x), set(network.state_dict())
    backbone = FeatureBackbone(network, [0])
    assert set(network.state_dict()) == names
    assert torch.equal(network(x), before)
    assert not [name for name in backbone.state_dict() if "classifier" in name or "auxiliary" in name]
    with torch.no_grad():
        backbone.network.stem.conv1.weight.zero_()
    assert torch.equal(network(x), before)


def test_a_pyramid_has_the_levels_from_reduction_4_on(network: Network) -> None:
    backbone = PyramidBackbone(network, channels=16)
    maps = backbone(torch.randn(1, 3, 64, 65))
    assert backbone.reductions == (4, 8, 16)
    assert [tuple(m.shape[1:]) for m in maps.values()] == [(16, 16, 17), (16, 8, 9), (16, 4, 5), (16, 2, 3)]
    assert list(maps) == ["0", "1", "2", "pool"]
    small = Network(network.genotype, channels=4, stem="cifar")
    assert PyramidBackbone(small, channels=16).reductions == (1, 2, 4)


def _targets() -> list[dict[str, torch.Tensor]]:
    boxes = torch.tensor([[4.0, 4.0, 30.0, 40.0]])
    return [{"boxes": boxes, "labels": torch.tensor([1])}, {"boxes": boxes + 5, "labels": torch.tensor([2])}]


def _anchors(maps: int) -> AnchorGenerator:
    return AnchorGenerator(tuple((16 * 2**i,) for i in range(maps)), ((1.0,),) * maps)


def _idle(model: torch.nn.Module) -> list[str]:
    return [name for name, p in model.named_parameters() if p.grad is None]


def test_retinanet_trains_and_detects(network: Network) -> None:
    backbone = PyramidBackbone(network, channels=16, extra=LastLevelP6P7(16, 16))
    model = RetinaNet(backbone, 3, 64, 64, anchor_generator=_anchors(5))
    losses = model([torch.rand(3, 60, 64), torch.rand(3, 64, 50)], _targets())
    sum(losses.values()).backward()
    assert _idle(model) == []
    assert set(model.eval()([torch.rand(3, 64, 64)])[0]) == {"boxes", "scores", "labels"}


def test_faster_rcnn_trains_and_detects(network: Network) -> None:
    model = FasterRCNN(PyramidBackbone(network, channels=16), 3, 64, 64, rpn_anchor_generator=_anchors(4))
    losses = model([torch.rand(3, 60, 64), torch.rand(3, 64, 50)], _targets())
    sum(losses.values()).backward()
    assert [name for name in _idle(model) if name.startswith("backbone.body")] == []
    assert set(model.eval()([torch.rand(3, 64, 64)])[0]) == {"boxes", "scores", "labels"}


def test_deeplab_trains_and_segments(network: Network) -> None:
    backbone = FeatureBackbone(network, 1, names=["out"])
    model = DeepLabV3(backbone, DeepLabHead(backbone.out_channels, 4))
    logits = model(torch.randn(2, 3, 64, 50))["out"]
    assert logits.shape == (2, 4, 64, 50)
    logits.sum().backward()
    assert _idle(model) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": [4]}, r"levels \[4\]: the network has 4, 0 to 3, of reductions 2, 4, 8, 16"),
        ({"levels": 2, "names": ["out"]}, r"names \['out'\]: expected 2 distinct names"),
        ({"levels": 2, "names": ["a", "a"]}, "expected 2 distinct names"),
    ],
)
def test_wrong_levels_and_names_are_errors(network: Network, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DDartsError, match=message):
        FeatureBackbone(network, **options)


def test_a_network_is_found_by_name_file_run_and_model(network: Network, tmp_path: Path) -> None:
    assert find_network("darts-v2", channels=2).config is None
    network.genotype.save(tmp_path / "run" / "genotype.json")
    found = find_network(tmp_path / "run", channels=6, stem="cifar", in_channels=1).network
    assert (found.genotype, found.channels, found.stem_name, found.in_channels) == (network.genotype, 6, "cifar", 1)
    about = {"classes": ["a", "b"], "resolution": (32, 32), "mean": [0.1] * 3, "std": [0.2] * 3}
    save_model(tmp_path / "run" / "model", network, **about)
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        source = find_network(folder, channels=6)
        assert source.config is not None
        assert source.config.mean == (0.1, 0.1, 0.1)
        assert torch.equal(source.network.stem.conv1.weight, network.stem.conv1.weight)
    assert find_network(network.genotype).network.genotype == network.genotype
    with pytest.raises(DDartsError, match="no such genotype file"):
        find_network("nowhere")
