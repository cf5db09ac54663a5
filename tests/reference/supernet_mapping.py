"""The plain supernet's tensors (published names) in the fast one, and gradients the other way."""

from __future__ import annotations

import torch
from torch import Tensor

from ddarts.space.cell_space import SearchSpace
from ddarts.supernet.supernet import Supernet
from tests.reference.plain_supernet import PlainSupernet

_SEPARABLE = {
    "op.1.weight": "depthwise_1.weight",
    "op.2.weight": "pointwise_1.weight",
    "op.3.": "norm_1.",
    "op.5.weight": "depthwise_2.weight",
    "op.6.weight": "pointwise_2.weight",
    "op.7.": "norm.",
}
_DILATED = {"op.1.weight": "depthwise.weight", "op.2.weight": "pointwise.weight", "op.3.": "norm."}
_SIMPLE = {"op.1.weight": "conv.weight", "op.2.": "norm."}
_NAMES = {
    "conv_3x1_1x3": {"op.1.weight": "row.weight", "op.2.weight": "column.weight", "op.3.": "norm."},
    "conv_7x1_1x7": {"1.weight": "row.weight", "2.weight": "column.weight", "3.": "norm."},
    "simple_conv_1x1": _SIMPLE,
    "simple_conv_3x3": _SIMPLE,
    "sep_conv_3x3": _SEPARABLE,
    "sep_conv_5x5": _SEPARABLE,
    "dil_conv_3x3": _DILATED,
    "dil_conv_5x5": _DILATED,
    "bottleneck_1x3x1": {
        "op.1.weight": "reduce.weight",
        "op.2.": "norm_1.",
        "op.3.weight": "conv.weight",
        "op.4.": "norm_2.",
        "op.5.weight": "expand.weight",
        "op.6.": "norm_3.",
        "op.8.weight": "project.weight",
        "op.9.": "norm.",
    },
    "skip_connect": {"conv_1.weight": "even.weight", "conv_2.weight": "odd.weight", "bn.": "norm."},
}
_PREPROCESS = {
    "op.1.weight": "conv.weight",
    "op.2.": "norm.",
    "conv_1.weight": "even.weight",
    "conv_2.weight": "odd.weight",
    "bn.": "norm.",
}
_STEM = {"stem.0.weight": "stem.conv.weight", "stem.1.": "stem.norm."}


def _renamed(name: str, table: dict[str, str]) -> str:
    for old, new in table.items():
        if name.startswith(old):
            return new + name[len(old) :]
    raise KeyError(name)


def fast_name(name: str, space: SearchSpace) -> tuple[str, int] | None:
    """The fast supernet's name for a plain tensor and the edge's place in its fan (0 where there is none)."""
    if name.startswith("stem."):
        return _renamed(name, _STEM), 0
    if name.startswith("classifier."):
        return name, 0
    _, k, part, rest = name.split(".", 3)
    if part.startswith("preprocess"):
        return f"cells.{k}.preprocess_{part[-1]}.{_renamed(rest, _PREPROCESS)}", 0
    edge, _, column, rest = rest.split(".", 3)
    source, target = space.edges[int(edge)]
    operation = space.operations[int(column)]
    place = target - max(2, source + 1)
    fan = f"cells.{k}.fans.{source}"
    if operation in ("max_pool_3x3", "avg_pool_3x3"):
        return (f"{fan}.pool_norms.{operation}.{rest[2:]}", 0) if place == 0 else None
    return f"{fan}.branches.{operation}.{_renamed(rest, _NAMES[operation])}", place


def load_plain(net: Supernet, state: dict[str, Tensor]) -> None:
    """Load a plain state dict into `net`; every weight of both sides must be used."""
    ours = {k: v for k, v in net.state_dict().items() if not k.startswith("alphas.")}
    filled: dict[str, int] = dict.fromkeys(ours, 0)
    with torch.no_grad():
        for name, value in state.items():
            if name.endswith("num_batches_tracked"):
                continue
            found = fast_name(name, net.space)
            if found is None:
                continue
            target, place = found
            into = ours[target]
            into[place * value.shape[0] : (place + 1) * value.shape[0]] = value
            filled[target] += value.shape[0] if value.ndim else 1
    for name, count in filled.items():
        assert count == (ours[name].shape[0] if ours[name].ndim else 0), name


def build_twins(
    space: SearchSpace, channels: int, *, in_channels: int = 3, classes: int = 10, dtype: torch.dtype = torch.float64
) -> tuple[Supernet, PlainSupernet]:
    """A fast and a plain supernet with the same weights and running statistics, both in training mode."""
    fast = Supernet(space, channels=channels, in_channels=in_channels, classes=classes)
    plain = PlainSupernet(space, channels, in_channels, classes)
    load_plain(fast, plain.state_dict())
    return fast.to(dtype), plain.to(dtype)


def plain_gradients(net: Supernet, plain_names: list[str]) -> dict[str, Tensor | None]:
    """The fast supernet's weight gradients under the plain names."""
    found: dict[str, Tensor | None] = {}
    parameters = dict(net.named_parameters())
    for name in plain_names:
        located = fast_name(name, net.space)
        if located is None or located[0] not in parameters:
            continue
        parameter, place = parameters[located[0]], located[1]
        rows = parameter.shape[0]
        if parameter.grad is None:
            found[name] = None
            continue
        if ".fans." in located[0]:
            source = int(located[0].split(".")[3])
            edges = net.space.nodes - max(0, source - 1)
            rows = parameter.shape[0] // edges
        found[name] = parameter.grad[place * rows : (place + 1) * rows]
    return found
