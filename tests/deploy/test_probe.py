from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ddarts
from ddarts.config.schema import BudgetOptions, ProbeSettings
from ddarts.cost.budget import Budget
from ddarts.cost.device import Device
from ddarts.deploy import probe_script
from ddarts.deploy.onnxfile import onnx_bytes
from ddarts.deploy.probe import MANIFEST, SCRIPT, networks_of, onnx_for_timing, spaces_of
from ddarts.errors import SettingsError

pytest.importorskip("onnxruntime")

SIZES: dict[str, Any] = {"resolution": 16, "channels": (4, 8), "cells": 3, "nodes": 2, "networks": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("probe") / "folder"
    found = ddarts.probe(path, quiet=True, **SIZES)
    assert found.networks == 3
    assert found.bytes == sum(file.stat().st_size for file in path.iterdir())
    return path


def run_there(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a device without ddarts does: isolated from this environment's paths."""
    command = [sys.executable, "-W", "ignore", str(folder / SCRIPT), "--laps", "1", "--rounds", "1", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent)


def test_the_table_that_the_script_writes_is_a_device(folder: Path, tmp_path: Path) -> None:
    done = run_there(folder, "--threads", "2", "--name", "phone", "--out", str(tmp_path / "phone.json"))
    assert done.returncode == 0, done.stderr
    assert "3 networks" in done.stdout
    assert not (tmp_path / "phone.json.part").exists()
    device = Device.load(tmp_path / "phone.json")
    assert device.name == "phone, 2 threads"
    assert len(device.rows) == 3
    assert all(0 < ms < 1000 for _, ms in device.rows)

    # a network that was measured is predicted: three rows are fitted by many more features
    settings = ProbeSettings(**SIZES)
    network = next(networks_of(settings, 1))
    assert device.whole(network, (3, 16, 16)) == pytest.approx(device.rows[0][1], rel=0.2)
    options = BudgetOptions(max_latency=f"500ms@{tmp_path / 'phone.json'}")
    budget = Budget.of(options, spaces_of(settings)[0], (3, 16, 16), 10)
    assert budget is not None
    with pytest.raises(SettingsError, match="has no latency of conv_3x1_1x3"):
        Budget.of(options, ddarts.build_space("dartopti", cells=3), (3, 16, 16), 10)

    again = run_there(folder, "--out", str(tmp_path / "phone.json"))
    assert again.returncode == 2
    assert again.stderr == f"measure.py: error: {tmp_path / 'phone.json'} exists; name another file with --out\n"


def test_a_stopped_measurement_continues(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, real, calls = tmp_path / "device.json", probe_script.timed, []

    def stopping(at: Path, networks: list[str], *how: Any) -> dict[str, float]:
        calls.append(networks)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(at, networks, *how)

    monkeypatch.setattr(probe_script, "timed", stopping)
    monkeypatch.setattr(probe_script, "CHUNK", 2)
    with pytest.raises(KeyboardInterrupt):
        probe_script.measure(folder, out, laps=1, rounds=1)
    assert not out.exists()
    with pytest.raises(ValueError, match="was measured otherwise; remove it"):
        probe_script.measure(folder, out, threads=2)
    probe_script.measure(folder, out, laps=1, rounds=1)
    assert calls[2] == calls[1]  # what was done is not done again
    assert len(Device.load(out).rows) == 3


def test_a_network_whose_laps_differ_is_measured_again(folder: Path, tmp_path: Path) -> None:
    assert probe_script.steady([1.0, 5.0, 1.01])
    assert not probe_script.steady([1.0, 1.05])


def test_files_are_small_and_compute_what_an_export_does(tmp_path: Path) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    settings = ProbeSettings(**(SIZES | {"channels": 12, "cells": 1}))
    network = next(networks_of(settings, 1))
    kinds = []
    small, full = onnx_for_timing(network, (3, 16, 16)), onnx_bytes(network, (3, 16, 16))
    for name, data in (("small", small), ("full", full)):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(tmp_path / name)
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        kinds.append(sorted(node.op_type for node in onnx.load(str(tmp_path / name)).graph.node))
    assert kinds[0] == kinds[1]
    assert len(small) < len(full)


def test_both_stems_and_many_widths_are_drawn() -> None:
    settings = ProbeSettings(resolution=32, channels=(4, 12), cells=(3, 5), networks=40)
    networks = list(networks_of(settings, 40))
    assert {network.stem_name for network in networks} == {"cifar", "imagenet"}
    assert {network.channels for network in networks} >= {4, 5, 7, 8, 12}
    assert {len(network.genotype) for network in networks} == {3, 4, 5}
    fixed = ProbeSettings(resolution=32, channels=8, stem="cifar", space="mobile")
    assert {(n.stem_name, n.channels) for n in networks_of(fixed, 4)} == {("cifar", 8)}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"channels": (9, 4)}, "must name the smaller number first"),
        ({"resolution": 2}, "too small"),
        ({"space": "nowhere"}, "unknown search space"),
        ({"networks": 0}, "networks"),
    ],
)
def test_what_cannot_be_probed_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        ddarts.probe(tmp_path / "new", quiet=True, **(SIZES | change))
    assert not (tmp_path / "new").exists()


def test_a_folder_with_files_is_not_touched(folder: Path) -> None:
    before = (folder / MANIFEST).read_text()
    with pytest.raises(SettingsError, match="is not an empty folder; name another one with --out"):
        ddarts.probe(folder, quiet=True, **(SIZES | {"seed": 3}))
    assert (folder / MANIFEST).read_text() == before
    assert json.loads(before)["images"] == [3, 16, 16]
