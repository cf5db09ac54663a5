"""Costs of every decision in a search space: each operation on each edge, or each candidate of each choice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn

from ddarts.cost.counting import SMALL, count, count_parameters
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype
from ddarts.genotype.gates import discrete_gates
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.nn.choice_network import AnyNetwork, Removed, build_network, load_skeleton
from ddarts.nn.stems import STEMS
from ddarts.space.cell_space import INPUT_STATES, SearchSpace
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.imported import is_imported
from ddarts.space.operations import OPERATIONS, OperationCost

#: Costs in the shape of the gates: [searched cell][edge][operation], or [choice][0][candidate].
Entries = tuple[tuple[tuple[OperationCost, ...], ...], ...]


class Clock(Protocol):
    """Predicts latencies on a device; see `ddarts.cost.device.Device`."""

    def predict(self, module: nn.Module, shape: tuple[int, ...], *, edge: bool = False) -> float:
        """Return the milliseconds of a module; as an `edge` of a cell with the addition to another edge's result."""
        ...

    def whole(self, network: AnyNetwork, images: tuple[int, int, int]) -> float:
        """Return the milliseconds of a network."""
        ...


@dataclass(frozen=True)
class CostTable:
    """Costs of the discrete networks of a space, as a sum over decisions.

    In a choice space the sum is exact. In a cell space it is exact if the genotype has no unused part: every edge
    reaches the output, every cell reads both of its inputs and is read. Otherwise `Network` leaves out what is unused,
    and the sum is an upper bound.

    Attributes:
        space: the space.
        base: of stem, input convolutions of all cells, fixed blocks and classifier.
        entries: of every operation or candidate, at its resolution and channels, in the shape of the gates. Where
            several positions of the network share one decision, the sum over these positions.
    """

    space: SearchSpace | ChoiceSpace
    base: OperationCost
    entries: Entries

    def cost(self, genotype: AnyGenotype) -> OperationCost:
        """Return the costs of a genotype's network, without an auxiliary head."""
        gates = discrete_gates(self.space, genotype).values
        chosen = [
            cost
            for costs, rows in zip(self.entries, gates, strict=True)
            for of_edge, row in zip(costs, rows, strict=True)
            for cost, gate in zip(of_edge, row, strict=True)
            if gate
        ]
        return OperationCost(*(sum(values) for values in zip(self.base, *chosen, strict=True)))

    def tensors(self, kind: str = "macs") -> list[Tensor]:
        """Return the entries as one float64 tensor (edges, operations) for each searched cell.

        Args:
            kind: a field of `OperationCost`.
        """
        return [
            torch.tensor([[getattr(cost, kind) for cost in row] for row in rows], dtype=torch.float64)
            for rows in self.entries
        ]


def cost_table(
    space: SearchSpace | ChoiceSpace,
    height: int,
    width: int,
    *,
    channels: int = 16,
    in_channels: int = 3,
    classes: int = 10,
    stem: str = "cifar",
    clock: Clock | None = None,
) -> CostTable:
    """Count the costs of every decision.

    Args:
        space: the space.
        height, width: of the images, in pixels.
        channels, in_channels, classes, stem: as for `ddarts.nn.network.Network`.
        clock: predicts latencies, which are 0 without it.
    """
    build = _choice_table if isinstance(space, ChoiceSpace) else _cell_table
    small = channels * height * width <= SMALL and not is_imported(getattr(space, "name", ""))
    device = "cpu" if small else "meta"
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return build(space, (in_channels, height, width), channels, classes, stem, clock)  # type: ignore[arg-type]


def _total(costs: list[OperationCost]) -> OperationCost:
    return OperationCost(*(sum(values) for values in zip(*costs, strict=True)))


def _cell_table(
    space: SearchSpace, images: tuple[int, int, int], channels: int, classes: int, stem: str, clock: Clock | None
) -> CostTable:
    @cache
    def counted(name: str, wide: int, stride: int, height: int, width: int) -> OperationCost:
        operation = OPERATIONS.get(name)
        cost, ms = operation.costs(wide, stride, height, width), 0.0
        if clock is not None:
            with torch.device("meta"):
                ms = clock.predict(operation.build(wide, stride, True), (wide, height, width), edge=True)
        return cost._replace(size=cost.size or 4 * cost.parameters, latency=ms)

    in_channels, height, width = images
    divisor = STEMS[stem].states[-1][0]
    height, width = -(-height // divisor), -(-width // divisor)
    at: list[list[list[OperationCost]]] = []  # [position][edge][operation]
    wide = channels
    for position in range(space.cells):
        stride = 2 if position in space.reductions else 1
        wide *= stride
        below = (-(-height // stride), -(-width // stride))
        at.append(
            [
                [
                    counted(name, wide, stride, height, width)
                    if source < INPUT_STATES
                    else counted(name, wide, 1, *below)
                    for name in space.operations
                ]
                for source, _ in space.edges
            ]
        )
        height, width = below
    full = [Edge(space.operations[0], source, target) for source, target in space.edges]
    genotype = Genotype(
        tuple(
            CellGenotype(tuple(full), space.concat_of(searched), position in space.reductions)
            for position, searched in enumerate(space.sequence)
        )
    )
    network = build_network(genotype, channels=channels, in_channels=in_channels, classes=classes, stem=stem)
    whole = count(network, images)._replace(latency=0.0 if clock is None else clock.whole(network, images))
    edges = _total([row[0] for cell in at for row in cell])
    base = OperationCost(*(a - b for a, b in zip(whole, edges, strict=True)))  # type: ignore[arg-type]
    entries = tuple(
        tuple(
            tuple(
                _total([at[p][edge][o] for p, entry in enumerate(space.sequence) if entry == searched])
                for o in range(len(space.operations))
            )
            for edge in range(len(space.edges))
        )
        for searched in range(space.searched_cells)
    )
    return CostTable(space, base, entries)


class _Position(nn.Module):
    """Stands at a position of a choice, and records the shape of its input; the first candidate gives the output's."""

    shape: tuple[int, ...] = ()
    sides: tuple[int, ...] = ()

    def __init__(self, choice: int, outputs: int, stride: int, candidates: dict[str, nn.Module]) -> None:
        super().__init__()
        self.choice, self.outputs, self.stride = choice, outputs, stride
        self.candidates = {name: (module,) for name, module in candidates.items()}  # hidden: no parts of the network

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor in the shape of the output."""
        self.shape = tuple(x.shape[1:])
        if not self.sides and x.is_meta:  # blocks of other libraries may round down
            (first,) = next(iter(self.candidates.values()))
            self.sides = tuple(first.eval()(x).shape[2:])
        return x.new_empty(len(x), self.outputs, *(self.sides or (-(-side // self.stride) for side in x.shape[2:])))


def _choice_table(
    space: ChoiceSpace, images: tuple[int, int, int], channels: int, classes: int, stem: str, clock: Clock | None
) -> CostTable:
    skeleton = load_skeleton(space)
    positions: list[_Position] = []

    def slot(choice: int, inputs: int, outputs: int, stride: int = 1, *, removed: Removed = "input") -> nn.Module:
        names = space.choices[choice].candidates
        built = {name: skeleton.candidate(name, inputs, outputs, stride, affine=True) for name in names}
        positions.append(_Position(choice, outputs, stride, built))
        return positions[-1]

    blocks = skeleton.blocks(slot, channels=channels, in_channels=images[0], stem=stem)
    body, head = nn.Sequential(*(block.module for block in blocks)), nn.Linear(blocks[-1].outputs, classes)
    with torch.no_grad():
        body.eval()(torch.zeros(1, *images))  # records the shapes, uncounted
    fixed = count(body, images)
    known: dict[tuple[object, ...], OperationCost] = {}

    def counted(position: _Position, name: str) -> OperationCost:
        (module,) = position.candidates[name]
        key = (name, position.shape, position.outputs, position.stride, count_parameters(module))
        if key not in known:
            cost = count(module, position.shape)
            if clock is not None:
                cost = cost._replace(latency=clock.predict(module, position.shape))
            known[key] = cost
        return known[key]

    entries = tuple(
        (tuple(_total([counted(p, name) for p in positions if p.choice == i]) for name in choice.candidates),)
        for i, choice in enumerate(space.choices)
    )
    base = _total([fixed, count(head, (blocks[-1].outputs,))])
    if clock is not None:
        genotype = ChoiceGenotype.from_indices(space, [0] * len(space))
        network = build_network(genotype, channels=channels, in_channels=images[0], classes=classes, stem=stem)
        chosen = sum(row[0].latency for (row,) in entries)
        base = base._replace(latency=clock.whole(network, images) - chosen)
    return CostTable(space, base, entries)
