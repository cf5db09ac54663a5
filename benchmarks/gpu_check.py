"""The fast supernet against the plain twin on a device: outputs, alpha gradients and weight gradients."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from measuring import ROOT
from steps import Sizes
from torch import Tensor
from torch.nn import functional as F

from ddarts.config.strategies import DDartsOptions
from ddarts.searching.alpha_step import AblationPlan, alpha_gradients
from ddarts.searching.losses import ablation_scale
from ddarts.searching.strategies.d_darts import DDarts
from ddarts.space.cell_space import build_space
from ddarts.supernet.backends.inductor import compile_edges
from ddarts.supernet.reference import ReferenceSupernet
from ddarts.supernet.supernet import Supernet
from ddarts.testing import reference_gradients

sys.path.insert(0, str(ROOT))
from tests.reference.supernet_mapping import build_twins

_ZERO_ONE_WEIGHT, _ABLATION_WEIGHT, _FLOOR = 9.0, 0.7, 0.1
#: Largest relative error in float64; and in float32, how many times the twin's own error (against float64).
_TOLERANCE, _TIMES = 1e-9, 10.0

Found = dict[str, list[Tensor]]


def check_twins(sizes: Sizes, device: str, *, compiled: bool = False) -> Iterator[dict[str, Any]]:
    """Yield figures: relative errors of every kind of tensor, and whether they are small enough.

    With `compiled` the fast one's grouped edges are compiled, by the package's `--backend inductor`.

    In float64 the two must agree. In float32 each is compared with the twin in float64: the fast one may be off by
    about as much as the plain one is. TF32 is off here (PyTorch has it on for convolutions).
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    space = build_space(cells=sizes.cells, nodes=sizes.nodes)
    fast, plain = build_twins(space, sizes.channels, dtype=torch.float64)
    fast.to(device).to(memory_format=torch.channels_last)
    plain.to(device)
    if compiled:
        compile_edges(fast)
    x = torch.randn(sizes.batch, 3, sizes.resolution, sizes.resolution, dtype=torch.float64, device=device)
    y = torch.randint(0, 10, (sizes.batch,), device=device)
    with torch.no_grad():
        for alpha in fast.alphas:
            alpha.copy_(torch.randn(alpha.shape))
    exact = _of_plain(fast, plain, x, y)
    double = _of_fast(fast, plain, x, y)
    errors = {name: _error(double[name], exact[name]) for name in exact}
    yield {"float64": errors | {"agrees": max(errors.values()) <= _TOLERANCE}}
    fast.float()
    plain.float()
    x = x.float()
    single, theirs = _of_fast(fast, plain, x, y), _of_plain(fast, plain, x, y)
    ours = {name: _error(single[name], exact[name]) for name in exact}
    other = {name: _error(theirs[name], exact[name]) for name in exact}
    agrees = all(ours[name] <= _TIMES * max(other[name], 1e-6) for name in exact)
    yield {"float32": {"package": ours, "plain": other, "agrees": agrees}}


def _error(found: list[Tensor], exact: list[Tensor]) -> float:
    """Norm of the difference over the norm, of all tensors taken together."""
    pairs = list(zip(found, exact, strict=True))
    apart = sum(((a.double() - b).square().sum() for a, b in pairs), torch.zeros(()))
    size = sum((b.square().sum() for _, b in pairs), torch.zeros(()))
    return float((apart / size).sqrt())


def _of_fast(fast: Supernet, plain: ReferenceSupernet, x: Tensor, y: Tensor) -> Found:
    cells = list(range(fast.space.searched_cells))
    plan = AblationPlan("gradient", "zero", cells, (), _ABLATION_WEIGHT, _FLOOR)
    strategy = DDarts(DDartsOptions(zero_one_weight=_ZERO_ONE_WEIGHT))
    gates = strategy.gates(fast.architecture_parameters())
    terms = partial(strategy.regulariser, (), gates, 1.0)
    found = alpha_gradients(fast, x, y, gates, regulariser=terms, plan=plan)
    fast.zero_grad()
    logits = fast(x, [gate.detach() for gate in gates])
    F.cross_entropy(logits, y).backward()
    gradients = reference_gradients(fast, [name for name, _ in plain.named_parameters()])
    return {
        "logits": [logits.detach()],
        "marginal contributions": [found.marginal],
        "alpha gradients": found.gradients,
        "weight gradients": [g.clone() for g in gradients.values() if g is not None],
    }


def _of_plain(fast: Supernet, plain: ReferenceSupernet, x: Tensor, y: Tensor) -> Found:
    """The loss written down as it is in the specification, every ablated pass a whole one."""
    alphas = [alpha.detach().clone().requires_grad_() for alpha in fast.alphas]
    gates = [torch.sigmoid(alpha) for alpha in alphas]
    whole = F.cross_entropy(plain(x, gates), y)
    losses = torch.stack([F.cross_entropy(plain.ablated(x, gates, j), y) for j in range(len(gates))])
    marginal = (whole - losses).detach()
    scale = _ABLATION_WEIGHT / (len(gates) * ablation_scale(marginal, whole, _FLOOR))
    zero_one = -torch.stack([(gate - 0.5).square().mean() for gate in gates]).sum()
    gradients = torch.autograd.grad(whole + _ZERO_ONE_WEIGHT * zero_one + scale * losses.sum(), alphas)
    plain.zero_grad()
    logits = plain(x, [gate.detach() for gate in gates])
    F.cross_entropy(logits, y).backward()
    names = reference_gradients(fast, [name for name, _ in plain.named_parameters()])
    weights = {name: p.grad for name, p in plain.named_parameters()}
    found = [weights[name] for name in names]
    return {
        "logits": [logits.detach()],
        "marginal contributions": [marginal],
        "alpha gradients": list(gradients),
        "weight gradients": [g.detach().clone() for g in found if g is not None],
    }
