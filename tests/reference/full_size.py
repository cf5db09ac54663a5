"""Parameters of a network that the reference builds in full, counted by formula, dead parts and all.

The reference gives every cell both preprocessings and all its operations, whether or not their results reach the
output, and concatenates every node that has an edge. `Network` leaves out what cannot reach the output.
"""

from __future__ import annotations

from collections.abc import Sequence

Edges = Sequence[tuple[str, int, int]]  # (operation, to, from)


def operation_parameters(name: str, width: int, stride: int) -> int:
    norm, square = 2 * width, width * width
    if name.endswith("pool_3x3"):
        return 0
    if name == "skip_connect":
        return 0 if stride == 1 else square + norm
    if name == "bottleneck_1x3x1":
        return (square + norm) + (9 * square + norm) + (4 * square + 4 * norm) + (4 * square + norm)
    side = int(name[-1])
    if name.startswith("sep_conv"):
        return 2 * (width * side * side + square + norm)
    if name.startswith("dil_conv"):
        return width * side * side + square + norm
    if name.startswith("simple_conv"):
        return square * side * side + norm
    return 2 * square * {"conv_3x1_1x3": 3, "conv_7x1_1x7": 7}[name] + norm


def full_parameters(cells: Sequence[Edges], reductions: Sequence[int], channels: int, classes: int = 10) -> int:
    """Return the parameters of a CIFAR network without auxiliary head."""
    width, before, last = channels, 3 * channels, 3 * channels
    total = 27 * last + 2 * last
    for position, edges in enumerate(cells):
        reduction = position in reductions
        width *= 2 if reduction else 1
        total += (before + last) * width + 4 * width
        total += sum(operation_parameters(op, width, 2 if reduction and source < 2 else 1) for op, _, source in edges)
        before, last = last, len({target for _, target, _ in edges}) * width
    return total + last * classes + classes
