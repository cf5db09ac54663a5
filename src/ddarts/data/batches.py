"""Batches as a pure function of (seed, label, epoch, step): any order, any number of times, the same tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ddarts.data.augment import Augment, apply_policy, crop_and_flip, cutout
from ddarts.data.images import Images
from ddarts.errors import DataError
from ddarts.seeds import derive_seed, generator


class Batches:
    """Shuffled, augmented, normalised batches without state.

    Args:
        images: uint8 images, kept where they are.
        batch: images a batch.
        seed: the run's seed.
        label: what the batches are for, such as "weights"; another label gives another order and other changes.
        mean: one a channel, of images scaled to 0..1.
        std: likewise.
        augment: random changes; None for none.
        device: where batches are wanted; normalisation and augmentation run there (policies on the CPU).
        drop_last: leave out the last batch of an epoch if it is short. Each epoch leaves out other images.
        dtype: of the images in a batch.

    Raises:
        DataError: there are no images, or fewer than `batch`.
        SettingsError: a policy that cannot treat so many channels.
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
    ) -> None:
        if len(images) == 0:
            raise DataError(f"no images for {label!r} batches; choose other data")
        if batch < 1:
            raise DataError(f"batch {batch}: must be 1 to {len(images)} for the {len(images)} images for {label!r}")
        if batch > len(images):
            raise DataError(
                f"batch {batch}: there are only {len(images)} images for {label!r}; "
                f"{len(images)} is the largest that fits"
            )
        self.images = images
        self.size = batch
        self.seed = seed
        self.label = label
        self.augment = augment or Augment()
        self.augment.check_channels(images.pixels.shape[1])
        self.device = torch.device(device)
        self.drop_last = drop_last
        self._normalise = Normalise(mean, std, device=self.device, dtype=dtype)
        self._order: tuple[int, Tensor] | None = None

    @property
    def per_epoch(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self.images), self.size)
        return whole if self.drop_last or rest == 0 else whole + 1

    def index(self, epoch: int, step: int) -> Tensor:
        """Return which images (int64 [B]) make batch `step` (0 to per_epoch - 1) of `epoch`."""
        if not 0 <= step < self.per_epoch:
            raise IndexError(f"step {step}: an epoch of {self.label!r} has steps 0 to {self.per_epoch - 1}")
        if self._order is None or self._order[0] != epoch:
            random = generator(self.seed, self.label, "order", epoch)
            self._order = (epoch, torch.randperm(len(self.images), generator=random))
        return self._order[1][step * self.size : (step + 1) * self.size]

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return batch `step` (from 0) of `epoch`: images [B, C, H, W], channels last in memory, and labels int64 [B].

        Raises:
            IndexError: the epoch has no such step.
        """
        index = self.index(epoch, step)
        pixels = self.images.pixels[index]
        labels = self.images.labels[index].to(self.device)
        augment = self.augment
        random = generator(self.seed, self.label, "augment", epoch, step)
        if augment.policy == "none":
            pixels = crop_and_flip(pixels.to(self.device), crop=augment.crop, flip=augment.flip, random=random)
        else:
            pixels = crop_and_flip(pixels, crop=augment.crop, flip=augment.flip, random=random)
            seed = derive_seed(self.seed, self.label, "policy", epoch, step)
            pixels = apply_policy(pixels, augment.policy, seed).to(self.device)
        x = self._normalise(pixels)
        if augment.cutout > 0:
            x = cutout(x, augment.cutout, random)
        return x, labels

    def in_order(self, batch: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once, as it is and in order, `batch` at a time (the last may be short), to evaluate."""
        size = self.size if batch is None else batch
        return in_order(self.images, size, normalise=self._normalise)


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


def in_order(images: Images, batch: int, *, normalise: Normalise) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x, labels) for every image once, in order, at most `batch` at a time; any `batch` of 1 or more will do."""
    if batch < 1:
        raise DataError(f"batch {batch}: must be 1 or more")
    for start in range(0, len(images), batch):
        pixels = images.pixels[start : start + batch]
        x = normalise(pixels)
        yield x, images.labels[start : start + batch].to(x.device)
