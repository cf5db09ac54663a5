"""Networks that the authors' code trained, as model folders: ``ddarts import-weights``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddarts.errors import DataError, RunError, SettingsError, whole_number
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.zoo.lookup import find_genotype
from ddarts.pipeline import say
from ddarts.reporting.formatting import count
from ddarts.results import Outcome
from ddarts.runtime.progress import counted

if TYPE_CHECKING:
    from ddarts.data import ImageData
    from ddarts.nn.network import Network

PathLike = str | os.PathLike[str]
Numbers = str | Sequence[float]

#: Mean and standard deviation of the channels with which the reference's train.py normalises its images.
_IMAGENET = ("ImageNet's", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CIFAR = {
    10: ("CIFAR-10's", (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    100: ("CIFAR-100's", (0.50707519, 0.48654887, 0.44091785), (0.26733428, 0.25643846, 0.27615049)),
}
_SIDES = {"cifar": 32, "imagenet": 224}
_SAME = 0.01  # largest difference of channel statistics of one data set in two encodings
_LARGE_FILE = 64 * 2**20  # bytes; smaller ones take less than two seconds


@dataclass(frozen=True)
class ImportResult(Outcome):
    """Result of `ddarts.import_weights`.

    Attributes:
        path: folder of the model.
        genotype: the architecture that was imported.
        tensors: tensors read.
        left_out: tensors of parts that do not reach the output, which are not built here.
        parameters: trainable scalars without those of the auxiliary head.
        macs: multiply-accumulate operations for one image.
        stem, channels, auxiliary: of the network; see `ddarts.nn.network.Network`.
        resolution: (height, width) of the images in pixels.
        mean, std: of each channel, of images scaled to 0..1.
        normalisation: where `mean` and `std` are from.
        classes: names of the classes.
        data: the data set that gave them, or None.
        notes: differences from the genotype.
    """

    path: Path
    genotype: Genotype
    tensors: int
    left_out: int
    parameters: int
    macs: int
    stem: str
    channels: int
    auxiliary: bool
    resolution: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    normalisation: str
    classes: tuple[str, ...]
    data: str | None = None
    notes: tuple[str, ...] = ()

    title = "imported network"
    path_key = "model"

    @property
    def next_command(self) -> str:
        """The next command."""
        if self.data is not None:
            return f"ddarts test {self.path} --data {self.data}"
        return f"ddarts predict IMAGE --model {self.path}"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        height, width = self.resolution
        yield "architecture", f"{self.genotype.name or 'genotype'}, {counted(len(self.genotype), 'cell')}"
        yield "network", f"C = {self.channels}, {self.stem} stem, {len(self.classes)} classes"
        yield "auxiliary head", "yes" if self.auxiliary else "no"
        yield "tensors", str(self.tensors)
        if self.left_out:
            verb = "tensor" if self.left_out == 1 else "tensors"
            yield "left out", f"{self.left_out} {verb} of parts that do not reach the output"
        for note in self.notes:
            yield "note", note
        yield "parameters", count(self.parameters)
        yield "MACs", count(self.macs)
        yield "images", f"{height}x{width}, {len(self.mean)} channel{'s' * (len(self.mean) != 1)}"
        yield "normalisation", f"{self.normalisation}: mean {_listed(self.mean)}, std {_listed(self.std)}"
        if self.data is None:
            yield "classes", "numbered; --data DATA names them, as ddarts test needs"
        else:
            yield "classes", f"those of {self.data}"
        yield "model", str(self.path)
        yield "next", self.next_command

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {**super().to_dict(), "next": self.next_command}


def import_weights(
    checkpoint: PathLike,
    *,
    genotype: Genotype | PathLike,
    out: PathLike,
    data: str | None = None,
    resolution: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> ImportResult:
    """Turn a checkpoint of the reference's discrete networks (aheuillet/D-DARTS, train.py) into a model folder.

    C, the stem, the number of classes and of cells, the channels of the images and the auxiliary head are read off the
    checkpoint. Nothing in it is run.

    Args:
        checkpoint: its state dict, plain or inside a training checkpoint: .pth, .pth.tar or .safetensors.
        genotype: the architecture that was trained: a `Genotype`, a file, a run, or a name.
        out: folder for the model.
        data: data set of the network, which gives the classes their names; also the resolution for a CIFAR stem, and
            mean and standard deviation where the reference's own do not apply.
        resolution: pixels a side; 32 for a CIFAR stem (or what `data` has), 224 for an ImageNet stem if not given.
        mean, std: of each channel, of images scaled to 0..1; those that train.py uses if not given.
        overwrite: replace the model in `out`.
        quiet: show no progress.

    Raises:
        ModelError: the checkpoint is broken, of another kind of network, or does not fit the genotype.
        SettingsError: an option is out of range, or missing and has no default.
        DataError: the data set cannot be read, or does not fit the network.
        RunError: `out` cannot be used.
    """
    from ddarts.cost.counting import count_macs, count_parameters
    from ddarts.hub.importing import import_network
    from ddarts.hub.saved import save_model

    checkpoint, out = Path(checkpoint), Path(out)
    side = None if resolution is None else whole_number("resolution", resolution, 2, 4096)
    given = _given_normalisation(mean, std)
    architecture = find_genotype(genotype)
    _check_out(out, overwrite)
    if not quiet and checkpoint.is_file() and checkpoint.stat().st_size >= _LARGE_FILE:
        say(f"reading {checkpoint}, {checkpoint.stat().st_size / 2**20:.0f} MiB")
    imported = import_network(checkpoint, architecture)
    network = imported.network
    images = None if data is None else _load_data(data, network, side, quiet)
    size = _resolution(network, side, images)
    normalisation, means, stds = _normalisation(network, given, images)
    classes = images.classes if images is not None else tuple(map(str, range(network.classes)))
    macs = count_macs(network, (network.in_channels, *size))
    fresh = not out.exists()
    try:
        save_model(out, network, classes=classes, resolution=size, mean=means, std=stds, auxiliary=True)
    except BaseException:
        if fresh:
            shutil.rmtree(out, ignore_errors=True)
        raise
    return ImportResult(
        path=out,
        genotype=network.genotype,
        tensors=imported.tensors,
        left_out=imported.left_out,
        parameters=count_parameters(network),
        macs=macs,
        stem=network.stem_name,
        channels=network.channels,
        auxiliary=network.auxiliary is not None,
        resolution=size,
        mean=means,
        std=stds,
        normalisation=normalisation,
        classes=classes,
        data=data,
        notes=imported.notes,
    )


def _check_out(out: Path, overwrite: bool) -> None:
    """Raise RunError unless a model can be written into `out` without harm to what is there."""
    if not out.exists():
        return
    if not out.is_dir():
        raise RunError(f"{out} is a file; name a folder for the model with --out")
    try:
        names = {path.name for path in out.iterdir()}
    except OSError as error:
        raise RunError(f"{out}: cannot be read: {error.strerror}; name another folder with --out") from None
    if names and not {"config.json", "model.safetensors"} <= names:
        raise RunError(f"{out} holds other things than a model; name a new folder with --out")
    if names and not overwrite:
        raise RunError(f"{out} holds a model already; name a new folder with --out, or replace it with --overwrite")


def _load_data(data: str, network: Network, side: int | None, quiet: bool) -> ImageData:
    """Load a data set, and check that its classes and channels are as many as the network's."""
    from ddarts.data import load_data

    if side is None and network.stem_name == "imagenet":
        side = _SIDES["imagenet"]
    images = load_data(data, resolution=side, quiet=quiet)
    for what, has, wants in (
        ("classes", len(images.classes), network.classes),
        ("image channels", images.channels, network.in_channels),
    ):
        if has != wants:
            raise DataError(
                f"{data} has {has} {what}, the network in the checkpoint {wants}; name the data set that it was "
                "trained on, or leave out --data"
            )
    return images


def _resolution(network: Network, side: int | None, images: ImageData | None) -> tuple[int, int]:
    """Return the (height, width) of the images, and check that the network can halve them often enough."""
    from ddarts.nn.resolution import check_resolution

    side = side or _SIDES[network.stem_name]
    size = (side, side) if images is None else (images.height, images.width)
    check_resolution(*size, len(network.genotype.reductions), network.stem_name)
    return size


def _normalisation(
    network: Network, given: tuple[tuple[float, ...], tuple[float, ...]] | None, images: ImageData | None
) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """Return where mean and standard deviation are from, and both.

    What is given comes first. Whoever trains with an ImageNet stem normalises as for ImageNet, whatever the data. Data
    that looks like CIFAR is CIFAR, for which the reference's own numbers are the ones that were used.
    """
    channels = network.in_channels
    if given is not None:
        for name, values in zip(("mean", "std"), given, strict=True):
            if len(values) != channels:
                raise SettingsError(f"{name} has {len(values)} values for {channels} image channels; give {channels}")
        return "as given", *given
    if channels == 3 and network.stem_name == "imagenet":
        return _IMAGENET
    usual = _CIFAR.get(network.classes) if channels == 3 else None
    if images is not None and not (usual and _is_near(usual[1] + usual[2], images.mean + images.std)):
        return f"of {images.name}", images.mean, images.std
    if usual is not None:
        return usual
    raise SettingsError(
        f"the normalisation of images with {network.classes} classes and {channels} channels is not known; "
        "give --mean and --std, or the data set with --data"
    )


def _is_near(first: Sequence[float], second: Sequence[float]) -> bool:
    return all(abs(a - b) < _SAME for a, b in zip(first, second, strict=True))


def _given_normalisation(
    mean: Numbers | None, std: Numbers | None
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise SettingsError("mean and std belong together; give both or neither")
    values = _numbers("mean", mean), _numbers("std", std)
    if any(value <= 0 for value in values[1]):
        raise SettingsError(f"std = {_listed(values[1])} must be above 0")
    return values


def _numbers(name: str, values: Numbers) -> tuple[float, ...]:
    """Return ``0.49,0.48,0.45`` or a sequence as numbers."""
    parts = values.replace(",", " ").split() if isinstance(values, str) else values
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(abs(number) <= 1e6 for number in numbers):  # NaN compares false
        raise SettingsError(f"{name} = {str(values)[:100]!r} must be a number for each channel, such as 0.49,0.48,0.45")
    return numbers


def _listed(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
