"""Data given from Python: arrays or tensors, torch Datasets, and data sets that `load_data` returned."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ddarts.data.encoded import TEST_SHARE, may_mirror
from ddarts.data.images import ImageData, Images
from ddarts.data.loaded import Loaded, check_budget
from ddarts.data.splits import stratified
from ddarts.errors import DataError

_DESCRIPTION = re.compile(r"(arrays|dataset|images) [0-9x]+ sha256:[0-9a-f]{16}")


@dataclass(frozen=True, eq=False)
class GivenData:
    """Data given from Python, read but not yet brought to one size.

    Attributes:
        description: kind, shape and digest, such as "arrays 1000x28x28x1 sha256:3f..."; settings store it, and a
            resumed run compares it.
        loaded: the images.
    """

    description: str
    loaded: Loaded


def given_data(data: Any) -> GivenData:
    """Read data given from Python.

    Args:
        data: a pair (images, labels) of arrays or tensors, a torch Dataset of (image, label), or an `ImageData`.
            Images are [N, H, W], [N, H, W, C] or [N, C, H, W] with 1 or 3 channels: whole numbers from 0 to 255, or
            fractions from 0 to 1. Labels are [N], whole numbers or texts. A Dataset's attribute ``classes`` names its
            classes. Without a test part, 15 % of each class become one.

    Raises:
        DataError: it is none of these, or it does not fit.
    """
    if isinstance(data, ImageData):
        shape = tuple(data.train.pixels.shape)
        loaded = Loaded(
            name=data.name,
            place=data.name,
            classes=data.classes,
            flip=data.flip,
            train=data.train,
            validation=data.validation,
            test=data.test,
            skipped=data.skipped,
            sizes=data.sizes,
            statistics=(data.mean, data.std),
            kind=data.task.kind,
            labelled=data.labelled,
        )
        return _given("images", shape, loaded)
    if isinstance(data, tuple | list) and len(data) == 2:
        images, labels, names = *data, None
        kind = "arrays"
    elif isinstance(data, Dataset) and isinstance(data, Sized):
        images, labels = _from_dataset(data)
        names, kind = getattr(data, "classes", None), "dataset"
    else:
        raise DataError(
            f"data of type {type(data).__name__}: must be the name of a data set, a folder, a pair (images, labels), a "
            "torch Dataset with a length, or what load_data returned"
        )
    images = _tensor(images)
    shape = tuple(images.shape)
    pixels = as_pixels(images)
    values, numbers = _labels(labels, len(pixels))
    if names is not None and all(isinstance(v, int) and 0 <= v < len(names) for v in values):
        numbers = torch.tensor(values)[numbers]
        values = list(names)
    classes = tuple(map(str, values))
    kept, taken = stratified(numbers, TEST_SHARE, 0, "test part")
    called = tuple(f"{kind}[{n}]" for n in taken.tolist())
    test = Images(pixels[taken], numbers[taken], called) if len(taken) else None
    loaded = Loaded(kind, kind, classes, may_mirror(classes), Images(pixels[kept], numbers[kept]), test=test)
    return _given(kind, shape, loaded)


def check_description(spec: str) -> None:
    """Raise DataError if `spec` describes data that was given from Python, and cannot be read again."""
    if _DESCRIPTION.fullmatch(spec):
        raise DataError(f"data {spec!r} was given from Python; give the same data again, with data=")


def _given(kind: str, shape: tuple[int, ...], loaded: Loaded) -> GivenData:
    digest = hashlib.sha256(repr(loaded.classes).encode())
    for part in (loaded.train, loaded.validation, loaded.test):
        digest.update(b"none" if part is None else repr(tuple(part.pixels.shape)).encode())
        for start in range(0, 0 if part is None else len(part), 1024):
            assert part is not None
            digest.update(part.labels[start : start + 1024].numpy().tobytes())
            digest.update(part.pixels[start : start + 1024].contiguous().numpy().tobytes())
    return GivenData(f"{kind} {'x'.join(map(str, shape))} sha256:{digest.hexdigest()[:16]}", loaded)


def _from_dataset(dataset: Any) -> tuple[Tensor, list[Any]]:
    images: Tensor | None = None
    labels = []
    count = len(dataset)
    for number in range(count):
        image, label = dataset[number]
        one = as_pixels(_tensor(image)[None])[0]
        if images is None:
            check_budget(count, one.shape[0], (one.shape[1], one.shape[2]), "dataset")
            images = torch.empty((count, *one.shape), dtype=torch.uint8)
        if one.shape != images.shape[1:]:
            raise DataError(
                f"dataset: image {number} is {'x'.join(map(str, one.shape))}, the first "
                f"{'x'.join(map(str, images.shape[1:]))} (channels, height, width); resize them in its transform"
            )
        images[number] = one
        labels.append(label.item() if isinstance(label, Tensor | np.generic) else label)
    if images is None:
        raise DataError("dataset: it is empty; give one with images")
    return images, labels


def _tensor(images: Any) -> Tensor:
    """Return images as a tensor on the CPU, which shares their memory if it can."""
    if isinstance(images, Tensor):
        return images.detach().cpu()
    try:
        array = np.asarray(images)
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    except (TypeError, ValueError) as error:
        raise DataError(f"images: no array of numbers ({error}); give images of one size") from error


def as_pixels(images: Any) -> Tensor:
    """Return images in any layout that `given_data` accepts as uint8 [N, C, H, W], sharing their memory if it can.

    Raises:
        DataError: they are no images.
    """
    x = _tensor(images)
    given = tuple(x.shape)
    if x.ndim == 3:
        x = x[:, None]
    elif x.ndim == 4 and x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.permute(0, 3, 1, 2)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or x.numel() == 0:
        raise DataError(
            f"images of shape {'x'.join(map(str, given))}: must be [N, H, W], [N, H, W, C] or [N, C, H, W], C = 1 or 3"
        )
    if x.dtype == torch.uint8:
        return x
    low, high = (float(v) for v in x.aminmax()) if x.dtype != torch.bool else (0.0, 1.0)
    fraction = x.is_floating_point() or x.dtype == torch.bool
    if not (low >= 0 and high <= (1 if fraction else 255)):  # NaN too
        raise DataError(
            f"images of {low:g} to {high:g} as {str(x.dtype).removeprefix('torch.')}: whole numbers must be 0 to 255 "
            "and fractions 0 to 1; give images before normalisation"
        )
    return (x.float() * 255).round_().to(torch.uint8) if fraction else x.to(torch.uint8)


def _labels(labels: Any, count: int) -> tuple[list[Any], Tensor]:
    """Return the different labels in order, and which of them each image has."""
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (count,) or array.dtype.kind not in "iubU":
        raise DataError(
            f"labels of shape {'x'.join(map(str, array.shape))} and type {array.dtype}: must be one whole number or "
            f"text for each of the {count} images"
        )
    values, numbers = np.unique(array, return_inverse=True)
    return values.tolist(), torch.from_numpy(numbers.astype(np.int64))
