"""Marginal contributions over time: which cells to ablate next, and what is known of each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ddarts.config.strategies import DDartsOptions
from ddarts.data.transfer import send
from ddarts.runtime.seeds import generator
from ddarts.searching.alpha_step import AblationPlan
from ddarts.searching.losses import ablation_losses
from ddarts.supernet.interface import Searchable

#: Share of the old value in the running mean of a cell's contribution.
_DECAY = 0.9


class Contributions:
    """M of every searched cell, as a running mean and as the mean of the epoch so far.

    The numbers stay on the device; reading them (`epoch_means`) makes it wait.
    """

    def __init__(self, cells: int, device: torch.device) -> None:
        self.cells = cells
        self.running = torch.zeros(cells, device=device)
        self.sums = torch.zeros(cells, device=device)
        self.seen = [0] * cells  # ablations of each cell since the start of the search
        self.counts = [0] * cells  # and in this epoch

    def plan(self, options: DDartsOptions, net: Searchable, seed: int, step: int) -> AblationPlan:
        """Choose the cells to ablate in `step` (from 0), and draw their replacement gates if the kind asks for some."""
        if options.ablation == "off":
            return AblationPlan()
        random = generator(seed, "search", "ablation", step)
        sample = min(options.ablation_sample or self.cells, self.cells)
        cells = torch.randperm(self.cells, generator=random)[:sample].sort().values.tolist()
        replacements: list[Tensor] = []
        if options.ablation_kind == "random":
            ablated = [net.alphas[cell] for cell in cells]
            drawn = torch.cat([torch.rand(alpha.shape, generator=random).flatten() for alpha in ablated])
            parts = send(drawn, ablated[0].device).split([alpha.numel() for alpha in ablated])
            replacements = [part.view(alpha.shape) for part, alpha in zip(parts, ablated, strict=True)]
        others = [i for i in range(self.cells) if i not in cells and self.seen[i]]
        return AblationPlan(
            use=options.ablation,
            kind=options.ablation_kind,
            cells=cells,
            replacements=replacements,
            weight=options.ablation_weight,
            floor=options.ablation_floor,
            known=torch.stack([self.running[i] for i in others]) if others else None,  # a list would make a GPU wait
        )

    def add(self, plan: AblationPlan, marginal: Tensor) -> None:
        """Take in M of the plan's cells."""
        for place, cell in enumerate(plan.cells if len(marginal) else ()):
            value = marginal[place]
            self.running[cell] = value if not self.seen[cell] else _DECAY * self.running[cell] + (1 - _DECAY) * value
            self.sums[cell] += value
            self.seen[cell] += 1
            self.counts[cell] += 1

    def epoch_means(self) -> list[float | None]:
        """Mean M of each cell in this epoch; None for a cell that was not ablated in it."""
        return [s / n if n else None for s, n in zip(self.sums.tolist(), self.counts, strict=True)]

    def epoch_losses(self, cross_entropy: float, floor: float) -> list[float | None]:
        """L_AB of each cell at the epoch's means of M and CE(S); None for a cell that was not ablated in it."""
        means = self.epoch_means()
        known = [m for m in means if m is not None]
        if not known:
            return means
        losses = iter(ablation_losses(torch.tensor(known), torch.tensor(cross_entropy), floor).tolist())
        return [None if m is None else next(losses) for m in means]

    def new_epoch(self) -> None:
        """Reset the epoch's sums; the running means stay."""
        self.sums.zero_()
        self.counts = [0] * self.cells

    def state_dict(self) -> dict[str, Any]:
        """Return all of it as plain data and tensors."""
        return {"running": self.running, "sums": self.sums, "seen": self.seen, "counts": self.counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError: it is of other cells, or broken.
        """
        lengths = {name: len(state[name]) for name in ("running", "sums", "seen", "counts")}
        if set(lengths.values()) != {self.cells}:
            raise ValueError(f"contributions of {lengths} cells, not {self.cells}")
        self.running.copy_(state["running"])
        self.sums.copy_(state["sums"])
        self.seen, self.counts = [int(n) for n in state["seen"]], [int(n) for n in state["counts"]]
