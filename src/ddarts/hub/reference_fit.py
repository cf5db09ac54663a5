"""Whether a state dict of the reference is one of a given network, and if not, what differs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ddarts.genotype.genotype import Genotype
from ddarts.hub.reference_names import reference_names, unbuilt_prefixes
from ddarts.nn.network import Network
from ddarts.nn.pruning import live_cells

#: What the names of a cell's tensors begin with; the group is its position.
CELL_NAME = re.compile(r"cells\.(\d{1,9})\.")
_BATCHES_SEEN = ".num_batches_tracked"


@dataclass(frozen=True, eq=False)
class Fit:
    """How a state dict and a network differ, in the names of the reference.

    Attributes:
        names: for each tensor of the network, the name in the state dict.
        missing: names that the state dict lacks.
        extra: names that the network has no place for.
        misshapen: (name, shape found, shape expected).
        left_out: names of parts that do not reach the output.
    """

    names: dict[str, str]
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    misshapen: tuple[tuple[str, list[int], list[int]], ...]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, state: dict[str, Tensor], network: Network, positional: bool) -> Fit:
        """Compare names and shapes. A counter of batches may be missing: PyTorch below 0.4.1 had none."""
        names = reference_names(network, positional=positional)
        expected = network.state_dict()
        unbuilt = unbuilt_prefixes(network, positional=positional)
        if network.auxiliary is None and not head_fits(network.genotype):
            unbuilt += ("auxiliary_head.",)
        others = state.keys() - set(names.values())
        left_out = {name for name in others if name.startswith(unbuilt)}
        return cls(
            names=names,
            missing=tuple(n for n in names.values() if n not in state and not n.endswith(_BATCHES_SEEN)),
            extra=tuple(name for name in state if name in others - left_out),
            misshapen=tuple(
                (theirs, _shape(state[theirs]), _shape(expected[ours]))
                for ours, theirs in names.items()
                if theirs in state and state[theirs].shape != expected[ours].shape
            ),
            left_out=tuple(left_out),
        )

    @property
    def is_exact(self) -> bool:
        """Whether nothing is missing, extra or misshapen."""
        return not (self.missing or self.extra or self.misshapen)

    def describe(self) -> str:
        """Tell the differences in part of a line: which cells, how many tensors, the first of them."""
        names = [*self.missing, *self.extra, *(name for name, _, _ in self.misshapen)]
        positions = sorted({int(match[1]) for match in map(CELL_NAME.match, names) if match})
        other = sorted({name.partition(".")[0][:40] for name in names if not CELL_NAME.match(name)})
        where = " and ".join(filter(None, (cells(positions), ", ".join(other[:5]))))
        told = []
        if self.missing:
            told.append(f"{tensors(self.missing)} missing ({first(self.missing)})")
        if self.extra:
            told.append(f"{tensors(self.extra)} without a place ({first(self.extra)})")
        if self.misshapen:
            shown = [f"{name} is {found}, expected {expected}" for name, found, expected in self.misshapen]
            told.append(f"{tensors(shown)} of another shape ({first(shown)})")
        return f"differences in {where}: {', '.join(told)}"


def head_fits(genotype: Genotype) -> bool:
    """Return whether the auxiliary head can stand where the reference has it, after the last reduction cell."""
    return not genotype.reductions or genotype.reductions[-1] in live_cells(genotype)


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)


def tensors(names: Sequence[str]) -> str:
    """Return ``1 tensor``, ``12 tensors``."""
    return f"{len(names)} tensor{'s' * (len(names) != 1)}"


def first(names: Sequence[str]) -> str:
    """Return the first two names, and how many more there are."""
    return ", ".join(name[:120] for name in names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def cells(positions: Sequence[int]) -> str:
    """Return ``cells 1, 3 and 5``, of many the first eight; nothing for none."""
    if not positions:
        return ""
    if len(positions) > 8:
        return f"cells {', '.join(map(str, positions[:8]))} and {len(positions) - 8} more"
    *most, last = map(str, positions)
    return f"cells {', '.join(most)} and {last}" if most else f"cell {last}"
