from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from ddarts.data import load_data
from ddarts.data.encoded import may_mirror
from ddarts.errors import DataError

Maker = Callable[..., Path]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: be somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_all_is_found_from_the_files(make_folder: Maker) -> None:
    data = load_data(str(make_folder({"dog": 10, "cat": 20})))
    assert data.name == "pets"
    assert data.classes == ("cat", "dog")
    assert (data.channels, data.height, data.width) == (3, 12, 10)
    assert data.flip
    assert data.validation is None
    assert data.test is not None
    assert data.test.labels.bincount().tolist() == [3, 2]  # 15% of each class
    assert data.train.labels.bincount().tolist() == [17, 8]
    assert data.skipped == ()
    assert data.mean == pytest.approx((0.5,) * 3, abs=0.05)


def test_pixels_and_labels_belong_together(make_folder: Maker) -> None:
    root = make_folder({"cat": 6, "dog": 6})
    data = load_data(str(root))
    for number, name in enumerate(data.classes):
        files = {np.asarray(Image.open(p)).transpose(2, 0, 1).tobytes() for p in (root / name).iterdir()}
        shown = {p.numpy().tobytes() for p in data.train.pixels[data.train.labels == number]}
        assert len(shown) == 5
        assert shown < files


def test_loading_twice_gives_the_same(make_folder: Maker) -> None:
    root = str(make_folder({"cat": 9, "dog": 9}))
    assert torch.equal(load_data(root).train.pixels, load_data(root).train.pixels)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "VAL"])
def test_parts_of_its_own_are_found(make_folder: Maker, name: str) -> None:
    make_folder({"cat": 4, "dog": 4}, part="train")
    make_folder({"cat": 2, "dog": 1}, part=name)
    data = load_data(str(make_folder({"cat": 3, "dog": 3}, part="test")))
    assert data.validation is not None
    assert data.test is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (8, 3, 6)


def test_train_can_be_the_name_of_a_class(make_folder: Maker) -> None:
    assert load_data(str(make_folder({"bus": 4, "train": 4}))).classes == ("bus", "train")


def test_a_test_part_is_cut_from_train_if_there_is_none(make_folder: Maker) -> None:
    data = load_data(str(make_folder({"cat": 20, "dog": 20}, part="train")))
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (34, 6)


@pytest.mark.parametrize("stream", ["no", "yes"])
def test_test_images_know_their_files(make_folder: Maker, stream: Literal["no", "yes"]) -> None:
    root = make_folder({"cat": 20, "dog": 20})
    for broken in ("cat/003.png", "dog/007.png", "dog/019.png"):
        (root / broken).write_bytes(b"no image")
    test = load_data(root, stream=stream).test
    assert test is not None
    assert test.names is not None
    for image in (test, test.select(torch.tensor([4, 0, 3]))):
        assert image.names is not None
        for name, pixels in zip(image.names, image.pixels[:], strict=True):
            assert np.array_equal(np.asarray(Image.open(name)).transpose(2, 0, 1), pixels.numpy())


def test_grey_files_give_one_channel(make_folder: Maker) -> None:
    assert load_data(str(make_folder({"cat": 3, "dog": 3}, grey=True))).train.pixels.shape == (4, 1, 12, 10)


def test_grey_stored_as_colour_gives_one_channel(make_folder: Maker) -> None:
    root = make_folder({"cat": 3, "dog": 3}, grey=True)
    grey = load_data(str(root))
    for path in root.rglob("*.png"):
        Image.open(path).convert("RGB").save(path)
    data = load_data(str(root))
    assert data.channels == 1
    assert torch.equal(data.train.pixels, grey.train.pixels)


def test_one_colour_image_makes_all_colour(make_folder: Maker) -> None:
    root = make_folder({"cat": 3, "dog": 3}, grey=True)
    for path in sorted((root / "cat").iterdir()):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(path)
    assert load_data(str(root)).channels == 3


@pytest.mark.parametrize(("sides", "expected"), [((9, 13, 11), 11), ((30, 35, 50), 32), ((900, 800, 700), 224)])
def test_mixed_sizes_take_the_median_short_side(tmp_path: Path, sides: tuple[int, ...], expected: int) -> None:
    for name in "ab":
        (tmp_path / "train" / name).mkdir(parents=True)
        for side in sides:
            Image.new("L", (side, side + 7), ord(name)).save(tmp_path / "train" / name / f"{side}.png")
    (tmp_path / "test").symlink_to(tmp_path / "train")
    data = load_data(str(tmp_path))
    assert data.train.pixels.shape == (6, 1, expected, expected)


def test_a_resolution_can_be_asked_for(make_folder: Maker) -> None:
    data = load_data(str(make_folder({"cat": 3, "dog": 3})), resolution=6)
    assert data.train.pixels.shape == (4, 3, 6, 6)


def test_broken_files_are_named_and_skipped(make_folder: Maker) -> None:
    root = make_folder({"cat": 10, "dog": 10})
    (root / "cat" / "broken.png").write_bytes(b"nothing")
    whole = (root / "dog" / "000.png").read_bytes()
    (root / "dog" / "000.png").write_bytes(whole[: len(whole) // 2])
    data = load_data(str(root))
    assert data.test is not None
    assert len(data.train) + len(data.test) == 19
    assert len(data.skipped) == 2
    assert any(line == f"{root}/cat/broken.png: not an image of a known format" for line in data.skipped)
    assert any(line.startswith(f"{root}/dog/000.png: ") and "truncated" in line for line in data.skipped)


def test_strict_stops_at_a_broken_file(make_folder: Maker) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    (root / "dog" / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"dog/broken\.jpg: not an image of a known format; fix or remove .* --strict"):
        load_data(str(root), strict=True)


def test_other_and_hidden_files_are_ignored(make_folder: Maker) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    (root / "cat" / "notes.txt").write_text("not an image")
    (root / "cat" / ".hidden.png").write_bytes(b"broken")
    (root / ".git").mkdir()
    (root / "README.md").write_text("hello")
    data = load_data(str(root), strict=True)
    assert data.classes == ("cat", "dog")
    assert len(data.train) == 4


def test_images_in_folders_below_a_class_belong_to_it(make_folder: Maker) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    (root / "cat" / "kittens").mkdir()
    (root / "cat" / "000.png").rename(root / "cat" / "kittens" / "000.JPG")
    assert len(load_data(str(root), strict=True).train) == 4


def test_limit_reads_no_more_than_it_keeps(make_folder: Maker) -> None:
    root = make_folder({"cat": 30, "dog": 15})
    data = load_data(str(root), limit=6)
    assert data.train.labels.bincount().tolist() == [4, 2]


def test_an_empty_class_is_named(make_folder: Maker) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    (root / "emu").mkdir()
    with pytest.raises(DataError, match=r"pets/emu: an empty class, no image in it .*; add images or remove"):
        load_data(str(root))


def test_one_class_only_is_refused(make_folder: Maker) -> None:
    with pytest.raises(DataError, match=r"pets: one class only \('cat'\); telling classes apart"):
        load_data(str(make_folder({"cat": 3})))


def test_a_folder_around_the_data_set_is_recognised(make_folder: Maker) -> None:
    root = make_folder({"cat": 3, "dog": 3}, part="images")
    with pytest.raises(
        DataError, match=r"one class only \('images'\) \(is it the data set itself\? then give that folder"
    ):
        load_data(str(root))


def test_images_all_broken_are_refused(make_folder: Maker) -> None:
    root = make_folder({"cat": 2, "dog": 2})
    for path in root.rglob("*.png"):
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match=r"none of the 2 train images can be decoded \(the first: .*cat/.*png: not an"):
        load_data(str(root))


def test_a_test_part_all_broken_is_refused(make_folder: Maker) -> None:
    make_folder({"cat": 3, "dog": 3}, part="train")
    root = make_folder({"cat": 2, "dog": 2}, part="test")
    for path in (root / "test").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"none of the 4 test images can be decoded \(the first: .*test/cat/000\.png: "):
        load_data(str(root))


def test_a_class_with_nothing_readable_is_refused(make_folder: Maker) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    for path in (root / "dog").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="class 'dog' has no readable training image; add some or remove the class"):
        load_data(str(root))


def test_a_class_that_only_the_test_part_has_is_refused(make_folder: Maker) -> None:
    make_folder({"cat": 3, "dog": 3}, part="train")
    root = make_folder({"cat": 3, "emu": 3}, part="test")
    with pytest.raises(DataError, match="class 'emu' has no readable training image but is in the test part"):
        load_data(str(root))


def test_parts_without_train_are_refused(make_folder: Maker) -> None:
    make_folder({"cat": 3, "dog": 3}, part="val")
    root = make_folder({"cat": 3, "dog": 3}, part="test")
    with pytest.raises(DataError, match="has test/, val/ but no train/ with class folders; add the training images"):
        load_data(str(root))


def test_two_folders_for_one_part_are_refused(make_folder: Maker) -> None:
    for part in ("train", "val", "valid"):
        root = make_folder({"cat": 3, "dog": 3}, part=part)
    with pytest.raises(DataError, match="val/ and valid/ both name the validation part; keep one of them"):
        load_data(str(root))


def test_loose_images_without_class_folders_are_refused(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="holds neither class folders nor Parquet files; put each class in a folder"):
        load_data(str(tmp_path))


@pytest.mark.parametrize("where", ["pets", "pets/cat"])
def test_no_permission_is_told(make_folder: Maker, where: str) -> None:
    root = make_folder({"cat": 3, "dog": 3})
    load_data(str(root))
    for path in (root, *root.parents):
        path.chmod(path.stat().st_mode | 0o055)
        if path.name.startswith("pytest-of-"):
            break
    (root.parent / where).chmod(0)
    try:
        with (
            as_nobody(),
            pytest.raises(DataError, match=f"{where}: cannot be read: Permission denied; check .*permissio"),
        ):
            load_data(str(root))
    finally:
        (root.parent / where).chmod(0o755)


@pytest.mark.parametrize(
    ("classes", "mirror"),
    [
        (("cat", "dog"), True),
        (("0", "1", "10"), False),
        (("a", "b", "c"), False),
        (("turn_left", "turn_right"), False),
        (("cleft palate", "bright"), True),
    ],
)
def test_mirroring_is_guessed_from_the_class_names(classes: tuple[str, ...], mirror: bool) -> None:
    assert may_mirror(classes) is mirror


def test_flip_can_be_told(make_folder: Maker) -> None:
    assert not load_data(str(make_folder({"cat": 3, "dog": 3})), flip=False).flip


def test_only_regular_files_are_read(make_folder: Maker) -> None:
    root = make_folder({"cat": 3, "dog": 4})
    os.mkfifo(root / "cat" / "pipe.png")
    (root / "dog" / "zero.png").symlink_to("/dev/zero")
    data = load_data(str(root))
    assert data.skipped == (f"{root}/cat/pipe.png: not a regular file", f"{root}/dog/zero.png: not a regular file")


def test_names_never_reach_a_terminal_as_they_are(make_folder: Maker) -> None:
    root = make_folder({"cat": 3, "dog\x1b[31m": 3})
    (root / "cat" / "bad\x9b\n.png").write_bytes(b"no image")
    data = load_data(str(root))
    assert data.classes == ("cat", r"dog\x1b[31m")
    assert data.skipped == (rf"{root}/cat/bad\x9b\n.png: not an image of a known format",)
    with pytest.raises(DataError) as caught:
        load_data(str(root), strict=True)
    assert str(caught.value).isprintable()
