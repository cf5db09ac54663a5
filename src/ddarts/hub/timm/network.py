"""A network with the methods and attributes that timm, and scripts written for it, expect of a model."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.models import register_notrace_module
from torch import Tensor, nn

from ddarts.errors import SettingsError
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.zoo.lookup import PathLike, find_genotype
from ddarts.nn.convolution import DepthwiseConv
from ddarts.nn.features import choose_levels
from ddarts.nn.network import Network

register_notrace_module(DepthwiseConv)  # one node in a graph that torch.fx traces: it looks at devices


class TimmNetwork(Network):
    """`Network` as a timm model. Names of parameters are those of `Network`; there is no auxiliary head.

    Args:
        genotype: a `Genotype`, or what `ddarts.genotype.zoo.lookup.find_genotype` takes.
        num_classes: number of classes; 0 for no classifier.
        in_chans: channels of the images.
        global_pool: "avg", "max", "avgmax", "catavgmax", "fast", or "" for none (with ``num_classes=0``).
        channels: C, width of the nodes of the first cell.
        stem: "imagenet" or "cifar".
        drop_rate: dropout before the classifier.
        drop_path_rate: see `Network.drop_path`; it stays the same throughout a training, unless the caller changes it.
        device, dtype: of parameters and buffers.

    Attributes:
        num_features: channels of `forward_features`.
        head_hidden_size: numbers that the classifier reads.

    Raises:
        SettingsError: a size below 1, an unknown stem, or a drop rate outside 0 to 1.
        GenotypeError: there is no such architecture.
    """

    def __init__(
        self,
        genotype: Genotype | PathLike,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        channels: int = 48,
        stem: str = "imagenet",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        for name, rate in (("drop_rate", drop_rate), ("drop_path_rate", drop_path_rate)):
            if not 0 <= rate < 1:
                raise SettingsError(f"{name} = {rate} is out of range; choose 0 up to (and without) 1")
        genotype = find_genotype(genotype)
        with contextlib.nullcontext() if device is None else torch.device(device):
            super().__init__(
                genotype, channels=channels, in_channels=in_chans, classes=max(int(num_classes), 1), stem=stem
            )
        self.to(dtype=dtype)
        self.in_chans = in_chans
        self.drop_rate, self.drop_path = drop_rate, drop_path_rate
        self.reset_classifier(num_classes, global_pool)

    @property
    def num_features(self) -> int:
        """Channels of `forward_features`."""
        return self.outputs

    @property
    def head_hidden_size(self) -> int:
        """How many numbers the classifier reads."""
        return self.outputs * self.global_pool.feat_mult()

    # -- the classifier --------------------------------------------------------------------------------------------

    def get_classifier(self, name_only: bool = False) -> str | nn.Module:
        """Return the classifier, or its name."""
        return "classifier" if name_only else self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a new classifier in place: 0 classes for none; None keeps the pooling, "" removes it."""
        pool = self.global_pool.pool_type if global_pool is None else global_pool
        self.num_classes = self.classes = num_classes
        self.global_pool = SelectAdaptivePool2d(pool_type=pool, flatten=bool(pool))
        parameter = next(self.parameters())
        self.classifier = (
            nn.Linear(self.head_hidden_size, num_classes, device=parameter.device, dtype=parameter.dtype)
            if num_classes > 0
            else nn.Identity()
        )
        self.global_pool.train(self.training)
        self.classifier.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, in_chans, H, W] to logits [B, num_classes], or without classifier to what it would read."""
        return self.forward_head(self.forward_features(x))

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool and classify what `forward_features` returned; with `pre_logits`, do not classify."""
        pooled = self.global_pool(features)
        if self.drop_rate:
            pooled = F.dropout(pooled, self.drop_rate, self.training)
        return pooled if pre_logits else self.classifier(pooled)

    # -- feature maps ----------------------------------------------------------------------------------------------

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | tuple[int, ...] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the feature maps that `feature_info` lists, finest first.

        Args:
            x: images [B, in_chans, H, W].
            indices: which maps: None for all, n for the last n, or indices.
            norm: accepted and ignored, as there is no normalisation after the last cell.
            stop_early: compute nothing beyond the last of these maps.
            output_fmt: "NCHW".
            intermediates_only: return the list alone.

        Returns:
            (features, maps), or the maps alone. `features` is what `forward_features` returns, unless `stop_early`.
        """
        if output_fmt != "NCHW":
            raise SettingsError(f"output_fmt = {output_fmt!r}: maps can be had as 'NCHW' only")
        positions = sorted(set(self.positions_of(indices)))
        end = positions[-1] if stop_early or intermediates_only else self._end
        maps = self._maps(x, end)
        chosen = [maps[position] for position in positions]
        return chosen if intermediates_only else (maps[end], chosen)

    def prune_intermediate_layers(
        self, indices: int | list[int] | tuple[int, ...] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what the feature maps `indices` do not depend on, and the classifier; return their indices."""
        taken = choose_levels(self.levels, indices)
        self.keep_levels(taken)
        if prune_head or max(taken) < len(self.levels) - 1:
            self.reset_classifier(0, "")
        return list(taken)

    # -- training --------------------------------------------------------------------------------------------------

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute what is inside the cells a second time in the backward pass, to save memory."""
        self.recompute = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return how names of parameters make groups, from the images on: the stem, then cell after cell."""
        return {"stem": r"^stem", "blocks": r"^cells\.(\d+)"}
