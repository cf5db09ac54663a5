"""What the parts of a network cost: its stem, each cell, each operation in the cells, its classifier.

Modules are timed by wrapping the method with which the network calls them, not by hooks: a cell calls most of its
operations by `after_relu`, which hooks of modules do not see.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ddarts.cost.counting import count_parameters
from ddarts.nn.choice_network import AnyNetwork, ChoiceNetwork
from ddarts.nn.network import Cell
from ddarts.nn.operations import Rectified

#: Names of what is neither a cell nor an operation.
STEM, INPUTS, CLASSIFIER, REST = "stem", "inputs of cells", "classifier", "rest"


@dataclass(frozen=True)
class Part:
    """A module that the network calls by `method`; `cell` marks a whole cell, within which other parts lie."""

    name: str
    module: nn.Module
    method: str
    cell: bool


@dataclass(frozen=True)
class PartCost:
    """What a part costs, or all parts of one name together.

    Attributes:
        name: "stem", "cell 3 (reduction)", the name of an operation, "inputs of cells" (the convolutions that bring
            the outputs of the two cells before to the width of the cell), "classifier", or "rest" (rectifying, adding,
            concatenating, pooling: what lies between the parts).
        count: parts of this name.
        parameters: trainable scalars.
        macs: multiply-accumulate operations for one image.
        ms: milliseconds in a forward pass, the fastest of those that were made.
    """

    name: str
    count: int
    parameters: int
    macs: int
    ms: float


def parts_of(network: AnyNetwork) -> list[Part]:
    """Return the parts of a network: whole cells, and everything within them."""
    if isinstance(network, ChoiceNetwork):
        blocks = [Part(name, block, "forward", True) for name, block in network.blocks.named_children()]
        candidates = [Part(name, module, "forward", False) for name, module in network.candidates()]
        return [*blocks, *candidates, Part(CLASSIFIER, network.classifier, "forward", False)]
    parts = [Part(STEM, network.stem, "forward", False)]
    for position, cell in network.cells.items():
        assert isinstance(cell, Cell)
        genotype = network.genotype.cells[int(position)]
        parts.append(Part(f"cell {position}{' (reduction)' * genotype.reduction}", cell, "forward", True))
        inputs = [module for module in (cell.preprocess0, cell.preprocess1) if module is not None]
        parts += [Part(INPUTS, module, "after_relu", False) for module in inputs]
        for edge, operation in cell.operations.items():
            method = "after_relu" if isinstance(operation, Rectified) else "forward"
            parts.append(Part(genotype.edges[int(edge)].operation, operation, method, False))
    return [*parts, Part(CLASSIFIER, network.classifier, "forward", False)]


def cost_by_cell(
    network: AnyNetwork, shape: Sequence[int], call: Callable[[], object], clock: Callable[[], float], passes: int = 10
) -> list[PartCost]:
    """Return what each cell costs, in the order of the network.

    Args:
        network: in evaluation mode.
        shape: [channels, height, width] of an image.
        call: runs one forward pass.
        clock: tells the time in seconds, when the device has finished.
        passes: forward passes, of which each part's fastest counts.
    """
    return _cost(network, shape, call, clock, passes, lambda part: part.cell or part.name in (STEM, CLASSIFIER))


def cost_by_operation(
    network: AnyNetwork, shape: Sequence[int], call: Callable[[], object], clock: Callable[[], float], passes: int = 10
) -> list[PartCost]:
    """Return what all operations of one name cost together, the slowest first; arguments as for `cost_by_cell`."""
    rows = _cost(network, shape, call, clock, passes, lambda part: not part.cell)
    return sorted(rows[:-1], key=lambda row: -row.ms) + rows[-1:]


def _cost(
    network: AnyNetwork,
    shape: Sequence[int],
    call: Callable[[], object],
    clock: Callable[[], float],
    passes: int,
    wanted: Callable[[Part], bool],
) -> list[PartCost]:
    macs, all_macs = _macs(network, shape, wanted)
    parts = [part for part in parts_of(network) if wanted(part)]
    samples: list[list[float]] = []
    call()
    for _ in range(passes):
        times: list[float] = []
        with _measured(parts, clock, times):
            start = clock()
            call()
            whole = clock() - start
        samples.append([*times, whole - sum(times)])
    # The fastest of each part: what other processes take from some of the passes does not show.
    *times, rest_time = (1000 * min(column) for column in zip(*samples, strict=True))
    rows: dict[str, PartCost] = {}
    for part, mac, ms in zip(parts, macs, times, strict=True):
        old = rows.get(part.name, PartCost(part.name, 0, 0, 0, 0.0))
        parameters = old.parameters + count_parameters(part.module)
        rows[part.name] = PartCost(part.name, old.count + 1, parameters, old.macs + int(mac), old.ms + ms)
    found = list(rows.values())
    rest = PartCost(
        REST,
        1,
        count_parameters(network) - sum(row.parameters for row in found),
        all_macs - sum(row.macs for row in found),
        max(rest_time, 0.0),
    )
    return [*found, rest]


def _macs(network: AnyNetwork, shape: Sequence[int], wanted: Callable[[Part], bool]) -> tuple[list[float], int]:
    """Return the multiply-adds of each part, and of the network, counted on the meta device for one image."""
    twin = copy.deepcopy(network).to("meta").eval()
    parts = [part for part in parts_of(twin) if wanted(part)]
    found: list[float] = []
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        with _measured(parts, counter.get_total_flops, found):
            twin(torch.empty(1, *shape, device="meta"))
        total = counter.get_total_flops()
    return [value // 2 for value in found], total // 2


@contextlib.contextmanager
def _measured(parts: Sequence[Part], read: Callable[[], float], into: list[float]) -> Iterator[None]:
    """Put the difference that each part makes to a reading (of a clock, of a counter) into `into`, in their order."""
    into[:] = [0.0] * len(parts)

    def around(index: int, method: Callable[..., Any], *inputs: Any) -> Any:
        start = read()
        result = method(*inputs)
        into[index] += read() - start
        return result

    try:
        for i, part in enumerate(parts):
            setattr(part.module, part.method, partial(around, i, getattr(part.module, part.method)))
        yield
    finally:
        for part in parts:
            part.module.__dict__.pop(part.method, None)  # the method of the class is seen again
