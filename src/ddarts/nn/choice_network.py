"""The discrete network of a choice space, and the skeleton that it shares with the supernet."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype
from ddarts.genotype.genotype import Genotype
from ddarts.nn.auxiliary import AuxiliaryHead
from ddarts.nn.inverted_residual import Residual
from ddarts.nn.network import DiscreteNetwork, Network
from ddarts.nn.recompute import recomputed
from ddarts.runtime.registry import load_reference
from ddarts.space.choice_space import ChoiceSpace

Removed = Literal["input", "zeros"]


@dataclass(frozen=True)
class Block:
    """One of the modules that a skeleton runs one after the other.

    Attributes:
        name: of the module in the network, such as ``layer3``.
        module: maps [B, C, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)].
        outputs: channels of its output.
        stride: what it divides the resolution by.
    """

    name: str
    module: nn.Module
    outputs: int
    stride: int = 1


class Slot(Protocol):
    """Builds what stands at one position: the chosen candidate, or in a supernet a mixed operation of all of them."""

    def __call__(
        self, choice: int, inputs: int, outputs: int, stride: int = 1, *, removed: Removed = "input"
    ) -> nn.Module:
        """Build the module at a position that `choice` (its index in the space) decides.

        Args:
            choice: index of the choice; one choice may decide several positions.
            inputs: channels of the input.
            outputs: channels of the output.
            stride: 1 or 2.
            removed: what the position gives when an ablation removes it: its "input" (a layer of a chain, whose
                successor then reads what the layer read), or "zeros" (where other paths lead around it, as around an
                edge of a cell).
        """
        ...


class Skeleton(Protocol):
    """The modules of a choice space: written once for the supernet and for the discrete network.

    A class with a method ``of_space(space)`` serves several spaces; its instances are the skeletons.
    """

    def candidate(self, name: str, inputs: int, outputs: int, stride: int, *, affine: bool) -> nn.Module:
        """Build one candidate that maps [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)].

        Its batch norms are `nn.BatchNorm2d`, with a scale and a shift only if `affine`.
        """
        ...

    def blocks(self, slot: Slot, *, channels: int, in_channels: int, stem: str) -> list[Block]:
        """Build everything from images to the last map; global average pooling and the classifier follow.

        Args:
            slot: builds the modules at the positions of choices.
            channels: C, the width setting.
            in_channels: channels of the images.
            stem: "cifar" for small images, or "imagenet", with which the network divides the resolution by 4 more.
        """
        ...


def load_skeleton(space: ChoiceSpace) -> Skeleton:
    """Import the skeleton of a space.

    Raises:
        SettingsError: it cannot be imported.
    """
    try:
        skeleton = load_reference(space.skeleton)
        return skeleton.of_space(space) if hasattr(skeleton, "of_space") else skeleton
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"space {space.name}: skeleton {space.skeleton} cannot be imported: {error}") from None


class ChoiceNetwork(DiscreteNetwork[ChoiceGenotype]):
    """The discrete network of a choice genotype: the skeleton with the chosen candidates, pooling, linear classifier.

    Names of parameters (a public format): ``blocks.<name of the block>.*``, ``auxiliary.*``, ``classifier.*``.

    Args:
        genotype: the architecture.
        channels: C, the width setting of the skeleton.
        in_channels: channels of the images.
        classes: number of classes.
        stem: "cifar" or "imagenet".
        auxiliary: whether to build an auxiliary head, after the first two thirds of the blocks.
        skeleton: builds the modules instead of the space's own skeleton.

    Attributes:
        drop_path, drop_path_part, recompute: see `ddarts.nn.network.DiscreteNetwork`; drop-path drops the branches
            of residual blocks.
        outputs: channels of the last map.

    Raises:
        SettingsError: a size below 1.
    """

    def __init__(
        self,
        genotype: ChoiceGenotype,
        *,
        channels: int = 16,
        in_channels: int = 3,
        classes: int = 10,
        stem: str = "cifar",
        auxiliary: bool = False,
        skeleton: Skeleton | None = None,
    ) -> None:
        super().__init__(genotype, channels, in_channels, classes, stem)
        skeleton = skeleton or load_skeleton(genotype.facts)
        self._chosen: list[tuple[str, nn.Module]] = []

        def slot(choice: int, inputs: int, outputs: int, stride: int = 1, *, removed: Removed = "input") -> nn.Module:
            module = skeleton.candidate(genotype.choices[choice], inputs, outputs, stride, affine=True)
            self._chosen.append((genotype.choices[choice], module))
            return module

        blocks = skeleton.blocks(slot, channels=channels, in_channels=in_channels, stem=stem)
        self.blocks = nn.Sequential(OrderedDict((block.name, block.module) for block in blocks))
        self._auxiliary_after = max(2 * len(blocks) // 3 - 1, 0)
        self.auxiliary = AuxiliaryHead(blocks[self._auxiliary_after].outputs, classes) if auxiliary else None
        self.outputs = blocks[-1].outputs
        self.classifier = nn.Linear(self.outputs, classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Classify images.

        Args:
            x: [B, in_channels, H, W], normalised.

        Returns:
            logits [B, classes]; in training mode with an auxiliary head (logits, auxiliary logits).
        """
        self._draw_drop_path(x)
        recompute = self.recompute and self.training and torch.is_grad_enabled()
        auxiliary: Tensor | None = None
        for index, block in enumerate(self.blocks):
            x = recomputed(block, x) if recompute else block(x)
            if self.training and self.auxiliary is not None and index == self._auxiliary_after:
                auxiliary = self.auxiliary(F.relu(x))
        logits = self.forward_head(x)
        return logits if auxiliary is None else (logits, auxiliary)

    def candidates(self) -> list[tuple[str, nn.Module]]:
        """Return the chosen candidate at every position, by name."""
        return list(self._chosen)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map, before pooling: [B, outputs, h, w]."""
        return self.blocks(x)

    def _draw_drop_path(self, x: Tensor) -> None:
        """Draw the drop-path factors of a step for every residual block."""
        dropping = self.training and self.drop_path > 0
        for block in self.blocks.modules():
            if isinstance(block, Residual) and block.residual:
                block.drop_path = self.drop_path_factors(x) if dropping else None


#: The discrete network of a cell space or of a choice space.
AnyNetwork = Network | ChoiceNetwork


def build_network(genotype: AnyGenotype, **options: int | str | bool) -> AnyNetwork:
    """Build the network of a genotype: `Network` of cells, `ChoiceNetwork` of choices, with their options."""
    build = Network if isinstance(genotype, Genotype) else ChoiceNetwork
    return build(genotype, **options)  # type: ignore[arg-type]
