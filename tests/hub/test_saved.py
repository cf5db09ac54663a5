from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ddarts.cost.activations import peak_activation_bytes
from ddarts.errors import DDartsError, RunError
from ddarts.genotype.random import random_genotype
from ddarts.hub.saved import ModelError, images_at_once, load_model, save_model
from ddarts.nn.network import Network
from ddarts.space.cell_space import build_space
from tests.processes import finished


def _network(auxiliary: bool = False) -> Network:
    torch.manual_seed(0)
    genotype = random_genotype(build_space("dartopti", cells=3, nodes=2), seed=4)
    return Network(genotype, channels=4, in_channels=1, classes=3, auxiliary=auxiliary)


def _save(folder: Path, network: Network, **changes: Any) -> Path:
    about = {"classes": ["cat", "dog", "owl"], "resolution": (8, 9), "mean": [0.5], "std": [0.25]}
    save_model(folder, network, **{**about, **changes})
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return _save(tmp_path / "model", _network())


def _edit(change: Callable[[dict[str, Any]], Any], model: Path) -> None:
    data = json.loads((model / "config.json").read_text())
    change(data)
    (model / "config.json").write_text(json.dumps(data))


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    network = _network().to(memory_format=torch.channels_last)
    network(torch.randn(4, 1, 8, 9))  # running statistics of their own
    saved = load_model(_save(tmp_path, network))
    assert saved.network.genotype == network.genotype
    assert not saved.network.training
    x = torch.randn(2, 1, 8, 9)
    torch.testing.assert_close(saved.network(x), network.eval()(x))
    config = saved.config
    assert (config.classes, config.resolution, config.mean, config.std) == (
        ("cat", "dog", "owl"),
        (8, 9),
        (0.5,),
        (0.25,),
    )
    assert (config.channels, config.in_channels, config.stem, config.auxiliary) == (4, 1, "cifar", False)


def test_a_loaded_network_can_be_trained_on(model: Path) -> None:
    network = load_model(model).network.train()
    network(torch.randn(4, 1, 8, 9)).square().sum().backward()
    assert all(p.requires_grad and p.grad is not None for p in network.parameters())


def test_the_auxiliary_head_is_kept_only_if_asked(tmp_path: Path) -> None:
    network = _network(auxiliary=True)
    small = load_model(_save(tmp_path / "small", network))
    large = load_model(_save(tmp_path / "large", network, auxiliary=True))
    assert small.network.auxiliary is None
    assert not small.config.auxiliary
    assert large.network.auxiliary is not None
    assert torch.equal(large.network.auxiliary.classifier.weight, network.auxiliary.classifier.weight)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("small", "large")]
    assert sizes[0] < sizes[1] / 5


def test_the_folder_of_a_run_will_do(model: Path) -> None:
    assert load_model(model.parent).config.classes == ("cat", "dog", "owl")


def test_a_description_that_does_not_fit_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"2 names for a network of 3 classes"):
        _save(tmp_path, _network(), classes=["a", "b"])
    with pytest.raises(ModelError, match=r"mean has 3 values for 1 image channels"):
        _save(tmp_path, _network(), mean=[0, 0, 0])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"model\.safetensors: cannot be written"):
        _save(tmp_path / "file", _network())


def test_missing_files_are_named(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere: no such model folder; check the path or run `ddarts train`"):
        load_model(tmp_path / "nowhere")
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: no such weights file"):
        load_model(model)
    (model / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json: no such model file"):
        load_model(model)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "pickle", r"format is 'pickle', expected 'ddarts-model'"),
        ("version", 2, r"version 2 cannot be read, this ddarts reads version 1"),
        ("channels", 10**30, r"channels = 10+ is out of range, expected 1 to 65536"),
        ("channels", 5, r"has the shape \[.*\], expected \[.*\] by config\.json"),
        ("channels", 4.0, r"channels: 4\.0 must be a whole number"),
        ("in_channels", 0, r"in_channels = 0 is out of range"),
        ("classes", [], r"classes is empty"),
        ("classes", ["cat", "cat", "owl"], r"the class 'cat' stands twice"),
        ("classes", ["cat", 7, "owl"], r"classes\[1\]: 7 must be text"),
        ("classes", "cat", r"classes: expected a list, found str"),
        ("classes", ["cat", "dog"], r"classifier\.weight has the shape \[3, 32\], expected \[2, 32\]"),
        ("stem", "cifra", r"unknown stem 'cifra'; did you mean 'cifar'\?"),
        ("stem", "imagenet", r"lacks the tensor cells\.0\.preprocess0\.conv1\.weight and \d+ more"),
        ("auxiliary", 1, r"auxiliary: 1 must be true or false"),
        ("auxiliary", True, r"lacks the tensor auxiliary\..* and \d+ more"),
        ("resolution", [8], r"resolution: expected \[height, width\], found 1 numbers"),
        ("resolution", [8, 10**9], r"resolution \[8, 1000000000\] must be 1 to 65536 pixels"),
        ("mean", [float("nan")], r"mean\[0\]: nan must be a number"),
        ("mean", [10**400], r"mean\[0\]: 1000.* must be a number"),
        ("std", [0.0], r"std \[0\.0\] must be at least 1e-07"),
        ("std", [1e-320], r"std \[1e-320\] must be at least 1e-07"),
        ("std", [0.1, 0.1], r"std has 2 values for 1 image channels"),
        ("genotype", {"format": "ddarts-genotype"}, r"genotype"),
        ("surprise", 1, r"unknown key 'surprise'"),
    ],
)
def test_a_hostile_description_is_refused_in_one_line(model: Path, key: str, value: Any, message: str) -> None:
    _edit(lambda data: data.__setitem__(key, value), model)
    with pytest.raises(DDartsError, match=message) as caught:
        load_model(model)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600 + len(str(model))


def test_a_genotype_too_wide_for_any_network_is_refused(model: Path) -> None:
    def all_reductions(data: dict[str, Any]) -> None:
        data["genotype"]["cells"] = [{**data["genotype"]["cells"][0], "reduction": True}] * 100

    _edit(all_reductions, model)
    with pytest.raises(ModelError, match=r"channels = 4, doubled 100 times, are more than any network can have"):
        load_model(model)


def test_a_huge_network_is_refused_before_memory_is_claimed(model: Path) -> None:
    _edit(lambda data: data.__setitem__("channels", 65536), model)
    with pytest.raises(ModelError, match=r"has the shape"):
        load_model(model)


def test_broken_json_is_refused_with_the_line(model: Path) -> None:
    (model / "config.json").write_text('{\n "format": oops}')
    with pytest.raises(ModelError, match=r"config\.json: line 2, column 12"):
        load_model(model)


def _rewrite(model: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    state = load_file(model / "model.safetensors")
    change(state)
    save_file(state, model / "model.safetensors")
    digest = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    _edit(lambda data: data.__setitem__("sha256", digest), model)


def test_every_flipped_bit_of_the_weights_is_noticed(model: Path) -> None:
    path = model / "model.safetensors"
    content, where = path.read_bytes(), random.Random(0)
    for _ in range(40):
        damaged = bytearray(content)
        damaged[where.randrange(len(content))] ^= 1 << where.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ModelError):
            load_model(model)
    damaged = bytearray(content)
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ModelError, match=r"does not match the checksum in config\.json: the file is damaged"):
        load_model(model)


def test_a_model_of_an_older_version_has_no_checksum_and_loads(model: Path) -> None:
    _edit(lambda data: data.pop("sha256"), model)
    assert load_model(model).config.classes == ("cat", "dog", "owl")


@pytest.mark.parametrize("side", [16384, 65536])
def test_a_resolution_for_which_there_is_no_memory_is_refused_at_once(model: Path, side: int) -> None:
    _edit(lambda data: data.__setitem__("resolution", [side, side]), model)
    code = f"""
import resource
from ddarts.hub.saved import load_model
resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
load_model({str(model)!r})
"""
    done = finished(code)
    assert re.search(rf"one image of the resolution \[{side}, {side}\] takes [\d.]+ GB, \d\.\d GB are", done.err)


def test_as_many_images_go_at_once_as_memory_allows(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_model(model)
    one = peak_activation_bytes(loaded.network, (1, 1, 8, 9))
    for available, wanted, allowed in ((10**12, 64, 64), (20 * one, 64, 10), (one, 64, 1), (20 * one, 3, 3)):
        monkeypatch.setattr("ddarts.hub.saved.available_memory", lambda available=available: available)
        assert images_at_once(loaded.network, loaded.config, wanted, "x") == allowed


def test_weights_that_do_not_fit_are_named(model: Path) -> None:
    whole = (model / "model.safetensors").read_bytes()
    changes: list[tuple[Callable[[dict[str, torch.Tensor]], Any], str]] = [
        (
            lambda s: s.pop("stem.conv.weight"),
            r"lacks the tensor stem\.conv\.weight; the two files are not of one model",
        ),
        (lambda s: s.update(evil=torch.zeros(1)), r"does not know of, the tensor evil"),
        (
            lambda s: s.update({"stem.conv.weight": torch.zeros(12, 3, 3, 3)}),
            r"stem\.conv\.weight has the shape \[12, 3",
        ),
        (
            lambda s: s.update({"classifier.bias": torch.zeros(3, dtype=torch.int32)}),
            r"classifier\.bias is torch\.int32",
        ),
        (lambda s: s["classifier.bias"].fill_(float("nan")), r"classifier\.bias holds values that are not finite"),
    ]
    for change, message in changes:
        (model / "model.safetensors").write_bytes(whole)
        _rewrite(model, change)
        with pytest.raises(ModelError, match=message):
            load_model(model)


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_truncated_weights_are_refused(model: Path, cut: int) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"model\.safetensors: not a readable safetensors file"):
        load_model(model)


def test_a_pickle_in_place_of_weights_is_refused(model: Path) -> None:
    torch.save({"stem.conv.weight": torch.zeros(1)}, model / "model.safetensors")
    with pytest.raises(ModelError, match=r"not a readable safetensors file"):
        load_model(model)
