"""The space `mobile`: inverted residual blocks as in MobileNetV2 and V3, chosen layer by layer.

Sources: MobileNetV2 (arXiv 1801.04381), MobileNetV3 (arXiv 1905.02244); the choice of kernel and expansion in every
layer follows ProxylessNAS (arXiv 1812.00332).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ddarts.space.choice_space import ChoiceSpace, chain

#: Leave the layer out; where the shape changes, a strided 1x1 convolution with batch norm.
SKIP = "skip"


class Stage(NamedTuple):
    """Layers of one width."""

    layers: int
    width: float
    """Channels of the output over the setting `channels`."""
    stride: int
    """Of the first layer; the others have 1."""


def reductions_of(stages: Sequence[Stage]) -> tuple[int, ...]:
    """Return the positions of the layers that halve the resolution, of stages one after the other."""
    return tuple(sum(s.layers for s in stages[:i]) for i, stage in enumerate(stages) if stage.stride == 2)


#: The first stage halves the resolution only after the stem for large images, which divides it by 4 together with it.
STAGES = (Stage(2, 1.5, 1), Stage(3, 2.5, 2), Stage(3, 5, 2), Stage(3, 7, 1), Stage(3, 12, 2))

#: Inverted residuals by expansion e and kernel k, with or without squeeze-and-excitation, and `SKIP`.
CANDIDATES = (
    *(f"mb_e{expansion}_k{kernel}{se}" for expansion in (1, 3, 6) for kernel in (3, 5, 7) for se in ("", "_se")),
    SKIP,
)

MOBILE = ChoiceSpace(
    name="mobile",
    choices=chain(sum(stage.layers for stage in STAGES), CANDIDATES),
    skeleton="ddarts.nn.mobile:Mobile",
    reductions=reductions_of(STAGES),
    parameter_free=frozenset({SKIP}),
)
