"""What a data set is: labelled 8-bit images of one size, in up to three parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ddarts.data.streamed import StreamedPixels
from ddarts.nn.tasks import CLASSIFICATION, Task


class SelectedPixels:
    """Some of the images of a tensor: positions instead of copied pixels.

    Args:
        base: uint8 [M, C, H, W].
        positions: int64 [N], which of them.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(self, base: Tensor, positions: Tensor) -> None:
        self.base, self.positions = base, positions

    @property
    def shape(self) -> torch.Size:
        """[N, C, H, W]."""
        return torch.Size((len(self.positions), *self.base.shape[1:]))

    @property
    def nbytes(self) -> int:
        """Bytes of the images if they were copied."""
        return len(self.positions) * self.base[:1].nbytes

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[n] for n in range(len(self)))

    def subset(self, index: Tensor) -> SelectedPixels:
        """Return the images at `index` (int64 [M]), not copied."""
        return SelectedPixels(self.base, self.positions[index])

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        """Copy images: uint8 [M, C, H, W], or [C, H, W] for a single one."""
        return self.base[self.positions[index]]


Pixels = Tensor | SelectedPixels | StreamedPixels
"""uint8 [N, C, H, W], in memory or not."""


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images.

    Attributes:
        pixels: uint8 [N, channels, height, width], 0 to 255; in memory, or in files and decoded by indexing.
        labels: int64 [N], index into the classes; or [N, classes] of the other tasks (`ddarts.nn.tasks.Task`).
        names: file, or file and row, of each image; known of the test images of folders and Parquet files only.
    """

    pixels: Pixels
    labels: Tensor
    names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4:
            raise ValueError(f"pixels must be uint8 [N, C, H, W], not {self.pixels.dtype} {list(self.pixels.shape)}")
        kinds = {1: (torch.int64,), 2: (torch.uint8, torch.float64)}.get(self.labels.ndim, ())
        if self.labels.dtype not in kinds or self.labels.shape[:1] != self.pixels.shape[:1]:
            raise ValueError(
                f"labels must be int64 [{len(self.pixels)}] (uint8 or float64 with a column for each label), "
                f"not {self.labels.dtype} {list(self.labels.shape)}"
            )
        if self.names is not None and len(self.names) != len(self.labels):
            raise ValueError(f"there must be one name for each of the {len(self.labels)} images, not {len(self.names)}")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        count, channels, height, width = self.pixels.shape
        return f"Images({count} of {height}x{width}x{channels})"

    def select(self, index: Tensor) -> Images:
        """Return the images at `index` (int64 [M]), in that order, without a copy of their pixels."""
        pixels = SelectedPixels(self.pixels, index) if isinstance(self.pixels, Tensor) else self.pixels.subset(index)
        names = None if self.names is None else tuple(self.names[n] for n in index.tolist())
        return Images(pixels, self.labels[index], names)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set, ready for `split`.

    Attributes:
        name: what it is called in reports.
        classes: names, in the order of the labels.
        channels: 1 (grey), 3 (colour), or as many as the images have.
        height: pixels.
        width: pixels.
        mean: of the training images scaled to 0..1, one a channel.
        std: likewise; never 0.
        flip: whether a mirrored image is still an image of its class.
        train: training images.
        validation: only if the data set brings a part of its own for it.
        test: None if the data set has none.
        skipped: files that could not be decoded, "path: reason".
        sizes: how the resolution was found, for people.
        task: what is learned from the labels.
        labelled: how a file of labels was understood, for people; empty without one.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flip: bool
    train: Images
    validation: Images | None
    test: Images | None
    skipped: tuple[str, ...] = ()
    sizes: str = "the size of the images"
    task: Task = CLASSIFICATION
    labelled: str = ""

    def __repr__(self) -> str:
        parts = {"training": self.train, "validation": self.validation, "test": self.test}
        counts = ", ".join(f"{len(part)} {name}" for name, part in parts.items() if part is not None)
        size = f"{self.height}x{self.width}x{self.channels}"
        return f"ImageData({self.name!r}, {size}, {self.task.outputs(len(self.classes))}, {counts} images)"


def channel_statistics(pixels: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 [N, C, H, W], scaled to 0..1.

    Counted in whole numbers, so the result does not depend on the order of the images. A channel of one value has
    standard deviation 1, so that one can always divide by it.
    """
    channels = pixels.shape[1]
    counts = torch.zeros(channels, 256, dtype=torch.int64)
    for start in range(0, len(pixels), 4096):
        chunk = pixels[start : start + 4096]
        for channel in range(channels):
            counts[channel] += torch.bincount(chunk[:, channel].reshape(-1), minlength=256)
    return statistics_of(counts)


def statistics_of(counts: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel from how often each pixel value comes, int64 [C, 256]."""
    value = torch.arange(256, dtype=torch.float64) / 255
    share = counts.double() / counts.sum(dim=1, keepdim=True).clamp(min=1)
    mean = share @ value
    variance = (share * (value - mean[:, None]) ** 2).sum(dim=1)
    std = torch.where(variance > 1e-12, variance.sqrt(), torch.ones_like(variance))
    return tuple(mean.tolist()), tuple(std.tolist())
