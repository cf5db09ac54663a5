"""The plan of a job before it starts: what it will do and why, how long that takes, and how much disk it needs.

Speeds are measured: a few steps of the search, and of the training of a random genotype, in a temporary run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from ddarts.config.schema import CompareSettings, RunSettings, SearchSettings, SharedSettings, TrainSettings
from ddarts.config.strategies import ShortlistOptions, TrialOptions
from ddarts.data import ImageData, search_parts, split
from ddarts.errors import SettingsError, Stopped
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype
from ddarts.genotype.random import first_genotype
from ddarts.nn.resolution import check_resolution, choose_stem
from ddarts.runs.folder import Hooks, RunFolder
from ddarts.runtime.progress import counted, format_seconds
from ddarts.searching.start import StartingPoint, pretrain_epochs, space_of
from ddarts.training.schedule import is_evaluated

#: Steps that are measured at least, and of slow ones; the first one warms up and is not counted.
_STEPS, _FEWEST = 5, 3
#: Seconds for which a speed is measured at most, if so many steps are done.
_SECONDS = 3.0
#: What follows a training besides the test: latency, export, drawings, the report. Seconds, about.
_AFTERWARDS = 10.0
#: And the latency and the test of the standard network.
_AFTER_REFERENCE = 4.0
#: Share of a training step that images of half the width and height save: 0.70 to 0.76 with five random networks.
_SAVED_AT_HALF = 0.7
#: Files of a run besides checkpoints and model, in bytes, about.
_FILES = 3_000_000


@dataclass(frozen=True)
class Speed:
    """What a stage costs on this machine: seconds per step and for the end of an epoch, bytes of its checkpoints."""

    step_s: float
    epoch_s: float
    disk: int


@dataclass(frozen=True)
class Speeds:
    """Of a search in a supernet, None for a search by trials; of a training; and of the standard network's, if any."""

    search: Speed | None
    train: Speed
    reference: Speed | None = None

    @property
    def trainings(self) -> Speed:
        """Of the training and that of the standard network, which has as many steps, together."""
        other = self.reference or Speed(0.0, 0.0, 0)
        return Speed(*(a + b for a, b in zip(astuple(self.train), astuple(other), strict=True)))


Trained = TypeVar("Trained", bound=TrainSettings)

#: Seconds of a plan that a run keeps.
_KEPT = ("search", "train", "reference", "rest", "setup")


@dataclass(frozen=True)
class Plan:
    """What a job will do.

    Attributes:
        lines: for people.
        search_s, train_s, rest_s: seconds of the stages and of what follows.
        disk: bytes.
        reference_s: seconds of the training of the standard network.
        setup_s: seconds that were used before the search.
        final: whether a time budget has settled the training for the network that was found.
    """

    lines: tuple[str, ...]
    search_s: float
    train_s: float
    rest_s: float
    disk: int
    reference_s: float = 0.0
    setup_s: float = 0.0
    final: bool = False

    @classmethod
    def of(cls, run: RunFolder | None) -> Plan:
        """Return what `keep` has left in a run; zeros if it was killed before."""
        kept = {} if run is None else run.summary.get("plan", {})
        search_s, train_s, reference_s, rest_s, setup_s = (float(kept.get(f"{name}_s", 0.0)) for name in _KEPT)
        return cls((), search_s, train_s, rest_s, 0, reference_s, setup_s, bool(kept.get("final")))

    def keep(self, run: RunFolder) -> None:
        """Write the plan into the summary of a run."""
        seconds = {f"{name}_s": round(getattr(self, f"{name}_s"), 1) for name in _KEPT}
        run.update_summary(plan={**seconds, "final": self.final})


class _Enough(Exception):  # noqa: N818 (no error: it ends a measurement)
    pass


def _measure(work: Callable[[RunFolder], Any], seconds: float) -> Speed:
    """Let `work` run in a temporary folder until enough steps are done."""
    moments: list[tuple[float, int]] = []

    def look(record: dict[str, Any]) -> None:
        moments.append((time.perf_counter(), record["epoch"]))
        spent = moments[-1][0] - moments[0][0]
        if (len(moments) >= _STEPS and spent >= seconds) or (len(moments) >= _FEWEST and spent >= 4 * seconds):
            raise _Enough

    with tempfile.TemporaryDirectory(prefix="ddarts-") as place:
        with RunFolder.create(Path(place) / "speed") as run:
            run.hooks = Hooks(on_step=look)
            try:
                work(run)
            except _Enough:
                pass
            except Stopped:
                raise Stopped("stopped before the job has started; nothing was written") from None
        disk = sum(path.stat().st_size for path in Path(place).rglob("*.pt"))
    within = [b - a for (a, i), (b, j) in pairwise(moments) if i == j]
    across = [b - a for (a, i), (b, j) in pairwise(moments) if i != j]
    step = median(within or across)
    return Speed(step, max(median(across) - step, 0.0) if across and within else 0.0, disk)


def search_speed(
    settings: SearchSettings, images: ImageData, start: StartingPoint | None, seconds: float = _SECONDS
) -> Speed:
    """Measure a search in a supernet."""
    from ddarts.searching.loop import search_architecture

    options = settings.search.model_copy(
        update={"epochs": 1000, "pretrain_epochs": 0, "steps_per_epoch": 2, "checkpoint_steps": 10**6}
    )
    wanted = settings.model_copy(update={"search": options})
    return _measure(
        lambda run: search_architecture(wanted, replace(images, test=None), run, start=start, quiet=True), seconds
    )


def training_speed(
    genotype: AnyGenotype, settings: TrainSettings, images: ImageData, seconds: float = _SECONDS
) -> Speed:
    """Measure a final training, at full resolution."""
    from ddarts.training.loop import train_network

    options = settings.train.model_copy(
        update={
            **{"epochs": 1000, "steps_per_epoch": 2, "evaluations": 1, "checkpoint_steps": 10**6},
            "half_resolution": 0.0,
        }
    )
    wanted = settings.model_copy(update={"train": options})
    return _measure(lambda run: train_network(genotype, wanted, replace(images, test=None), run, quiet=True), seconds)


def reference_of(settings: TrainSettings, images: ImageData, parameters: int, macs: int) -> ChoiceGenotype | None:
    """Return the standard network, with its size, to compare a network of these costs with.

    Returns:
        None if the settings ask for none, or no standard network is small enough for these costs and images.
    """
    if settings.reference == "none":
        return None
    from ddarts.cost.standard import standard_network

    stem = choose_stem(settings.train.stem, images.height, images.width)
    shape, classes = (images.channels, images.height, images.width), len(images.classes)
    found = standard_network(settings.reference, parameters, macs, shape, classes=classes, stem=stem)
    if found is None:
        return None
    try:
        check_resolution(*shape[1:], len(found.reductions), stem, half=settings.train.half_resolution)
    except SettingsError:  # the network that was found halves less often
        return None
    return found


def sized(settings: Trained, genotype: AnyGenotype) -> Trained:
    """Return the settings of a training with the size that a genotype was chosen for, if it was."""
    if genotype.size is None:
        return settings
    return settings.model_copy(update={"train": settings.train.model_copy(update=genotype.size._asdict())})


def training_speeds(
    genotype: AnyGenotype, settings: TrainSettings, images: ImageData, seconds: float = _SECONDS
) -> Speeds:
    """Measure a final training, and that of the standard network of this size if the settings ask for it."""
    train = training_speed(genotype, settings, images, seconds)
    if settings.reference == "none":
        return Speeds(None, train)
    reference = reference_of(settings, images, *network_costs(genotype, settings, images))
    if reference is None:
        return Speeds(None, train)
    return Speeds(None, train, training_speed(reference, sized(settings, reference), images, seconds))


def network_costs(genotype: AnyGenotype, settings: TrainSettings, images: ImageData) -> tuple[int, int]:
    """Return the parameters and multiply-adds of the network that is trained."""
    import torch

    from ddarts.cost.counting import count_macs, count_parameters
    from ddarts.nn.choice_network import build_network

    options, shape = settings.train, (images.channels, images.height, images.width)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = build_network(
            genotype,
            channels=options.channels,
            in_channels=images.channels,
            classes=len(images.classes),
            stem=choose_stem(options.stem, images.height, images.width),
        )
    return count_parameters(network), count_macs(network, shape)


# -- steps and seconds -------------------------------------------------------------------------------------------------


def search_steps(settings: SearchSettings, images: ImageData) -> int:
    """Return the steps of an epoch of a search."""
    options = settings.search
    train = split(images, validation=settings.validation, seed=settings.seed).train
    parts = search_parts(train, seed=settings.seed, weights=options.weights_share, alphas=options.alphas_share)
    steps = max(len(parts[0]) // options.batch, 1)
    return min(steps, options.steps_per_epoch or steps)


def training_steps(settings: TrainSettings, images: ImageData) -> int:
    """Return the steps of an epoch of a training."""
    options = settings.train
    steps = max(len(split(images, validation=settings.validation, seed=settings.seed).train) // options.batch, 1)
    return min(steps, options.steps_per_epoch or steps)


def evaluation_s(settings: TrainSettings, images: ImageData, speed: Speed, count: int) -> float:
    """Return the seconds for the evaluation of `count` images: a forward pass is about a third of a step."""
    return count / settings.train.batch * speed.step_s / 3


def mean_step_s(settings: TrainSettings, speed: Speed) -> float:
    """Return the seconds of a mean training step, of which some may see images of half the width and height."""
    return speed.step_s * (1 - _SAVED_AT_HALF * settings.train.half_resolution)


def training_s(settings: TrainSettings, images: ImageData, speed: Speed) -> float:
    """Return the seconds of a training, its evaluations included."""
    options = settings.train
    epochs = options.epochs
    validation = split(images, validation=settings.validation, seed=settings.seed).validation
    each = evaluation_s(settings, images, speed, len(validation or ()))
    evaluations = sum(is_evaluated(epoch + 1, epochs, options.evaluations) for epoch in range(epochs))
    step_s = mean_step_s(settings, speed)
    return epochs * (training_steps(settings, images) * step_s + speed.epoch_s) + evaluations * each


def search_s_of(settings: SearchSettings, images: ImageData, speed: Speed | None, trained: Speed | None) -> float:
    """Return the seconds of a search; of one by trials, those of the steps of the trials."""
    strategy = settings.search.strategy
    if isinstance(strategy, TrialOptions):
        return strategy.steps() * (trained.step_s if trained else 0.0)
    assert speed is not None
    epochs = pretrain_epochs(settings.search) + settings.search.epochs
    seconds = epochs * (search_steps(settings, images) * speed.step_s + speed.epoch_s)
    if isinstance(strategy, ShortlistOptions) and strategy.shortlist and trained is not None:
        seconds += strategy.effort().steps() * trained.step_s
    return seconds


# -- the plan ----------------------------------------------------------------------------------------------------------


def plan_job(
    settings: SharedSettings,
    images: ImageData,
    *,
    start: StartingPoint | None = None,
    genotype: AnyGenotype | None = None,
    found: tuple[str, ...] = (),
    speeds: Speeds | None = None,
) -> Plan:
    """Measure the stages that the settings have, unless their speeds are given, and return the plan.

    Args:
        settings: of `ddarts.run`, `search` or `train`.
        images: the data.
        start: where a search from a baseline starts.
        genotype: what is trained; a random genotype of the search's space stands for what a search will find.
        found: names of the settings that were found from the images and the machine.
        speeds: those that were measured before.
    """
    search, train, reference = (None, None, None) if speeds is None else (speeds.search, speeds.train, speeds.reference)
    searches = settings if isinstance(settings, SearchSettings) else None
    trains = settings if isinstance(settings, TrainSettings) else None
    of = ("search.", "train.") if searches and trains else ("", "")
    lines, disk = list(_about_data(settings, images, found)), _FILES
    search_s = train_s = reference_s = rest_s = 0.0
    if trains and train is None:
        if genotype is None:
            assert searches is not None
            genotype = first_genotype(space_of(searches.search, start and start.baseline), seed=settings.seed)
        measured = training_speeds(genotype, trains, images)
        train, reference = measured.train, measured.reference
    if searches:
        options, trial = searches.search, searches.search.strategy
        if isinstance(trial, TrialOptions):
            what = f"{counted(trial.trials, 'trial')} of {counted(trial.trial_steps, 'step')}"
            if trial.trials == 1:
                made = getattr(space_of(options, start and start.baseline), "known", ())
                what = f"none: {'the hand-made network of the space' if made else 'one random genotype'} is taken"
            change = f"--{of[0]}trials, --{of[0]}trial-steps"
        else:
            search = search or search_speed(searches, images, start)
            epochs = pretrain_epochs(options) + options.epochs
            steps = counted(search_steps(searches, images), "step")
            what = f"{counted(epochs, 'epoch')} of {steps}, batch {options.batch}"
            change = f"--{of[0]}epochs, --{of[0]}batch"
        search_s = search_s_of(searches, images, search, train)
        disk += 2 * (search.disk if search else 0)
        lines.append(f"search      {what}{f', {_about(search_s)}' if search_s else ''} ({change})")
    if trains and train is not None:
        options = trains.train
        train_s = training_s(trains, images, train)
        rest_s = _AFTERWARDS + evaluation_s(trains, images, train, len(images.test or ()))
        disk += 2 * train.disk + train.disk // 2
        steps = counted(training_steps(trains, images), "step")
        what = f"{counted(options.epochs, 'epoch')} of {steps}, batch {options.batch}, C = {options.channels}"
        change = f"--{of[1]}epochs, --{of[1]}batch, --{of[1]}channels"
        lines.append(f"training    {what}, {_about(train_s)} ({change})")
        if reference is not None:
            reference_s = training_s(trains, images, reference)
            rest_s += _AFTER_REFERENCE + evaluation_s(trains, images, reference, len(images.test or ()))
            disk += 2 * reference.disk + reference.disk // 2
            what = f"a standard network of the same size, trained alike, {_about(reference_s)}"
            lines.append(f"reference   {what} (--reference none leaves it out)")
        elif isinstance(trains, RunSettings) and trains.reference == "none":
            lines.append("reference   none; --reference resnet trains a standard network of the same size alike")
    total = search_s + train_s + reference_s + rest_s
    lines.append(_in_all(total, disk))
    return Plan(("plan:", *(f"  {line}" for line in lines)), search_s, train_s, rest_s, disk, reference_s)


def plan_comparison(
    settings: CompareSettings, images: ImageData, genotypes: Sequence[AnyGenotype], found: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], list[float]]:
    """Measure a few steps of the training of each genotype.

    Args:
        settings: of `ddarts.compare`.
        images: the data.
        genotypes: what is compared.
        found: names of the settings that were found from the images and the machine.

    Returns:
        The plan for people, and the seconds of a training of each genotype with its test and latency.
    """
    alike, each, disk = TrainSettings(**settings.shared(), train=settings.train), [], _FILES
    for genotype in genotypes:
        speed = training_speed(genotype, alike, images, _SECONDS / len(genotypes))
        tested = evaluation_s(alike, images, speed, len(images.test or ()))
        each.append(training_s(alike, images, speed) + tested + _AFTER_REFERENCE)
        disk += settings.seeds * (2 * speed.disk + speed.disk // 2)
    count = settings.seeds * len(genotypes)
    epochs, steps = counted(settings.train.epochs, "epoch"), counted(training_steps(alike, images), "step")
    lines = (
        *_about_data(settings, images, found),
        f"trainings   {counted(count, 'training')} of {epochs} of {steps}, batch {settings.train.batch} "
        "(--seeds, --epochs, --batch)",
        _in_all(settings.seeds * sum(each), disk),
    )
    return ("plan:", *(f"  {line}" for line in lines)), each


def _in_all(seconds: float, disk: int) -> str:
    return f"in all      {_about(seconds)}, {disk / 2**20:.0f} MiB of disk; Ctrl-C stops, --resume continues"


def _about_data(settings: SharedSettings, images: ImageData, found: tuple[str, ...]) -> tuple[str, str]:
    why = "as chosen" if settings.resolution is not None and "resolution" not in found else images.sizes
    flip = "yes" if images.flip else "no"
    reason = "found from the data" if "flip" in found else "as chosen"
    return (
        f"resolution  {images.height}x{images.width}: {why} (--resolution)",
        f"flip        {flip}: {reason} (--{'no-' if images.flip else ''}flip)",
    )


def _about(seconds: float) -> str:
    return f"about {format_seconds(seconds)}"


def afterwards_s(speeds: Speeds) -> float:
    """Return the seconds after the trainings besides the tests."""
    return _AFTERWARDS + (_AFTER_REFERENCE if speeds.reference else 0.0)
