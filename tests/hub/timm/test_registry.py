from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

timm = pytest.importorskip("timm")

from timm.data import resolve_data_config  # noqa: E402

import ddarts.hub.timm  # noqa: E402
from ddarts.errors import DDartsError  # noqa: E402
from ddarts.genotype.genotype import Genotype  # noqa: E402
from ddarts.genotype.random import random_genotype  # noqa: E402
from ddarts.hub.saved import load_model, save_model  # noqa: E402
from ddarts.nn.network import Network  # noqa: E402
from ddarts.space.cell_space import build_space  # noqa: E402
from tests.processes import finished  # noqa: E402


@pytest.fixture
def genotype() -> Genotype:
    return random_genotype(build_space("darts", cells=4, nodes=2), seed=1)


@pytest.fixture
def folder(tmp_path: Path, genotype: Genotype) -> Path:
    """A run folder with a model for 20x24 RGB images of two classes."""
    torch.manual_seed(0)
    network = Network(genotype, channels=4, classes=2, auxiliary=True)
    network(torch.randn(4, 3, 20, 24))  # running statistics of their own
    about = {"classes": ["cat", "dog"], "resolution": (20, 24), "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    save_model(tmp_path / "my-run" / "model", network, auxiliary=True, **about)
    return tmp_path / "my-run"


# -- architectures -----------------------------------------------------------------------------------------------------


def test_a_genotype_file_and_its_options(tmp_path: Path, genotype: Genotype) -> None:
    genotype.save(tmp_path / "g.json")
    model = timm.create_model("ddarts", genotype=str(tmp_path / "g.json"), stem="cifar", channels=6, layers=5)
    assert (len(model.genotype), model.channels, model.num_classes) == (5, 6, 10)
    assert model.default_cfg["input_size"] == (3, 32, 32)
    assert model.forward_features(torch.randn(1, 3, 32, 32)).shape[2:] == model.default_cfg["pool_size"] == (8, 8)
    given = timm.create_model("ddarts", genotype=genotype, channels=6, num_classes=3, in_chans=1)
    assert given(torch.randn(1, 1, 64, 64)).shape == (1, 3)


def test_width_and_depth_follow_the_stem() -> None:
    large = timm.create_model("ddarts_darts_v2", device="meta")
    small = timm.create_model("ddarts_darts_v2", device="meta", stem="cifar")
    assert (large.channels, len(large.genotype)) == (48, 14)
    assert (small.channels, len(small.genotype)) == (36, 20)


def test_the_network_is_the_one_of_ddarts() -> None:
    model = timm.create_model("ddarts_darts_v2", channels=4, layers=6, stem="cifar", num_classes=7).eval()
    network = Network(model.genotype, channels=4, classes=7).eval()
    network.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 33, 32)
    assert torch.equal(model(x), network(x))


def test_drop_rates_act_in_training_only(genotype: Genotype) -> None:
    x = torch.randn(8, 3, 64, 64)
    for option in ({"drop_rate": 0.5}, {"drop_path_rate": 0.5}):
        model = timm.create_model("ddarts", genotype=genotype, channels=4, **option).train()
        assert not torch.equal(model(x), model(x))
        assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the model 'ddarts' needs one of genotype=NAME, FILE or RUN, and folder=MODEL or RUN"),
        ({"genotype": "darts-v2", "folder": "x"}, "needs one of genotype="),
        ({"genotype": "darts-v3"}, "no such genotype file.*did you mean 'darts-v2'"),
        ({"genotype": "darts-v2", "stem": "imagnet"}, "unknown stem 'imagnet'; did you mean 'imagenet'?"),
        ({"genotype": "darts-v2", "channels": 0}, "channels = 0 is out of range"),
        ({"genotype": "darts-v2", "drop_rate": 1.0}, "drop_rate = 1.0 is out of range"),
        ({"folder": "nowhere"}, "nowhere"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DDartsError, match=message) as caught:
        timm.create_model("ddarts", **options)
    assert "\n" not in str(caught.value)


def test_weights_that_are_nowhere_are_an_error_as_for_timms_own_models() -> None:
    with pytest.raises(RuntimeError, match="No pretrained weights exist for ddarts_darts_v2"):
        timm.create_model("ddarts_darts_v2", pretrained=True, channels=4, layers=3)


# -- model folders -----------------------------------------------------------------------------------------------------


def test_a_trained_model_gives_the_same_logits(folder: Path) -> None:
    model = timm.create_model("ddarts", pretrained=True, folder=folder).eval()
    x = torch.randn(2, 3, 20, 24)
    assert torch.equal(model(x), load_model(folder).network(x))


def test_a_registered_folder_behaves_like_a_model_of_timm(folder: Path) -> None:
    name = ddarts.hub.timm.register_model_folder(folder)
    assert name == "ddarts_my_run"
    assert name in timm.list_models("ddarts_*", pretrained=True)
    saved = load_model(folder)
    x = torch.randn(2, 3, 20, 24)
    model = timm.create_model(name, pretrained=True).eval()
    assert torch.equal(model(x), saved.network(x))
    config = resolve_data_config(model=model)
    assert (config["input_size"], config["mean"], config["std"]) == ((3, 20, 24), saved.config.mean, saved.config.std)
    assert (config["interpolation"], config["crop_pct"]) == ("bilinear", 1.0)
    assert model.default_cfg["label_names"] == ("cat", "dog")
    assert model.forward_features(x).shape[2:] == model.default_cfg["pool_size"]
    assert not torch.equal(timm.create_model(name).eval()(x), saved.network(x)), "weights without pretrained=True"


def test_weights_are_fitted_to_other_classes_and_channels(folder: Path) -> None:
    name = ddarts.hub.timm.register_model_folder(folder, "fitted")
    weights = load_model(folder).network.state_dict()
    model = timm.create_model(name, pretrained=True, in_chans=1, num_classes=5)
    torch.testing.assert_close(model.stem.conv.weight, weights["stem.conv.weight"].sum(1, keepdim=True))
    assert torch.equal(model.stem.norm.running_mean, weights["stem.norm.running_mean"])
    assert model(torch.randn(2, 1, 20, 24)).shape == (2, 5)
    maps = timm.create_model(name, pretrained=True, features_only=True).eval()(torch.randn(1, 3, 20, 24))
    torch.manual_seed(0)
    x = torch.randn(1, 3, 20, 24)
    backbone = timm.create_model(name, pretrained=True, features_only=True, out_indices=(0, 2)).eval()
    expected = load_model(folder).network.features(x, [0, 2])
    assert all(torch.equal(a, b) for a, b in zip(backbone(x), expected, strict=True))
    assert len(maps) == 3


def test_timms_checkpoint_path_reads_the_weights_of_a_folder(folder: Path, tmp_path: Path) -> None:
    network = load_model(folder).network
    network.auxiliary = None
    about = {"classes": ["cat", "dog"], "resolution": (20, 24), "mean": [0.5] * 3, "std": [0.2] * 3}
    save_model(tmp_path / "plain", network, **about)
    path = tmp_path / "plain" / "model.safetensors"
    model = timm.create_model("ddarts", folder=tmp_path / "plain", checkpoint_path=path).eval()
    x = torch.randn(2, 3, 20, 24)
    assert torch.equal(model(x), network(x))


def test_a_name_may_be_given_to_another_folder_but_not_taken_from_timm(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert ddarts.hub.timm.register_model_folder(folder, "mine_1") == "mine_1"
    for taken in ("resnet18", "ddarts_darts_v2", "ddarts"):
        with pytest.raises(DDartsError, match=f"model name '{taken}' is that of another model of timm"):
            ddarts.hub.timm.register_model_folder(folder, taken)
    for bad in ("a.b", "a/b", "", "ä", "x" * 101):
        with pytest.raises(DDartsError, match="must be letters, digits and underscores"):
            ddarts.hub.timm.register_model_folder(folder, bad)


def test_what_a_trained_network_fixes_cannot_be_chosen(folder: Path) -> None:
    with pytest.raises(DDartsError, match=r"channels = 8 cannot be chosen: .* holds a trained network"):
        timm.create_model("ddarts", folder=folder, channels=8)


def test_a_broken_folder_is_one_line(folder: Path) -> None:
    weights = folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(DDartsError, match=r"model\.safetensors: not a readable safetensors file"):
        timm.create_model("ddarts", pretrained=True, folder=folder)


# -- without timm ------------------------------------------------------------------------------------------------------


def test_without_timm_the_import_says_what_to_install() -> None:
    code = """
import sys
sys.modules["timm"] = None  # as if it were not installed
try:
    import ddarts.hub.timm
except ImportError as error:
    from ddarts.errors import DDartsError
    assert isinstance(error, DDartsError)
    print(error)
"""
    done = finished(code)
    assert done.status == 0, done.err
    assert done.out == 'ddarts.hub.timm needs timm, which is not installed; pip install "ddarts[timm]"\n'
