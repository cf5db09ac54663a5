"""Checks before long work starts: what cannot end well should not begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddarts.architecture.genotype import Genotype
from ddarts.architecture.spaces import SearchSpace
from ddarts.config import BaselineOptions, EngineOptions, SearchOptions, TrainOptions
from ddarts.data import Augment, ImageData, split
from ddarts.engine import check_engine
from ddarts.errors import DataError, SettingsError
from ddarts.models.resolution import check_resolution, choose_stem
from ddarts.searching.start import space_of
from ddarts.searching.steady import DistanceWatch
from ddarts.settinglayers import drop_none, flatten


def check_search_settings(
    options: SearchOptions, layers: int | None, threshold: float, baseline: Genotype | None
) -> SearchSpace:
    """Return the space of a search.

    Raises:
        SettingsError: it cannot be built, or fewer layers are asked for than it has cells.
        GenotypeError: the file of operation weights is broken.
    """
    space = space_of(options, baseline)
    if layers is not None and layers < space.cells:
        raise SettingsError(
            f"layers = {layers} is fewer than the {space.cells} cells that are searched; "
            f"choose {space.cells} or more layers, or search with fewer cells"
        )
    if baseline is not None:
        DistanceWatch.of(options, baseline, threshold)
    return space


def check_baseline_options(stage: str, options: SearchOptions, given: Mapping[str, Any]) -> None:
    """Raise SettingsError if an option was given that has no effect, with this baseline or without one.

    Args:
        stage: "run" or "search".
        options: the settings.
        given: what the user gave, by name or by group; presets and files may hold settings for both kinds of search.
    """
    names = {key[-1] for key in flatten(drop_none(given), stage, "", {})}
    if options.baseline is None:
        idle = names & (set(BaselineOptions.model_fields) - {"baseline", "pretrain_epochs"})
        if idle:
            raise SettingsError(f"{min(idle)} has no effect without a baseline; name one, or leave {min(idle)} out")
        return
    idle = names & {"cells", "nodes", "reductions"}
    if idle:
        raise SettingsError(
            f"{min(idle)} cannot be chosen with a baseline: {options.baseline} brings its own; leave it out"
        )


def check_engine_settings(options: EngineOptions) -> None:
    """Raise SettingsError if the device is not there or cannot compute in this precision."""
    check_engine(options)


def check_search_data(
    options: SearchOptions, space: SearchSpace, images: ImageData, validation: float, seed: int
) -> None:
    """Raise SettingsError or DataError if the images are too small for the supernet or too few for a batch."""
    check_resolution(
        images.height, images.width, len(space.reductions), choose_stem("auto", images.height, images.width)
    )
    half = len(split(images, validation=validation, seed=seed).train) // 2
    if options.batch > half:
        raise DataError(
            f"batch = {options.batch} is larger than half of the training images, on which weights and gates are "
            f"searched; choose at most {half}"
        )


def check_train_data(options: TrainOptions, images: ImageData, validation: float, seed: int, reductions: int) -> None:
    """Raise SettingsError or DataError if the images do not fit the network of so many reductions, or the batch."""
    check_resolution(images.height, images.width, reductions, choose_stem(options.stem, images.height, images.width))
    Augment(policy=options.policy).check_channels(images.channels)
    count = len(split(images, validation=validation, seed=seed).train)
    if options.batch > count:
        raise DataError(f"batch = {options.batch} is larger than the {count} training images; choose at most {count}")
