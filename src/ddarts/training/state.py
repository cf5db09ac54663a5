"""The state of a training, in one object that is saved and restored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ddarts.errors import RunError
from ddarts.nn.choice_network import AnyNetwork
from ddarts.training.ema import WeightAverage
from ddarts.training.meter import Meter
from ddarts.training.restore import checked_checkpoint, first_not_finite, load_optimizer

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class TrainingState:
    """Weights, optimiser, average, position and sums of a training.

    There is no random state: everything random follows from the seed and the position.

    Attributes:
        network: the network in training.
        optimizer: of its weights.
        average: moving average of the weights, or None.
        epoch: the epoch that is under way, from 1; epochs + 1 at the end.
        step: steps of this epoch that are done.
        meter: loss and accuracy of this epoch so far.
        elapsed_s: seconds spent until the last checkpoint.
        val_top1: accuracy at the last evaluation on the validation part, 0 to 1, or None.
    """

    def __init__(
        self, network: AnyNetwork, optimizer: torch.optim.Optimizer, average: WeightAverage | None, fabric: Fabric
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.average = average
        self.epoch = 1
        self.step = 0
        self.meter = Meter()
        self.elapsed_s = 0.0
        self.val_top1: float | None = None
        self._fabric = fabric

    @property
    def best(self) -> AnyNetwork:
        """The network to evaluate and to keep: the average if there is one."""
        return self.network if self.average is None else self.average.network

    def state_dict(self, **about: Any) -> dict[str, Any]:
        """Return plain data and tensors; `about` (what the training is of) is kept with it and checked on loading."""
        return {
            "about": about,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.network.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),  # the loss scale of fp16
            "epoch": self.epoch,
            "step": self.step,
            "meter": self.meter.state_dict(),
            "elapsed_s": self.elapsed_s,
            "val_top1": self.val_top1,
        }

    def load_state_dict(self, state: dict[str, Any], where: str, **about: Any) -> None:
        """Restore a checkpoint.

        Args:
            state: what `state_dict` returned.
            where: the run, for messages.
            about: what the training is of; must be what it was.

        Raises:
            RunError: the checkpoint is of another training, or broken.
        """
        with checked_checkpoint(where, "training"):
            for name, value in about.items():
                if state["about"][name] != value:
                    raise RunError(
                        f"{where}: the checkpoint is of a training with other {name.replace('_', ' ')}; "
                        "give the run the data and genotype that it started with, or start a new run"
                    )
            self.network.load_state_dict(state["network"])
            load_optimizer(self.optimizer, state["optimizer"])
            if self.average is not None:
                self.average.network.load_state_dict(state["average"])
            if state["precision"]:
                self._fabric.strategy.precision.load_state_dict(state["precision"])
            self.epoch, self.step = int(state["epoch"]), int(state["step"])
            self.meter.load_state_dict(state["meter"])
            self.elapsed_s = float(state["elapsed_s"])
            self.val_top1 = None if state["val_top1"] is None else float(state["val_top1"])

    def first_not_finite(self) -> str | None:
        """Return the name of a weight or buffer that is not finite, or None."""
        return first_not_finite(self.network.state_dict())
