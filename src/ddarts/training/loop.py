"""The final training of a discrete network (paper, section 4; specification, section 10).

The weights kept are those of the last epoch (or their moving average): no epoch is picked by its accuracy, and test
images never come near the training.

Several processes share every batch, and PyTorch's DistributedDataParallel averages their gradients.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F

from ddarts.config.schema import TrainOptions, TrainSettings
from ddarts.cost.counting import count_macs, count_parameters
from ddarts.data import Augment, Batches, ImageData, split
from ddarts.data.augment import mix
from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype
from ddarts.hub.saved import save_model
from ddarts.nn.batch_norm import synchronise
from ddarts.nn.choice_network import AnyNetwork, build_network
from ddarts.nn.resolution import check_resolution, choose_stem
from ddarts.runs.folder import RunFolder
from ddarts.runtime.distributed import current
from ddarts.runtime.engine import launch
from ddarts.runtime.progress import Progress
from ddarts.runtime.seeds import derive_seed, seed_everything, streams_restored
from ddarts.runtime.signals import StopRequest
from ddarts.training.ema import WeightAverage
from ddarts.training.evaluate import evaluate
from ddarts.training.initial import load_initial
from ddarts.training.resumable import ResumableLoop, objective_of, reads_every
from ddarts.training.schedule import drop_path_at, is_evaluated, learning_rate
from ddarts.training.state import TrainingState

_STAGE = "train"


@dataclass(frozen=True, eq=False)
class TrainOutcome:
    """What a training gave.

    Attributes:
        network: with the weights that were saved, in evaluation mode.
        val_top1: accuracy on the validation part after the last epoch, 0 to 1, or another score of the task
            (`ddarts.nn.tasks.Task.metric`); None if there is no such part.
        train_s: seconds of training, those before a stop included.
        parameters: of the network without auxiliary head.
        macs: multiply-accumulate operations an image.
    """

    network: AnyNetwork
    val_top1: float | None
    train_s: float
    parameters: int
    macs: int


@streams_restored()
def train_network(
    genotype: AnyGenotype, settings: TrainSettings, images: ImageData, run: RunFolder, *, quiet: bool = False
) -> TrainOutcome:
    """Train the network of a genotype, or resume from the run's checkpoint if it has one.

    The weights are new, or those that the run has for it (`ddarts.training.initial`).

    Of several processes that train together (`ddarts.runtime.engine.join`) one writes; all get the same outcome.

    Writes model/, metrics and checkpoints into the run. A resumed training ends with the very weights of an
    uninterrupted one (same machine, same settings).

    Raises:
        SettingsError, DataError: the settings do not fit the images.
        DivergedError: the loss is not finite; the last good checkpoint is kept.
        Stopped: Ctrl-C or SIGTERM; a checkpoint is written first.
        RunError: the run cannot be written, its checkpoint is of another training, or another process has ended.
    """
    fabric = launch(settings)
    with current().watched(f"ddarts train --resume {run.path}"):
        return _Training(genotype, settings, images, run, fabric).run_to_the_end(quiet)


class _Training(ResumableLoop):
    """One training: what does not change while it runs, and its state."""

    stage = _STAGE

    def __init__(
        self, genotype: AnyGenotype, settings: TrainSettings, images: ImageData, run: RunFolder, fabric: Fabric
    ) -> None:
        options = settings.train
        stem = choose_stem(options.stem, images.height, images.width)
        reductions, half = len(genotype.reductions), options.half_resolution
        check_resolution(images.height, images.width, reductions, stem, half=half)
        parts = split(images, validation=settings.validation, seed=settings.seed)
        shared: dict[str, Any] = {
            "seed": settings.seed,
            "mean": images.mean,
            "std": images.std,
            "device": fabric.device,
        }
        augment = Augment.at(
            images.height,
            images.width,
            crop=options.crop,
            flip=images.flip,
            cutout=options.cutout,
            policy=options.policy,
        )
        ranks = current()
        self.batches = Batches(
            parts.train,
            options.batch,
            label=_STAGE,
            augment=augment,
            workers=settings.workers,
            steps=options.steps_per_epoch,
            ranks=ranks,
            balance=settings.balance == "sampling",
            **shared,
        )
        self.validation: Batches | None = None
        if parts.validation is not None and len(parts.validation) > 0:
            batch = min(256, len(parts.validation))
            self.validation = Batches(parts.validation, batch, label="validation", **shared)
        labels = parts.train.labels
        self.objective = objective_of(settings, images, labels, fabric.device, smoothing=options.label_smoothing)
        self.settings, self.options, self.images, self.run = settings, options, images, run
        self.fabric, self.ranks = fabric, ranks
        self.last_epoch = options.epochs
        self.steps = min(self.batches.per_epoch, options.steps_per_epoch or self.batches.per_epoch)
        self.about = {"genotype": genotype.to_json(), "steps_per_epoch": self.steps, "images": len(parts.train)}

        seed_everything(settings.seed, _STAGE, "weights")
        network = build_network(
            genotype,
            channels=options.channels,
            in_channels=images.channels,
            classes=len(images.classes),
            stem=stem,
            auxiliary=options.auxiliary_weight > 0,
        )
        load_initial(network, genotype, run)
        self.parameters = count_parameters(network)
        self.macs = count_macs(network, (images.channels, images.height, images.width))
        network.to(fabric.device).to(memory_format=torch.channels_last)
        network.drop_path_part = (ranks.rank, ranks.size)
        if settings.sync_batch_norm and ranks.size > 1:
            synchronise(network)
        optimizer = _optimizer(network, options, fused=fabric.device.type == "cpu")
        average = WeightAverage(network, options.ema) if options.ema > 0 else None
        self.state = TrainingState(network, optimizer, average, fabric)
        self.module, self.optimizer = fabric.setup(network, optimizer)

    def run_to_the_end(self, quiet: bool) -> TrainOutcome:
        """Train from where the state is to the last epoch, and save the model."""
        if self.restore():
            self.run.rewind(_STAGE, self.steps_done, self.state.epoch)
        state, epochs = self.state, self.options.epochs
        with self.stop_request() as stop, Progress(_STAGE, epochs * self.steps, quiet=quiet) as progress:
            while state.epoch <= epochs:
                self.train_epoch(stop, progress)
                self.end_epoch(progress)
        if self.run.writes:
            self.run.claim()  # the folder is still there
            save_model(
                self.run.path / "model",
                state.best,
                classes=self.images.classes,
                resolution=(self.images.height, self.images.width),
                mean=self.images.mean,
                std=self.images.std,
                task=self.images.task,
            )
        return TrainOutcome(state.best.eval(), state.val_top1, state.elapsed_s, self.parameters, self.macs)

    def train_epoch(self, stop: StopRequest, progress: Progress) -> None:
        """Do the steps of the epoch that are left, with a checkpoint now and then."""
        state, options = self.state, self.options
        read_every = reads_every(self.fabric.device)
        self.module.train()
        state.network.drop_path = drop_path_at(options.drop_path, state.epoch, options.epochs)
        while state.step < self.steps:
            self.train_step()
            state.step += 1
            done = self.steps_done
            looks = done % read_every == 0 or state.step == self.steps
            if looks:
                self.read_losses()
                progress.update(
                    done,
                    epoch=f"{state.epoch}/{options.epochs}",
                    loss=state.meter.loss,
                    accuracy=state.meter.accuracy,
                    **({} if state.val_top1 is None else {"validation": state.val_top1}),
                )
            self.after_step(stop, looks)

    def at_half_resolution(self, step: int) -> bool:
        """Return whether a step, counted from 0 over all epochs, has images of half the width and height."""
        return step < round(self.options.half_resolution * self.options.epochs * self.steps)

    def train_step(self) -> None:
        """One step: forward, loss, backward, clipping, update of the weights."""
        state, options = self.state, self.options
        done = self.steps_done
        steps = options.epochs * self.steps
        rate = learning_rate(options, done, steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        x, labels = self.batches.batch(state.epoch, state.step)
        if self.at_half_resolution(done):
            x = F.avg_pool2d(x, 2)
        draws = Random(derive_seed(self.settings.seed, _STAGE, "mix", state.epoch, state.step))
        x, share = mix(x, options.mixup, options.cutmix, draws)

        def loss_of(logits: Tensor) -> Tensor:
            loss = self.loss(logits, labels)
            return loss if share == 1 else share * loss + (1 - share) * self.loss(logits, labels.flip(0))

        seed_everything(self.settings.seed, _STAGE, state.epoch, state.step)  # for drop-path
        output = self.module(x)
        logits: Tensor = output[0] if isinstance(output, tuple) else output
        loss = total = loss_of(logits)
        if isinstance(output, tuple):
            total = loss + options.auxiliary_weight * loss_of(output[1])
        self.optimizer.zero_grad()
        self.fabric.backward(total)
        # a gradient that is not finite shows in the next loss; under fp16 it is common, and the step is left out
        self.fabric.clip_gradients(self.module, self.optimizer, max_norm=options.clip, error_if_nonfinite=False)
        self.optimizer.step()
        if state.average is not None:
            state.average.update(state.network, done)
        shown = torch.where(total.isfinite(), loss, total)  # the head's loss is of interest only when it is not finite
        state.meter.add(shown, self.objective.task.hits(logits, labels), len(labels))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch: that of the task, or what the caller's function computes.

        Raises:
            SettingsError: the function returns no scalar tensor, or one without a gradient.
        """
        if self.run.hooks.loss is None:
            return self.objective.loss(logits, labels)
        loss = self.run.hooks.loss(logits, labels)
        if not isinstance(loss, Tensor) or loss.ndim > 0:
            what = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"type {type(loss).__name__}"
            raise SettingsError(f"loss returned a value of {what}; it must return a scalar tensor, such as a mean")
        if not loss.requires_grad:
            raise SettingsError("loss returned a tensor without a gradient; compute it from the logits, not detached")
        return loss

    def end_epoch(self, progress: Progress) -> None:
        """Evaluate, log, and checkpoint the start of the next epoch."""
        state = self.state
        values: dict[str, Any] = {"train_loss": state.meter.loss, "train_accuracy": state.meter.accuracy}
        options = self.options
        if self.validation is not None and is_evaluated(state.epoch, options.epochs, options.evaluations):
            self.ranks.copy_first(state.best.buffers())  # running statistics: those of the model that will be kept
            batches = self.validation.in_order(ranks=self.ranks)
            if self.at_half_resolution(self.steps_done - 1):  # of what the network has seen so far
                batches = ((F.avg_pool2d(x, 2), labels) for x, labels in batches)
            found = evaluate(
                state.best, batches, classes=len(self.images.classes), ranks=self.ranks, task=self.images.task
            )
            state.val_top1 = found.top1
            values |= {"val_loss": found.loss, "val_accuracy": found.top1}
        finished, done = state.epoch, self.steps_done
        values |= {"lr": self.optimizer.param_groups[0]["lr"], "elapsed_s": time.perf_counter() - self.started}
        self.run.log(_STAGE, "epoch", epoch=finished, step=done, **values)
        state.epoch, state.step = finished + 1, 0
        state.meter = type(state.meter)()
        self.save_checkpoint()

    def read_losses(self) -> None:
        """Look at the losses since the last look; raise `DivergedError` if one is not finite."""
        ago = self.state.meter.flush(self.ranks)
        if ago is not None:
            self.diverged(f"the loss is {self.state.meter.last_loss}", self.steps_done - ago)


def _optimizer(network: AnyNetwork, options: TrainOptions, *, fused: bool) -> torch.optim.Optimizer:
    """Return the optimizer of a network's weights.

    `fused` saves much time on a CPU; on a GPU it would forbid clipping with fp16.
    """
    weights = list(network.parameters())
    groups: list[dict[str, Any]] = [{"params": weights}]
    if not options.decay_norms:
        one_dimensional = [p for p in weights if p.dim() <= 1]
        groups = [{"params": [p for p in weights if p.dim() > 1]}, {"params": one_dimensional, "weight_decay": 0.0}]
    shared: dict[str, Any] = {"lr": options.lr, "weight_decay": options.weight_decay, "fused": fused}
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, betas=(options.momentum, 0.999), **shared)
    return torch.optim.SGD(groups, momentum=options.momentum, nesterov=options.nesterov, **shared)
