"""The benchmarks run from end to end with tiny sizes, and write what they say they write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
TINY = ("--cells", "3", "--nodes", "2", "--channels", "2", "--batch", "2", "--resolution", "8")
pytestmark = pytest.mark.slow


def run(script: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def results(done: subprocess.CompletedProcess[str], path: Path) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text())


def test_the_search_step_is_measured_and_counted(tmp_path: Path) -> None:
    out = tmp_path / "step.json"
    options = ("--rounds", "1", "--threads", "1", "--variants", "plain", "off", "--out", out)
    found = results(run("search_step.py", *TINY, *options), out)
    assert found["command"].startswith("python benchmarks/search_step.py --cells 3")
    assert str(tmp_path) not in found["command"]
    assert found["median"]["off"]["step_s"] > 0
    assert found["median"]["plain"]["peak_gb"] > 0
    assert found["counted"]["off"]["gflop"] > 0
    assert {"cpu", "torch", "python", "load"} <= set(found["machine"])


def test_growth_measures_each_point_once_and_notes_what_fails(tmp_path: Path) -> None:
    out = tmp_path / "growth.json"
    base = [word.replace("--", "--base-") for word in TINY]
    done = run("growth.py", "--axes", "cells", "--cells", "3", "0", "--variants", "off", *base, "--out", out)
    good, bad = results(done, out)["measurements"]
    assert good["median"]["step_s"] > 0
    assert len(good["rounds"]) == 1
    assert bad["median"] is None
    assert "not measured: exit status" in done.stdout


def test_the_network_and_loading_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "network.json"
    sizes = ("--channels", "2", "--batch", "2", "--resolution", "8", "--rounds", "1", "--steps", "1", "--threads", "1")
    kinds = ("--genotypes", "dd-cifar10-sparse", "--loading", "train small", "--seconds", "0.05")
    plain, package, loading = results(run("network_step.py", *sizes, *kinds, "--out", out), out)["measurements"]
    assert (plain["build"], package["build"]) == ("plain", "package")
    assert package["median"]["step_s"] > 0
    assert loading["median"]["images_per_s"] > 0


def test_the_benchmark_of_a_gpu_works_from_end_to_end_and_adds_runs(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = run("gpu.py", "--small", "--work", tmp_path)
    (first,) = results(done, out)["runs"]
    phases = first["phases"]
    assert [phase["status"] for phase in phases.values()] == ["done"] * 7, done.stderr
    assert phases["check"]["float64"]["agrees"]
    assert phases["check"]["float32"]["agrees"]
    assert [row["variant"] for row in phases["time"]["steps"]] == ["gradient-random", "plain"]
    assert [row["epoch"] for row in phases["search"]["epochs"]] == [1, 2]
    assert phases["search"]["seconds_for_50_epochs"] > 0
    assert phases["derive"]["method"] == "darts"
    assert phases["train"]["images_per_s"] > 0

    other = ("--work", tmp_path / "other", "--out", out, "--data", tmp_path / "nowhere")
    done = run("gpu.py", "--small", *other, "--phases", "search", "derive", "graphs")
    before, second = results(done, out)["runs"]
    assert before == first
    assert [phase["status"] for phase in second["phases"].values()] == ["failed", "failed", "done"]
    assert "nowhere" in second["phases"]["search"]["error"]
    assert "GPU" in second["phases"]["graphs"]["not_measured"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_benchmark_of_a_gpu_says_so_in_a_line(tmp_path: Path) -> None:
    done = run("gpu.py", "--out", tmp_path / "gpu.json")
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert "no CUDA GPU" in done.stderr
    assert "--small" in done.stderr
