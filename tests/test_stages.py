"""The public functions on the embedded digits, as small as they can be."""

import json
from pathlib import Path

import pytest
from PIL import Image

import ddarts
from ddarts import Edge, Genotype
from ddarts.architecture.genotype import CellGenotype
from ddarts.cli import main
from ddarts.errors import DataError, RunError, SettingsError
from ddarts.places import new_run_path
from ddarts.runs import RunFolder

TINY = {"data": "digits", "limit": 60, "channels": 2, "epochs": 2, "steps_per_epoch": 2, "batch": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def genotype():
    cell = CellGenotype((Edge("sep_conv_3x3", 0, 2), Edge("skip_connect", 1, 2)), (2,))
    reduction = CellGenotype((Edge("max_pool_3x3", 0, 2),), (2,), reduction=True)
    return Genotype((cell, reduction, cell), "tiny")


@pytest.fixture(scope="module")
def trained(genotype, tmp_path_factory):
    """A run whose training is over."""
    return ddarts.train(genotype=genotype, out=tmp_path_factory.mktemp("stages") / "run", quiet=True, threads=1, **TINY)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "digit.png"
    Image.fromarray(ddarts.load_data("digits").train.pixels[0, 0].numpy()).save(path)
    return path


def test_training_leaves_everything_in_the_run(trained, genotype):
    run = RunFolder.open(trained.path)
    summary = run.summary
    assert summary["data"] == "digits"
    assert summary["seed"] == 0
    assert summary["parameters"] == trained.parameters > 0
    assert summary["macs"] == trained.macs > 0
    assert summary["train_s"] == trained.train_s > 0
    assert set(summary["versions"]) == {"ddarts", "torch", "torchvision", "python"}
    assert run.read_settings("train")["limit"] == 60
    assert Genotype.load(run.path) == genotype
    assert {p.name for p in (run.path / "cells").iterdir()} == {
        "cell_00.svg",
        "cell_01.svg",
        "cell_02.svg",
        "cells.svg",
    }
    assert (run.path / "model" / "model.safetensors").is_file()


def test_training_never_sees_the_test_images(genotype, tmp_path, monkeypatch):
    seen = []

    def spy(genotype, settings, images, run, *, quiet):
        seen.append(images)
        raise DataError("enough")

    monkeypatch.setattr("ddarts.training.loop.train_network", spy)
    with pytest.raises(DataError, match="enough"):
        ddarts.train(genotype=genotype, out=tmp_path / "run", quiet=True, **TINY)
    assert seen[0].test is None
    assert ddarts.load_data("digits").test is not None


def test_a_training_that_is_over_is_not_done_again(trained):
    before = (trained.path / "model" / "model.safetensors").stat().st_mtime_ns
    again = ddarts.train(resume=trained.path, quiet=True)
    assert again == trained
    assert (trained.path / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_testing_a_run_writes_the_result_into_it(trained):
    result = ddarts.test(trained.path, quiet=True)
    assert result.count == len(ddarts.load_data("digits").test)
    assert sum(map(sum, result.confusion)) == result.count
    assert list(result.per_class) == list("0123456789")
    run = RunFolder.open(trained.path)
    assert run.summary["test_top1"] == result.top1
    assert json.loads((run.path / "test.json").read_text()) == result.to_dict()
    assert ddarts.report(trained.path).path.is_file()


def test_testing_on_other_data_leaves_the_run_as_it_is(trained, tmp_path, image):
    for part in ("train", "test"):
        for name in "0123456789":
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for i in range(2):
                (folder / f"{i}.png").write_bytes(image.read_bytes())
    before = RunFolder.open(trained.path).summary
    result = ddarts.test(trained.path, data=tmp_path / "data", quiet=True)
    assert result.count == 20
    assert RunFolder.open(trained.path).summary == before


def test_a_model_alone_needs_the_data_named(trained, tmp_path):
    _copy(trained.path, tmp_path)
    with pytest.raises(SettingsError, match="does not say what data it is for; name them with --data"):
        ddarts.test(tmp_path / "model", quiet=True)
    assert ddarts.test(tmp_path / "model", data="digits", quiet=True).count > 0


def _copy(run, target):
    (target / "model").mkdir()
    for path in (run / "model").iterdir():
        (target / "model" / path.name).write_bytes(path.read_bytes())


def test_predictions_name_classes_and_skip_what_is_no_image(trained, image, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no image")
    result = ddarts.predict([image, tmp_path / "bad.png"], model=trained.path, top=3)
    ((name, classes),) = result.predictions
    assert name == str(image)
    assert len(classes) == 3
    assert classes[0][1] >= classes[1][1] >= classes[2][1]
    assert len(result.skipped) == 1
    assert main(["predict", str(image), "--model", str(trained.path), "--json", "--top", "1"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["predictions"][0]["classes"] == [{"class": classes[0][0], "probability": classes[0][1]}]
    with pytest.raises(DataError, match=r"bad.png"):
        ddarts.predict([image, tmp_path / "bad.png"], model=trained.path, strict=True)


def test_predicting_uses_the_newest_run_unless_told(trained, image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="no run with a trained model in runs"):
        ddarts.predict(image)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(trained.path)
    assert ddarts.predict(image).model == Path("runs/mine/model")


def test_new_runs_are_named_after_data_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ddarts.places.time.strftime", lambda form: "20250102-030405")
    first = new_run_path("/data/x")
    assert first == Path("runs/x-20250102-030405")
    assert new_run_path("fashion-mnist:/data/x") == Path("runs/fashion-mnist-20250102-030405")
    first.mkdir(parents=True)
    assert new_run_path("/data/x") == Path("runs/x-20250102-030405-2")
