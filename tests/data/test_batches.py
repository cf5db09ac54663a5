from __future__ import annotations

import pytest
import torch

from ddarts.data import Augment, Batches, Images
from ddarts.data.augment import POLICIES
from ddarts.errors import DataError, SettingsError
from ddarts.runtime.distributed import Ranks

EVERYTHING = Augment(flip=True, crop=2, cutout=4, policy="trivialaugment")


def images(count: int = 23, channels: int = 3, height: int = 12, width: int = 9) -> Images:
    random = torch.Generator().manual_seed(count)
    pixels = torch.randint(0, 256, (count, channels, height, width), generator=random).to(torch.uint8)
    return Images(pixels, torch.arange(count) % 4)


def batches(data: Images, batch: int = 5, *, label: str = "a", seed: int = 0, **kwargs: object) -> Batches:
    channels = data.pixels.shape[1]
    return Batches(data, batch, seed=seed, label=label, mean=(0.4,) * channels, std=(0.2,) * channels, **kwargs)  # type: ignore[arg-type]


def test_batches_in_any_order_are_the_same_tensors() -> None:
    data = images()
    forwards, backwards = batches(data, augment=EVERYTHING), batches(data, augment=EVERYTHING)
    places = [(epoch, step) for epoch in (1, 2) for step in range(forwards.per_epoch)]
    first = {place: forwards.batch(*place) for place in places}
    torch.rand(7)
    for place in reversed(places):
        x, y = backwards.batch(*place)
        assert torch.equal(x, first[place][0])
        assert torch.equal(y, first[place][1])


def test_an_epoch_shows_every_image_once_and_epochs_differ_in_order() -> None:
    made = batches(images(20))
    orders = [torch.cat([made.index(epoch, step) for step in range(4)]) for epoch in (0, 1)]
    assert all(sorted(order.tolist()) == list(range(20)) for order in orders)
    assert not torch.equal(*orders)


@pytest.mark.parametrize("other", [{"label": "b"}, {"seed": 1}])
def test_another_label_or_seed_gives_another_stream(other: dict) -> None:
    data = images()
    assert not torch.equal(batches(data).index(0, 0), batches(data, **other).index(0, 0))


def test_augmentation_differs_between_steps_for_the_same_image() -> None:
    one = Images(images(1).pixels.expand(4, -1, -1, -1), torch.zeros(4, dtype=torch.int64))
    made = batches(one, 4, augment=Augment(crop=4))
    x, _ = made.batch(0, 0)
    assert not torch.equal(x[0], x[1]) or not torch.equal(x[0], x[2])
    assert not torch.equal(x, made.batch(1, 0)[0])


def test_the_global_random_stream_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    batches(images(), augment=EVERYTHING).batch(0, 0)
    assert torch.equal(before, torch.get_rng_state())


def test_batches_are_normalised_float32_channels_last() -> None:
    data = images()
    made = batches(data)
    x, y = made.batch(0, 1)
    index = made.index(0, 1)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert x.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(x, (data.pixels[index].float() / 255 - 0.4) / 0.2, rtol=0, atol=1e-5)
    assert torch.equal(y, data.labels[index])


def test_a_dtype_can_be_asked_for() -> None:
    assert batches(images(), dtype=torch.float64).batch(0, 0)[0].dtype == torch.float64


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_any_number_of_channels_and_odd_oblong_sizes_work(channels: int) -> None:
    made = batches(images(channels=channels, height=5, width=11), augment=Augment(flip=True, crop=3, cutout=3))
    assert made.batch(0, 0)[0].shape == (5, channels, 5, 11)


def test_a_policy_for_four_channels_is_refused() -> None:
    with pytest.raises(SettingsError, match="policy 'augmix': needs images of 1 or 3 channels, not 4; use policy none"):
        batches(images(channels=4), augment=Augment(policy="augmix"))


@pytest.mark.parametrize(("drop_last", "steps", "last"), [(True, 4, 5), (False, 5, 3)])
def test_a_short_last_batch_is_dropped_or_kept(drop_last: bool, steps: int, last: int) -> None:
    made = batches(images(23), drop_last=drop_last)
    assert made.per_epoch == steps
    assert len(made.batch(0, steps - 1)[1]) == last
    with pytest.raises(IndexError, match=f"step {steps}: an epoch of 'a' has steps 0 to {steps - 1}"):
        made.batch(0, steps)


def test_a_batch_larger_than_the_data_names_the_largest_that_fits() -> None:
    with pytest.raises(DataError, match="batch 24: more than the 23 images for 'a'; 23 is the largest that fits"):
        batches(images(23), 24)


def test_no_images_are_refused() -> None:
    with pytest.raises(DataError, match="no images for 'a' batches"):
        batches(Images(torch.zeros(0, 1, 4, 4, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)), 1)


def test_in_order_shows_everything_once_without_augmentation() -> None:
    data = images(23)
    shown = list(batches(data, augment=EVERYTHING).in_order(10))
    assert [len(y) for _, y in shown] == [10, 10, 3]
    assert torch.equal(torch.cat([y for _, y in shown]), data.labels)
    x = torch.cat([x for x, _ in shown])
    torch.testing.assert_close(x, (data.pixels.float() / 255 - 0.4) / 0.2, rtol=0, atol=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_shares_of_several_processes_make_the_batch_of_one(policy: str) -> None:
    augment = Augment(flip=True, crop=2, cutout=3, policy=policy)
    whole = batches(images(), 6, augment=augment).batch(2, 1)
    parts = [batches(images(), 6, augment=augment, ranks=Ranks(rank, 3)).batch(2, 1) for rank in range(3)]
    for number in range(2):
        assert torch.equal(torch.cat([part[number] for part in parts]), whole[number])
    everything = [batches(images(), 6, ranks=Ranks(r, 3)).in_order(4, Ranks(r, 3)) for r in range(3)]
    labels = sorted(int(label) for one in everything for _, y in one for label in y)
    assert labels == sorted(images().labels.tolist())


def test_a_batch_that_cannot_be_shared_evenly_names_the_nearest_that_can() -> None:
    with pytest.raises(SettingsError, match="batch = 5 cannot be shared evenly by 2 processes; choose 4 or 6"):
        batches(images(), 5, ranks=Ranks(0, 2))


def _uneven(large: int = 40, small: int = 2) -> Images:
    """20 to 1 in two classes, in this order; the images themselves do not count."""
    labels = torch.tensor([0] * large + [1] * small)
    return Images(torch.zeros(large + small, 1, 4, 4, dtype=torch.uint8), labels)


def test_balanced_batches_draw_small_classes_as_often_and_repeat_them_evenly() -> None:
    made = batches(_uneven(), 6, balance=True)
    orders = [torch.cat([made.index(epoch, step) for step in range(7)]) for epoch in (0, 1)]
    for order in orders:
        counts = torch.bincount(order, minlength=42)
        assert counts[:40].sum() == counts[40:].sum() == 21
        assert counts[:40].max() == 1  # no image of the large class twice
        assert sorted(counts[40:].tolist()) == [10, 11]
    assert not torch.equal(*orders)
    again = batches(_uneven(), 6, balance=True)
    assert torch.equal(again.index(1, 3), made.index(1, 3))  # whatever was asked for before


def test_of_three_classes_one_that_is_drawn_comes_once_more() -> None:
    data = Images(torch.zeros(10, 1, 4, 4, dtype=torch.uint8), torch.tensor([0] * 7 + [1] * 2 + [2]))
    made = batches(data, 10, balance=True)
    counts = [torch.bincount(data.labels[made.index(epoch, 0)]).tolist() for epoch in range(20)]
    assert all(sorted(count) == [3, 3, 4] for count in counts)
    assert len({tuple(count) for count in counts}) == 3
