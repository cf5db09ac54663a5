"""What changes in the course of a training, as functions of the position in it (specification, section 10)."""

from __future__ import annotations

import math


def cosine(start: float, end: float, step: int, steps: int) -> float:
    """Return the learning rate of `step` (from 0) of `steps`: half a cosine from `start` down towards `end`.

    The rate changes with every step, not every epoch, so that short trainings follow the curve too.
    """
    return end + (start - end) * (1 + math.cos(math.pi * step / steps)) / 2


def drop_path_at(final: float, epoch: int, epochs: int) -> float:
    """Return the drop-path probability of `epoch` (from 1) of `epochs`: from 0, linearly, to `final` at the last."""
    return final * (epoch - 1) / (epochs - 1) if epochs > 1 else 0.0


def is_evaluated(epoch: int, epochs: int, times: int = 50) -> bool:
    """Return whether the validation split is evaluated after `epoch` (from 1): about `times` in all, and at the end."""
    every = max(1, epochs // times)
    return epoch == epochs or epoch % every == 0
