"""The benchmarks run from end to end with tiny sizes, and write what they say they write."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
TINY = ("--cells", "3", "--nodes", "1", "--channels", "2", "--batch", "2", "--resolution", "8")
pytestmark = pytest.mark.slow


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a script by its name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def run_here(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run a script in this process, its measurements too, and return what it has written."""

    def run_it(script: str, *options: str | Path) -> dict[str, Any]:
        module, command = load(script), str(ROOT / "benchmarks" / f"{script}.py")

        def main(*words: str) -> str:
            with monkeypatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
                patch.setattr(sys, "argv", [command, *words])
                module.main()
            return out.getvalue()

        def measured_here(task: dict[str, Any]) -> dict[str, float]:
            try:
                return json.loads(main("--one", json.dumps(task)))
            except Exception as error:
                raise module.MeasurementError(f"exit status 1: {error}") from error

        monkeypatch.setattr(module, "in_own_process", measured_here, raising=False)
        print(main(*map(str, options)))
        return json.loads(Path(options[-1]).read_text())

    return run_it


def test_a_measurement_is_a_process_of_its_own_that_prints_figures(
    tmp_path: Path, load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring, script = load("measuring"), tmp_path / "script.py"
    script.write_text("import json, sys; task = json.loads(sys.argv[2]); print('noise'); print(json.dumps(task['do']))")
    monkeypatch.setattr(sys, "argv", [str(script), "other", "words"])
    assert measuring.in_own_process({"do": {"step_s": 0.5}}) == {"step_s": 0.5}
    with pytest.raises(measuring.MeasurementError, match="exit status 1: KeyError: 'do'"):
        measuring.in_own_process({})
    script.write_text("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(measuring.MeasurementError, match=r"exit status -9: out of memory\?"):
        measuring.in_own_process({})


def test_the_search_step_is_measured_and_counted(
    tmp_path: Path, load: Callable[[str], Any], run_here: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = load("search_step")
    monkeypatch.setattr(script, "machine_rates", partial(script.machine_rates, side=64))
    options = ("--rounds", "1", "--threads", "1", "--variants", "plain", "off", "--out", tmp_path / "step.json")
    found = run_here("search_step", *TINY, *options)
    assert found["command"].startswith("python benchmarks/search_step.py --cells 3")
    assert str(tmp_path) not in found["command"]
    assert found["rates"]["gflops"] > 0
    assert found["rates"]["gb_per_s"] > 0
    assert found["median"]["off"]["step_s"] > 0
    assert found["median"]["plain"]["peak_gb"] > 0
    assert found["counted"]["off"]["gflop"] > 0
    assert {"cpu", "torch", "python", "load"} <= set(found["machine"])


def test_growth_measures_each_point_once_and_notes_what_fails(
    tmp_path: Path, run_here: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    base = [word.replace("--", "--base-") for word in TINY]
    options = ("--axes", "cells", "--cells", "3", "0", "--variants", "off", "--threads", "1", *base)
    good, bad = run_here("growth", *options, "--out", tmp_path / "growth.json")["measurements"]
    assert good["median"]["step_s"] > 0
    assert len(good["rounds"]) == 1
    assert bad["median"] is None
    assert "not measured: exit status" in capsys.readouterr().out


def test_the_network_and_loading_are_measured(tmp_path: Path, run_here: Callable[..., dict[str, Any]]) -> None:
    sizes = ("--channels", "2", "--batch", "2", "--resolution", "8", "--rounds", "1", "--steps", "1", "--threads", "1")
    kinds = ("--genotypes", "dd-cifar10-sparse", "--loading", "train small", "--seconds", "0.05")
    found = run_here("network_step", *sizes, *kinds, "--out", tmp_path / "network.json")
    plain, package, loading = found["measurements"]
    assert (plain["build"], package["build"]) == ("plain", "package")
    assert package["median"]["step_s"] > 0
    assert loading["median"]["images_per_s"] > 0


def test_the_phases_of_the_benchmark_of_a_gpu_work_one_after_another(
    tmp_path: Path, load: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    gpu, run_one = load("gpu"), load("gpu_phases").run_one

    def phase(name: str, **more: str) -> tuple[int, list[dict[str, Any]]]:
        task = {"device": "cpu", "small": True, "data": "digits", "precision": "float32", "settings": {}}
        status = run_one({"work": str(tmp_path), "phase": name, **task, **more})
        return status, [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]

    record = gpu.Record(tmp_path / "gpu.json", {})
    for name in gpu.BUDGETS:
        status, figures = phase(name)
        assert status == 0, figures
        for some in figures:
            record.add(name, some)
    phases = record.phases
    assert phases["device"]["matrix_product_bf16_tflops"] >= 0
    assert phases["check"]["float64"]["agrees"]
    assert phases["check"]["float32"]["agrees"]
    assert [row["variant"] for row in phases["time"]["steps"]] == ["gradient-random", "plain"]
    assert "GPU" in phases["waits"]["not_measured"]
    assert [row["epoch"] for row in phases["search"]["epochs"]] == [1, 2]
    assert phases["search"]["seconds_for_50_epochs"] > 0
    assert phases["derive"]["method"] == "darts"
    assert phases["train"]["images_per_s"] > 0
    assert json.loads((tmp_path / "gpu.json").read_text())["runs"][0]["phases"] == phases

    status, figures = phase("derive", work=str(tmp_path / "other"))
    assert status == 1
    assert "the search has not finished an epoch" in figures[0]["error"]
    status, figures = phase("graphs")
    assert status == 0
    assert "GPU" in figures[0]["not_measured"]


def test_the_benchmark_of_a_gpu_runs_phases_in_processes_of_their_own_and_adds_runs(
    tmp_path: Path, run_here: Callable[..., dict[str, Any]]
) -> None:
    out = tmp_path / "gpu.json"
    long = ("--budget", "device=250", "--work", tmp_path)  # for a busy machine
    (first,) = run_here("gpu", "--small", "--phases", "device", *long, "--out", out)["runs"]
    assert first["phases"]["device"]["status"] == "done"
    assert first["phases"]["device"]["copy_gb_per_s"] > 0

    other = ("--work", tmp_path / "other", "--data", tmp_path / "nowhere")
    before, second = run_here("gpu", "--small", "--phases", "search", *other, "--out", out)["runs"]
    assert before == first
    assert second["phases"]["search"]["status"] == "failed"
    assert "nowhere" in second["phases"]["search"]["error"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_benchmark_of_a_gpu_says_so_in_a_line(
    tmp_path: Path, load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit) as caught:
        load("gpu").main()
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert "no CUDA GPU" in said
    assert "--small" in said


def test_evaluation_is_measured_in_every_form(tmp_path: Path, run_here: Callable[..., dict[str, Any]]) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra export")
    sizes = ("--genotypes", "mobile", "--channels", "8", "--resolution", "8", "--batches", "2", "--rounds", "1")
    (row,) = run_here("evaluation", *sizes, "--out", tmp_path / "evaluation.json")["measurements"]
    assert set(row["ms_per_image"]) == {"modules", "folded", "onnxruntime", "onnxruntime int8"}
    assert min(row["ms_per_image"].values()) > 0
