"""Training-free scores: what a network's structure says of its accuracy before a single step of training.

A score needs one batch (or none) and untrained weights, and costs milliseconds. None of them is an accuracy: only the
order in which a score puts networks of one space means something, and how much is to be measured (see
benchmarks/tables/scores.py), because published rank correlations differ from space to space.

Every function takes an untrained network and returns a number; larger is better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ddarts.errors import SettingsError, nearest


class _Activations(TorchDispatchMode):
    """Record for every ReLU that runs inside which of its results are positive, bool [B, units]."""

    def __init__(self) -> None:
        super().__init__()
        self.patterns: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.relu.default, torch.ops.aten.relu_.default):
            self.patterns.append((result > 0).flatten(1))
        return result


def _patterns(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Activation patterns of all ReLUs on images [B, C, H, W], batch norm normalising by the batch."""
    modes = {module: module.training for module in network.modules()}
    momenta = {m: m.momentum for m in network.modules() if isinstance(m, nn.BatchNorm2d)}
    network.train()
    for norm in momenta:
        norm.momentum = 0.0  # running statistics stay as they are
    try:
        with torch.no_grad(), _Activations() as recorded:
            network(x)
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    return recorded.patterns


def naswot(network: nn.Module, x: Tensor) -> float:
    r"""Return :math:`\log\det K`, K[a, b] the number of ReLU units that agree on images a and b.

    Source: Mellor et al., "Neural Architecture Search without Training", arXiv 2006.04647, section 3.

    Args:
        network: maps images to logits.
        x: images [B, C, H, W], all different.
    """
    kernel = torch.zeros(len(x), len(x), dtype=torch.float64)
    for pattern in _patterns(network, x):
        active = pattern.float()
        agree = active @ active.t() + (1 - active) @ (1 - active).t()
        kernel += agree.double().cpu()
    return float(torch.linalg.slogdet(kernel).logabsdet)


def swap(network: nn.Module, x: Tensor) -> float:
    """Return the number of distinct sample-wise activation patterns: for each ReLU unit, on which images it is active.

    Source: Peng et al., "SWAP-NAS: Sample-Wise Activation Patterns", arXiv 2403.04161, section 3.2.

    Args:
        network: maps images to logits.
        x: images [B, C, H, W], at most 62.

    Raises:
        SettingsError: there are more images than bits in a word.
    """
    if len(x) > 62:
        raise SettingsError(f"swap takes at most 62 images, not {len(x)}; give it a smaller batch")
    bits = 2 ** torch.arange(len(x), device=x.device)
    words = [(pattern.long() * bits[:, None]).sum(0) for pattern in _patterns(network, x)]
    return float(len(torch.unique(torch.cat(words)))) if words else 0.0


def synflow(network: nn.Module, x: Tensor) -> float:
    r"""Return :math:`\log \sum_\theta |\theta \cdot \partial R / \partial \theta|`, R the summed logits of ones.

    Every weight is replaced by its absolute value for the time of the call, and batch norms by the identity (their
    initial running statistics, in evaluation mode), so that R grows with the number and the width of the paths from
    input to output.

    Source: Tanaka et al., "Pruning neural networks without any data", arXiv 2006.05467, section 6; as a score of
    architectures Abdelfattah et al., arXiv 2101.08134.

    Args:
        network: maps images to logits; its batch norms have not seen data yet.
        x: images [B, C, H, W], of which only the size counts.
    """
    training = network.training
    stored = {name: p.detach().clone() for name, p in network.named_parameters()}
    network.eval().double()
    try:
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.abs_()
        parameters = list(network.parameters())
        ones = torch.ones(1, *x.shape[1:], dtype=torch.float64, device=x.device)
        gradients = torch.autograd.grad(network(ones).sum(), parameters, allow_unused=True)
        flows = [(p * g).abs().sum() for p, g in zip(parameters, gradients, strict=True) if g is not None]
        return float(torch.stack(flows).sum().log().detach())
    finally:
        network.float().train(training)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(stored[name])


#: The scores by name.
SCORES: dict[str, Callable[[nn.Module, Tensor], float]] = {"naswot": naswot, "swap": swap, "synflow": synflow}


def find_score(name: str) -> Callable[[nn.Module, Tensor], float]:
    """Return a training-free score by its name.

    Raises:
        SettingsError: there is no such score; the message names the nearest.
    """
    if name not in SCORES:
        raise SettingsError(f"unknown score {name!r}{nearest(name, SCORES)}; choose one of {', '.join(SCORES)}")
    return SCORES[name]


def rank_by_scores(names: Sequence[str], networks: Iterable[nn.Module], x: Tensor) -> list[int]:
    """Return the positions of untrained networks, best first: by the sum of their ranks in each of the scores.

    The rank of a network is the number of networks with a larger score; a score that is not finite is the smallest. Of
    equal sums the first network comes first.

    Args:
        names: of the scores.
        networks: built one after the other, if given as a generator.
        x: images [B, C, H, W] that all scores use.

    Raises:
        SettingsError: a score is unknown, or `x` has too many images for it.
    """
    scores = [find_score(name) for name in names]
    columns = zip(*([score(network, x) for score in scores] for network in networks), strict=True)
    sums: list[int] = []
    for column in columns:
        values = [value if math.isfinite(value) else -math.inf for value in column]
        ranks = [sum(other > value for other in values) for value in values]
        sums = [a + b for a, b in zip(sums or [0] * len(ranks), ranks, strict=True)]
    return sorted(range(len(sums)), key=sums.__getitem__)
