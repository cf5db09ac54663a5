"""What the loops of search and training share: position, checkpoints, and how they end early."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ddarts.config.schema import SharedSettings
from ddarts.data import ImageData, class_weights
from ddarts.errors import RunError, Stopped
from ddarts.nn.tasks import Objective
from ddarts.runs import checkpoints
from ddarts.runs.folder import RunFolder
from ddarts.runtime.distributed import Ranks
from ddarts.runtime.progress import counted
from ddarts.runtime.signals import StopRequest
from ddarts.training.divergence import divergence


class ResumableLoop:
    """Base of a loop over epochs and steps that can be stopped and resumed at any step.

    Attributes:
        stage: name of the stage, and of its checkpoints.
        state: what is saved; has `epoch` (from 1), `step` (of the epoch, done), `elapsed_s`, `state_dict`,
            `load_state_dict` and `first_not_finite`.
        settings: of the stage.
        options: the group of them for the loop, `SearchOptions` or `TrainOptions`.
        about: what the loop is of; a checkpoint of another one is refused.
        steps: steps of an epoch.
        last_epoch: number of the last epoch.
        started: when the loop would have started without interruptions, by `time.perf_counter`.
    """

    stage: str
    state: Any
    settings: Any
    options: Any
    run: RunFolder
    ranks: Ranks
    about: dict[str, Any]
    steps: int
    last_epoch: int
    started: float

    @property
    def steps_done(self) -> int:
        """Steps done since the start."""
        return (self.state.epoch - 1) * self.steps + self.state.step

    def restore(self) -> bool:
        """Load the newest checkpoint, if there is one, and return whether there was.

        Raises:
            RunError: it is of something else, or lies outside of the loop.
        """
        checkpoint = checkpoints.shared(self.run.load_checkpoint(self.stage), self.ranks)
        if checkpoint is not None:
            self.state.load_state_dict(checkpoint, str(self.run.path), **self.about)
            epoch, step = self.state.epoch, self.state.step
            if not (1 <= epoch <= self.last_epoch + 1 and 0 <= step <= self.steps):
                raise RunError(
                    f"{self.run.path}: the checkpoint is at epoch {epoch}, step {step}, past the end of "
                    f"{counted(self.last_epoch, 'epoch')} of {counted(self.steps, 'step')}; start a new run"
                )
        self.started = time.perf_counter() - self.state.elapsed_s
        return checkpoint is not None

    def stop_request(self) -> StopRequest:
        """Return the context in which signals are requests to stop."""
        return StopRequest(5.0 if self.ranks.size > 1 else 0.0)

    def after_step(self, stop: StopRequest, looked: bool) -> None:
        """Write a checkpoint if it is time for one, or if a process was asked to stop.

        Args:
            stop: the request.
            looked: whether the losses were read after this step, as in all processes.

        Raises:
            Stopped: after the checkpoint.
        """
        done = self.steps_done
        if self.run.hooks.on_step is not None and self.run.writes:
            self.run.hooks.on_step({"stage": self.stage, "epoch": self.state.epoch, "step": done})
        # several processes must agree, which takes a message: only when they look up anyway
        if stop.requested if self.ranks.size == 1 else looked and self.ranks.any(stop.requested):
            self.save_checkpoint()
            self.ranks.wait()  # until it is written: a process that ends may have the others ended, too
            raise Stopped(
                f"stopped at epoch {self.state.epoch}, step {done}; "
                f"resume with: ddarts {self.stage} --resume {self.run.path}"
            )
        if done % self.options.checkpoint_steps == 0:
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """Write a checkpoint, if there is something worth keeping: one that is not finite never replaces a good one."""
        self.read_losses()
        self.check_finite()
        self.state.elapsed_s = time.perf_counter() - self.started
        if self.run.writes:
            self.run.save_checkpoint(self.stage, self.state.state_dict(**self.about))

    def check_finite(self) -> None:
        """Raise `DivergedError` if a tensor of the state is not finite."""
        broken = self.state.first_not_finite()
        if broken is not None:
            self.diverged(f"{broken} is not finite", self.steps_done)

    def read_losses(self) -> None:
        """Read the losses since the last time; raise `DivergedError` if one is not finite."""
        raise NotImplementedError

    def diverged(self, what: str, step: int) -> None:
        """Raise `DivergedError` for `step` (from 1, since the start)."""
        raise divergence(
            what,
            step,
            self.steps,
            stage=self.stage,
            options=self.options,
            precision=self.settings.precision,
            run=self.run,
        )


def objective_of(
    settings: SharedSettings, images: ImageData, labels: Tensor, device: torch.device, *, smoothing: float = 0.0
) -> Objective:
    """Return the loss of a search or a training on images with these labels, with class weights if they are chosen."""
    weights = class_weights(labels, len(images.classes)).to(device) if settings.balance == "weights" else None
    return Objective(images.task, weights, smoothing)


def reads_every(device: torch.device, gpu_steps: int = 20) -> int:
    """Return how many steps lie between two readings of the losses; each makes a GPU wait."""
    return 1 if device.type == "cpu" else gpu_steps
