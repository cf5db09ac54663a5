"""Images that stay in their files and are decoded when a batch asks for them: memory holds names, not pixels."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ddarts.data.decode import Undecodable, decode, quiet_decoding
from ddarts.data.threads import in_threads
from ddarts.errors import DataError, printable

_CHUNK = 256  # images decoded at a time by a pass over many


class Encoded(Protocol):
    """Labelled image files, or what stands for them."""

    @property
    def labels(self) -> Tensor:
        """int64 [N]."""
        ...

    def name(self, position: int) -> str:
        """Return how a message should call an image."""
        ...

    def read(self, positions: Tensor) -> Iterator[bytes | Path | None]:
        """Yield the images at `positions` (ascending); None for one that does not exist."""
        ...


class StreamedPixels:
    """What stands in for a tensor of pixels, uint8 [N, C, H, W]: indexing decodes, and nothing is kept.

    An image whose header was fine but whose body is broken is found only when it is read: it is black then, a line on
    stderr says so, and training continues; under `strict` it is an error.

    Args:
        encoded: the files.
        positions: int64 [N], which of them.
        shape: channels, height, width.
        strict: stop at an image that cannot be decoded.
        grey: decode in colour and reduce to one channel, for photographs without colour that are stored as RGB.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(
        self,
        encoded: Encoded,
        positions: Tensor,
        shape: tuple[int, int, int],
        *,
        strict: bool = False,
        grey: bool = False,
    ) -> None:
        self.encoded, self.positions, self.strict, self.grey = encoded, positions, strict, grey
        self._decoded = shape
        self._shape = (1, *shape[1:]) if grey else shape

    @property
    def shape(self) -> torch.Size:
        """[N, C, H, W]."""
        return torch.Size((len(self.positions), *self._shape))

    def __len__(self) -> int:
        return len(self.positions)

    def subset(self, index: Tensor) -> StreamedPixels:
        """Return the images at `index` (int64 [M]), not decoded."""
        return StreamedPixels(self.encoded, self.positions[index], self._decoded, strict=self.strict, grey=self.grey)

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        """Decode images: uint8 [M, C, H, W], or [C, H, W] for a single one.

        Raises:
            DataError: one cannot be decoded, and `strict`.
        """
        if isinstance(index, int):
            return self[torch.tensor([index])][0]
        wanted = self.positions[index]
        order = wanted.argsort()
        pixels = torch.empty((len(wanted), *self._decoded), dtype=torch.uint8)
        array = pixels.numpy()

        def work(item: tuple[int, object]) -> None:
            place, source = item
            array[place] = decode(source, *self._decoded)  # type: ignore[arg-type]

        sources = zip(order.tolist(), self.encoded.read(wanted[order]), strict=True)
        with quiet_decoding():
            # in a worker process of its own a batch needs no threads
            threads = 1 if torch.utils.data.get_worker_info() is not None else None
            for rank, failure in enumerate(in_threads(work, sources, threads)):
                if isinstance(failure, Undecodable):
                    place = int(order[rank])
                    self._broken(int(wanted[place]), failure)
                    array[place] = 0
        return to_grey(pixels) if self.grey else pixels

    def chunks(self, index: Tensor) -> Iterator[Tensor]:
        """Decode the images at `index`, some hundred at a time."""
        for part in index.split(_CHUNK):
            yield self[part]

    def _broken(self, position: int, reason: Undecodable) -> None:
        line = f"{self.encoded.name(position)}: {reason}"
        if self.strict:
            raise DataError(f"{line}; fix or remove the file, or leave out --strict to take it for a black image")
        print(f"ddarts: warning: {printable(line)}; taken for a black image", file=sys.stderr, flush=True)


def to_grey(pixels: Tensor) -> Tensor:
    """Return uint8 [N, 1, H, W] by the usual luma weights, in whole numbers: equal channels keep their value."""
    weights = torch.tensor([299, 587, 114], dtype=torch.int32)[:, None, None]
    chunks = ((chunk.int() * weights).sum(1, keepdim=True) + 500 for chunk in pixels.split(1024))
    return torch.cat([chunk.div(1000, rounding_mode="floor").to(torch.uint8) for chunk in chunks])


def shows_colour(chunks: Iterator[Tensor] | Sequence[Tensor]) -> bool:
    """Whether any pixel of [N, 3, H, W] has channels that differ; grey photographs are often stored as RGB."""
    return any(bool((chunk[:, :1] != chunk[:, 1:]).any()) for chunk in chunks)
