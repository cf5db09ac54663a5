"""`ddarts import-weights`, from a checkpoint to predictions, and what it says when it cannot."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import ddarts
from ddarts.api import import_weights
from ddarts.api.import_weights import _normalisation
from ddarts.cli.main import main
from ddarts.errors import DataError, DDartsError, RunError, SettingsError
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.hub.saved import ModelError
from tests.reference.golden import golden_json, golden_tensors, relative_error
from tests.reference.mapping import genotype_from_reference
from tests.reference.plain_network import PlainEdge, PlainNetwork

EDGES: list[PlainEdge] = [("simple_conv_3x3", 2, 0), ("skip_connect", 2, 1), ("conv_7x1_1x7", 3, 2)]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def genotype() -> Genotype:
    edges = tuple(Edge(name, source, target) for name, target, source in EDGES)
    made = Genotype((CellGenotype(edges, (2, 3)), CellGenotype(edges, (2, 3), reduction=True)), "tiny")
    made.save("tiny.json")
    return made


def _checkpoint(**sizes: Any) -> PlainNetwork:
    torch.manual_seed(0)
    plain = PlainNetwork([EDGES, EDGES], (1,), **sizes).eval()
    torch.save({"epoch": 1, "state_dict": plain.state_dict()}, "model_best.pth.tar")
    return plain


def _told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["import-weights", "model_best.pth.tar", "--genotype", "tiny.json", *arguments]) == 0
    return capsys.readouterr().out


def test_a_checkpoint_becomes_a_model_that_predicts(genotype: Genotype, capsys: pytest.CaptureFixture[str]) -> None:
    plain = _checkpoint(classes=10)
    lines = [" ".join(line.split()) for line in _told(capsys, "--out", "model").splitlines()]
    assert "architecture tiny, 2 cells" in lines
    assert "network C = 4, cifar stem, 10 classes" in lines
    assert "images 32x32, 3 channels" in lines
    assert "normalisation CIFAR-10's: mean 0.4914 0.4822 0.4465, std 0.247 0.2435 0.2616" in lines
    assert lines[-1] == "next ddarts predict IMAGE --model model"
    assert sorted(path.name for path in Path("model").iterdir()) == ["config.json", "model.safetensors"]

    image = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8)
    Image.fromarray(image.numpy()).save("a.png")
    (_, classes), *rest = ddarts.predict("a.png", model="model", top=10, device="cpu").predictions
    assert rest == []
    mean = torch.tensor([0.49139968, 0.48215827, 0.44653124]).view(3, 1, 1)
    std = torch.tensor([0.24703233, 0.24348505, 0.26158768]).view(3, 1, 1)
    with torch.no_grad():
        expected = plain(((image.permute(2, 0, 1) / 255 - mean) / std)[None]).softmax(1)[0].tolist()
    assert dict(classes) == pytest.approx({str(i): p for i, p in enumerate(expected)}, rel=1e-3)


def test_the_data_set_gives_names_sizes_and_statistics_and_then_test_works(
    genotype: Genotype, capsys: pytest.CaptureFixture[str]
) -> None:
    _checkpoint(in_channels=1, classes=10)
    found = json.loads(_told(capsys, "--out", "model", "--data", "digits", "--quiet", "--json"))
    digits = ddarts.load_data("digits", quiet=True)
    assert found["classes"] == list(digits.classes)
    assert (found["resolution"], found["mean"], found["std"]) == ([8, 8], list(digits.mean), list(digits.std))
    assert found["next"] == "ddarts test model --data digits"
    tested = ddarts.test("model", data="digits", device="cpu", quiet=True)
    assert tested.count == len(digits.test)  # type: ignore[arg-type]


def test_options_come_before_what_is_assumed(genotype: Genotype) -> None:
    _checkpoint(in_channels=1, classes=10)
    options: dict[str, Any] = {"mean": "0.5", "std": [0.2], "resolution": "16"}
    found = ddarts.import_weights("model_best.pth.tar", genotype=genotype, out="a", **options)
    config = ddarts.load_model("a").config
    assert (config.mean, config.std, config.resolution) == ((0.5,), (0.2,), (16, 16))
    assert (found.normalisation, found.genotype) == ("as given", genotype)
    with_data = ddarts.import_weights("model_best.pth.tar", genotype=genotype, out="b", data="digits", **options)
    assert (with_data.mean, with_data.resolution, with_data.classes[3]) == ((0.5,), (16, 16), "3")


@pytest.mark.parametrize(
    ("sizes", "resolution", "mean"),
    [
        ({"classes": 100}, 32, 0.50707519),
        ({"classes": 10}, 32, 0.49139968),
        ({"classes": 7, "stem": "imagenet"}, 224, 0.485),
    ],
)
def test_images_are_prepared_as_the_authors_do(
    genotype: Genotype, sizes: dict[str, Any], resolution: int, mean: float
) -> None:
    _checkpoint(**sizes)
    found = ddarts.import_weights("model_best.pth.tar", genotype="tiny.json", out="model")
    assert (found.resolution, found.mean[0]) == ((resolution, resolution), mean)
    assert ddarts.load_model("model").config.mean == found.mean


def test_what_was_not_as_the_genotype_says_is_told(genotype: Genotype, capsys: pytest.CaptureFixture[str]) -> None:
    _checkpoint(classes=10)
    cells = tuple(CellGenotype(cell.edges, (3,), cell.reduction) for cell in genotype.cells)
    Genotype(cells, "tiny").save("tiny.json")
    shown = " ".join(_told(capsys, "--out", "model").split())
    assert "note the reference concatenates every node of a cell, whatever the genotype says: cells 0 and 1" in shown
    assert ddarts.load_model("model").network.genotype == genotype


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"genotype": "nowhere.json"}, "nowhere.json: no such genotype file"),
        ({"resolution": "large"}, "resolution = 'large' must be a whole number"),
        ({"resolution": 1}, "resolution = 1 is out of range; choose 2 to 4096"),
        ({"mean": "0.5"}, "mean and std belong together"),
        ({"mean": "0.5", "std": "0.2"}, "mean has 1 values for 3 image channels; give 3"),
        ({"mean": "a,b,c", "std": "1,1,1"}, "mean = 'a,b,c' must be a number for each channel"),
        ({"mean": "0,0,nan", "std": "1,1,1"}, "mean = '0,0,nan' must be a number for each channel"),
        ({"mean": "0,0,0", "std": "1,1,0"}, "std = 1 1 0 must be above 0"),
        ({"data": "digits"}, "digits has 1 image channels, the network in the checkpoint 3"),
        ({"data": "nowhere"}, "data 'nowhere': no such data set or folder"),
        ({"out": "file"}, "file is a file; name a folder for the model"),
        ({"out": "."}, ". holds other things than a model; name a new folder"),
        ({"out": "file/model"}, "model.safetensors: cannot be written"),
    ],
)
def test_wrong_options_are_told_and_leave_nothing(genotype: Genotype, options: dict[str, Any], message: str) -> None:
    _checkpoint(classes=10)
    Path("file").write_text("")
    before = sorted(Path().rglob("*"))
    with pytest.raises(DDartsError) as caught:
        ddarts.import_weights(
            "model_best.pth.tar", **{"genotype": "tiny.json", "out": "model", "quiet": True, **options}
        )
    assert message in str(caught.value)
    assert sorted(Path().rglob("*")) == before


def test_a_normalisation_that_nothing_tells_must_be_given(genotype: Genotype) -> None:
    _checkpoint(classes=7)
    with pytest.raises(SettingsError, match="normalisation of images with 7 classes and 3 channels is not known; give"):
        ddarts.import_weights("model_best.pth.tar", genotype=genotype, out="model")
    with pytest.raises(DataError, match="digits has 10 classes, the network in the checkpoint 7; name the data set"):
        ddarts.import_weights("model_best.pth.tar", genotype=genotype, out="model", data="digits", quiet=True)
    assert not Path("model").exists()


def test_a_model_is_replaced_only_if_asked_and_never_by_a_broken_one(genotype: Genotype) -> None:
    _checkpoint(classes=10)
    ddarts.import_weights("model_best.pth.tar", genotype=genotype, out="model")
    _checkpoint(classes=100)
    with pytest.raises(RunError, match=r"model holds a model already; .* --overwrite"):
        ddarts.import_weights("model_best.pth.tar", genotype=genotype, out="model")
    Path("broken.pth").write_bytes(Path("model_best.pth.tar").read_bytes()[:-100])
    with pytest.raises(ModelError, match="broken"):
        ddarts.import_weights("broken.pth", genotype=genotype, out="model", overwrite=True)
    assert len(ddarts.load_model("model").config.classes) == 10
    ddarts.import_weights("model_best.pth.tar", genotype=genotype, out="model", overwrite=True)
    assert len(ddarts.load_model("model").config.classes) == 100


def test_the_command_line_fails_in_one_line(genotype: Genotype, capsys: pytest.CaptureFixture[str]) -> None:
    plain = _checkpoint(classes=10)
    torch.save({n: t for n, t in plain.state_dict().items() if "cells.1._ops" not in n}, "model_best.pth.tar")
    for arguments, message in (
        (
            ["model_best.pth.tar", "--genotype", "tiny.json", "--out", "model"],
            "differences in cell 1: 17 tensors missing",
        ),
        (["nowhere.pth", "--genotype", "tiny.json", "--out", "model"], "nowhere.pth: no such checkpoint file"),
        (["model_best.pth.tar", "--out", "model"], "required: --genotype; see ddarts import-weights --help"),
    ):
        assert main(["import-weights", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1
        assert message in captured.err
        assert not Path("model").exists()


def test_the_authors_weights_survive_the_whole_way() -> None:
    about, tensors = golden_json("derived_cifar_dd_sparse"), golden_tensors("derived_cifar_dd_sparse")
    torch.save({k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")}, "weights.pth")
    genotype = genotype_from_reference(about["genotype"])
    found = ddarts.import_weights("weights.pth", genotype=genotype, out="model")
    assert (found.parameters, found.auxiliary) == (about["parameters_without_auxiliary"], True)
    network = ddarts.load_model("model").network
    assert relative_error(network(tensors["input"]), tensors["logits_eval"]) < 1e-4
    logits, auxiliary = network.train()(tensors["input"])
    assert relative_error(logits, tensors["logits_train"]) < 1e-4
    assert relative_error(auxiliary, tensors["logits_aux_train"]) < 1e-4


def _folder_of_images(mean: int, spread: int, classes: int = 10) -> str:
    torch.manual_seed(0)
    for name in range(classes):
        folder = Path("data", f"class {name}")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (torch.randn(40, 40, 3) * spread + mean).clamp(0, 255).byte()
        Image.fromarray(pixels.numpy()).save(folder / "a.png")
    return "data"


def test_other_data_has_its_own_statistics_but_cifar_is_known_by_them(genotype: Genotype) -> None:
    _checkpoint(classes=10)
    other = ddarts.import_weights(
        "model_best.pth.tar", genotype=genotype, out="a", data=_folder_of_images(80, 20), quiet=True
    )
    assert (other.normalisation, other.resolution, other.classes[1]) == ("of data", (40, 40), "class 1")
    assert other.mean[0] == pytest.approx(80 / 255, abs=0.01)
    near = (ddarts.load_data("data", quiet=True), (0.49, 0.48, 0.45), (0.249, 0.245, 0.264))
    images = dataclasses.replace(near[0], mean=near[1], std=near[2])
    found = _normalisation(ddarts.load_model("a").network, None, images)
    assert (found[0], found[1][0]) == ("CIFAR-10's", 0.49139968)


def test_a_large_file_is_announced(
    genotype: Genotype, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _checkpoint(classes=10)
    monkeypatch.setattr(import_weights, "_LARGE_FILE", 1000)
    _told(capsys, "--out", "a", "--quiet")
    assert main(["import-weights", "model_best.pth.tar", "--genotype", "tiny.json", "--out", "b"]) == 0
    assert capsys.readouterr().err == "reading model_best.pth.tar, 0 MiB\n"
