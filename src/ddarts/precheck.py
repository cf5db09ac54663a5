"""Checks before long work starts: what cannot end well should not begin."""

from __future__ import annotations

from ddarts.architecture.spaces import SearchSpace, build_space
from ddarts.config import EngineOptions, SearchOptions, TrainOptions
from ddarts.data import Augment, ImageData, split
from ddarts.engine import check_engine
from ddarts.errors import DataError, SettingsError
from ddarts.models.resolution import check_resolution, choose_stem


def check_search_settings(options: SearchOptions, layers: int | None) -> SearchSpace:
    """Return the space; SettingsError if it cannot be built or fewer layers are asked for than cells are searched."""
    space = build_space(options.space, cells=options.cells, nodes=options.nodes, reductions=options.reductions)
    if layers is not None and layers < options.cells:
        raise SettingsError(
            f"layers = {layers} is fewer than the {options.cells} cells that are searched; "
            f"choose {options.cells} or more layers, or search with fewer cells"
        )
    return space


def check_engine_settings(options: EngineOptions) -> None:
    """Raise SettingsError if the device is not there or cannot compute in this precision."""
    check_engine(options)


def check_search_data(options: SearchOptions, images: ImageData, validation: float, seed: int) -> None:
    """Raise SettingsError or DataError if the images are too small for the supernet or too few for a batch."""
    space = build_space(options.space, cells=options.cells, nodes=options.nodes, reductions=options.reductions)
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
