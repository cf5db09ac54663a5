"""The spaces of two published tables of trained networks, and the tables themselves, which judge what a search finds.

NAS-Bench-Macro (arXiv 2103.11922): eight layers, each its own choice. NAS-Bench-201 (arXiv 2001.00326): the six edges
of one cell, used in 15 cells. Both are built through the public interface of choice spaces, as another package would.

The tables are CSV files named ``nasbench_macro_cifar10.csv`` (architecture, accuracy_1 to accuracy_3, parameters, macs)
and ``nasbench201_cifar10.csv`` (architecture, accuracy, ...); an architecture is a string of digits, one for each
choice, which number the candidates in the order of the space.
"""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from ddarts.genotype.choices import ChoiceGenotype
from ddarts.nn.choice_network import Block, Slot
from ddarts.nn.inverted_residual import ConvBN, InvertedResidual, skip
from ddarts.nn.operations import ReLUConvBN
from ddarts.space.choice_space import Choice, ChoiceSpace, chain
from ddarts.space.spaces import SPACES

MACRO_STAGES = (2, 3, 3)


class Macro:
    """Stem to C channels - three stages of inverted residuals - 1x1 convolution to 40 C; C is 32 in the table."""

    @staticmethod
    def candidate(name: str, inputs: int, outputs: int, stride: int, *, affine: bool) -> nn.Module:
        """Build ``identity`` or ``mb<expansion>_k<kernel>``."""
        if name == "identity":
            return skip(inputs, outputs, stride, affine=affine)
        expansion, kernel = (int(part[2:] if part.startswith("mb") else part[1:]) for part in name.split("_"))
        return InvertedResidual(inputs, outputs, expansion=expansion, kernel=kernel, stride=stride, affine=affine)

    @staticmethod
    def blocks(slot: Slot, *, channels: int, in_channels: int, stem: str) -> list[Block]:
        """Build the network before its pooling; the table knows one stem only."""
        blocks = [Block("stem", ConvBN(in_channels, channels, 3, relu=True), channels)]
        for stage, layers in enumerate(MACRO_STAGES):
            outputs = channels * 2 ** (stage + 1)
            for layer in range(layers):
                number, stride = len(blocks) - 1, 2 if layer == 0 else 1
                blocks.append(
                    Block(f"layer{number}", slot(number, blocks[-1].outputs, outputs, stride), outputs, stride)
                )
        head = ConvBN(blocks[-1].outputs, 40 * channels, relu=True)
        return [*blocks, Block("head", head, 40 * channels)]


MACRO = SPACES.register(
    "nasbench-macro",
    ChoiceSpace(
        name="nasbench-macro",
        choices=chain(sum(MACRO_STAGES), ("identity", "mb3_k3", "mb6_k5")),
        skeleton=f"{__name__}:Macro",
        reductions=(0, 2, 5),
        parameter_free=frozenset({"identity"}),
    ),
)

NODES = 4
#: Edges of the cell as (from, to), nodes from 0, in the order of the table's digits.
EDGES = tuple(itertools.combinations(range(NODES), 2))


class Zero(nn.Module):
    """No connection: zeros in the shape of the input."""

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros."""
        return x.new_zeros(x.shape)


class Cell201(nn.Module):
    """A node is the sum of the edges from all nodes before it; the last node is the output."""

    def __init__(self, edges: list[nn.Module]) -> None:
        super().__init__()
        self.edges = nn.ModuleList(edges)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, H, W]."""
        nodes = [x]
        for target in range(1, NODES):
            arriving = [(e, source) for e, (source, to) in enumerate(EDGES) if to == target]
            nodes.append(sum((self.edges[e](nodes[source]) for e, source in arriving), x.new_zeros(())))
        return nodes[-1]


class Reduction(nn.Module):
    """The residual block between the stages: two convolutions; average pooling and 1x1 convolution as its shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ReLUConvBN(inputs, outputs, 3, 2), ReLUConvBN(outputs, outputs, 3))
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Halve the resolution (rounding up) of [B, inputs, H, W]."""
        return self.body(x) + self.shortcut(F.avg_pool2d(x, 2, 2, ceil_mode=True))


class Bench201:
    """Stem to C channels - five cells - halving - five cells - halving - five cells; C is 16 in the table."""

    @staticmethod
    def candidate(name: str, inputs: int, outputs: int, stride: int, *, affine: bool) -> nn.Module:
        """Build one of the five operations of the table."""
        if name == "avg_pool_3x3":
            return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        if name.startswith("conv"):
            return ReLUConvBN(inputs, outputs, int(name[-1]), affine=affine)
        return Zero() if name == "none" else nn.Identity()

    @staticmethod
    def blocks(slot: Slot, *, channels: int, in_channels: int, stem: str) -> list[Block]:
        """Build the network before its pooling; the table knows one stem only."""
        blocks = [Block("stem", ConvBN(in_channels, channels, 3), channels)]
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                blocks.append(Block(f"reduction{stage}", Reduction(width // 2, width), width, 2))
            for cell in range(5):
                edges = [slot(e, width, width, removed="zeros") for e in range(len(EDGES))]
                blocks.append(Block(f"cell{5 * stage + cell}", Cell201(edges), width))
        width = blocks[-1].outputs
        return [*blocks, Block("norm", nn.Sequential(nn.BatchNorm2d(width), nn.ReLU()), width)]


OPERATIONS_201 = ("skip_connect", "none", "conv_3x3", "conv_1x1", "avg_pool_3x3")
BENCH201 = SPACES.register(
    "nasbench-201",
    ChoiceSpace(
        name="nasbench-201",
        choices=tuple(Choice(f"edge {source + 1}-{target + 1}", OPERATIONS_201) for source, target in EDGES),
        skeleton=f"{__name__}:Bench201",
        reductions=(5, 11),
        parameter_free=frozenset({"skip_connect", "none", "avg_pool_3x3"}),
    ),
)


class Row(NamedTuple):
    """What a table knows of an architecture; parameters and multiply-adds are 0 where it does not give them."""

    accuracy: float
    parameters: int
    macs: int


@dataclass(frozen=True)
class Table:
    """A table of trained networks.

    Attributes:
        space: the space whose architectures it holds, every one of them.
        rows: by the digits of the architecture.
    """

    space: ChoiceSpace
    rows: dict[str, Row]

    @classmethod
    def load(cls, space: ChoiceSpace, folder: Path) -> Table:
        """Read the table of `MACRO` or `BENCH201` from the folder that holds the CSV files.

        Raises:
            OSError: there is no such file.
        """
        file = {"nasbench-macro": "nasbench_macro_cifar10.csv", "nasbench-201": "nasbench201_cifar10.csv"}[space.name]
        rows = {}
        with (folder / file).open(newline="", encoding="utf-8") as stream:
            for line in csv.DictReader(stream):
                trainings = [
                    float(line[key]) for key in ("accuracy", "accuracy_1", "accuracy_2", "accuracy_3") if key in line
                ]
                size = (int(line.get(key, 0)) for key in ("parameters", "macs"))
                rows[line["architecture"]] = Row(sum(trainings) / len(trainings), *size)
        return cls(space, rows)

    def genotype(self, digits: str) -> ChoiceGenotype:
        """Return the architecture that digits name."""
        return ChoiceGenotype.from_indices(self.space, [int(digit) for digit in digits], digits)

    def lookup(self, genotype: ChoiceGenotype) -> Row:
        """Return what the table knows of an architecture: its mean test accuracy in percent, and its size."""
        return self.rows["".join(map(str, genotype.indices))]

    def rank(self, genotype: ChoiceGenotype) -> int:
        """Return the rank of an architecture by accuracy, from 1."""
        accuracy = self.lookup(genotype).accuracy
        return 1 + sum(row.accuracy > accuracy for row in self.rows.values())

    def best(self, macs: float | None = None) -> ChoiceGenotype:
        """Return the most accurate architecture, of those with at most `macs` multiply-adds if given."""
        possible = [d for d, row in self.rows.items() if macs is None or row.macs <= macs]
        return self.genotype(max(possible, key=lambda d: self.rows[d].accuracy))
