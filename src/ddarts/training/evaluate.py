"""Measuring a trained network on images, and asking it about new ones."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ddarts.data import ImageData, Normalise, in_order
from ddarts.data.decode import read_image
from ddarts.data.loaded import fit
from ddarts.data.sources.python import as_pixels
from ddarts.errors import DataError
from ddarts.hub.pretrained import Network
from ddarts.hub.saved import SavedModel, images_at_once
from ddarts.hub.saved import load_model as read_model
from ddarts.nn.folding import folded
from ddarts.nn.preprocessing import ModelError, Preprocessing
from ddarts.nn.tasks import CLASSIFICATION, Objective, Task, average_precision, scorer
from ddarts.runtime.distributed import Ranks
from ddarts.runtime.engine import resolve_device
from ddarts.training.mistakes import Mistake, WorstMistakes


@dataclass(frozen=True)
class Evaluation:
    """How a network does on a set of images.

    Attributes:
        top1: share of images whose class is found, 0 to 1; of other tasks their score (`ddarts.nn.tasks.Task.shown`).
        loss: mean loss of the task.
        count: images.
        confusion: images, by [true class][predicted class]; empty for other tasks than classification.
        per_class: share of each class's images that are found, 0 to 1; average precision of each of several labels;
            mean absolute error of each number in its unit. None for a class without images.
        worst: the mistakes about which the network was most certain, the worst first, as many as were asked for.
    """

    top1: float
    loss: float
    count: int
    confusion: tuple[tuple[int, ...], ...]
    per_class: tuple[float | None, ...]
    worst: tuple[Mistake, ...] = ()
    exact: float | None = None
    """Share of images of which all labels are right at 0.5, where images may have several."""
    r2: float | None = None
    """Coefficient of determination, the mean over the numbers, for regression: 1 is best, 0 always naming the mean."""
    evidence: Mapping[str, Tensor] | None = None
    """Of other tasks than classification (`ddarts.nn.tasks.Task.evidence`)."""


class Prediction(NamedTuple):
    """What a network sees in one image, as (name, probability 0 to 1), the likeliest first.

    The likeliest classes; of several labels all above 0.5, perhaps none; or the numbers as (column, value).
    """

    image: str
    classes: tuple[tuple[str, float], ...]


class Predictions(list[Prediction]):
    """The predictions, in the order of the images.

    Attributes:
        skipped: images that could not be decoded, "path: reason".
        task: what was predicted.
    """

    def __init__(
        self, predictions: Iterable[Prediction] = (), skipped: Iterable[str] = (), task: Task = CLASSIFICATION
    ) -> None:
        super().__init__(predictions)
        self.task = task
        self.skipped = tuple(skipped)


class Model(SavedModel[Any]):
    """A trained network, with its description, that is called on images.

    Example::

        model = ddarts.load_model("run1")
        probabilities = model(images)  # uint8 [N, H, W, 3], [N, 3, H, W] or as `ddarts.run` takes them
        names = [model.config.classes[i] for i in probabilities.argmax(1)]
    """

    @torch.no_grad()
    def __call__(self, images: Any) -> Tensor:
        """Return the probability of each class, or the numbers of a regression, float32 [N, classes], on the CPU.

        Args:
            images: arrays or tensors as for ``data=`` (`ddarts.data.sources.python.given_data`); another size is
                brought to that of the model. For normalised images, call `network`.

        Raises:
            DataError: they are no such images, or have another number of channels.
        """
        pixels = as_pixels(images)
        config = self.config
        if pixels.shape[1] != config.in_channels:
            raise DataError(f"images of {pixels.shape[1]} channels: the model wants {config.in_channels}; convert them")
        if pixels.shape[2:] != config.resolution:
            height, width = config.resolution
            if height != width:
                raise DataError(f"images of {pixels.shape[2]}x{pixels.shape[3]}: the model wants {height}x{width}")
            pixels = fit(pixels, height)
        device = next(self.network.parameters()).device
        normalise = Normalise(config.mean, config.std, device=device)
        batch = images_at_once(self.network, config, min(256, len(pixels)), str(self.folder))
        parts = [config.task.answers(self.network(normalise(part))).cpu() for part in pixels.split(batch)]
        return torch.cat(parts)


def load_model(folder: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> Model:
    """Read a model that `ddarts.train` or `Network.save_pretrained` wrote, from its folder or its run.

    Its `network` is a `ddarts.Network`, or a `ddarts.nn.choice_network.ChoiceNetwork` where choices were searched.

    Raises:
        ModelError: a file is missing or broken; see `ddarts.hub.saved.load_model_as`.
    """
    saved = read_model(folder, device=device, cells=Network)
    if isinstance(saved.network, Network):
        saved.network.config, saved.network.folder = saved.config, saved.folder
    return Model(saved.network, saved.config, saved.folder)


@torch.no_grad()
def evaluate(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    classes: int,
    worst: int = 0,
    ranks: Ranks | None = None,
    task: Task = CLASSIFICATION,
) -> Evaluation:
    """Look at every image once, in evaluation mode; the network's mode is put back afterwards.

    Args:
        network: maps images [B, C, H, W] to logits [B, classes].
        batches: (images, labels), on the network's device.
        classes: number of classes.
        worst: how many of the worst mistakes to keep.
        ranks: processes, each with batches of its own; all of them get the figures of all images (the mistakes stay
            each one's own).
        task: what the labels are.

    Raises:
        DataError: there are no images.
    """
    was_training = network.training
    network.eval()
    try:
        table: Tensor | None = None
        mistakes = WorstMistakes(worst)
        losses: list[Tensor] = []
        rows: list[Tensor] = []  # outputs beside labels, of other tasks than classification
        loss = Objective(task).loss
        for x, labels in batches:
            logits = network(x).float()
            losses.append(loss(logits, labels).double() * len(labels))
            if task.kind != "classification":
                rows.append(torch.cat([logits, labels], 1).double().cpu())
                continue
            mistakes.add(logits, labels)
            cell = labels * classes + logits.argmax(1)
            counts = torch.bincount(cell, minlength=classes * classes)
            table = counts if table is None else table + counts
    finally:
        network.train(was_training)
    loss_sum = sum(torch.stack(losses).tolist()) if losses else 0.0
    if task.kind != "classification":
        return _evaluation(task, _gathered(rows, classes, ranks or Ranks()), classes)
    if ranks is not None and ranks.size > 1:
        counts = torch.zeros(classes * classes, device=ranks.device) if table is None else table
        own = torch.cat([counts.double(), counts.new_tensor([loss_sum], dtype=torch.float64)])
        *every, loss_sum = ranks.total(own).tolist()
        table = torch.tensor(every).long() if any(every) else None
    if table is None:
        raise DataError("there are no images to evaluate on; choose data that has some")
    confusion = table.reshape(classes, classes).tolist()
    count = sum(map(sum, confusion))
    return Evaluation(
        top1=sum(confusion[i][i] for i in range(classes)) / count,
        loss=loss_sum / count,
        count=count,
        confusion=tuple(map(tuple, confusion)),
        per_class=tuple(row[i] / sum(row) if sum(row) else None for i, row in enumerate(confusion)),
        worst=mistakes.listing(),
    )


def _gathered(rows: Sequence[Tensor], classes: int, ranks: Ranks) -> Tensor:
    """Return the rows of all processes, [N, 2 classes]."""
    own = torch.cat(list(rows)) if rows else torch.zeros(0, 2 * classes, dtype=torch.float64)
    if ranks.size > 1:
        counts = torch.zeros(ranks.size, dtype=torch.float64)
        counts[ranks.rank] = len(own)
        ends = ranks.total(counts.to(ranks.device)).cpu().cumsum(0).long().tolist()
        whole = torch.zeros(ends[-1], 2 * classes, dtype=torch.float64)
        whole[ends[ranks.rank] - len(own) : ends[ranks.rank]] = own
        own = ranks.total(whole.to(ranks.device)).cpu()
    if len(own) == 0:
        raise DataError("there are no images to evaluate on; choose data that has some")
    return own


def _evaluation(task: Task, rows: Tensor, classes: int) -> Evaluation:
    """Return how outputs compare with labels, rows [N, 2 classes]."""
    outputs, labels = rows.split(classes, 1)
    loss = float(Objective(task).loss(outputs, labels))
    evidence, every = task.evidence(outputs, labels), torch.ones(len(rows))
    if task.kind == "multi-label":
        columns = zip(outputs.split(1, 1), labels.split(1, 1), strict=True)
        found = [float(average_precision(*column)(every)) for column in columns]
        known = [value for value in found if not math.isnan(value)]
        per_class = tuple(None if math.isnan(value) else value for value in found)
        score = math.fsum(known) / max(len(known), 1)
        exact = float(((outputs > 0) == (labels > 0)).all(1).double().mean())
        return Evaluation(score, loss, len(rows), (), per_class, exact=exact, evidence=evidence)
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (task.mean, task.std))
    error = outputs * std + mean - labels
    spread = (labels - labels.mean(0)).square().sum(0)
    usual = std.square() * len(rows)  # for images that all have the same number
    r2 = 1 - error.square().sum(0) / torch.where(spread > 1e-12 * usual, spread, usual)
    per_class = tuple(error.abs().mean(0).tolist())
    score = scorer(evidence)(every)
    return Evaluation(score, loss, len(rows), (), per_class, r2=float(r2.mean()), evidence=evidence)


def test_model(
    model: str | os.PathLike[str],
    images: ImageData,
    *,
    device: str = "cpu",  # noqa: PT028 (not a test of pytest)
    batch: int = 256,  # noqa: PT028
    worst: int = 0,  # noqa: PT028
) -> Evaluation:
    """Evaluate a saved network on the test images of a data set, prepared as its training images were.

    Args:
        model: folder of the model, or of the run that trained it.
        images: a data set of the classes, channels and resolution of the model.
        device: auto, cpu, cuda or cuda:N.
        batch: images per batch.
        worst: how many of the worst mistakes to keep.

    Raises:
        DataError: there are no test images, or they do not fit the model.
        ModelError: the model cannot be loaded, or its loss is not finite.
        SettingsError: the device is not available.
    """
    saved = load_model(model, device=_device(device))
    config = saved.config
    if images.test is None:
        raise DataError(f"{images.name} has no test images; put them into a folder test/ beside train/")
    if images.task.kind != config.task.kind:
        raise DataError(
            f"{images.name} is for {images.task.kind}, the model for {config.task.kind}; test it on data with labels "
            "as those that it was trained on (--labels, --task)"
        )
    if images.classes != config.classes:
        raise DataError(
            f"{images.name} has the classes {_names(images.classes)}, the model {_names(config.classes)}; "
            "test it on data with the classes that it was trained on, in the same order"
        )
    if images.channels != config.in_channels:
        raise DataError(
            f"{images.name} has images of {images.channels} channels, the model wants {config.in_channels}; "
            "choose other data"
        )
    if (images.height, images.width) != config.resolution:
        height, width = config.resolution
        raise DataError(
            f"{images.name} has images of {images.height}x{images.width} pixels, the model wants {height}x{width}; "
            f"load them with resolution = {min(height, width)}"
        )
    normalise = Normalise(config.mean, config.std, device=_device(device))
    batch = images_at_once(saved.network, config, batch, str(saved.folder))
    batches = in_order(images.test, batch, normalise=normalise)
    found = evaluate(_for_inference(saved), batches, classes=len(config.classes), worst=worst, task=config.task)
    if not math.isfinite(found.loss):
        raise ModelError(f"{saved.folder}: the loss is {found.loss}: the weights are not usable; train the model again")
    return found


test_model.__test__ = False  # type: ignore[attr-defined]  # not a test, whatever pytest makes of the name


def predict_images(
    model: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]],
    *,
    top: int = 5,
    strict: bool = False,
    device: str = "cpu",
    batch: int = 64,
) -> Predictions:
    """Classify image files with a saved network; they are fitted to its resolution as training images were.

    Args:
        model: folder of the model, or of the run that trained it.
        paths: image files.
        top: classes to name for each image (all of them if there are fewer); of several labels all above 0.5.
        strict: raise at the first image that cannot be decoded, instead of skipping it.
        device: auto, cpu, cuda or cuda:N.
        batch: images per batch.

    Raises:
        DataError: no image can be decoded, or under `strict` the first that cannot.
        ModelError: the model cannot be loaded.
        SettingsError: the device is not available.
    """
    saved = load_model(model, device=_device(device))
    network = _for_inference(saved)

    def logits(x: Tensor) -> Tensor:
        with torch.no_grad():
            return network(x)

    prepared = saved.config.preprocessing
    batch = images_at_once(saved.network, saved.config, min(batch, len(paths)), str(saved.folder))
    return classify_files(logits, prepared, paths, top=top, strict=strict, batch=batch, device=_device(device))


def classify_files(
    logits: Callable[[Tensor], Tensor],
    prepared: Preprocessing,
    paths: Sequence[str | os.PathLike[str]],
    *,
    top: int = 5,
    strict: bool = False,
    batch: int = 64,
    device: torch.device | str = "cpu",
) -> Predictions:
    """Classify image files with a network, whatever computes it.

    Args:
        logits: maps normalised images [B, C, H, W] on `device` to logits [B, classes].
        prepared: how images are prepared, and the names of the classes.
        paths, top, strict, batch: as for `predict_images`.
        device: where `logits` wants its images.

    Raises:
        DataError: no image can be decoded, or under `strict` the first that cannot.
        ModelError: a probability is not finite.
    """
    height, width = prepared.resolution
    names: list[str] = []
    skipped: list[str] = []
    pixels: list[Tensor] = []
    probabilities: list[Tensor] = []
    normalise = Normalise(prepared.mean, prepared.std, device=device)

    def classify() -> None:
        if pixels:
            found = prepared.task.answers(logits(normalise(torch.stack(pixels)))).cpu()
            if not found.isfinite().all():
                raise ModelError(
                    f"the answers for {names[-1]} or an image before it are not finite; mean and std, or the "
                    "weights, of the model are not usable: train it again"
                )
            probabilities.append(found)
            pixels.clear()

    for path in paths:
        try:
            image = read_image(Path(path), channels=prepared.in_channels, height=height, width=width)
        except DataError as error:
            if strict:
                raise
            skipped.append(str(error))
            continue
        names.append(str(path))
        pixels.append(image)
        if len(pixels) == batch:
            classify()
    classify()
    if not names:
        more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
        raise DataError(f"no image can be decoded: {skipped[0]}{more}" if skipped else "no image is named")
    answers, kind = torch.cat(probabilities), prepared.task.kind
    values, indices = answers.topk(min(top, answers.shape[1]) if kind == "classification" else answers.shape[1], dim=1)
    if kind == "regression":
        values, indices = answers, torch.arange(answers.shape[1]).expand_as(answers)
    return Predictions(
        (
            Prediction(
                name,
                tuple(
                    (prepared.classes[i], p)
                    for i, p in zip(index, value, strict=True)
                    if kind != "multi-label" or p > 0.5
                ),
            )
            for name, index, value in zip(names, indices.tolist(), values.tolist(), strict=True)
        ),
        skipped,
        prepared.task,
    )


def _for_inference(saved: SavedModel) -> nn.Module:
    """Return the network with its batch norms folded, in channels-last memory."""
    return folded(saved.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _device(name: str) -> torch.device:
    kind, index = resolve_device(name)
    return torch.device(kind, index) if kind == "cuda" else torch.device(kind)


def _names(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:5])
    return f"{shown}, ... ({len(classes)} in all)" if len(classes) > 5 else shown
