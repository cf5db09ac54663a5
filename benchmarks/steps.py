"""One search step, ready to be called: the package's in several variants, and the plain twin's."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from measuring import peak_gb, stolen_s

#: use of the ablations - kind - cells ablated a step (all if not given); plain-kept: the plain twin with the package's
#: setting of the allocator (ddarts.runtime.allocator), which every variant of the package has; -pytorch: without the
#: package's kernels (ddarts.kernels)
VARIANTS = (
    "plain",
    "plain-kept",
    "monitor-random",
    "monitor-random-pytorch",
    "monitor-zero",
    "gradient-zero",
    "gradient-zero-2",
    "off",
    "gradient-random",
)

PYTORCH = "-pytorch"

#: Steps before the clock starts, of every variant: the first builds kernels, and both get memory from the kernel, page
#: by page. A search takes thousands, so that is not what they cost.
UNMEASURED = 2


@dataclass(frozen=True)
class Sizes:
    """Sizes of a search: those of the yardstick if not given."""

    cells: int = 8
    nodes: int = 4
    channels: int = 16
    batch: int = 32
    resolution: int = 32

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser, **defaults: int) -> None:
        for name, value in (asdict(cls()) | defaults).items():
            parser.add_argument(f"--{name}", type=int, default=value)

    @classmethod
    def of(cls, args: argparse.Namespace) -> Sizes:
        return cls(**{name: getattr(args, name) for name in asdict(cls())})


@dataclass(frozen=True)
class Steps:
    """The two halves of a search step, and the network that they move.

    The gradients are the halves without what optimisers do; the plain twin does not have them apart.
    """

    alpha: Callable[[], Any]
    weight: Callable[[], Any]
    network: Any
    alpha_gradients: Callable[[], Any] | None = None
    weight_gradients: Callable[[], Any] | None = None


def build_steps(
    variant: str, sizes: Sizes, *, device: str = "cpu", precision: str = "float32", compiled: bool = False
) -> Steps:
    """Build supernet, optimisers and one batch of noise for a variant; `compiled` is `--backend inductor`."""
    import torch

    torch.manual_seed(0)
    x = torch.randn(sizes.batch, 3, sizes.resolution, sizes.resolution).to(device)
    y = torch.randint(0, 10, (sizes.batch,)).to(device)
    build = _plain if variant.startswith("plain") else _fast
    steps = build(variant, sizes, x, y, precision)
    if compiled:
        from ddarts.supernet.backends.inductor import compile_edges

        compile_edges(steps.network)
    return steps


def _plain(variant: str, sizes: Sizes, x: Any, y: Any, precision: str) -> Steps:
    import torch
    from torch.nn import functional as F

    from ddarts.space.cell_space import build_space
    from ddarts.supernet.reference import ReferenceSupernet, zero_one_loss

    if precision != "float32":
        raise ValueError("the reference supernet is measured in float32 only")
    net = ReferenceSupernet(build_space(cells=sizes.cells, nodes=sizes.nodes), channels=sizes.channels).to(x.device)
    alphas = torch.optim.Adam(net.architecture_parameters(), lr=3e-3, weight_decay=1e-3)
    weights = torch.optim.SGD(net.weight_parameters(), lr=0.005, momentum=0.9, weight_decay=3e-4)

    def alpha_step() -> None:
        """Do as the published code: full passes with a graph, a backward pass a cell, gradients of weights too."""
        gates = [torch.sigmoid(alpha) for alpha in net.alphas]
        whole = F.cross_entropy(net.trunk(x, gates, track=True).logits, y)
        for i, gate in enumerate(gates):
            drawn = [torch.rand_like(gate) if j == i else g for j, g in enumerate(gates)]
            F.cross_entropy(net.trunk(x, drawn, track=True).logits, y)
        alphas.zero_grad()
        for i, alpha in enumerate(net.alphas):
            loss = whole + 9.0 * zero_one_loss(torch.sigmoid(alpha))
            loss.backward(retain_graph=i < len(gates) - 1)
        alphas.step()

    def weight_step() -> None:
        weights.zero_grad()
        F.cross_entropy(net(x, [torch.sigmoid(alpha.detach()) for alpha in net.alphas]), y).backward()
        torch.nn.utils.clip_grad_norm_(net.weight_parameters(), 5.0)
        weights.step()

    return Steps(alpha_step, weight_step, net)


def _fast(variant: str, sizes: Sizes, x: Any, y: Any, precision: str) -> Steps:
    import torch
    from torch.nn import functional as F

    from ddarts.config.strategies import DDartsOptions
    from ddarts.searching.alpha_step import AblationPlan, alpha_gradients
    from ddarts.searching.strategies.d_darts import DDarts
    from ddarts.space.cell_space import build_space
    from ddarts.supernet.supernet import Supernet

    device, strategy = x.device, DDarts(DDartsOptions())
    space = build_space(cells=sizes.cells, nodes=sizes.nodes)
    net = Supernet(space, channels=sizes.channels).to(device).to(memory_format=torch.channels_last)
    weights = torch.optim.SGD(
        net.weight_parameters(), lr=0.005, momentum=0.9, weight_decay=3e-4, fused=True if device.type == "cpu" else None
    )
    alphas = torch.optim.Adam(net.architecture_parameters(), lr=3e-3, weight_decay=1e-3)
    use, _, rest = variant.removesuffix(PYTORCH).partition("-")
    kind, _, sample = rest.partition("-")
    cells = list(range(sizes.cells))
    if sample:  # evenly spread: the mean cost of a draw
        count = min(int(sample), sizes.cells)
        cells = [(place + 1) * sizes.cells // (count + 1) for place in range(count)]
    shape = (len(space.edges), len(space.operations))

    def autocast() -> torch.autocast:
        kind_of_device = "cpu" if device.type == "meta" else device.type
        return torch.autocast(kind_of_device, torch.bfloat16, enabled=precision == "bf16")

    def find_alpha_gradients() -> list[torch.Tensor]:
        plan, gates = AblationPlan(), strategy.gates(net.architecture_parameters())
        if use != "off":
            drawn = [torch.rand(shape, device=device) for _ in cells] if kind == "random" else []
            plan = AblationPlan(use, kind, cells, drawn, 0.7)  # type: ignore[arg-type]
        return alpha_gradients(
            net, x, y, gates, regulariser=lambda: strategy.regulariser((), gates, 1.0), plan=plan, autocast=autocast
        ).gradients

    def alpha_step() -> None:
        for alpha, gradient in zip(net.architecture_parameters(), find_alpha_gradients(), strict=True):
            alpha.grad = gradient
        alphas.step()
        alphas.zero_grad()

    def find_weight_gradients() -> None:
        weights.zero_grad()
        with autocast():
            logits = net(x, strategy.gates([alpha.detach() for alpha in net.alphas]))
        F.cross_entropy(logits.float(), y).backward()

    def weight_step() -> None:
        find_weight_gradients()
        torch.nn.utils.clip_grad_norm_(net.weight_parameters(), 5.0, foreach=None if device.type == "meta" else True)
        weights.step()

    return Steps(alpha_step, weight_step, net, find_alpha_gradients, find_weight_gradients)


def measure_step(variant: str, sizes: Sizes, *, threads: int, precision: str, steps: int = 1) -> dict[str, float]:
    """Seconds of both halves of a step on the CPU (mean of `steps`, after `UNMEASURED`), memory, and stolen seconds."""
    import torch

    from ddarts.kernels.library import SWITCH
    from ddarts.runtime.allocator import keep_memory

    torch.set_num_threads(threads)
    if variant != "plain":  # as the commands do
        keep_memory()
    if variant.endswith(PYTORCH):
        os.environ[SWITCH] = "off"  # before the first step looks for them
    built = build_steps(variant, sizes, precision=precision)
    for _ in range(UNMEASURED):
        built.alpha()
        built.weight()
    alpha_s = weight_s = 0.0
    stolen = stolen_s()
    for _ in range(steps):
        started = time.perf_counter()
        built.alpha()
        middle = time.perf_counter()
        built.weight()
        alpha_s += (middle - started) / steps
        weight_s += (time.perf_counter() - middle) / steps
    times = {"alpha_s": alpha_s, "weight_s": weight_s, "step_s": alpha_s + weight_s}
    return times | {"peak_gb": peak_gb(), "stolen_s": (stolen_s() - stolen) / steps}
