"""Fail-fast checks before long work."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ddarts.config.layers import drop_none, flatten
from ddarts.config.schema import (
    BaselineOptions,
    BudgetOptions,
    EngineOptions,
    RunSettings,
    SearchSettings,
    SharedSettings,
    TrainOptions,
)
from ddarts.data import Augment, ImageData, check_share, search_parts, split, with_classes
from ddarts.errors import DataError, SettingsError
from ddarts.genotype.choices import AnyGenotype
from ddarts.nn.resolution import check_images, choose_stem
from ddarts.runtime.engine import check_engine
from ddarts.runtime.processes import find_place
from ddarts.searching.start import budget_of, space_of
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace
from ddarts.space.imported import is_imported

#: Fewest cells to which a budget reduces a search: one for each resolution.
_FEWEST_CELLS = 3
#: Channels below which a budget rather reduces the number of cells.
_COMFORTABLE = 8


def check_search_settings(settings: SearchSettings, baseline: AnyGenotype | None) -> SearchSpace | ChoiceSpace:
    """Return the space of a search.

    Raises:
        SettingsError: it cannot be built, the backend saves no memory, or fewer layers are asked for than it has cells.
    """
    options, layers = settings.search, settings.derive.layers
    if options.backend == "reference" and options.memory == "low":
        raise SettingsError("backend reference computes nothing twice; leave out memory low, or choose another backend")
    space = space_of(options, baseline)
    if isinstance(space, ChoiceSpace):
        if layers is not None:
            raise SettingsError(f"layers = {layers} has no effect in the space {space.name}; leave it out")
        return space
    if layers is not None and layers < space.cells:
        raise SettingsError(
            f"layers = {layers} is fewer than the {space.cells} cells that are searched; "
            f"choose {space.cells} or more layers, or search with fewer cells"
        )
    return space


def check_device_file(budget: BudgetOptions, space: SearchSpace | ChoiceSpace) -> None:
    """Raise GenotypeError or SettingsError if the file of latencies is not valid, or of other operations.

    Args:
        budget: the settings.
        space: of the search.
    """
    if budget.device is not None:
        from ddarts.cost.device import Device

        Device.load(Path(budget.device).expanduser()).check(space, budget.device)


def check_baseline_options(stage: str, settings: SearchSettings, given: Mapping[str, Any]) -> None:
    """Raise SettingsError if an option was given that has no effect, with this baseline or without one.

    Args:
        stage: "run" or "search".
        settings: of the stage.
        given: what the user gave, by name or by group; presets and files may hold settings for both kinds of search.
    """
    options = settings.search
    names = {key[-1] for key in flatten(drop_none(given), stage, "", {}, options.strategy.name)}
    if options.baseline is None:
        idle = names & (set(BaselineOptions.model_fields) - {"baseline", "pretrain_epochs"})
        if idle:
            raise SettingsError(f"{min(idle)} has no effect without a baseline; name one, or leave {min(idle)} out")
        return
    imported = is_imported(options.baseline)
    idle = names & (
        {"share_gates", "operation_weights", "channels"} if imported else {"baseline_weights", "never_larger"}
    )
    if idle:
        kind = "a network of torchvision or timm" if imported else "a baseline of cells"
        raise SettingsError(f"{min(idle)} has no effect with {options.baseline}, {kind}; leave it out")
    idle = names & {"cells", "nodes", "reductions"}
    if idle:
        raise SettingsError(
            f"{min(idle)} cannot be chosen with a baseline: {options.baseline} brings its own; leave it out"
        )


def fit_cells(
    settings: SearchSettings, images: ImageData, space: SearchSpace | ChoiceSpace, fixed: Mapping[str, int]
) -> int:
    """Return how many cells to search under a budget: as many as set, or as a random network of 8 channels keeps it.

    Raises:
        SettingsError: no network keeps the budget; the message says what the smallest one has.
    """
    options = settings.search
    budget = budget_of(settings, images, fixed, space)
    assert budget is not None
    fewest = options.cells
    if isinstance(space, SearchSpace) and options.baseline is None and "layers" not in fixed and not budget.layers:
        fewest = min(_FEWEST_CELLS, options.cells) if options.reductions is None else options.cells
    spaces = {n: space_of(options.model_copy(update={"cells": n}), None) for n in range(fewest, options.cells)}
    budget.check(spaces.get(fewest, space))
    for cells in range(options.cells, fewest, -1):
        if budget.typical_use(spaces.get(cells, space), budget.channels or _COMFORTABLE) <= 1:
            return cells
    return fewest


def settle_time(settings: RunSettings, chosen: Collection[str]) -> RunSettings:
    """Return the settings of a job, without a preset's time where somebody chose what follows from it.

    Args:
        settings: of the job.
        chosen: dotted names of the settings that the caller chose.

    Raises:
        SettingsError: the time that the caller chose is to settle what the caller chose, too, or cannot be planned.
    """
    if settings.time is None:
        return settings
    both = sorted({"train.epochs", "train.steps_per_epoch", "train.min_steps"} & set(chosen))
    alone = find_place(settings.devices, settings.machines).size == 1
    if "time" not in chosen:
        return settings if alone and not both else settings.model_copy(update={"time": None})
    if both:
        raise SettingsError(f"{both[0]} follows from time = {settings.time:g} s; leave one of them out")
    if not alone:
        raise SettingsError("time is planned for one process; leave it out, or devices and machines")
    return settings


def check_engine_settings(options: EngineOptions, **batches: int) -> None:
    """Raise SettingsError if the device is not available or cannot compute in this precision, or there are too few.

    Args:
        options: the settings.
        batches: images per batch, of each stage that several processes can do together; they must share it evenly.
    """
    check_engine(options)
    processes = find_place(options.devices, options.machines).size
    for batch in batches.values():
        check_share(batch, processes)


def fit_batch(stage: str, settings: Any, images: ImageData) -> int:
    """Return the batch of a stage, "search" or "train", or the largest that fits if there are fewer images."""
    if stage == "search":
        most, _ = _search_limit(settings, images)
    else:
        most = len(split(images, validation=settings.validation, seed=settings.seed).train)
    batch = getattr(settings, stage).batch
    processes = find_place(settings.devices, settings.machines).size
    most -= most % processes
    return batch if batch <= most or most < 2 else most


def fit_epochs(options: TrainOptions, settings: SharedSettings, images: ImageData) -> int:
    """Return the epochs of a training, more of them if they would have fewer than `min_steps` steps."""
    steps = len(split(images, validation=settings.validation, seed=settings.seed).train) // options.batch
    steps = max(min(steps, options.steps_per_epoch or steps), 1)
    return max(options.epochs, -(-options.min_steps // steps))


def _search_limit(settings: SearchSettings, images: ImageData) -> tuple[int, str]:
    """Return how many images there are for the weights or for the alphas, the smaller number, and which they are."""
    options, seed = settings.search, settings.seed
    if options.search_classes is not None:
        images = with_classes(images, options.search_classes, seed=seed)
    train = split(images, validation=settings.validation, seed=seed).train
    if options.weights_share is None and options.alphas_share is None:
        return len(train) // 2, "half of the training images"
    parts = search_parts(train, seed=seed, weights=options.weights_share, alphas=options.alphas_share)
    return min(map(len, parts)), "the smaller share of the training images"


def check_task(settings: SharedSettings, images: ImageData) -> None:
    """Raise SettingsError if a setting has no meaning for the task of the images."""
    if settings.balance != "none" and images.task.kind == "regression":
        raise SettingsError(
            f"balance = {settings.balance} is for classes and has no effect on regression; leave it out"
        )


def check_search_data(settings: SearchSettings, space: SearchSpace | ChoiceSpace, images: ImageData) -> None:
    """Raise SettingsError or DataError if the images are too small for the supernet or too few for a batch."""
    check_task(settings, images)
    check_images(images.height, images.width, space, choose_stem("auto", images.height, images.width))
    half, what = _search_limit(settings, images)
    if settings.search.batch > half:
        raise DataError(
            f"batch = {settings.search.batch} is larger than {what}, on which weights and gates are searched; "
            f"choose at most {half}"
        )


def check_train_data(
    options: TrainOptions, settings: SharedSettings, images: ImageData, of: SearchSpace | ChoiceSpace | AnyGenotype
) -> None:
    """Raise SettingsError or DataError if the images do not fit the networks of a space or genotype, or the batch."""
    check_task(settings, images)
    stem = choose_stem(options.stem, images.height, images.width)
    check_images(images.height, images.width, of, stem, half=options.half_resolution)
    Augment(policy=options.policy).check_channels(images.channels)
    count = len(split(images, validation=settings.validation, seed=settings.seed).train)
    if options.batch > count:
        raise DataError(f"batch = {options.batch} is larger than the {count} training images; choose at most {count}")
