"""The state of a search, in one object that is saved and restored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddarts.config.schema import SearchOptions
from ddarts.errors import RunError
from ddarts.genotype.gates import AnyGates, gates_from_dict, gates_of
from ddarts.searching.contributions import Contributions
from ddarts.searching.strategy import Differentiable
from ddarts.space.cell_space import SearchSpace
from ddarts.supernet.interface import Searchable
from ddarts.training.meter import Meter
from ddarts.training.restore import checked_checkpoint, first_not_finite, load_optimizer

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class SearchState:
    """Supernet, optimisers, position and sums of a search.

    There is no random state: everything random follows from the seed and the position.

    Attributes:
        net: the supernet with its alphas.
        strategy: makes gates of the alphas; it has no state of its own.
        alpha_optimizer: Adam over the alphas.
        weight_optimizer: SGD over the weights.
        epoch: the epoch that is under way, from 1, epochs of pre-training first; one more than all at the end.
        step: steps of this epoch that are done.
        on_alphas: loss and accuracy on the alpha half in this epoch so far.
        on_weights: loss and accuracy on the weight half in this epoch so far.
        contributions: marginal contributions.
        distances: distance to the baseline after each epoch of the search (None where a cell would be empty).
        best: (epoch, accuracy on the alpha half, gates) of the best epoch that had not collapsed and
            from which a genotype could be derived, or None.
        stopped: why the search ended before its last epoch, or None.
        elapsed_s: seconds spent until the last checkpoint.
    """

    def __init__(self, net: Searchable, strategy: Differentiable[Any], options: SearchOptions, fabric: Fabric) -> None:
        self.net, self.strategy = net, strategy
        self.alpha_optimizer = torch.optim.Adam(
            net.architecture_parameters(), lr=options.alpha_lr, weight_decay=options.alpha_weight_decay
        )
        self.weight_optimizer = torch.optim.SGD(
            net.weight_parameters(),
            lr=options.lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
            # one call for hundreds of tensors; fp16's clipping forbids it on a GPU, and weights of candidates that were
            # not sampled yet have no momentum, which it does not take
            fused=fabric.device.type == "cpu" and isinstance(net.space, SearchSpace),
        )
        self.epoch = 1
        self.step = 0
        self.on_alphas = Meter()
        self.on_weights = Meter()
        self.contributions = Contributions(net.space.searched_cells, fabric.device)
        self.distances: list[float | None] = []
        self.best: tuple[int, float, AnyGates] | None = None
        self.stopped: str | None = None
        self.elapsed_s = 0.0
        self._fabric = fabric

    def gates(self) -> AnyGates:
        """The gates as they are now."""
        gates = self.strategy.gates([alpha.detach() for alpha in self.net.alphas])
        return gates_of(self.net.space, [g.double().tolist() for g in gates])

    def state_dict(self, **about: Any) -> dict[str, Any]:
        """Return plain data and tensors; `about` (what the search is of) is kept with it and checked on loading."""
        best = None if self.best is None else [self.best[0], self.best[1], self.best[2].to_dict()]
        return {
            "about": about,
            "net": self.net.state_dict(),
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),  # the loss scale of fp16
            "epoch": self.epoch,
            "step": self.step,
            "on_alphas": self.on_alphas.state_dict(),
            "on_weights": self.on_weights.state_dict(),
            "contributions": self.contributions.state_dict(),
            "distances": list(self.distances),
            "best": best,
            "stopped": self.stopped,
            "elapsed_s": self.elapsed_s,
        }

    def load_state_dict(self, state: dict[str, Any], where: str, **about: Any) -> None:
        """Load a checkpoint. Parameters keep their identity, so the optimisers move the same tensors.

        Args:
            state: what `state_dict` returned.
            where: the run, for messages.
            about: what the search is of; must be what it was.

        Raises:
            RunError: the checkpoint is of another search, or broken.
        """
        with checked_checkpoint(where, "search"):
            for name, value in about.items():
                if state["about"][name] != value:
                    raise RunError(
                        f"{where}: the checkpoint is of a search with {name.replace('_', ' ')} "
                        f"{state['about'][name]}, not {value}; give the run the data that it started with, "
                        "or start a new run"
                    )
            self.net.load_state_dict(state["net"])
            load_optimizer(self.alpha_optimizer, state["alpha_optimizer"])
            load_optimizer(self.weight_optimizer, state["weight_optimizer"])
            if state["precision"]:
                self._fabric.strategy.precision.load_state_dict(state["precision"])
            self.epoch, self.step = int(state["epoch"]), int(state["step"])
            self.on_alphas.load_state_dict(state["on_alphas"])
            self.on_weights.load_state_dict(state["on_weights"])
            self.contributions.load_state_dict(state["contributions"])
            self.distances = [None if d is None else float(d) for d in state["distances"]]
            best = state["best"]
            self.best = None if best is None else (int(best[0]), float(best[1]), gates_from_dict(best[2], where))
            self.stopped = None if state["stopped"] is None else str(state["stopped"])
            self.elapsed_s = float(state["elapsed_s"])

    def first_not_finite(self) -> str | None:
        """Return the name of an alpha, weight or buffer that is not finite, or None."""
        return first_not_finite(self.net.state_dict())
