"""`ddarts profile` on tiny networks."""

import importlib.util
import json
import sys

import pytest

import ddarts
from ddarts import Edge, Genotype
from ddarts.cli.main import main
from ddarts.cost.counting import count_macs, count_parameters
from ddarts.deploy.extras import MissingPackageError
from ddarts.errors import GenotypeError, SettingsError
from ddarts.genotype.genotype import CellGenotype
from ddarts.hub.saved import save_model
from ddarts.nn.network import Network

QUICK = {"seconds": 0.01, "channels": 2, "resolution": 8, "onnx": False, "quiet": True}


@pytest.fixture
def genotype():
    cell = CellGenotype((Edge("sep_conv_3x3", 0, 2), Edge("max_pool_3x3", 1, 2)), (2,))
    return Genotype((cell,), "mine")


@pytest.fixture
def model(genotype, tmp_path):
    network = Network(genotype, channels=3, in_channels=1, classes=4)
    save_model(tmp_path / "model", network, classes=tuple("abcd"), resolution=(6, 9), mean=(0.4,), std=(0.2,))
    return tmp_path / "model"


def test_networks_stand_side_by_side(genotype, tmp_path, capsys):
    genotype.save(tmp_path / "mine.json")
    arguments = ["profile", str(tmp_path / "mine.json"), "resnet18", "--channels", "2", "--resolution=8", "--quiet"]
    arguments += ["--seconds", "0.01", "--no-onnx", "--batch", "1,3", "--threads", "1"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    head = next(line for line in shown.splitlines() if "mine.json" in line)
    assert head.split() == ["mine.json", "resnet18"]
    for text in (
        "parameters",
        "MACs per image",
        "activations, batch 3",
        "pytorch, batch 3, 1 thread: median",
        "95 of 100",
    ):
        assert text in shown
    assert main([*arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [p["name"] for p in data["profiles"]] == ["mine.json", "resnet18"]
    assert [(x["batch"], x["threads"], x["runtime"]) for x in data["profiles"][0]["latencies"]] == [
        (1, 1, "pytorch"),
        (3, 1, "pytorch"),
    ]


def test_sizes_are_those_of_the_network_that_was_asked_for(genotype):
    (found,) = ddarts.profile(genotype, classes=7, in_channels=1, **QUICK).profiles
    network = Network(genotype, channels=2, in_channels=1, classes=7)
    assert found.parameters == count_parameters(network)
    assert found.macs == count_macs(network, (1, 8, 8))
    assert (found.trained, found.stem, found.name) == (False, "cifar", "mine")
    (default,) = ddarts.profile(genotype, seconds=0.01, onnx=False, quiet=True).profiles
    assert (default.channels, default.in_channels, default.classes, default.resolution) == (36, 3, 10, (32, 32))


def test_a_trained_model_is_measured_as_it_is_unless_another_size_is_asked_for(model, genotype):
    given = {"seconds": 0.01, "onnx": False, "quiet": True}
    (found,) = ddarts.profile(model, **given).profiles
    assert (found.trained, found.channels, found.in_channels, found.classes) == (True, 3, 1, 4)
    assert found.resolution == (6, 9)
    (larger,) = ddarts.profile([model], resolution=12, **given).profiles
    assert (larger.trained, larger.resolution) == (True, (12, 12))
    (anew,) = ddarts.profile(model, channels=5, resolution=12, **given).profiles
    assert (anew.trained, anew.channels, anew.classes) == (False, 5, 10)


def test_names_that_are_alike_are_numbered(model, genotype):
    found = ddarts.profile([genotype, genotype, model], **QUICK)
    assert [p.name for p in found.profiles] == ["mine", "mine #2", f"{model.parent.name}/model"]


@pytest.mark.parametrize("by", ["cell", "operation"])
def test_parts_are_shown_on_demand(genotype, capsys, by, tmp_path):
    genotype.save(tmp_path / "mine.json")
    arguments = ["profile", str(tmp_path / "mine.json"), "--by", by, "--channels=2", "--resolution=8", "--quiet"]
    assert main([*arguments, "--seconds=0.01", "--no-onnx"]) == 0
    shown = capsys.readouterr().out
    assert f"mine.json, by {by}" in shown
    for name in ("stem", "classifier", "rest", "share of time", "cell 0" if by == "cell" else "sep_conv_3x3"):
        assert name in shown


def test_onnxruntime_is_measured_where_it_is_installed(genotype):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra export")
    found = ddarts.profile(genotype, **{**QUICK, "onnx": None, "batch": (1, 2)})
    assert [(x.runtime, x.batch) for x in found.profiles[0].latencies] == [
        ("pytorch", 1),
        ("pytorch", 2),
        ("onnxruntime", 1),
        ("onnxruntime", 2),
        ("onnxruntime int8", 1),
        ("onnxruntime int8", 2),
    ]
    files = dict(found.profiles[0].files)
    assert 0 < files["onnxruntime int8"] < 50_000
    assert 0 < files["onnxruntime"] < 50_000
    assert found.to_dict()["profiles"][0]["file_bytes"] == files
    assert "file for onnxruntime int8" in dict(found.rows())
    assert all(0 < x.median_ms <= x.p95_ms and x.passes >= 5 for x in found.profiles[0].latencies)
    assert found.notes == ()


def test_without_onnxruntime_a_note_says_so(genotype, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else find(name))
    found = ddarts.profile(genotype, **{**QUICK, "onnx": None})
    assert found.notes == ("onnxruntime was not measured: pip install 'ddarts[export]'",)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'ddarts\[export\]'"):
        ddarts.profile(genotype, **{**QUICK, "onnx": True})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch": "0,1"}, "must be at least 1"),
        ({"batch": "x"}, "batch = 'x' must be a list of whole numbers"),
        ({"batch": ()}, "batch"),
        ({"threads": "1,,"}, None),
        ({"by": "node"}, "unknown by 'node'; known: cell, operation"),
        ({"resolution": 1}, "resolution = 1 must be at least 2"),
        ({"device": "gpu"}, "device = 'gpu' is unknown"),
        ({"chanels": 3}, "unknown setting 'chanels'; did you mean 'channels'"),
    ],
)
def test_wrong_settings_are_named(genotype, settings, message):
    if message is None:
        assert ddarts.profile(genotype, **{**QUICK, **settings}).profiles
        return
    with pytest.raises(SettingsError, match=message):
        ddarts.profile(genotype, **{**QUICK, **settings})


def test_an_unknown_architecture_or_none_is_named():
    with pytest.raises(GenotypeError, match="did you mean 'resnet18'"):
        ddarts.profile("resnet8", **QUICK)
    with pytest.raises(SettingsError, match="nothing to measure"):
        ddarts.profile([], **QUICK)


def test_images_that_are_too_small_are_an_error():
    with pytest.raises(SettingsError, match="too small"):
        ddarts.profile("xception", channels=2, resolution=2, onnx=False, quiet=True)
