"""The space `residual`: the blocks of ResNets for small images, chosen layer by layer.

Dense 3x3 convolutions compute three to four times as many multiply-adds in a second on a CPU as the separable ones of
cells do, so that a training of minutes sees its images more often. Sources: ResNet for CIFAR-10 (arXiv 1512.03385,
section 4.2), wide blocks (arXiv 1605.07146). Squeeze-and-excitation is left out: in short trainings it lost
(docs/results.md).
"""

from __future__ import annotations

from ddarts.space.choice_space import ChoiceSpace, chain
from ddarts.space.mobile import SKIP, Stage, reductions_of

#: Three stages as in a ResNet-20, which is in the space; leaving layers out gives ResNet-14 and ResNet-8.
STAGES = tuple(Stage(3, width, stride) for width, stride in ((1, 1), (2, 2), (4, 2)))

#: Basic blocks, by the channels between their convolutions over those of their output, and `SKIP`.
CANDIDATES = ("basic_e1", "basic_e2", SKIP)

RESIDUAL = ChoiceSpace(
    name="residual",
    choices=chain(sum(stage.layers for stage in STAGES), CANDIDATES),
    skeleton="ddarts.nn.standard:ResNet",
    reductions=reductions_of(STAGES),
    parameter_free=frozenset({SKIP}),
    # of five networks the best on validation images of CIFAR-10 in equal time (docs/results.md)
    known=("basic_e1", SKIP, SKIP, "basic_e1", SKIP, SKIP, "basic_e2", "basic_e2", "basic_e2"),
)
