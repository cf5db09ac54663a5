"""`ddarts export`: a trained model as a file for other runtimes, checked against PyTorch before it is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddarts.errors import RunError, SettingsError, nearest
from ddarts.nn.tasks import Kind, Task
from ddarts.pipeline import read_given
from ddarts.reporting.formatting import percent
from ddarts.results import Outcome
from ddarts.runs import paths as places
from ddarts.runs.metrics import plain
from ddarts.runtime.atomic_files import write_bytes, write_text
from ddarts.runtime.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from ddarts.data import ImageData, Normalise
    from ddarts.deploy.agreement import Agreement
    from ddarts.deploy.int8 import Accuracies
    from ddarts.deploy.samples import Samples
    from ddarts.hub.saved import SavedModel

PathLike = str | os.PathLike[str]

#: Each format, and what its file is called in a folder; None for a folder.
FORMATS: dict[str, str | None] = {
    "onnx": "model.onnx",
    "onnx-int8": "model-int8.onnx",
    "torch-export": "model.pt2",
    "safetensors": None,
}


@dataclass(frozen=True)
class ExportResult(Outcome):
    """What `ddarts.export` wrote, and how far it lies from PyTorch.

    Attributes:
        path: the file; the folder for safetensors.
        format: onnx, onnx-int8, torch-export or safetensors.
        files: all that was written.
        images: what it was checked on, in words.
        agreement: the differences found.
        calibration: which images the ranges of a quantised network are from, in words.
        accuracies: of the network and its quantised form, if there are images to measure them on.
        task: of the network, its kind.
    """

    path: Path
    format: str
    files: tuple[Path, ...]
    images: str
    agreement: Agreement
    calibration: str | None = None
    accuracies: Accuracies | None = None
    task: Kind = "classification"

    title = "export"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        yield "format", self.format
        for file in self.files:
            yield "file", f"{file} ({file.stat().st_size:,} bytes)"
        if self.calibration is not None:
            yield "calibrated on", self.calibration
            yield from self._accuracy_rows()
        yield "checked on", self.images
        yield "largest difference of a logit", f"{self.agreement.logits:.2g} (logits up to {_size(self.agreement)})"
        answer = "probability" if self.task != "regression" else "number"
        yield f"largest difference of a {answer}", f"{self.agreement.probabilities:.2g}"
        if self.format != "torch-export":
            yield "use", f"ddarts predict --model {self.path} IMAGE"

    def _accuracy_rows(self) -> Iterable[tuple[str, str]]:
        found = self.accuracies
        if found is None:
            yield Task(self.task).metric, "not measured: the data has no test or validation images"
            return
        if self.task == "regression":
            loss = f"{found.int8 - found.float32:+.4g}"
            texts = [f"{value:.4g}" for value in (found.float32, found.int8)]
        else:
            loss = f"{100 * (found.float32 - found.int8):+.2f} points".replace("-0.00", "+0.00")
            texts = [percent(value) for value in (found.float32, found.int8)]
        yield f"{found.metric} of float32 ({found.images})", texts[0]
        yield f"{found.metric} of int8 ({found.images})", f"{texts[1]} (loss {loss})"
        if found.equal is not None:
            yield "images of the same answer", f"{percent(found.equal)} of {found.count:,}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "path": str(self.path),
            "format": self.format,
            "files": [str(file) for file in self.files],
            "images": self.images,
            "count": self.agreement.count,
            "logit_difference": self.agreement.logits,
            "task": self.task,
            "probability_difference": self.agreement.probabilities,
            "largest_logit": self.agreement.largest_logit,
            "calibration": self.calibration,
            "accuracies": plain(self.accuracies),
        }


def export(
    model: PathLike,
    *,
    format: str = "onnx",
    out: PathLike | None = None,
    images: Sequence[PathLike] | PathLike = (),
    data: Any = None,
    labels: PathLike | None = None,
    tolerance: float = 1e-4,
    overwrite: bool = False,
    quiet: bool = False,
) -> ExportResult:
    """Write a trained model as a file for other runtimes, with preprocessing.json beside it.

    The file is run on images before it is written, and its logits are compared with PyTorch's.

    Args:
        model: a run, or the folder of a model.
        format: "onnx" (a file that holds all, for onnxruntime and others; needs ``ddarts[export]``), "onnx-int8" (the
            same with weights and activations of 8 bits, see `ddarts.deploy.int8`), "torch-export" (a program of
            torch.export, .pt2) or "safetensors" (a folder in the layout of the Hugging Face hub, with a model card).
        out: the file, or a folder for it; the folder ``export`` in the run (or the model's folder) if not given.
        images: files to check it on; if none are given, images of the run's data, or made ones where that is gone.
        data: data set for onnx-int8, as for `ddarts.run`: training images to calibrate on, test images to measure the
            accuracy on; that of the run if not given.
        labels: CSV file with the labels of the images in the folder `data`.
        tolerance: largest difference of a logit (of the largest logit, if that is above 1) that is not an error; for
            onnx-int8 that of the network before it is quantised.
        overwrite: replace files that are there.
        quiet: show no progress.

    Raises:
        DataError: `images` or `data` cannot be read, or do not fit the model.
        SettingsError: an unknown format, a value that does not fit it, or no data for onnx-int8.
        ModelError: the model cannot be loaded or exported, or what comes out differs from PyTorch.
        RunError: a file is there already, or cannot be written.
        MissingPackageError: an optional package is needed.
    """
    if format not in FORMATS:
        raise SettingsError(f"unknown format {format!r}{nearest(str(format), FORMATS)}")
    if data is not None and format != _INT8:
        raise SettingsError(f"data has no effect on the format {format}; leave it out, or export {_INT8}")
    if labels is not None and data is None:
        raise SettingsError("labels belong to images in a folder; name it with --data")
    limit = _positive("tolerance", tolerance)
    paths = [Path(images)] if isinstance(images, str | os.PathLike) else [Path(image) for image in images]
    folder, owner = places.model_of(model)
    target = _target(format, (owner.path if owner is not None else folder) / "export" if out is None else Path(out))
    products = _products(format, target)
    if not overwrite:
        _refuse([product for product in products if product.name != _BESIDE and product.exists()])
    with Progress("export", 3, quiet=quiet) as progress:
        saved = _load(folder, format)
        beside = products[-1]
        if not overwrite and beside.exists() and not _holds(beside, saved.config.preprocessing.to_json()):
            _refuse([beside])
        settings = {} if owner is None else next(iter(owner.settings.values()), {})
        whole = None
        if format == _INT8:
            from ddarts.deploy.samples import whole_data

            file = None if labels is None else os.fspath(labels)
            chosen = read_given({"data": data})[1] or data
            whole = whole_data(chosen, settings, saved.config.preprocessing, quiet=quiet, labels=file)
        samples = _samples(saved, paths, whole, None if owner is None else settings)
        progress.update(1, step="model and images loaded")
        agreement, calibration, accuracies = _write(format, target, saved, samples, whole, limit, progress)
        progress.update(3, step="written")
    task = saved.config.task.kind
    return ExportResult(target, format, products, samples.source, agreement, calibration, accuracies, task)


def _load(folder: Path, format: str) -> SavedModel:
    from ddarts.hub.saved import load_model

    if format in ("onnx", _INT8):
        from ddarts.deploy.onnxfile import require_exporter

        require_exporter()
    return load_model(folder)


def _samples(
    saved: SavedModel, paths: Sequence[Path], whole: ImageData | None, settings: dict[str, Any] | None
) -> Samples:
    """Return images for the check: those named, else some of the loaded data, of the run's data, or made ones."""
    from ddarts.deploy.samples import data_images, made_images, named_images, split_images

    prepared = saved.config.preprocessing
    if paths:
        return named_images(paths, prepared)
    if whole is not None:
        return split_images(whole)
    reason = "the model is in no run"
    if settings is not None:
        found = data_images(settings, prepared)
        if not isinstance(found, str):
            return found
        reason = found
    made = made_images(prepared)
    return replace(made, source=f"{made.source}: {reason}; --images names real ones")


def _write(
    format: str,
    target: Path,
    saved: SavedModel,
    samples: Samples,
    whole: ImageData | None,
    tolerance: float,
    progress: Progress,
) -> tuple[Agreement, str | None, Accuracies | None]:
    """Make the file, check it, write it; `whole` is the data set for a quantised one."""
    from ddarts.data import Normalise
    from ddarts.deploy.agreement import check, compare
    from ddarts.deploy.onnxfile import onnx_bytes, open_onnx

    network, prepared = saved.network, saved.config.preprocessing
    normalise = Normalise(prepared.mean, prepared.std)
    x = normalise(samples.pixels).contiguous()
    shape = (prepared.in_channels, *prepared.resolution)
    if format == "safetensors":
        return _write_folder(target, saved, x, tolerance), None, None
    if format == "torch-export":
        from ddarts.deploy.program import load_program, program_bytes

        data = program_bytes(network, shape, prepared)
        progress.update(2, step="traced")
        other = load_program(data)
    else:
        data = onnx_bytes(network, shape, prepared)
        progress.update(2, step="traced")
        other = open_onnx(data, str(target)).logits
    agreement = compare(network, other, x, prepared.task)
    check(agreement, tolerance, str(target))
    calibration = accuracies = None
    if whole is not None:
        data, calibration, accuracies = _quantise(data, whole, normalise, prepared.task)
        agreement = compare(network, open_onnx(data, str(target)).logits, x, prepared.task)
    write_bytes(target, data)
    write_text(target.with_name(_BESIDE), prepared.to_json())
    return agreement, calibration, accuracies


def _quantise(data: bytes, whole: ImageData, normalise: Normalise, task: Task) -> tuple[bytes, str, Accuracies | None]:
    """Return the quantised form of an ONNX file, what it was calibrated on, and the accuracies of both."""
    from ddarts.data import in_order
    from ddarts.deploy.int8 import CALIBRATION_IMAGES, accuracies, quantised
    from ddarts.deploy.onnxfile import open_onnx
    from ddarts.deploy.samples import calibration_images

    chosen = calibration_images(whole, CALIBRATION_IMAGES)
    found = quantised(data, normalise(chosen.pixels).contiguous())
    kind, split = ("validation", whole.validation) if whole.test is None else ("test", whole.test)
    if split is None or not len(split):
        return found, chosen.source, None
    float32, int8 = (open_onnx(content, "the exported network") for content in (data, found))
    return found, chosen.source, accuracies(float32, int8, in_order(split, 64, normalise=normalise), kind, task)


def _write_folder(target: Path, saved: SavedModel, x: Tensor, tolerance: float) -> Agreement:
    """Write the folder for the hub, and check what can be read from it."""
    from ddarts.deploy.agreement import check, compare
    from ddarts.hub.pretrained import write_hub_folder

    description = {name: getattr(saved.config, name) for name in ("classes", "resolution", "mean", "std", "task")}
    written = write_hub_folder(target, saved.network, saved.folder, **description)
    write_text(target / _BESIDE, saved.config.preprocessing.to_json())
    agreement = compare(saved.network, written.network.requires_grad_(False), x, saved.config.task)
    check(agreement, tolerance, str(target))
    return agreement


_BESIDE, _INT8 = "preprocessing.json", "onnx-int8"


def _target(format: str, out: Path) -> Path:
    """Return the file that is to be written; the folder for safetensors."""
    name = FORMATS[format]
    suffix, given = "" if name is None else Path(name).suffix, out.suffix.lower()
    for other, file in FORMATS.items():
        if file is not None and given == Path(file).suffix != suffix:
            raise SettingsError(f"out = {str(out)!r} names a file of the format {other}; the format is {format}")
    if name is None:
        if out.is_file():
            raise RunError(f"{out} is a file; safetensors wants a folder, name one with --out")
        return out
    if given == suffix and not out.is_dir():
        return out
    if out.is_file():
        raise RunError(f"{out} is a file that does not end in {suffix}; name a folder or a {suffix} file with --out")
    return out / name


def _products(format: str, target: Path) -> tuple[Path, ...]:
    if format == "safetensors":
        return tuple(target / name for name in ("config.json", "model.safetensors", "README.md", _BESIDE))
    return target, target.with_name(_BESIDE)


def _refuse(files: Sequence[Path]) -> None:
    if files:
        raise RunError(f"{files[0]} is there already; name another place with --out, or replace it with --overwrite")


def _holds(file: Path, text: str) -> bool:
    try:
        return file.read_bytes() == text.encode()
    except OSError:
        return False


def _positive(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise SettingsError(f"{name} = {value!r} must be a number") from None
    if not 0 < number < float("inf"):
        raise SettingsError(f"{name} = {value} must be above 0")
    return number


def _size(agreement: Agreement) -> str:
    return f"{agreement.largest_logit:.3g}"
