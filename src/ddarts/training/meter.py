"""Running loss and accuracy of an epoch, read from the device only now and then."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ddarts.runtime.distributed import Ranks


class Meter:
    """Sums up losses and hits without making the device wait: tensors are kept and read together by `flush`.

    Attributes:
        loss_sum: sum of the losses that were read, each times its images.
        hits: images classified correctly, or the sum of `ddarts.nn.tasks.Task.hits`.
        count: images.
        last_loss: the loss read last; NaN before the first.
    """

    def __init__(self) -> None:
        self.loss_sum = 0.0
        self.hits = 0.0
        self.count = 0
        self.last_loss = math.nan
        self._pending: list[tuple[Tensor, Tensor, int]] = []

    def add(self, loss: Tensor, hits: Tensor, count: int) -> None:
        """Take in one step: its mean loss and the number of hits (scalars on any device) among `count` images."""
        self._pending.append((loss.detach(), hits, count))

    def flush(self, ranks: Ranks | None = None) -> int | None:
        """Read what was added since the last time.

        Args:
            ranks: the processes that have each added their part of the same steps; sums are those of all of them.

        Returns:
            None if every loss is finite; else how many steps ago the first came that is not (0: the last step).
            Nothing from that step on is summed up.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return None
        size = 1 if ranks is None else ranks.size
        losses, hits = torch.stack([loss.float() for loss, _, _ in pending]), torch.stack([h for _, h, _ in pending])
        if ranks is not None and size > 1:
            both = ranks.total(torch.stack([losses.double(), hits.double()]))
            losses, hits = both[0] / size, both[1]
        for i, (loss, hit, (_, _, count)) in enumerate(zip(losses.tolist(), hits.tolist(), pending, strict=True)):
            self.last_loss = loss
            if not math.isfinite(loss):
                return len(pending) - 1 - i
            self.loss_sum += loss * count * size
            self.hits += hit
            self.count += count * size
        return None

    @property
    def loss(self) -> float:
        """Mean loss an image of what was read; NaN if nothing was."""
        return self.loss_sum / self.count if self.count else math.nan

    @property
    def accuracy(self) -> float:
        """Share of hits in what was read, 0 to 1; NaN if nothing was."""
        return self.hits / self.count if self.count else math.nan

    def state_dict(self) -> dict[str, float | int]:
        """Return the sums; steps that were not read yet are not in them."""
        return {"loss_sum": self.loss_sum, "hits": self.hits, "count": self.count}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Restore the sums that `state_dict` returned."""
        self.loss_sum, self.hits, self.count = float(state["loss_sum"]), float(state["hits"]), int(state["count"])
        self._pending.clear()
