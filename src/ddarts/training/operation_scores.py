"""What single operations are worth: each one alone at each position of a small network, trained shortly.

Source: paper, section 5; specification, section 8. Accuracies are those of the validation part after the last epoch.
Test images never come near: the published code takes the best test accuracy over all epochs and trainings.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ddarts.config.schema import MeasureSettings, TrainSettings
from ddarts.data import ImageData, split
from ddarts.errors import DivergedError, RunError, SettingsError, Stopped
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.reference_network import reference_network, with_operation
from ddarts.runs.folder import RunFolder
from ddarts.runtime.progress import Progress
from ddarts.runtime.seeds import derive_seed
from ddarts.runtime.signals import StopRequest
from ddarts.space.operations import OPERATIONS
from ddarts.training.loop import train_network

STAGE = "measure-operations"


class Placement(NamedTuple):
    """One training: an operation alone on an edge of the reference network, for the first or another time."""

    cell: int
    position: int
    operation: str
    repeat: int

    def __str__(self) -> str:
        return f"{self.operation} in cell {self.cell}, position {self.position}"


@dataclass(frozen=True)
class OperationScores:
    """Validation accuracies of operations.

    Attributes:
        accuracies: of every placement, 0 to 1.
        statistic: "median" or "mean".
        elapsed_s: seconds of training in all.
    """

    accuracies: Mapping[Placement, float]
    statistic: str
    elapsed_s: float

    def by_position(self, operation: str) -> dict[tuple[int, int], float]:
        """Return the accuracy of an operation in percent at each (cell, position): the mean over the repeats."""
        found: dict[tuple[int, int], list[float]] = {}
        for placement, accuracy in self.accuracies.items():
            if placement.operation == operation:
                found.setdefault((placement.cell, placement.position), []).append(100 * accuracy)
        return {place: statistics.fmean(values) for place, values in sorted(found.items())}

    def weights(self) -> dict[str, float]:
        """Return the weight of each operation: the median, or mean, of its accuracies in percent over the positions."""
        over = statistics.median if self.statistic == "median" else statistics.fmean
        return {name: over(self.by_position(name).values()) for name in OPERATIONS.names()}


def placements(settings: MeasureSettings) -> tuple[Placement, ...]:
    """Return all placements in the order in which they are measured: whole repeats one after the other."""
    options = settings.measure
    return tuple(
        Placement(cell, position, operation, repeat)
        for repeat in range(options.repeats)
        for cell in range(options.cells)
        for position in range(options.positions)
        for operation in OPERATIONS.names()
    )


def measure(settings: MeasureSettings, images: ImageData, run: RunFolder, *, quiet: bool = False) -> OperationScores:
    """Measure every placement that the run has not measured yet, and return all.

    Each accuracy is appended to the run's metrics as soon as it is known, and the training under way keeps its own
    checkpoints, so a run that was killed resumes where it was and ends with the very same numbers. All trainings share
    the validation part, and each has its own seed: an operation that stands in the reference network anyway gives that
    network again and again, and one lucky training of it must not count as many.

    Raises:
        SettingsError: there is no validation part to measure on.
        DataError, SettingsError: the settings do not fit the images.
        DivergedError: a loss is not finite; the message names the placement.
        Stopped: Ctrl-C or SIGTERM.
        RunError: the run cannot be written.
    """
    check_validation(settings, images)
    parts = split(images, validation=settings.validation, seed=settings.seed)
    images = replace(images, train=parts.train, validation=parts.validation, test=None)
    network = reference_network(settings.measure.cells, settings.measure.positions)
    known = {place: value for place, (value, _) in _measured(run)}
    plan = placements(settings)
    with StopRequest() as stop, Progress(STAGE, len(plan), "training", quiet=quiet) as progress:
        for number, place in enumerate(plan, start=1):
            if place in known:
                continue
            start = time.perf_counter()
            with _told_of(place, run):
                known[place] = _train(network, place, number, settings, images, run)
            seconds = time.perf_counter() - start
            run.log(STAGE, "score", epoch=0, step=number, **place._asdict(), accuracy=known[place], seconds=seconds)
            _remove_trainings(run)
            progress.update(number, now=str(place), accuracy=known[place])
            if number < len(plan) and stop.requested:
                raise Stopped(f"stopped after {number} of {len(plan)} trainings; {_how_to_resume(run)}")
    elapsed = sum(seconds for _, (_, seconds) in _measured(run))
    return OperationScores({place: known[place] for place in plan}, settings.measure.statistic, elapsed)


def check_validation(settings: MeasureSettings, images: ImageData) -> None:
    """Raise `SettingsError` unless there are images to measure on that are not trained on."""
    if settings.validation == 0 and images.validation is None:
        raise SettingsError(
            "validation = 0 leaves no images to measure operations on; set --validation above 0, such as 0.3"
        )


def _train(
    network: Genotype, place: Placement, number: int, settings: MeasureSettings, images: ImageData, run: RunFolder
) -> float:
    """Return the validation accuracy of one training, 0 to 1, resuming from its checkpoint if it was interrupted."""
    genotype = with_operation(network, place.cell, place.position, place.operation)
    seed = derive_seed(settings.seed, STAGE, *place)
    wanted = TrainSettings(**settings.shared(seed=seed), train=settings.measure)
    path = _trainings(run) / f"{number}"
    begun = (path / "settings.yaml").is_file()
    if not begun:
        _remove_trainings(run)
    with RunFolder.open(path) if begun else RunFolder.create(path) as training:
        outcome = train_network(genotype, wanted, images, training, quiet=True)
    if outcome.val_top1 is None:
        raise RunError(f"{path}: the training ended without a validation accuracy; delete the folder and resume")
    return outcome.val_top1


def _measured(run: RunFolder) -> Iterator[tuple[Placement, tuple[float, float]]]:
    """Yield what the run has measured: a placement, its accuracy, and the seconds of training that it took."""
    for record in run.metrics(STAGE, "score"):
        try:
            place = Placement(*(record[name] for name in Placement._fields))
            yield place, (float(record["accuracy"]), float(record["seconds"]))
        except (KeyError, TypeError, ValueError):
            raise RunError(
                f"{run.path / 'metrics.jsonl'}: a line of {STAGE} holds no measurement; start a new run"
            ) from None


@contextlib.contextmanager
def _told_of(place: Placement, run: RunFolder) -> Iterator[None]:
    """Let messages of a single training name the placement, and the command that resumes."""
    try:
        yield
    except Stopped:
        raise Stopped(f"stopped while training {place}; {_how_to_resume(run)}") from None
    except DivergedError as error:
        what = str(error).partition("; likely causes")[0]
        raise DivergedError(
            f"{place}: {what}; measure again in a new run with a lower learning rate (--lr), or a smaller --clip"
        ) from None


def _how_to_resume(run: RunFolder) -> str:
    return f"resume with: ddarts {STAGE} --resume {run.path}"


def _trainings(run: RunFolder) -> Path:
    return run.path / "checkpoints" / "trainings"


def _remove_trainings(run: RunFolder) -> None:
    """Delete the folders of trainings: what they were for is in the metrics, or they are of no use."""
    shutil.rmtree(_trainings(run), ignore_errors=True)
