"""Batches as a pure function of (seed, label, epoch, step): any order, any number of times, the same tensors."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ddarts.data.augment import Augment, Share, crop_and_flip, cutout, resized_crop
from ddarts.data.images import Images
from ddarts.data.policies import apply_policy
from ddarts.data.prefetch import Ahead, Prepared
from ddarts.data.splits import balanced_order, strata
from ddarts.data.streamed import StreamedPixels
from ddarts.data.transfer import fits, send
from ddarts.errors import DataError, SettingsError
from ddarts.runtime.distributed import Ranks
from ddarts.runtime.processes import local_processes
from ddarts.runtime.progress import counted
from ddarts.runtime.seeds import generator


class Batches:
    """Shuffled, augmented, normalised batches without state.

    Args:
        images: uint8 images, kept where they are; on a GPU that has room for them, and without a policy, there.
        batch: images per batch, those of all processes together.
        seed: the run's seed.
        label: what the batches are for, such as "weights"; another label gives another order and other changes.
        mean: one a channel, of images scaled to 0..1.
        std: likewise.
        augment: random changes; None for none.
        device: where batches are wanted; normalisation and augmentation run there (policies on the CPU).
        drop_last: leave out the last batch of an epoch if it is short. Each epoch leaves out other images.
        dtype: of the images in a batch.
        workers: processes that prepare batches of streamed images ahead; found from the cores if None, 0 for none.
            Images in memory need none.
        steps: steps that will be asked for in an epoch, if not all; workers look ahead in that order.
        ranks: the processes that share each batch: rank r gets its contiguous part of the very batch that one process
            alone would get.
        balance: draw each class as often as the others; small classes repeat images, large ones leave some out.

    Raises:
        DataError: there are no images, or fewer than `batch`.
        SettingsError: a policy that cannot treat so many channels, or a batch that cannot be shared evenly.
    """

    def __init__(
        self,
        images: Images,
        batch: int,
        *,
        seed: int,
        label: str,
        mean: Sequence[float],
        std: Sequence[float],
        augment: Augment | None = None,
        device: torch.device | str = "cpu",
        drop_last: bool = True,
        dtype: torch.dtype = torch.float32,
        workers: int | None = None,
        steps: int | None = None,
        ranks: Ranks | None = None,
        balance: bool = False,
    ) -> None:
        if len(images) == 0:
            raise DataError(f"no images for {label!r} batches; choose other data")
        if batch < 1:
            raise DataError(f"batch {batch}: must be 1 to {len(images)} for the {len(images)} images for {label!r}")
        if batch > len(images):
            raise DataError(
                f"batch {batch}: more than the {counted(len(images), 'image')} for {label!r}; "
                f"{len(images)} is the largest that fits"
            )
        ranks = ranks or Ranks()
        if ranks.size > 1:
            check_share(batch, ranks.size)
            if not drop_last:
                raise ValueError("a short last batch cannot be shared")
        self.share = Share.of(batch, ranks.rank, ranks.size) if ranks.size > 1 else None
        self.images = images
        self.size = batch
        self.seed = seed
        self.label = label
        self.balance = balance
        self.augment = augment or Augment()
        self.augment.check_channels(images.pixels.shape[1])
        self.device = torch.device(device)
        self.drop_last = drop_last
        self._normalise = Normalise(mean, std, device=self.device, dtype=dtype)
        self._pixels, self._labels = images.pixels, images.labels
        if (
            self.augment.policy == "none"
            and not isinstance(self._pixels, StreamedPixels)
            and fits(self._pixels.nbytes, self.device)
        ):
            self._pixels, self._labels = self._pixels[:].to(self.device), self._labels.to(self.device)
        self._order: tuple[int, Tensor] | None = None
        self._ahead: Ahead | None = None
        if isinstance(images.pixels, StreamedPixels):
            workers = default_workers() if workers is None else workers
            if workers > 0:
                maker = copy.copy(self)  # not itself: in a circle of references, workers would end late
                self._ahead = Ahead(maker._prepared, workers, min(steps or self.per_epoch, self.per_epoch))

    @property
    def per_epoch(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.images), self.size)
        return whole if self.drop_last or rest == 0 else whole + 1

    def index(self, epoch: int, step: int) -> Tensor:
        """Return which images (int64 [B]) make batch `step` (0 to per_epoch - 1) of `epoch`, of all processes."""
        self._check_step(step)
        if self._order is None or self._order[0] != epoch:
            random = generator(self.seed, self.label, "order", epoch)
            if self.balance:
                self._order = (epoch, balanced_order(strata(self.images.labels), random))
            else:
                self._order = (epoch, torch.randperm(len(self.images), generator=random))
        return self._order[1][step * self.size : (step + 1) * self.size]

    def _check_step(self, step: int) -> None:
        if not 0 <= step < self.per_epoch:
            raise IndexError(f"step {step}: an epoch of {self.label!r} has steps 0 to {self.per_epoch - 1}")

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return batch `step` (from 0) of `epoch`: images [B, C, H, W], channels last in memory, and labels int64 [B].

        With several processes, B is this one's part of the batch.

        Raises:
            IndexError: the epoch has no such step.
        """
        self._check_step(step)
        random = generator(self.seed, self.label, "augment", epoch, step)
        if self._ahead is not None:
            pixels, labels, state = self._ahead.get(epoch, step)
            random.set_state(state)
        else:
            pixels, labels = self._changed(epoch, step, random, self.device)
        x = self._normalise(send(pixels, self.device))
        if self.augment.cutout > 0:
            x = cutout(x, self.augment.cutout, random, self.share)
        return x, send(labels, self.device)

    def _prepared(self, epoch: int, step: int) -> Prepared:
        """All of a batch that is done in whole numbers, on the CPU; and where that leaves the random generator."""
        random = generator(self.seed, self.label, "augment", epoch, step)
        pixels, labels = self._changed(epoch, step, random, torch.device("cpu"))
        return pixels, labels, random.get_state()

    def _changed(self, epoch: int, step: int, random: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images of a batch, cropped, mirrored and changed by the policy, uint8 [B, C, H, W]; and their labels."""
        index, share, augment = self.index(epoch, step), self.share, self.augment
        if share is not None:
            index = index[share.rows]
        if isinstance(self._pixels, Tensor):
            index = send(index, self._pixels.device)
        pixels, labels = self._pixels[index], self._labels[index]
        if augment.policy == "none":
            pixels = send(pixels, device)
        if augment.resized:
            pixels = resized_crop(pixels, random, share)
        pixels = crop_and_flip(pixels, crop=augment.crop, flip=augment.flip, random=random, share=share)
        if augment.policy != "none":
            draws = generator(self.seed, self.label, "policy", epoch, step)
            pixels = apply_policy(pixels, augment.policy, draws, share)
        return pixels, labels

    def in_order(self, batch: int | None = None, ranks: Ranks | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once, as it is and in order, `batch` at a time (the last may be short), to evaluate.

        With `ranks`, the processes take the batches in turn.
        """
        size = self.size if batch is None else batch
        return in_order(self.images, size, normalise=self._normalise, ranks=ranks)


def default_workers() -> int:
    """Return how many processes should decode for one sequence of batches: the cores' fair share but one, at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(max(cores // local_processes() - 1, 1), 8) if hasattr(os, "fork") else 0


def workers_each(workers: int | None, sequences: int = 2) -> int:
    """Return how many of `workers` (None: found from the cores) each of some sequences of batches gets, rounded up."""
    workers = default_workers() if workers is None else workers
    return -(-workers // sequences)


def check_share(batch: int, processes: int) -> None:
    """Raise SettingsError unless `batch` images can be shared evenly by so many processes."""
    if batch % processes:
        less = batch - batch % processes
        near = f"{less} or {less + processes}" if less else str(processes)
        raise SettingsError(f"batch = {batch} cannot be shared evenly by {processes} processes; choose {near}")


class Normalise:
    """uint8 [B, C, H, W] -> (x / 255 - mean) / std on a device, channels last in memory."""

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=device, dtype=dtype)
        self._scale = torch.tensor([1 / (255 * s) for s in std], device=device, dtype=dtype)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the normalised images."""
        x = pixels.to(device=self._scale.device)
        x = x.to(dtype=self._scale.dtype, memory_format=torch.channels_last)
        return x.mul_(self._scale[:, None, None]).add_(self._shift[:, None, None])


def in_order(
    images: Images, batch: int, *, normalise: Normalise, ranks: Ranks | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x, labels) for every image once, in order, at most `batch` at a time; any `batch` of 1 or more will do.

    With `ranks`, the processes take the batches in turn.
    """
    if batch < 1:
        raise DataError(f"batch {batch}: must be 1 or more")
    ranks = ranks or Ranks()
    for start in range(ranks.rank * batch, len(images), ranks.size * batch):
        pixels = images.pixels[start : start + batch]
        x = normalise(pixels)
        yield x, images.labels[start : start + batch].to(x.device)
