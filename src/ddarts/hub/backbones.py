"""A network as the backbone of torchvision's detectors and segmenters (paper, section 4.4).

Those take a module that turns images into an ordered dictionary of feature maps.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork, LastLevelMaxPool

from ddarts.errors import SettingsError
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.zoo.lookup import PathLike, find_genotype
from ddarts.hub.saved import CONFIG_NAME, ModelConfig, load_model_as
from ddarts.nn.features import FeatureInfo, choose_levels
from ddarts.nn.network import Network


@dataclass(frozen=True)
class Source:
    """A network to build upon.

    Attributes:
        network: with trained weights if `config` is there, else with random ones.
        config: how images are prepared for the weights, or None.
    """

    network: Network
    config: ModelConfig | None


def find_network(
    source: Genotype | PathLike, *, channels: int = 36, stem: str = "imagenet", in_channels: int = 3
) -> Source:
    """Return the network that `source` means: a trained model, or a new network of an architecture.

    Args:
        source: a model folder or a run that has one; else what `ddarts.genotype.zoo.lookup.find_genotype` takes: a
            `Genotype`, a name, a genotype file or a run.
        channels, stem, in_channels: of a new network; a trained model has its own.

    Raises:
        DDartsError: nothing of that name is there, or it is broken.
    """
    if not isinstance(source, Genotype):
        folder = Path(source)
        if any((inside / CONFIG_NAME).is_file() for inside in (folder, folder / "model")):
            saved = load_model_as(Network, folder)
            return Source(saved.network, saved.config)
    return Source(Network(find_genotype(source), channels=channels, in_channels=in_channels, stem=stem), None)


class FeatureBackbone(nn.Module):
    """The feature maps of a network by name: what `torchvision.models.segmentation.DeepLabV3` takes.

    Args:
        network: copied, without the cells that none of the maps depends on, and without classifier.
        levels: which maps: None for all, n for the last n, or indices of `Network.levels`.
        names: one name a level; None for "0", "1" and so on, finest first.

    Attributes:
        feature_info: channels, reduction and module of each map.
        out_channels: channels of the last map, for detectors that read but one.

    Raises:
        SettingsError: there is no such level, or there are not as many names as levels.
    """

    def __init__(
        self, network: Network, levels: int | Sequence[int] | None = None, names: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.levels = tuple(sorted(set(choose_levels(network.levels, levels))))
        self.names = tuple(str(i) for i in range(len(self.levels))) if names is None else tuple(names)
        if len(set(self.names)) != len(self.levels):
            raise SettingsError(
                f"names {list(self.names)}: expected {len(self.levels)} distinct names, one for each level"
            )
        self.network = copy.deepcopy(network)
        self.network.keep_levels(self.levels)
        self.network.classifier = nn.Identity()  # type: ignore[assignment]
        self.feature_info: list[FeatureInfo] = [network.feature_info[index] for index in self.levels]
        self.out_channels = self.feature_info[-1]["num_chs"]

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Map images [B, in_channels, H, W] to maps [B, num_chs, H / reduction, W / reduction], rounded up."""
        return OrderedDict(zip(self.names, self.network.features(x, self.levels), strict=True))


class PyramidBackbone(nn.Module):
    """A feature pyramid over the maps of a network: what torchvision's RetinaNet and Faster R-CNN take.

    Args:
        network: copied, as `FeatureBackbone` does.
        levels: which maps; None for those of reduction 4 and more (all, if there is only one such).
        channels: channels of all maps of the pyramid.
        extra: what adds coarser maps; None for one more, picked from the coarsest (`LastLevelMaxPool`).
            RetinaNet as published has ``LastLevelP6P7(channels, channels)``.

    Attributes:
        out_channels: channels of all maps of the pyramid.
        reductions: the side of the images over the side of each map of the network, without the extra ones.

    Raises:
        SettingsError: there is no such level.
    """

    def __init__(
        self,
        network: Network,
        levels: int | Sequence[int] | None = None,
        *,
        channels: int = 256,
        extra: ExtraFPNBlock | None = None,
    ) -> None:
        super().__init__()
        if levels is None:
            coarse = [i for i, level in enumerate(network.levels) if level.info["reduction"] >= 4]
            levels = coarse if len(coarse) > 1 else None
        self.body = FeatureBackbone(network, levels)
        self.fpn = FeaturePyramidNetwork(
            [info["num_chs"] for info in self.body.feature_info], channels, extra_blocks=extra or LastLevelMaxPool()
        )
        self.out_channels = channels
        self.reductions = tuple(info["reduction"] for info in self.body.feature_info)

    def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
        """Map images [B, in_channels, H, W] to the pyramid, finest first: [B, out_channels, h, w] each."""
        return self.fpn(self.body(x))
