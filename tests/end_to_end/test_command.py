"""The whole job as a user does it: one command, then the others on what it made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import ddarts
from ddarts.cli.main import main
from ddarts.runs.folder import RunFolder
from ddarts.training import evaluate

pytestmark = pytest.mark.slow

SEARCH = [
    *("--limit", "100", "--device", "cpu", "--threads", "1", "--seed", "3", "--search.cells", "3"),
    *("--search.nodes", "1", "--search.channels", "2", "--search.epochs", "2", "--search.batch", "16"),
    *("--search.checkpoint_steps", "2", "--derive.method", "darts"),
]
TRAIN = ["--train.channels", "4", "--train.epochs", "2", "--train.batch", "16", "--train.checkpoint_steps", "3"]
TINY = SEARCH + TRAIN


class Finished:
    """A run made by `ddarts run` in a fresh folder, and what it printed."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "ddarts", "run", "--data", "digits", *TINY, "--out", "mine"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
        self.path = folder / "mine"
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("fresh"))


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """Run a command with --json; return what it printed."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_command_ends_with_a_table_that_says_where_everything_lies(finished: Finished) -> None:
    assert finished.status == 0, finished.err
    summary = RunFolder.open(finished.path).summary
    for row in (
        f"top-1 (test)         {100 * summary['test_top1']:.2f} %",
        f"parameters           {summary['parameters']:,}",
        f"MACs                 {summary['macs']:,}",
        "search time",
        "training time",
    ):
        assert row in finished.out
    for name in ("report.html", "genotype.json", "cells", "model", "settings.yaml", "summary.json", "metrics.jsonl"):
        assert f"mine/{name}" in finished.out
        assert (finished.path / name).exists()
    assert "Traceback" not in finished.err
    assert "Warning" not in finished.err
    assert "digits: 100 training, 359 test images, 10 classes, 8x8 grey" in finished.err


def test_progress_is_told_on_stderr(finished: Finished) -> None:
    for stage in ("search", "train"):
        assert any(line.lstrip().startswith(stage) and "loss" in line for line in finished.err.splitlines()), stage


def test_all_that_a_run_makes_lies_in_its_folder(finished: Finished) -> None:
    run = finished.path
    files = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()}
    events = {f for f in files if f.startswith("events/")}
    assert {f.split("/")[1] for f in events} == {"search", "train"}
    mistakes = {f for f in files if f.startswith("mistakes/")}
    assert mistakes
    reference = {f for f in files if f.startswith("reference/")}  # a run of its own
    assert {"reference/summary.json", "reference/test.json", "reference/model/model.safetensors"} <= reference
    assert files - events - mistakes - reference == {
        ".lock",
        "settings.yaml",
        "summary.json",
        "metrics.jsonl",
        "gates.json",
        "genotype.json",
        "test.json",
        "mistakes.csv",
        "report.html",
        "checkpoints/search.pt",
        "checkpoints/search.previous.pt",
        "checkpoints/train.pt",
        "checkpoints/train.previous.pt",
        "cells/cell_00.svg",
        "cells/cell_01.svg",
        "cells/cell_02.svg",
        "cells/cells.svg",
        "model/config.json",
        "model/model.safetensors",
    }
    assert {p.name for p in run.parent.iterdir()} == {"mine"}


def test_the_summary_and_the_settings_are_complete(finished: Finished) -> None:
    summary = json.loads((finished.path / "summary.json").read_text())
    assert summary["data"] == "digits"
    assert summary["seed"] == 3
    assert set(summary["versions"]) == {"ddarts", "torch", "torchvision", "python", "kernels"}
    assert 0 <= summary["test_top1"] <= 1
    assert all(summary[name] > 0 for name in ("parameters", "macs", "search_s", "train_s"))
    settings = yaml.safe_load((finished.path / "settings.yaml").read_text())
    assert settings["run"]["search"]["cells"] == 3
    assert settings["run"]["train"]["epochs"] == 2


def test_metrics_tell_of_each_epoch_and_never_of_test_images(finished: Finished) -> None:
    """Results that were picked on the test set cannot come back: no epoch is tested, the last weights are, once."""
    run = RunFolder.open(finished.path)
    records = run.metrics()
    assert [(r["stage"], r["epoch"]) for r in records if r["kind"] == "epoch"] == [
        ("search", 1),
        ("search", 2),
        ("train", 1),
        ("train", 2),
    ]
    assert not any("test" in key for record in records for key in record)
    checkpoint = run.load_checkpoint("train")
    assert checkpoint is not None
    assert (checkpoint["epoch"], checkpoint["step"]) == (3, 0)
    from safetensors.torch import load_file

    saved = load_file(run.path / "model" / "model.safetensors")
    assert all((saved[name] == checkpoint["network"][name]).all() for name in saved)
    assert ddarts.test(run.path, quiet=True).top1 == run.summary["test_top1"]


def test_the_report_holds_the_result_and_needs_no_other_file(finished: Finished) -> None:
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    assert f"{100 * RunFolder.open(finished.path).summary['test_top1']:.2f}" in page
    assert page.count("<svg") >= 3
    assert "<script src" not in page
    assert 'src="http' not in page


def test_the_same_command_again_replaces_nothing(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.path.rglob("*")}
    assert main(["run", "--data", "digits", *TINY, "--out", str(finished.path)]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in finished.path.rglob("*")} == before


def test_the_other_commands_work_on_the_run(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished.path
    image = tmp_path / "digit.png"
    Image.fromarray(ddarts.load_data("digits").train.pixels[0, 0].numpy()).save(image)

    tested = printed(capsys, "test", run)
    assert tested["top1"] == RunFolder.open(run).summary["test_top1"]
    assert sum(map(sum, tested["confusion"])) == 359

    predicted = printed(capsys, "predict", image, "--model", run, "--top", "3")
    classes = predicted["predictions"][0]["classes"]
    assert len(classes) == 3
    assert {c["class"] for c in classes} <= set("0123456789")

    shown = printed(capsys, "show", run)
    assert len(shown["genotype"]["cells"]) == 3
    assert main(["show", str(run), "--out", str(tmp_path / "cells.svg")]) == 0
    assert (tmp_path / "cells.svg").read_text().startswith("<svg")

    assert Path(printed(capsys, "report", run)["report"]) == run / "report.html"
    deeper = tmp_path / "deeper.json"
    derived = printed(capsys, "derive", run, "--layers", "5", "--out", deeper)
    assert len(derived["genotype"]["cells"]) == 5
    genotype = ddarts.Genotype.load(deeper)
    assert (len(genotype), genotype.reductions) == (5, (1, 3))

    options = ("--data", "digits", "--limit", "100", "--channels", "2", "--epochs", "1", "--batch", "16", "--quiet")
    where = ("--device", "cpu", "--threads", "1", "--out", tmp_path / "trained")
    trained = printed(capsys, "train", "--genotype", deeper, *options, *where)
    assert trained["parameters"] > 0
    assert printed(capsys, "test", tmp_path / "trained")["count"] == 359


def test_the_same_seed_gives_the_same_bits_in_another_process_and_stage_by_stage(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tests: list[bool] = []
    original = evaluate.test_model

    def spy(*arguments: Any, **options: Any) -> Any:
        run = tmp_path / "run"
        tests.append(all("train_s" in RunFolder.open(path).summary for path in (run, run / "reference")))
        return original(*arguments, **options)

    monkeypatch.setattr(evaluate, "test_model", spy)
    whole = printed(capsys, "run", "--data", "digits", *TINY, "--quiet", "--out", tmp_path / "run")
    assert tests == [True, True]  # of the network and of its reference, once each, when both trainings were over
    assert {"test_top1", "parameters", "macs", "search_s", "train_s"} <= whole.keys()
    assert whole["run"] == str(tmp_path / "run")
    assert whole["test_top1"] == RunFolder.open(finished.path).summary["test_top1"]
    for name in ("gates.json", "model/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (finished.path / name).read_bytes()
    assert ddarts.Genotype.load(tmp_path / "run").cells == ddarts.Genotype.load(finished.path).cells
    options = [o.replace("search.", "").replace("derive.", "") for o in SEARCH]
    searched = printed(capsys, "search", "--data", "digits", *options, "--quiet", "--out", tmp_path / "search")
    assert searched["run"] == str(tmp_path / "search")
    assert (tmp_path / "search" / "gates.json").read_bytes() == (finished.path / "gates.json").read_bytes()
