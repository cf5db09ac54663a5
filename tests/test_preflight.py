"""Checks before long work: what they cost."""

import torch

from ddarts.config.schema import RunSettings, SearchOptions
from ddarts.data import Augment, Batches, ImageData, Images, search_parts, split
from ddarts.preflight import check_search_data, check_search_settings, check_train_data, fit_batch


def data(count: int = 4000, side: int = 32) -> ImageData:
    pixels = torch.zeros(count, 3, side, side, dtype=torch.uint8)
    images = Images(pixels, torch.arange(count) % 10)
    classes = tuple(f"class {n}" for n in range(10))
    return ImageData("made", classes, 3, side, side, (0.5,) * 3, (0.2,) * 3, True, images, None, images)


def allocated(work) -> int:
    """Return how many bytes of tensors `work` allocates, freed ones included."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    return sum(max(event.cpu_memory_usage, 0) for event in profile.events() if event.cpu_parent is None)


def test_no_check_split_or_batch_copies_the_images():
    images = data()
    size = images.train.pixels.nbytes
    assert allocated(lambda: images.train.pixels[:] + 0) >= size  # the measure is sound

    def work():
        settings = RunSettings(search=SearchOptions(search_classes=9))
        space = check_search_settings(settings, None)
        check_search_data(settings, space, images)
        check_train_data(settings.train, settings, images, space)
        train = split(images, validation=0.1, seed=0).train
        for half in search_parts(train, seed=0):
            Batches(half, 4, seed=0, label="a", mean=images.mean, std=images.std, augment=Augment(crop=2)).batch(0, 0)

    assert allocated(work) < size / 5


def test_a_batch_shrinks_to_what_few_images_allow():
    few = data(40, 8)
    settings = RunSettings()
    assert fit_batch("search", settings, few) == 15  # half of what validation leaves, 3 of 4 a class
    assert fit_batch("train", settings, few) == 30
    assert fit_batch("train", RunSettings(devices=4), few) == 28
    assert fit_batch("train", settings, data(4000, 8)) == settings.train.batch
