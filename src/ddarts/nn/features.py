"""The feature maps of a network at each of its resolutions: what detection and segmentation heads read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

from ddarts.errors import SettingsError
from ddarts.genotype.genotype import Genotype


class FeatureInfo(TypedDict):
    """One feature map, in the words that timm uses.

    Attributes:
        num_chs: channels.
        reduction: the side of the images over the side of the map (which is rounded up).
        module: name of the module whose output it is.
    """

    num_chs: int
    reduction: int
    module: str


@dataclass(frozen=True)
class Level:
    """The last map of one resolution: the state just before a reduction, or the end of the network.

    Attributes:
        position: the cell that makes it; -2 and -1 are the two states of the stem.
        info: its channels, reduction and module.
    """

    position: int
    info: FeatureInfo


def find_levels(
    genotype: Genotype,
    live: Iterable[int],
    outputs: Sequence[int],
    stem: Sequence[tuple[int, str]],
) -> tuple[Level, ...]:
    """Return the levels of a network, finest first.

    A resolution at which no cell works ends with the stem's state, if it is the stem's, or is left out.

    Args:
        genotype: the architecture.
        live: positions that are computed: cells, and -2 and -1 for the states of the stem.
        outputs: channels of the two states of the stem and of every cell.
        stem: (reduction, module) of the two states of the stem.
    """
    reductions = [reduction for reduction, _ in stem]
    for cell in genotype.cells:
        reductions.append(reductions[-1] * (2 if cell.reduction else 1))
    last: dict[int, Level] = {}
    for position in sorted(live):
        module = stem[position + 2][1] if position < 0 else f"cells.{position}"
        reduction = reductions[position + 2]
        last[reduction] = Level(position, {"num_chs": outputs[position + 2], "reduction": reduction, "module": module})
    return tuple(last[reduction] for reduction in sorted(last))


def choose_levels(levels: Sequence[Level], chosen: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the indices of the levels that a caller means, all at least 0.

    Args:
        levels: all levels of a network.
        chosen: None for all, n for the last n, or indices; negative ones count from the end.

    Raises:
        SettingsError: there is no such level.
    """
    count = len(levels)
    if chosen is None:
        return tuple(range(count))
    indices = tuple(range(count - chosen, count)) if isinstance(chosen, int) else tuple(chosen)
    least = 0 if isinstance(chosen, int) else -count
    if not indices or any(not least <= index < count for index in indices):
        reductions = ", ".join(str(level.info["reduction"]) for level in levels)
        wanted = chosen if isinstance(chosen, int) else list(chosen)
        raise SettingsError(f"levels {wanted}: the network has {count}, 0 to {count - 1}, of reductions {reductions}")
    return tuple(index % count for index in indices)
