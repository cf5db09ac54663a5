"""Batch norms folded into convolutions: a copy of a network for inference, with the same logits from fewer operations.

In evaluation mode a batch norm is :math:`y = s x + b` for each channel, with :math:`s = \\gamma / \\sqrt{\\sigma^2 +
\\epsilon}` and :math:`b = \\beta - s \\mu`. The convolution before it gets kernels multiplied by s, and b as its bias.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn


def folded(network: nn.Module) -> torch.fx.GraphModule:
    """Return a copy in evaluation mode whose batch norms are part of the convolutions before them.

    A batch norm after the concatenation of several convolutions is divided among them. One that follows anything else
    stays, and modules of other packages stay as they are.

    Args:
        network: maps images [B, C, H, W] to logits [B, classes] in evaluation mode. It is not changed.
    """
    with torch.no_grad():  # modules take their plain paths, which do not look at values or devices
        twin = copy.deepcopy(network).eval()
        found = torch.fx.GraphModule(twin, _Tracer().trace(twin))
        for node in list(found.graph.nodes):
            norm = _called(found, node)
            convolutions = _convolutions_before(found, node)
            # no subclass: one of another package may do more (timm's BatchNormAct2d has an activation)
            if type(norm) is not nn.BatchNorm2d or norm.running_var is None or not convolutions:
                continue
            sizes = [conv.out_channels for conv in convolutions.values()]
            shares = zip(*(part.split(sizes) for part in _scale_and_shift(norm)), strict=True)
            for (name, conv), (scale, shift) in zip(convolutions.items(), shares, strict=True):
                found.set_submodule(name, _scaled(conv, scale, shift))
            node.replace_all_uses_with(node.all_input_nodes[0])
            found.graph.erase_node(node)
        found.delete_all_unused_submodules()
        found.recompile()
    return found.requires_grad_(False)


class _Tracer(torch.fx.Tracer):
    """Traces the modules of this package; convolutions and modules of other packages are one node each."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module becomes one node."""
        plain_sequence = isinstance(m, nn.Sequential) and type(m).forward is nn.Sequential.forward
        return isinstance(m, nn.Conv2d) or not (_ours(m) or plain_sequence)


def _ours(module: nn.Module | None) -> bool:
    return type(module).__module__.partition(".")[0] == __name__.partition(".")[0]


def _called(graph: torch.fx.GraphModule, node: torch.fx.Node) -> nn.Module | None:
    return graph.get_submodule(str(node.target)) if node.op == "call_module" else None


def _convolutions_before(graph: torch.fx.GraphModule, node: torch.fx.Node) -> dict[str, nn.Conv2d]:
    """Return the convolutions, by name, whose results (concatenated, if several) only `node` reads; else nothing."""
    if len(node.all_input_nodes) != 1:
        return {}
    (before,) = node.all_input_nodes
    inputs = before.all_input_nodes if before.target is torch.cat else [before]
    modules = [(str(n.target), _called(graph, n)) for n in inputs]
    found = {n: m for n, m in modules if isinstance(m, nn.Conv2d) and (type(m) is nn.Conv2d or _ours(m))}
    return found if len(found) == len(inputs) and all(len(n.users) == 1 for n in (*inputs, before)) else {}


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return s and b [C] of a batch norm in evaluation mode, in float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale *= norm.weight
    shift = -scale * norm.running_mean
    return scale, shift + norm.bias if norm.affine else shift


def _scaled(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """Return a plain convolution that gives ``scale * conv(x) + shift``."""
    names = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    geometry: Any = {name: getattr(conv, name) for name in names}
    with torch.device("meta"):
        found = nn.Conv2d(conv.in_channels, conv.out_channels, **geometry)
    weight = conv.weight * scale[:, None, None, None]
    bias = shift if conv.bias is None else conv.bias * scale + shift
    found.load_state_dict({"weight": weight.to(conv.weight), "bias": bias.to(conv.weight)}, assign=True)
    return found
