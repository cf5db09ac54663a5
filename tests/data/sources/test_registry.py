from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ddarts.data import SOURCES, Images, Loaded, Request, load_data
from ddarts.data import loaded as loaded_module
from ddarts.errors import DataError, SettingsError


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("digit", "data 'digit': no such data set or folder; did you mean 'digits'"),
        ("cifar-10", "did you mean 'cifar10'"),
        ("fashion_mnist:/x", "did you mean 'fashion-mnist'"),
        ("no/such/folder", "data 'no/such/folder': no such data set or folder; check the path"),
        ("~nobody-of-this-name/x", "no such data set or folder; check the path"),
        ("digits:", "data 'digits:': no folder after the colon; say digits:DIR or digits"),
        ("digits:/tmp", "the digits come with ddarts and take no folder; say digits"),
        ("a" * 300, "cannot be read: File name too long"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("", "data '': no such data set or folder"),
    ],
)
def test_a_wrong_name_says_the_way_out(spec: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=reason):
        load_data(spec)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png': a file; give the folder that holds it"):
        load_data(str(tmp_path / "a.png"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither class folders nor Parquet files"):
        load_data(str(tmp_path))


@pytest.mark.parametrize("setting", ["resolution", "limit"])
def test_settings_out_of_range_are_refused(setting: str) -> None:
    with pytest.raises(DataError, match=f"{setting} 0: must be 1 or more"):
        load_data("digits", **{setting: 0})  # type: ignore[arg-type]


def test_resolution_scales_arrays_too() -> None:
    native, double = load_data("digits"), load_data("digits", resolution=16)
    assert double.train.pixels.shape == (1438, 1, 16, 16)
    assert double.mean[0] == pytest.approx(native.mean[0], abs=0.01)
    halves = double.train.pixels.float().unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5))
    assert (halves - native.train.pixels.float()).abs().mean() < 25


def test_limit_holds_for_training_images_only() -> None:
    data = load_data("digits", limit=100)
    assert data.train.labels.bincount().tolist() == [10] * 10
    assert data.test is not None
    assert len(data.test) == 359


def test_more_pixels_than_the_budget_are_refused_before_they_are_made() -> None:
    with pytest.raises(DataError, match=r"1797 images of 4096 x 4096 pixels would take 28\.1 GiB, more than 8"):
        load_data("digits", resolution=4096)
    assert loaded_module.MEMORY_BUDGET == 8 * 2**30


def test_importing_data_loads_neither_pyarrow_nor_pillow_nor_torchvision() -> None:
    code = "import sys, ddarts.data; print(sorted({'pyarrow', 'PIL', 'torchvision'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def stripes(directory: str | None, request: Request) -> Loaded:
    pixels = torch.arange(40 * 64).view(40, 1, 8, 8).to(torch.uint8)
    images = Images(pixels, torch.arange(40) % 2)
    return Loaded("stripes", directory or "stripes", ("a", "b"), False, images)


def test_a_registered_source_is_read_by_its_name() -> None:
    SOURCES.register("stripes", stripes)
    try:
        data = load_data("stripes:anywhere", limit=10, resolution=4)
        assert (data.name, len(data.train), data.height) == ("stripes", 10, 4)
        with pytest.raises(DataError, match=r"'stripe': no such data set or folder; did you mean 'stripes'\?"):
            load_data("stripe")
    finally:
        SOURCES.unregister("stripes")


def test_only_functions_can_be_sources() -> None:
    with pytest.raises(SettingsError, match="data set 'seven': a int, not a function"):
        SOURCES.register("seven", 7)
