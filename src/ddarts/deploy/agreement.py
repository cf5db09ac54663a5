"""Whether an exported network computes what PyTorch does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ddarts.nn.preprocessing import ModelError
from ddarts.nn.tasks import CLASSIFICATION, Task
from ddarts.runtime.progress import counted


@dataclass(frozen=True)
class Agreement:
    """How far two computations of the same network lie apart.

    Attributes:
        count: images.
        logits: largest difference of a logit.
        probabilities: largest difference of a probability, or of a number in a regression.
        largest_logit: largest absolute logit, to compare `logits` with.
    """

    count: int
    logits: float
    probabilities: float
    largest_logit: float


def compare(network: nn.Module, other: Callable[[Tensor], Tensor], x: Tensor, task: Task = CLASSIFICATION) -> Agreement:
    """Run a network for a task in PyTorch and elsewhere on images [B, C, H, W]: all together, and the first alone.

    Raises:
        ModelError: the other gives logits of another shape, or none that are finite.
    """
    logits = probabilities = largest = 0.0
    for part in (x, x[:1]):
        with torch.no_grad():
            wanted = network(part).double()
        found = other(part).double()
        if not wanted.isfinite().all():
            raise ModelError("the logits of the network are not finite; train it again before it is exported")
        if found.shape != wanted.shape or not found.isfinite().all():
            raise ModelError(
                f"the exported network gives {list(found.shape)} numbers (not all finite, perhaps) for logits of "
                f"{list(wanted.shape)}; another version of torch or onnxruntime may export it better"
            )
        largest = max(largest, float(wanted.abs().max()))
        logits = max(logits, float((found - wanted).abs().max()))
        probabilities = max(probabilities, float((task.answers(found) - task.answers(wanted)).abs().max()))
    return Agreement(len(x), logits, probabilities, largest)


def check(agreement: Agreement, tolerance: float, what: str) -> None:
    """Raise unless the logits agree.

    Args:
        agreement: what `compare` found.
        tolerance: largest difference of a logit; of the largest logit if that is above 1.
        what: names the exported network in the message.

    Raises:
        ModelError: they lie further apart.
    """
    allowed = tolerance * max(1.0, agreement.largest_logit)
    if not agreement.logits <= allowed:
        raise ModelError(
            f"{what} differs from PyTorch by {agreement.logits:.2g} on {counted(agreement.count, 'image')}, more than "
            f"{allowed:.2g}; --tolerance sets the limit"
        )
