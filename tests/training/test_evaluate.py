from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ddarts.data import ImageData, Images
from ddarts.errors import DataError
from ddarts.genotype.random import random_genotype
from ddarts.hub.saved import ModelError, load_model, save_model
from ddarts.nn.network import Network
from ddarts.nn.preprocessing import Preprocessing
from ddarts.nn.tasks import Task
from ddarts.space.cell_space import build_space
from ddarts.training.evaluate import classify_files, evaluate, predict_images, test_model


class _Table(nn.Module):
    """Answers with its input: [B, classes] logits come in, the same go out."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_numbers_are_those_counted_by_hand() -> None:
    logits = torch.tensor([[9.0, 0, 0], [0, 9, 0], [9, 0, 0], [0, 0, 9]])
    labels = torch.tensor([0, 1, 1, 1])
    batches = [(logits[:3], labels[:3]), (logits[3:], labels[3:])]
    found = evaluate(_Table(), batches, classes=3)
    assert found.count == 4
    assert found.top1 == 0.5
    assert found.confusion == ((1, 0, 0), (1, 1, 1), (0, 0, 0))
    assert found.per_class == (1.0, pytest.approx(1 / 3), None)
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)))


def test_the_mode_is_put_back_and_no_statistics_are_learnt() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3))
    evaluate(network, [(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))], classes=3)
    assert network.training
    assert network[0].running_mean.abs().sum() == 0


def test_no_images_is_an_error() -> None:
    with pytest.raises(DataError, match=r"no images to evaluate on"):
        evaluate(_Table(), [], classes=3)


def _data(side: int = 6, channels: int = 1) -> ImageData:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (10, channels, side, side), generator=random, dtype=torch.uint8)
    images = Images(pixels, torch.arange(10) % 2)
    mean, std = (0.4,) * channels, (0.2,) * channels
    return ImageData("toys", ("car", "doll"), channels, side, side, mean, std, False, images, None, images)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    network = Network(random_genotype(build_space(cells=2, nodes=2), seed=0), channels=2, in_channels=1, classes=2)
    network(torch.randn(8, 1, 6, 6))
    save_model(tmp_path / "model", network, classes=("car", "doll"), resolution=(6, 6), mean=(0.4,), std=(0.2,))
    return tmp_path / "model"


def test_numbers_that_are_not_finite_are_an_error(model: Path, tmp_path: Path) -> None:
    saved = load_model(model)
    with torch.no_grad():  # whatever the sign of the features, one logit overflows
        saved.network.classifier.weight.copy_(torch.tensor([[3e38], [-3e38]]).expand(2, saved.network.outputs))
    torch.nn.init.constant_(saved.network.classifier.bias, 3e38)
    about = saved.config
    save_model(model, saved.network, classes=about.classes, resolution=about.resolution, mean=about.mean, std=about.std)
    path = tmp_path / "a.png"
    Image.fromarray(numpy.random.default_rng(0).integers(0, 256, (6, 6), dtype=numpy.uint8)).save(path)
    with pytest.raises(ModelError, match=r"the answers for .*a\.png or an image before it are not finite"):
        predict_images(model, [path])
    with pytest.raises(ModelError, match="the weights are not usable; train the model again"):
        test_model(model, _data())


def test_the_test_images_are_prepared_as_the_model_asks(model: Path) -> None:
    data = _data()
    found = test_model(model, data, batch=3)
    assert found.count == 10
    shifted = dataclasses.replace(data, mean=(0.9,), std=(0.5,))  # of other training images: not the model's
    assert test_model(model, shifted) == test_model(model, data, batch=10)
    assert found.confusion == test_model(model, data).confusion


def test_data_that_does_not_fit_the_model_is_refused(model: Path) -> None:
    data = _data()
    with pytest.raises(DataError, match=r"toys has no test images"):
        test_model(model, dataclasses.replace(data, test=None))
    with pytest.raises(DataError, match=r"toys has the classes doll, car, the model car, doll;"):
        test_model(model, dataclasses.replace(data, classes=("doll", "car")))
    with pytest.raises(DataError, match=r"toys has images of 3 channels, the model wants 1"):
        test_model(model, _data(channels=3))
    with pytest.raises(DataError, match=r"7x7 pixels, the model wants 6x6; load them with resolution = 6"):
        test_model(model, _data(side=7))


def _write(path: Path, image: Tensor) -> Path:
    Image.fromarray(numpy.asarray(image[0])).save(path)
    return path


def test_predictions_are_those_of_the_network_on_the_same_pixels(model: Path, tmp_path: Path) -> None:
    data = _data()
    assert data.test is not None
    paths = [_write(tmp_path / f"{i}.png", image) for i, image in enumerate(data.test.pixels)]
    found = predict_images(model, paths, top=5, batch=4)
    assert [p.image for p in found] == [str(p) for p in paths]
    assert found.skipped == ()
    likeliest = [p.classes[0][0] for p in found]
    table = test_model(model, data).confusion
    assert likeliest.count("car") == table[0][0] + table[1][0]
    for prediction in found:
        assert {name for name, _ in prediction.classes} == {"car", "doll"}
        shares = [share for _, share in prediction.classes]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)
    assert len(predict_images(model, paths[:1], top=1)[0].classes) == 1


def test_images_of_any_size_and_colour_are_fitted(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("RGB", (40, 25), (10, 200, 30)).save(path)
    assert len(predict_images(model, [path])) == 1


def test_undecodable_images_are_named_and_skipped_or_an_error(model: Path, tmp_path: Path) -> None:
    good = _write(tmp_path / "good.png", _data().train.pixels[0])
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    found = predict_images(model, [bad, good, tmp_path / "absent.png"])
    assert [p.image for p in found] == [str(good)]
    assert [reason.split(": ")[0] for reason in found.skipped] == [str(bad), str(tmp_path / "absent.png")]
    with pytest.raises(DataError, match=r"bad\.png: not an image of a known format"):
        predict_images(model, [good, bad], strict=True)
    with pytest.raises(DataError, match=r"no image can be decoded: .*bad\.png.* \(and 1 more\)"):
        predict_images(model, [bad, bad])
    with pytest.raises(DataError, match=r"no image is named"):
        predict_images(model, [])
    os.mkfifo(tmp_path / "pipe.png")  # to open it would wait for a writer
    with pytest.raises(DataError, match=r"pipe\.png: not a regular file"):
        predict_images(model, [tmp_path / "pipe.png", good], strict=True)


def test_several_labels_are_rated_by_the_mean_of_their_average_precisions() -> None:
    outputs = torch.tensor([[-4.0, 3.0], [-2.0, -1.0], [-3.0, 2.0], [1.0, 1.0]])
    labels = torch.tensor([[0, 1], [0, 0], [1, 1], [1, 1]], dtype=torch.uint8)
    batches = [(outputs[:3], labels[:3]), (outputs[3:], labels[3:])]
    found = evaluate(_Table(), batches, classes=2, task=Task("multi-label"))
    assert found.per_class == (pytest.approx(5 / 6), 1.0)
    assert found.top1 == pytest.approx(11 / 12)
    assert found.exact == 0.75
    assert found.loss == pytest.approx(
        float(nn.functional.binary_cross_entropy_with_logits(outputs, labels.float())), rel=1e-6
    )
    assert found.confusion == ()


def test_numbers_are_rated_by_the_mean_absolute_error_in_their_unit() -> None:
    task = Task("regression", (10.0,), (2.0,))
    outputs = torch.tensor([[0.0], [1.0], [-1.0]])  # 10, 12, 8
    labels = torch.tensor([[10.0], [13.0], [7.0]], dtype=torch.float64)
    found = evaluate(_Table(), [(outputs, labels)], classes=1, task=task)
    assert found.r2 == pytest.approx(1 - 2 / 18)
    assert found.per_class == (pytest.approx(2 / 3),)
    assert found.top1 == pytest.approx(-2 / 3)
    equal = evaluate(_Table(), [(outputs, torch.full((3, 1), 10.0, dtype=torch.float64))], classes=1, task=task)
    assert equal.r2 == pytest.approx(1 - 8 / 12)  # against the spread of the training images


def test_only_labels_above_one_half_and_numbers_in_their_unit_are_predicted(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    about = {"in_channels": 1, "resolution": (4, 4), "mean": (0.5,), "std": (0.5,)}
    several = Preprocessing(**about, classes=("sea", "sky", "sun"), task=Task("multi-label"))  # type: ignore[arg-type]
    ((_, labels),) = classify_files(lambda x: torch.tensor([[1.0, -1.0, 2.0]]), several, [tmp_path / "a.png"], top=1)
    assert [name for name, _ in labels] == ["sun", "sea"]
    number = Preprocessing(**about, classes=("x", "y"), task=Task("regression", (1.0, 2.0), (10.0, 1.0)))  # type: ignore[arg-type]
    ((_, values),) = classify_files(lambda x: torch.tensor([[0.5, 3.0]]), number, [tmp_path / "a.png"])
    assert values == (("x", 6.0), ("y", 5.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "segmentation"}, "unknown task 'segmentation'"),
        ({"target_std": [0.0]}, r"target_std \[0.0\] must be above 0"),
        ({"target_mean": [1.0, 2.0]}, "must have a value for each of the classes"),
        ({"target_mean": None}, "target_mean"),
    ],
)
def test_a_description_of_a_task_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    good = Preprocessing(1, (4, 4), (0.5,), (0.5,), ("age",), Task("regression", (40.0,), (9.0,)))
    assert Preprocessing.from_json(good.to_json(), "here") == good
    with pytest.raises(ModelError, match=message):
        Preprocessing.from_json(json.dumps(json.loads(good.to_json()) | change), "here")
