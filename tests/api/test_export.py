"""`ddarts export` on a tiny run of the digits."""

import contextlib
import io
import json
import shutil
import sys

import pytest
import torch
from PIL import Image

import ddarts
from ddarts import Edge, Genotype
from ddarts.cli.main import main
from ddarts.deploy.extras import MissingPackageError, installed
from ddarts.errors import DataError, RunError, SettingsError
from ddarts.genotype.choices import random_choices
from ddarts.genotype.genotype import CellGenotype
from ddarts.nn.preprocessing import ModelError, Preprocessing
from ddarts.space.mobile import MOBILE

needs_onnx = pytest.mark.skipif(
    not all(map(installed, ("onnx", "onnxscript", "onnxruntime"))), reason="needs the extra export"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose training is over; its network has one cell."""
    cell = CellGenotype((Edge("sep_conv_3x3", 0, 2), Edge("skip_connect", 1, 2)), (2,), reduction=True)
    settings = {"data": "digits", "channels": 2, "epochs": 1, "steps_per_epoch": 2, "batch": 8, "device": "cpu"}
    out = tmp_path_factory.mktemp("export") / "run"
    return ddarts.train(genotype=Genotype((cell,), "tiny"), out=out, quiet=True, threads=1, **settings).path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "digit.png"
    Image.fromarray(ddarts.load_data("digits").test.pixels[0, 0].numpy()).save(path)
    return path


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """A folder with an ONNX file, made through the command line, and what that said."""
    out = tmp_path_factory.mktemp("exported") / "folder"
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        assert main(["export", str(run), "--out", str(out), "--quiet"]) == 0
    return out, shown.getvalue()


@needs_onnx
def test_the_command_tells_what_was_compared(run, exported):
    folder, shown = exported
    assert "64 test images of digits" in shown
    assert "largest difference of a logit" in shown
    assert {p.name for p in folder.iterdir()} == {"model.onnx", "preprocessing.json"}
    described = Preprocessing.from_json((folder / "preprocessing.json").read_text(), "x")
    assert described == ddarts.load_model(run).config.preprocessing


@needs_onnx
def test_onnx_predicts_what_the_model_does(run, exported, image, capsys):
    found = []
    for model in (run, exported[0] / "model.onnx", exported[0]):
        assert main(["predict", "--model", str(model), str(image), "--top", "10", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["predictions"])
    ours, file, folder = ({c["class"]: c["probability"] for c in p["classes"]} for (p,) in found)
    assert len(ours) == 10
    assert ours == pytest.approx(file, abs=1e-5)
    assert file == folder


@needs_onnx
def test_a_difference_above_the_tolerance_is_an_error_and_leaves_nothing(run, tmp_path):
    with pytest.raises(ModelError, match=r"model\.onnx differs from PyTorch by .* on 64 images, more than"):
        ddarts.export(run, out=tmp_path / "folder", tolerance=1e-12, quiet=True)
    assert not (tmp_path / "folder").exists()


@needs_onnx
def test_int8_is_calibrated_measured_and_predicts(run, image, tmp_path, capsys):
    assert main(["export", str(run), "--format", "onnx-int8", "--out", str(tmp_path), "--quiet"]) == 0
    shown = capsys.readouterr().out
    for text in ("512 training images of digits", "top-1 of float32 (test)", "top-1 of int8 (test)", "of 359"):
        assert text in shown
    file = tmp_path / "model-int8.onnx"
    assert {p.name for p in tmp_path.iterdir()} == {file.name, "preprocessing.json"} | {image.name}
    assert main(["predict", "--model", str(file), str(image), "--top", "10", "--json"]) == 0
    (prediction,) = json.loads(capsys.readouterr().out)["predictions"]
    (wanted,) = ddarts.predict(image, model=run, top=10).predictions
    found = {c["class"]: c["probability"] for c in prediction["classes"]}
    assert found == pytest.approx(dict(wanted[1]), abs=0.1)


@needs_onnx
def test_int8_of_a_model_without_a_run_wants_data(run, tmp_path, capsys):
    arguments = ["export", str(run / "model"), "--format", "onnx-int8", "--quiet", "--json"]
    shutil.copytree(run / "model", tmp_path / "model")
    arguments[1] = str(tmp_path / "model")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "ddarts: error: onnx-int8 needs training images to calibrate on, and the model is in no run;"
    )
    assert error.endswith("name the data set with --data\n")
    assert main([*arguments, "--data", "digits"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["calibration"] == "512 training images of digits"
    assert found["accuracies"]["count"] == 359
    assert found["accuracies"]["equal"] > 0.5


@needs_onnx
def test_int8_refuses_data_that_do_not_fit(run, tmp_path):
    pixels, labels = torch.randint(0, 256, (40, 8, 8), dtype=torch.uint8), torch.arange(40) % 10
    options = {"format": "onnx-int8", "out": tmp_path, "quiet": True}
    assert ddarts.export(run, data=(pixels, labels), **options).accuracies.count > 0
    for data, message in (
        ((pixels, labels % 5), r"classes .*, the model was trained on .*; name the data set with --data"),
        ((pixels[:, None].repeat(1, 3, 1, 1), labels), r"channels 3, the model was trained on 1;"),
    ):
        with pytest.raises(DataError, match=message):
            ddarts.export(run, data=data, overwrite=True, **options)
    with pytest.raises(DataError, match="no such data set or folder"):
        ddarts.export(run, data="nothing", overwrite=True, **options)


@needs_onnx
def test_int8_of_a_run_whose_data_is_gone_says_what_to_do(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    settings = tmp_path / "run" / "settings.yaml"
    settings.write_text(settings.read_text().replace("data: digits", "data: ./gone"))
    with pytest.raises(
        DataError, match=r"the data of the run cannot be read for .*gone.*; name the data set with --data"
    ):
        ddarts.export(tmp_path / "run", format="onnx-int8", quiet=True)


def test_torch_export_is_checked_and_written(run, tmp_path):
    result = ddarts.export(run, format="torch-export", out=tmp_path, quiet=True)
    assert result.path == tmp_path / "model.pt2"
    assert [file.name for file in result.files] == ["model.pt2", "preprocessing.json"]
    assert result.agreement.logits < 1e-5
    assert result.to_dict()["images"] == "64 test images of digits"


def test_safetensors_is_a_folder_for_the_hub(run, image, tmp_path):
    result = ddarts.export(run, format="safetensors", out=tmp_path / "hub", quiet=True)
    assert result.agreement.logits == 0
    assert "top-1 on validation images" in (tmp_path / "hub" / "README.md").read_text()
    assert ddarts.Network.from_pretrained(tmp_path / "hub").config.classes == tuple("0123456789")
    ours, theirs = (ddarts.predict(image, model=model) for model in (run, tmp_path / "hub"))
    assert ours.predictions == theirs.predictions


def test_a_network_of_choices_is_a_folder_for_the_hub_too(tmp_path):
    genotype = random_choices(MOBILE, seed=0)
    settings = {"data": "digits", "channels": 8, "epochs": 1, "steps_per_epoch": 1, "batch": 8, "device": "cpu"}
    run = ddarts.train(genotype=genotype, out=tmp_path / "run", quiet=True, threads=1, **settings).path
    result = ddarts.export(run, format="safetensors", out=tmp_path / "hub", quiet=True)
    assert result.agreement.logits == 0
    card = (tmp_path / "hub" / "README.md").read_text()
    assert f"| choices | {len(genotype)}, of the space mobile |" in card
    assert 'network = ddarts.load_model("FOLDER").network' in card
    assert ddarts.load_model(tmp_path / "hub").network.genotype == genotype


def test_the_default_place_is_in_the_run(run):
    result = ddarts.export(run, format="safetensors", quiet=True)
    assert result.path == run / "export"
    with pytest.raises(RunError, match=r"export.config\.json is there already; name another place with --out, or repl"):
        ddarts.export(run, format="safetensors", quiet=True)
    ddarts.export(run, format="safetensors", overwrite=True, quiet=True)
    # another format beside it: preprocessing.json is the same
    ddarts.export(run, format="torch-export", quiet=True)
    (run / "export" / "preprocessing.json").write_text("of another model")
    (run / "export" / "model.pt2").unlink()
    with pytest.raises(RunError, match=r"preprocessing\.json is there already"):
        ddarts.export(run, format="torch-export", quiet=True)


def test_named_images_and_made_ones_are_told_apart(run, image, tmp_path):
    def export(model, **more):
        return ddarts.export(model, format="safetensors", out=tmp_path / "x", overwrite=True, quiet=True, **more).images

    assert export(run, images=image) == "1 image that was named"
    assert export(tmp_path / "x") == "16 images of random pixels: the model is in no run; --images names real ones"
    with pytest.raises(DataError):
        export(run, images=[image, tmp_path / "none.png"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "onx"}, "unknown format 'onx'; did you mean 'onnx'?"),
        ({"format": "torch-export", "out": "x.onnx"}, "out = 'x.onnx' names a file of the format onnx; the format is"),
        (
            {"format": "onnx-int8", "out": "x.pt2"},
            "out = 'x.pt2' names a file of the format torch-export; the format is",
        ),
        ({"data": "digits"}, "data has no effect on the format onnx; leave it out, or export onnx-int8"),
        ({"tolerance": "x"}, "tolerance = 'x' must be a number"),
        ({"tolerance": 0}, "tolerance = 0 must be above 0"),
        ({"tolerance": float("nan")}, "tolerance = nan must be above 0"),
    ],
)
def test_wrong_settings_are_named(run, arguments, message):
    with pytest.raises(SettingsError, match=message.replace("?", r"\?")):
        ddarts.export(run, quiet=True, **arguments)


def test_wrong_places_are_named(run, tmp_path):
    (tmp_path / "file").write_text("")
    for format in ("onnx", "torch-export", "safetensors"):
        with pytest.raises(RunError, match="file is a file"):
            ddarts.export(run, format=format, out=tmp_path / "file", quiet=True)
    with pytest.raises(RunError, match="nowhere: there is no such model or run"):
        ddarts.export(tmp_path / "nowhere", quiet=True)


def test_a_missing_package_is_one_line(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingPackageError):
        ddarts.export(run, out=tmp_path / "x", quiet=True)
    assert main(["export", str(run), "--out", str(tmp_path / "x"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ddarts: error: the export to ONNX needs onnxscript")
    assert error.endswith("pip install 'ddarts[export]'\n")


def test_a_missing_onnx_file_is_named(image, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    with pytest.raises(ModelError, match=r"none\.onnx: no such file"):
        ddarts.predict(image, model=tmp_path / "none.onnx")
