"""What changes in the course of a training, as functions of the position in it (specification, section 10)."""

from __future__ import annotations

import math

from ddarts.config.schema import TrainOptions


def cosine(start: float, end: float, step: int, steps: int) -> float:
    """Return the learning rate of `step` (from 0) of `steps`: half a cosine from `start` down towards `end`.

    The rate changes with every step, not every epoch, so that short trainings follow the curve too.
    """
    return end + (start - end) * (1 + math.cos(math.pi * step / steps)) / 2


def learning_rate(options: TrainOptions, step: int, steps: int) -> float:
    """Return the learning rate of `step` (from 0) of `steps` of a training.

    It rises along a straight line to ``options.lr`` over the first ``options.warmup`` of the steps, and falls to
    ``options.lr_min`` over the rest. A warm-up of 0.3 is the one-cycle policy (Smith and Topin, arXiv 1708.07120).
    """
    rising = round(options.warmup * steps)
    if step < rising:
        return options.lr * (step + 1) / (rising + 1)
    step, steps = step - rising, steps - rising
    if options.schedule == "linear":
        return options.lr + (options.lr_min - options.lr) * step / steps
    return cosine(options.lr, options.lr_min, step, steps)


def drop_path_at(final: float, epoch: int, epochs: int) -> float:
    """Return the drop-path probability of `epoch` (from 1) of `epochs`: from 0, linearly, to `final` at the last."""
    return final * (epoch - 1) / (epochs - 1) if epochs > 1 else 0.0


def is_evaluated(epoch: int, epochs: int, times: int = 50) -> bool:
    """Return whether the validation split is evaluated after `epoch` (from 1): about `times` in all, and at the end."""
    every = max(1, epochs // times)
    return epoch == epochs or epoch % every == 0
