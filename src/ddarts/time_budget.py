"""A time for a whole job: what is searched and trained in it, and for how many steps, as measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ddarts.config.schema import RunSettings
from ddarts.config.strategies import TrialOptions
from ddarts.data import ImageData, split
from ddarts.errors import SettingsError
from ddarts.genotype.choices import AnyGenotype
from ddarts.genotype.gates import discrete_gates
from ddarts.genotype.random import first_genotype
from ddarts.planning import (
    Speeds,
    afterwards_s,
    evaluation_s,
    mean_step_s,
    network_costs,
    search_s_of,
    search_speed,
    search_steps,
    sized,
    training_speeds,
)
from ddarts.runtime.progress import format_seconds
from ddarts.searching.start import StartingPoint, budget_of, space_of
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace

#: The share of the time that is planned, and the largest share for the search.
_PLANNED, _FOR_SEARCH = 0.97, 0.3
#: The share of the time for a measurement before the search, of which there are up to six, and before the training.
_FIRST_MEASURED, _LAST_MEASURED = 0.005, 0.02
#: Seconds below which no standard network is trained unless somebody asks for it: it takes half of the training.
_WITH_REFERENCE = 1800
#: Trials at least where there is a hand-made network to be taken instead. (More and shorter ones
#: prefer shallow networks, which learn faster and end worse: docs/results.md.)
_LEAST_TRIALS = 4
#: The smallest number of steps of a training, and the smallest resolution.
_LEAST_TRAINING, _LEAST_SIDE = 20, 32
#: Epochs of a training at least, so that there is a curve, if their evaluations take little time.
_CURVE = 5
#: The network becomes narrower until its training has so many steps, down to so many channels: a
#: narrow network that is trained is better than a wide one that is not (docs/results.md).
_WIDE_STEPS, _LEAST_CHANNELS = 1500, 8
#: The seconds of a step grow with the channels to this power: 1.47 from 8 to 16.
_WIDTH_POWER = 1.5
#: Then resolution shrinks until the training has so many steps.
_ENOUGH_STEPS = 600


@dataclass(frozen=True)
class TimeBudget:
    """A time for a whole job.

    Attributes:
        seconds: the time.
        began: when the job began, by `time.perf_counter`; earlier by what it has used before it was resumed.
    """

    seconds: float
    began: float

    @property
    def left(self) -> float:
        """Seconds that can still be planned."""
        return self.began + _PLANNED * self.seconds - time.perf_counter()

    def before_the_search(
        self,
        settings: RunSettings,
        images: ImageData,
        start: StartingPoint | None,
        chosen: frozenset[str],
        reload: Callable[[int], ImageData],
    ) -> tuple[RunSettings, ImageData, Speeds]:
        """Choose width, resolution, steps of the search and, for the time being, epochs of the training.

        Args:
            settings: of the job.
            images: the data at the resolution of the settings.
            start: where a search from a baseline starts.
            chosen: dotted names of the settings that somebody chose; they stay.
            reload: loads the data at another resolution.

        Returns:
            The settings, the data, and the speeds that were measured, for `plan_job`.

        Raises:
            SettingsError: the time is too short for the smallest search and training.
        """
        seconds = self._for_measuring(_FIRST_MEASURED)
        if self.seconds < _WITH_REFERENCE and "reference" not in chosen:
            settings = settings.model_copy(update={"reference": "none"})
        space = space_of(settings.search, start and start.baseline)
        known = isinstance(space, ChoiceSpace) and bool(space.known)
        fixed = {"channels": settings.train.channels} if "train.channels" in chosen else {}
        stand_in, sized_in = _stand_in(settings, images, space, fixed)
        trained = training_speeds(stand_in, sized_in, images, seconds)
        if "train.channels" not in chosen and not settings.budget.limits and start is None:
            steps = (1 - _FOR_SEARCH) * max(self.left, 0.0) / trained.trainings.step_s
            channels = int(settings.train.channels * min(steps / _WIDE_STEPS, 1.0) ** (1 / _WIDTH_POWER)) // 4 * 4
            if (channels := max(channels, _LEAST_CHANNELS)) < settings.train.channels:
                narrower = settings.train.model_copy(update={"channels": channels})
                settings = sized_in = settings.model_copy(update={"train": narrower})
                trained = training_speeds(stand_in, settings, images, seconds)
        side = images.height
        if "resolution" not in chosen and side > _LEAST_SIDE and side == images.width:
            steps = (1 - _FOR_SEARCH) * max(self.left, 0.0) / trained.trainings.step_s
            smaller = max(int(side * min(steps / _ENOUGH_STEPS, 1.0) ** 0.5) // 8 * 8, _LEAST_SIDE)
            if smaller < side:  # the time of a step grows with the pixels
                images = replace(reload(smaller), sizes=f"so that {_ENOUGH_STEPS} training steps fit into the time")
                settings = settings.model_copy(update={"resolution": smaller})
                trained = training_speeds(stand_in, sized_in, images, seconds)
        search = None
        options = settings.search
        if isinstance(space, ChoiceSpace) and not settings.budget.limits and start is None:
            # candidates that cost alike: a larger one would win by its trial, and then be trained for fewer steps
            like = settings.budget.model_copy(update={"max_macs": network_costs(stand_in, settings, images)[1]})
            settings = settings.model_copy(update={"budget": like})
        if isinstance(trial := options.strategy, TrialOptions):
            trial = _trials_within(trial, _FOR_SEARCH * self.left / trained.train.step_s, chosen, known)
            settings = settings.model_copy(update={"search": options.model_copy(update={"strategy": trial})})
        else:
            search = search_speed(settings, images, start, seconds)
            if not {"search.epochs", "search.steps_per_epoch"} & chosen:
                steps = int(_FOR_SEARCH * self.left / search.step_s)
                per_epoch = search_steps(settings, images)
                epochs = max(min(options.epochs, steps // max(per_epoch, 1)), min(options.epochs, 5, max(steps, 1)))
                update = {"epochs": epochs, "steps_per_epoch": max(min(per_epoch, steps // epochs), 1)}
                settings = settings.model_copy(update={"search": options.model_copy(update=update)})
        left = self.left - search_s_of(settings, images, search, trained.train)
        missing = _LEAST_TRAINING * trained.trainings.step_s + afterwards_s(trained) - left
        if missing > 0:
            needed = format_seconds((self.seconds + missing) * 1.1)
            raise SettingsError(
                f"time = {format_seconds(self.seconds)} is too short for these images and networks: about {needed} are "
                "needed; allow more time, or choose fewer channels or cells"
            )
        return self._trained_in(settings, images, trained, left), images, replace(trained, search=search)

    def before_the_training(self, genotype: AnyGenotype, settings: RunSettings, images: ImageData) -> RunSettings:
        """Choose the epochs of the training anew: for the network that was found, in the time that is left."""
        seconds = self._for_measuring(_LAST_MEASURED)
        speeds = training_speeds(genotype, settings, images, seconds)
        return self._trained_in(settings, images, speeds, self.left)

    def _for_measuring(self, share: float) -> float:
        return max(min(share * self.seconds, 20.0), 0.5)

    def _trained_in(self, settings: RunSettings, images: ImageData, speeds: Speeds, left: float) -> RunSettings:
        """Return settings whose trainings, with what follows them, take `left` seconds."""
        speed = speeds.trainings
        left -= afterwards_s(speeds) + evaluation_s(settings, images, speed, len(images.test or ()))
        parts = split(images, validation=settings.validation, seed=settings.seed)
        per_epoch = max(len(parts.train) // settings.train.batch, 1)
        evaluation = evaluation_s(settings, images, speed, len(parts.validation or ()))
        times, step_s = settings.train.evaluations, mean_step_s(settings, speed)

        def overhead(epochs: int) -> float:
            every = max(1, epochs // times)
            return epochs * speed.epoch_s + -(-epochs // every) * evaluation

        epochs = max(int(left / (per_epoch * step_s + speed.epoch_s + evaluation)), 1)
        while epochs * per_epoch * step_s + overhead(epochs) < left:
            epochs += 1
        if epochs < _CURVE and overhead(_CURVE) < left / 10:
            epochs = _CURVE
        steps = int((left - overhead(epochs)) / step_s / epochs)  # the last epoch shortens all of them a little
        fewer = (epochs - 1) * per_epoch
        if fewer > epochs * steps and fewer * step_s + overhead(epochs - 1) <= left:  # or much, if epochs are short
            epochs, steps = epochs - 1, per_epoch
        update = {"epochs": epochs, "steps_per_epoch": min(max(steps, 1), per_epoch)}
        return settings.model_copy(update={"train": settings.train.model_copy(update=update)})


def _stand_in(
    settings: RunSettings, images: ImageData, space: SearchSpace | ChoiceSpace, fixed: dict[str, int]
) -> tuple[AnyGenotype, RunSettings]:
    """Return a genotype for what a search will find, within the budget, and settings with its size."""
    genotype = first_genotype(space, seed=settings.seed)
    budget = None if "latency" in settings.budget.limits else budget_of(settings, images, fixed, space)
    if budget is not None:
        genotype = budget.fit(discrete_gates(space, genotype), threshold=0.0).genotype
    return genotype, sized(settings, genotype)


def _trials_within(trial: TrialOptions, steps: float, chosen: frozenset[str], known: bool) -> TrialOptions:
    """Return the trials that take at most so many training steps, with as many steps each as there is room for.

    Args:
        trial: as many trials at most.
        steps: of all of them.
        chosen: dotted names of the settings that somebody chose; they stay.
        known: whether the first trial is a hand-made network, which is taken if good trials would take too long.
    """
    if "search.trials" not in chosen and trial.trials > 1:
        trials = min(trial.trials, int(steps * trial.trials / trial.steps()))
        trial = trial.model_copy(update={"trials": 1 if known and trials < _LEAST_TRIALS else max(trials, 2)})
    if "search.trial_steps" not in chosen and trial.trials > 1:
        share = steps * trial.trial_steps / trial.steps()
        trial = trial.model_copy(update={"trial_steps": max(int(share), 1)})
    return trial
