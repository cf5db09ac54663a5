"""The standard network that is as large as another network, to compare the two."""

from __future__ import annotations

import math
from typing import Literal

from ddarts.cost.budget import Budget, Fitted
from ddarts.errors import SettingsError
from ddarts.genotype.choices import ChoiceGenotype
from ddarts.genotype.gates import gates_of
from ddarts.genotype.starting import original_genotype
from ddarts.space.standard import FAMILY

#: Networks of each kind: each in two depths.
DEPTHS = {"resnet": ("resnet8", "resnet14"), "mobilenet": ("mobilenet11", "mobilenet17")}


def standard_network(
    kind: Literal["resnet", "mobilenet"],
    parameters: int,
    macs: int,
    images: tuple[int, int, int],
    *,
    classes: int,
    stem: str,
) -> ChoiceGenotype | None:
    """Return the standard network nearest to another network, and not above it, in parameters and multiply-adds.

    Of each depth it is the widest that keeps both; of these, the one with the largest product of its shares of both.

    Args:
        kind: ResNet or MobileNetV2.
        parameters, macs: of the other network.
        images: (channels, height, width).
        classes: their number.
        stem: "cifar" or "imagenet", that of the other network.

    Returns:
        Its genotype, with its size; None if the images are too small for it, or all are larger.
    """
    best: Fitted | None = None
    limits = {"parameters": parameters, "macs": macs}
    budget = Budget(limits, images, classes, stem=stem, least_use=0.0)

    def nearness(one: Fitted) -> float:
        return math.prod(one.costs[cost] / limit for cost, limit in limits.items())

    for name in DEPTHS[kind]:
        space = original_genotype(f"{FAMILY}:{name}").facts
        try:
            found = budget.fit(gates_of(space, [[[1.0]]] * len(space)), name=f"{FAMILY}:{name}")
        except SettingsError:  # see "Returns"
            continue
        if best is None or nearness(found) > nearness(best):
            best = found
    return None if best is None else best.genotype  # type: ignore[return-value]
