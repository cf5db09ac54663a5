from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ddarts.data import ImageData, load_data, split
from ddarts.errors import DataError

Load = Callable[..., ImageData]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a/0.png to a/39.png."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "a").mkdir()
    for n in range(40):
        pixels = np.random.default_rng(n).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "a" / f"{n}.png")
    return folder


@pytest.fixture
def load(photos: Path, tmp_path: Path) -> Load:
    """Load the photos with the given text as their file of labels."""

    def made(text: str | bytes, **options: Any) -> ImageData:
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_data(str(photos), labels=str(path), **options)

    return made


def rows(header: str, cell: Callable[[int], Any], count: int = 40) -> str:
    return "\n".join([header, *(f"a/{n}.png,{cell(n)}" for n in range(count))])


def all_labels(data: ImageData) -> torch.Tensor:
    assert data.test is not None
    return torch.cat([data.train.labels, data.test.labels])


def test_a_column_of_words_is_one_class_for_each_image(load: Load) -> None:
    data = load(rows("file,kind", lambda n: ("cat", "golden retriever")[n % 2]))
    assert (data.task.kind, data.classes) == ("classification", ("cat", "golden retriever"))
    assert data.labelled == "labels.csv: column kind: one class for each image"
    assert torch.bincount(all_labels(data)).tolist() == [20, 20]
    assert data.test is not None
    assert len(data.test) == 6


@pytest.mark.parametrize(
    ("header", "separator"), [("file,labels", "|"), ("image_name,tags", " "), ("Path,what", " | "), ("file;tags", "|")]
)
def test_names_separated_by_bars_or_spaces_are_several_labels(load: Load, header: str, separator: str) -> None:
    text = rows(header, lambda n: separator.join(["sky", "sea"][: n % 3]) or "-")
    data = load(text.replace(",", ";") if ";" in header else text)
    assert (data.task.kind, data.classes) == ("multi-label", ("sea", "sky"))
    labels = all_labels(data)
    assert labels.dtype == torch.uint8
    assert labels.sum(0).tolist() == [13, 26]


def test_several_columns_of_zeros_and_ones_are_several_labels_and_columns_without_a_name_do_not_count(
    load: Load,
) -> None:
    lines = [",file,sea,sky", *(f"{n},a/{n}.png,{n % 2},{'true' if n % 4 else '0.0'}" for n in range(40))]
    data = load("\n".join(lines))
    assert (data.task.kind, data.classes) == ("multi-label", ("sea", "sky"))
    assert all_labels(data).sum(0).tolist() == [20, 30]
    assert data.labelled == "labels.csv: a column of 0 and 1 for each label: 1.2 of 2 labels for each image"


def test_a_column_of_numbers_is_regression_with_mean_and_deviation_of_the_training_images(load: Load) -> None:
    data = load(rows("file,age", lambda n: n / 4))
    assert (data.task.kind, data.classes, data.flip) == ("regression", ("age",), False)
    assert data.labelled == "labels.csv: column age: numbers from 0 to 9.75, regression"
    assert data.task.mean == (data.train.labels.mean().item(),)
    assert data.task.std == (data.train.labels.std(correction=0).item(),)
    assert sorted(all_labels(data).flatten().tolist()) == [n / 4 for n in range(40)]
    parts = split(data, validation=0.25, seed=0)
    assert parts.validation is not None
    assert len(parts.validation) == 8  # two of each of four groups
    assert abs(parts.validation.labels.mean() - 4.875) < 1  # drawn from all of the range


def test_several_columns_of_numbers_have_a_mean_and_a_deviation_each(load: Load) -> None:
    data = load("\n".join(["file,x,y", *(f"a/{n}.png,{n},{-n * 100}" for n in range(40))]))
    assert (data.task.kind, data.classes) == ("regression", ("x", "y"))
    assert data.task.mean[1] == pytest.approx(-100 * data.task.mean[0])


def test_numbers_can_be_taken_for_classes_and_are_sorted_by_value(load: Load) -> None:
    text = rows("file,digit", lambda n: n % 11)
    assert load(text).labelled.endswith("(11 different ones; --task classification takes them for classes)")
    data = load(text, task="classification")
    assert data.classes == tuple(map(str, range(11)))
    assert load(rows("file,is_sea", lambda n: n % 2)).classes == ("0", "1")


def test_a_column_split_divides_the_images(load: Load) -> None:
    part = ("train", "Train", "valid", "test")
    data = load("\n".join(["file,split,age", *(f"a/{n}.png,{part[n % 4]},{n}" for n in range(40))]))
    assert data.validation is not None
    assert data.test is not None
    assert data.validation.labels.flatten().tolist() == list(range(2, 40, 4))
    assert data.test.names is not None
    assert data.test.names[0].endswith("a/3.png")
    assert len(data.train) == 20


def test_a_byte_order_mark_quotes_and_windows_line_ends_are_read(load: Load) -> None:
    text = rows("file,labels", lambda n: '"red|""dark, blue"""').replace("\n", "\r\n").replace("a/", "a\\")
    assert load(b"\xef\xbb\xbf" + text.encode()).classes == ('"dark, blue"', "red")


@pytest.mark.parametrize("stream", ["no", "yes"])
def test_labels_stay_with_their_images(load: Load, photos: Path, stream: str) -> None:
    data = load(rows("file,n", lambda n: n + 0.5), stream=stream)
    for image, label in zip(data.train.pixels, data.train.labels[:, 0].tolist(), strict=True):
        file = photos / "a" / f"{int(label)}.png"
        assert torch.equal(image, torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1))


def test_a_limit_keeps_some_images_of_all_of_the_range(load: Load) -> None:
    data = load(rows("file,n", lambda n: n), limit=12)
    assert len(data.train) == 12
    assert data.train.labels.max() > 30
    assert len(load(rows("file,n", lambda n: n), limit=2).train) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (rows("file,x", lambda n: "7" if n else ""), r"line 2: x = '' is empty; add a label, write - for none"),
        (rows("file,x", lambda n: "nan" if n == 3 else n), r"line 5: x = 'nan' is not finite"),
        (rows("file,x", lambda n: "inf" if n == 3 else n), r"line 5: x = 'inf' is not finite"),
        (rows("file,x", lambda n: "12o" if n == 3 else n), r"line 5: x = '12o' is no number.*--task classification"),
        (rows("file,x", lambda n: 4), r"x is 4 for all training images; nothing can be learned"),
        (rows("file,kind", lambda n: "cat"), r"one class only \('cat'\)"),
        (rows("file,x,y", lambda n: f"{n % 2},cat"), r"line 2: y = 'cat' is no number.*remove the column"),
        (rows("file,x,y", lambda n: f"{n % 2},-1"), r"columns of -1, 0 and 1; write 0 for no and 1 for yes"),
        (rows("file,split", lambda n: "train"), r"no column of labels beside file"),
        (
            rows("file,split,x", lambda n: f"extra,{n}"),
            r"line 2: split = 'extra' is no split; write train, val or test",
        ),
        (rows("file,split,x", lambda n: f"test,{n}"), r"no row has the split train"),
        (rows("name,kind", lambda n: n), r"no column names the images, only name, kind; call that column file"),
        (rows("file,x,x", lambda n: f"{n},{n}"), r"two columns are called x"),
        (rows("file,x", lambda n: f"{n},5" if n == 2 else n), r"line 4 has 3 fields, the header 2"),
        (rows("file,x", lambda n: n, 41), r"line 42: file = 'a/40.png' does not exist in .*remove the row"),
        (rows("file,x", lambda n: n) + "\na/./3.png,5", r"line 42: file = 'a/./3.png' is in line 5 too; keep one row"),
        ("file,x\n../photos/a/1.png,1", r"line 2: file = '../photos/a/1.png' is no path inside"),
        ("file,x\n/etc/passwd,1", r"line 2: file = '/etc/passwd' is no path inside"),
        ("file,x\na/../../b.png,1", r"is no path inside"),
        ("file,x\na/\0.png,1", r"does not exist"),
        ("file,x\n", r"no rows below a header"),
        ("", r"no rows below a header"),
        ('file,x\n"a/1.png,1', r"line 2: not CSV"),
        ("file,x\n" + "a" * 200000 + ",1", r"line 2: not CSV \(field larger than field limit"),
        pytest.param("file,x\n" + "a," * 50_000_000, r"a line of 100,000,000 bytes; is it CSV", id="100 MB"),
        pytest.param(
            f"file,{','.join(f'x{n}' for n in range(20_000))}\na/1.png{',1' * 20_000}",
            r"20,000 columns of labels; use at most 10,000",
            id="many columns",
        ),
        (b"file,x\n\xff\xfe,1", r"not UTF-8 \(byte 7\); save it as CSV UTF-8"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_a_way_out(load: Load, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(text)
    assert "\n" not in str(caught.value)


def test_a_task_that_the_columns_do_not_have_is_refused(load: Load) -> None:
    words = rows("file,kind", lambda n: ("cat", "dog")[n % 2])
    with pytest.raises(DataError, match=r"line 2: kind = 'cat' is no number"):
        load(words, task="regression")
    with pytest.raises(DataError, match=r"classification needs one column of classes; found x, y"):
        load(rows("file,x,y", lambda n: f"{n % 2},{n % 3 // 2}"), task="classification")
    assert load(words, task="multi-label").task.kind == "multi-label"


def test_labels_need_a_folder_and_a_file_that_is_there(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"belong to images in a folder, not to digits; name it with --data FOLDER"):
        load_data("digits", labels="labels.csv")
    with pytest.raises(DataError, match=r"labels '.*none.csv': cannot be read: No such file"):
        load_data(str(photos), labels=str(tmp_path / "none.csv"))
    with pytest.raises(DataError, match=r"not a file; name a CSV file"):
        load_data(str(photos), labels=str(tmp_path))
    with pytest.raises(DataError, match=r"task regression: what labels are is asked for a CSV file only"):
        load_data("digits", task="regression")


@given(st.binary(max_size=200))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused_in_one_line(load: Load, content: bytes) -> None:
    messages: list[str] = []
    for head in (b"", b"file,x\n", b"file,labels\na/1.png,"):
        try:
            load(head + content)
        except DataError as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)
