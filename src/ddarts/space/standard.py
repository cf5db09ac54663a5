"""Standard networks, which a found network is compared with, as spaces with one candidate a choice.

The modules are built by `ddarts.nn.standard`. Sources: ResNet for CIFAR-10 (arXiv 1512.03385, section 4.2), MobileNetV2
(arXiv 1801.04381, table 2).
"""

from __future__ import annotations

from ddarts.errors import SettingsError
from ddarts.space.choice_space import Choice, ChoiceSpace
from ddarts.space.mobile import Stage, reductions_of

#: Beginning of their names.
FAMILY = "standard"
#: The candidate of every block of a ResNet.
RESIDUAL = "residual"

#: Stages of ResNets, whose widths are over that of the stem; each has n blocks.
_RESNET = ((1, 1), (2, 2), (4, 2))
#: Width, stride and layers of the stages of MobileNetV2, and half of these layers.
_MOBILENET = ((0.5, 1, 1), (0.75, 1, 2), (1, 2, 3), (2, 2, 4), (3, 1, 3), (5, 2, 3), (10, 1, 1))

#: Stages of each network; the number in its name is that of its layers with weights, or of its inverted residuals.
NETWORKS: dict[str, tuple[Stage, ...]] = {
    **{
        f"resnet{6 * n + 2}": tuple(Stage(n, width, stride) for width, stride in _RESNET)
        for n in (1, 2, 3, 5, 7, 9, 18)
    },
    "mobilenet11": tuple(Stage(-(-layers // 2), width, stride) for width, stride, layers in _MOBILENET),
    "mobilenet17": tuple(Stage(layers, width, stride) for width, stride, layers in _MOBILENET),
}


def standard_space(name: str) -> ChoiceSpace:
    """Return the space of a standard network.

    Args:
        name: ``standard:`` and a key of `NETWORKS`.

    Raises:
        SettingsError: there is no such network; the message lists those that there are.
    """
    network = name.removeprefix(f"{FAMILY}:")
    if network not in NETWORKS:
        raise SettingsError(f"unknown standard network {name[:60]!r}; there are {', '.join(NETWORKS)}")
    stages = NETWORKS[network]
    residual = network.startswith("resnet")
    candidates = [
        RESIDUAL if residual else "mb_e6_k3" if index else "mb_e1_k3"
        for index, stage in enumerate(stages)
        for _ in range(stage.layers)
    ]
    return ChoiceSpace(
        name=name,
        choices=tuple(Choice(f"block {i}", (candidate,)) for i, candidate in enumerate(candidates)),
        skeleton="ddarts.nn.standard:ResNet" if residual else "ddarts.nn.standard:MobileNetV2",
        reductions=reductions_of(stages),
    )
