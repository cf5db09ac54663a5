"""Tensors of the published supernet in `ReferenceSupernet`, those in `Supernet`."""

from __future__ import annotations

import torch

from ddarts.hub.reference_names import OPERATION_PARTS
from ddarts.space.cell_space import SearchSpace
from ddarts.supernet.reference import ReferenceSupernet, counterpart
from ddarts.supernet.supernet import Supernet

_STEM = {"conv": "0", "norm": "1"}


def published_names(space: SearchSpace, names: list[str]) -> dict[str, str]:
    """For each name of a tensor in the published supernet, that in `ReferenceSupernet`."""
    return {name: _from_published(name, space) for name in names}


def _from_published(name: str, space: SearchSpace) -> str:
    module, _, leaf = name.rpartition(".")
    if module.startswith("stem."):
        return f"stem.{_ours(module[5:], _STEM)}.{leaf}"
    if module == "classifier":
        return name
    _, k, part, rest = module.split(".", 3)
    if part.startswith("preprocess"):
        parts = OPERATION_PARTS["simple_conv_1x1" if rest.startswith("op.") else "skip_connect"]
        return f"cells.{k}.preprocess_{part[-1]}.{_ours(rest, parts)}.{leaf}"
    row, _, column, rest = rest.split(".", 3)
    operation = space.operations[int(column)]
    parts = {"norm": "1"} if "pool" in operation else OPERATION_PARTS[operation]
    return f"cells.{k}.edges.{row}.operations.{column}.{_ours(rest, parts)}.{leaf}"


def _ours(theirs: str, parts: dict[str, str]) -> str:
    return next(ours for ours, other in parts.items() if other == theirs)


def load_plain(net: Supernet, plain: ReferenceSupernet) -> None:
    """Copy weights and running statistics of a plain supernet; every tensor of `net` but the alphas must be filled."""
    ours = {k: v for k, v in net.state_dict().items() if not k.startswith("alphas.")}
    filled: dict[str, set[int]] = {name: set() for name in ours}
    parts = dict.fromkeys(ours, 1)
    with torch.no_grad():
        for name, value in plain.state_dict().items():
            found = counterpart(name, net)
            if found is None or found[0].startswith("alphas."):
                continue
            target, edge, edges = found
            into = ours[target] if edges == 1 else ours[target].chunk(edges)[edge]
            into.copy_(value)
            filled[target].add(edge)
            parts[target] = edges
    for name, edges in filled.items():
        assert edges == set(range(parts[name])), name


def build_twins(
    space: SearchSpace, channels: int, *, in_channels: int = 3, classes: int = 10, dtype: torch.dtype = torch.float64
) -> tuple[Supernet, ReferenceSupernet]:
    """A fast and a plain supernet with the same weights and running statistics, both in training mode."""
    fast = Supernet(space, channels=channels, in_channels=in_channels, classes=classes)
    plain = ReferenceSupernet(space, channels=channels, in_channels=in_channels, classes=classes)
    load_plain(fast, plain)
    return fast.to(dtype), plain.to(dtype)
