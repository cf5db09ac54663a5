"""Small runs on folders of images with a file of labels: search, training, test, prediction, report, export."""

from __future__ import annotations

import io
import itertools
import json
import re
import signal
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import ddarts
from ddarts.cli.main import main
from ddarts.errors import DataError, SettingsError
from ddarts.reporting.page import write_report
from ddarts.runs.folder import RunFolder
from tests.end_to_end.test_kill import SIGNALLED
from tests.processes import Started

SMALL: dict[str, Any] = {
    "threads": 1,
    "device": "cpu",
    "quiet": True,
    "preset": "demo",
    "search": {"epochs": 1, "cells": 3, "nodes": 1, "channels": 2, "batch": 8, "steps_per_epoch": 3},
    "train": {"epochs": 6, "channels": 4, "batch": 16, "lr": 0.05, "cutout": 0, "crop": 0, "auxiliary_weight": 0.4},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 grey images of 8x8 pixels: brightness above and below the middle are all that there is to learn."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    lines: dict[str, list[str]] = {"tags": ["file,tags"], "age": ["file,age"], "kind": ["file,split,kind"]}
    for n in range(120):
        upper, lower = random.integers(0, 2, 2)
        pixels = random.integers(0, 40, (8, 8))
        pixels[:4] += 150 * upper
        pixels[4:] += 150 * lower
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{n}.png")
        tags = ["upper"] * upper + ["lower"] * lower
        lines["tags"].append(f"{n}.png,{'|'.join(tags) or '-'}")
        lines["age"].append(f"{n}.png,{1000 + 50 * upper + 20 * lower}")
        lines["kind"].append(f"{n}.png,{('train', 'train', 'val', 'test')[n % 4]},{'big' if upper else 'small'}")
    for name, text in lines.items():
        (folder / f"{name}.csv").write_text("\n".join(text))
    return folder


@pytest.fixture(scope="module")
def runs(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: ddarts.run(str(photos), labels=str(photos / f"{name}.csv"), out=folder / name, **SMALL)
        for name in ("tags", "age", "kind")
    }


def page_of(path: Path) -> str:
    return (path / "report.html").read_text(encoding="utf-8")


def test_several_labels_an_image_from_search_to_report(runs: dict[str, Any], photos: Path) -> None:
    found = runs["tags"]
    assert found.task == "multi-label"
    assert found.test_top1 > 0.9
    assert found.val_top1 > 0.9
    rows = dict(found.rows())
    assert rows["mean average precision (test)"] == f"{100 * found.test_top1:.2f} %"
    tested = ddarts.test(found.path, quiet=True)
    assert tested.top1 == found.test_top1
    assert set(tested.per_class) == {"lower", "upper"}
    assert sum(tested.per_class.values()) / 2 == pytest.approx(tested.top1)  # type: ignore[arg-type]
    assert 0 <= tested.exact <= 1  # type: ignore[operator]
    page = page_of(found.path)
    assert "mean average precision" in page
    assert "classified correctly" not in page


def test_all_labels_above_one_half_are_predicted(runs: dict[str, Any], photos: Path) -> None:
    files = [photos / f"{n}.png" for n in range(20)]
    found = ddarts.predict(files, model=runs["tags"].path, top=1)
    model = ddarts.load_model(runs["tags"].path)
    pixels = np.stack([np.array(Image.open(file)) for file in files])
    probabilities = model(pixels)
    for (_, labels), row in zip(found.predictions, probabilities, strict=True):
        named = {name: p for name, p in zip(model.config.classes, row.tolist(), strict=True) if p > 0.5}
        assert dict(labels) == pytest.approx(named, abs=1e-4)
    assert {len(labels) for _, labels in found.predictions} == {0, 1, 2}
    assert "no label above 50 %" in dict(found.rows()).values()


def test_numbers_from_search_to_report(runs: dict[str, Any], photos: Path) -> None:
    found = runs["age"]
    assert found.task == "regression"
    assert -20 < found.test_top1 < 0  # minus the mean absolute error, in the unit of the file
    tested = ddarts.test(found.path, quiet=True)
    assert tested.top1 == found.test_top1
    assert tested.r2 > 0.5
    assert 0 < tested.per_class["age"] < 20  # type: ignore[operator]
    rows = dict(tested.rows())
    assert tested.per_class["age"] == pytest.approx(-found.test_top1)
    assert rows["mean absolute error (test)"] == rows["  age"] == f"{tested.per_class['age']:.4g}"
    predicted = ddarts.predict(photos / "0.png", model=found.path)
    ((_, ((name, value),)),) = predicted.predictions
    assert name == "age"
    assert 980 < value < 1090
    assert predicted.to_dict()["predictions"][0]["values"] == {"age": value}
    page = page_of(found.path)
    assert "mean absolute error" in page
    assert "classified correctly" not in page
    assert found.to_dict()["test_mean_absolute_error"] == -found.test_top1
    assert "test_top1" not in found.to_dict()


@pytest.mark.parametrize(("name", "unit"), [("tags", "points of mean average precision"), ("age", "absolute error")])
def test_the_standard_network_is_compared_by_the_measure_of_the_task(
    runs: dict[str, Any], name: str, unit: str
) -> None:
    found = runs[name]
    reference = found.reference
    assert reference["title"] in found.conclusion
    assert unit in reference["verdict"]
    assert reference["difference"] == pytest.approx(found.test_top1 - reference["test_top1"])
    assert reference["low"] <= reference["difference"] <= reference["high"]
    assert reference["count"] == ddarts.test(found.path, quiet=True).count
    assert reference["verdict"] in unescape(page_of(found.path))


@pytest.mark.parametrize(("name", "metric"), [("tags", "mean average precision"), ("age", "mean absolute error")])
def test_every_page_and_table_shows_the_measure_of_the_task(
    runs: dict[str, Any], photos: Path, tmp_path: Path, name: str, metric: str
) -> None:
    found = runs[name]
    ddarts.export(found.path, format="safetensors", out=tmp_path / "hub", quiet=True)
    texts = {"card": (tmp_path / "hub" / "README.md").read_text(), "report": page_of(found.path)}
    texts["pages of two runs"] = ddarts.report([found.path, found.path], out=tmp_path / "both.html").path.read_text()
    watched = ddarts.watch(found.path)
    texts["watch"] = str([*watched.rows(), watched.line()])
    texts["run"] = f"{[*found.rows()]} {found.conclusion}"
    short = {k: v for k, v in SMALL.items() if k != "search"} | {"train": {**SMALL["train"], "epochs": 1}}
    about = {"data": str(photos), "labels": str(photos / f"{name}.csv"), **short}
    compared = ddarts.compare([found.path, found.path / "genotype.json"], seeds=1, out=tmp_path / "cmp", **about)
    console = Console(file=io.StringIO(), width=200)
    console.print(compared.table())
    texts["compare"] = console.file.getvalue() + (tmp_path / "cmp" / "report.html").read_text()  # type: ignore[attr-defined]
    for where, text in texts.items():
        assert metric in text.lower(), where
        words = re.sub(r'id="[^"]*"|#[\w-]+', "", text.lower())
        for wrong in ("top-1", "accuracy", "classified correctly", "image classifier"):
            assert wrong not in words, (where, wrong)
    score = compared.board.lines[0].top1[0]
    assert compared.to_dict()["methods"][0][f"{metric.replace(' ', '_')}"] == [abs(score)]


# files of classifications: tests/api/test_export.py
@pytest.mark.parametrize(
    ("name", "format"),
    [*itertools.product(("tags", "age"), ("onnx", "onnx-int8", "torch-export", "safetensors")), ("kind", "onnx")],
)
def test_files_for_other_runtimes_are_checked_on_images_of_the_run(
    runs: dict[str, Any], photos: Path, tmp_path: Path, name: str, format: str
) -> None:
    if format.startswith("onnx"):
        pytest.importorskip("onnxruntime", reason="needs the extra export")
    found = runs[name]
    result = ddarts.export(found.path, format=format, out=tmp_path / "out", quiet=True)
    assert "test images of photos" in result.images or "images of photos" in result.images
    kind = {"tags": "multi-label", "age": "regression", "kind": "classification"}[name]
    described = json.loads((tmp_path / "out" / "preprocessing.json").read_text())
    assert described.get("task", "classification") == kind == result.task
    if format == "onnx-int8":
        measured = result.accuracies
        assert measured is not None
        sign = -1 if name == "age" else 1
        assert measured.float32 == pytest.approx(sign * found.test_top1, rel=1e-3)
        assert measured.int8 == pytest.approx(measured.float32, abs=5 if name == "age" else 0.1)
        assert dict(result.rows())[f"{measured.metric} of int8 (test)"]
    if format != "torch-export":
        told = ddarts.predict(photos / "3.png", model=result.path).predictions
        asked = ddarts.predict(photos / "3.png", model=found.path).predictions
        tolerance = {"onnx-int8": 10 if name == "age" else 0.1}.get(format, 1e-3)
        assert dict(told[0][1]) == pytest.approx(dict(asked[0][1]), abs=tolerance)


def test_int8_can_be_calibrated_on_images_of_another_file(runs: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra export")
    other = {"format": "onnx-int8", "data": str(photos), "quiet": True}
    found = ddarts.export(runs["age"].path, labels=photos / "age.csv", out=tmp_path / "a", **other)
    assert found.accuracies is not None
    with pytest.raises(DataError, match="is no number"):
        ddarts.export(runs["age"].path, labels=photos / "kind.csv", out=tmp_path / "b", **other)
    with pytest.raises(SettingsError, match="labels belong to images in a folder"):
        ddarts.export(runs["age"].path, format="onnx-int8", labels=photos / "age.csv", out=tmp_path / "c", quiet=True)


def test_a_run_on_numbers_killed_twice_ends_with_the_same_bytes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        *("run", "--data", str(photos), "--labels", str(photos / "age.csv"), "--preset", "demo", "--quiet"),
        *("--threads", "1", "--device", "cpu", "--reference", "none"),
        *("--search.epochs", "2", "--search.cells", "2", "--search.nodes", "1", "--search.channels", "2"),
        *("--search.batch", "8", "--search.steps-per-epoch", "3", "--search.checkpoint-steps", "2"),
        *("--train.epochs", "3", "--train.channels", "4", "--train.batch", "16", "--train.mixup", "0.2"),
    ]
    assert main([*options, "--out", str(tmp_path / "whole" / "run")]) == 0
    for life in range(2):
        words = (
            [*options, "--out", tmp_path / "killed" / "run"]
            if life == 0
            else ["run", "--resume", tmp_path / "killed" / "run"]
        )
        process = Started(SIGNALLED, int(signal.SIGKILL), 0.01, *words)
        assert process.wait() == -signal.SIGKILL, process.err
    assert main(["run", "--resume", str(tmp_path / "killed" / "run"), "--quiet"]) == 0
    for name in ("gates.json", "genotype.json", "model/model.safetensors", "model/config.json", "answers.safetensors"):
        assert (tmp_path / "killed" / "run" / name).read_bytes() == (tmp_path / "whole" / "run" / name).read_bytes(), (
            name
        )


@pytest.mark.parametrize("command", ["run", "search", "train"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("file,x\n", "no rows"),
        ("file,x\nnone.png,1\n", "does not exist"),
        ("file,x\n0.png,\n", "is empty"),
        ("file,x\n0.png,nan\n", "is not finite"),
        ("file,x\n0.png,1\n1.png,cat\n2.png,2", "is no number"),
        ("file,x\n0.png,1\n0.png,2\n", "is in line 2 too"),
        ("file,x\n../0.png,1\n", "is no path inside"),
        ("file,\xff\n0.png,1\n", "not UTF-8"),
        ("name,x\n0.png,1\n", "no column names the images"),
    ],
)
def test_a_bad_file_of_labels_is_one_line_and_status_2(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, text: str | None, message: str
) -> None:
    path, out = tmp_path / "bad.csv", tmp_path / "out"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    more = ["--genotype", "darts-v1"] if command == "train" else []
    assert main([command, "--data", str(photos), "--labels", str(path), "--out", str(out), *more]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.startswith("ddarts: error: ")
    assert message in said
    assert not out.exists()


def test_the_model_carries_what_its_outputs_mean(runs: dict[str, Any]) -> None:
    config = json.loads((runs["age"].path / "model" / "config.json").read_text())
    assert config["task"] == "regression"
    assert 1000 < config["target_mean"][0] < 1070
    model = ddarts.load_model(runs["age"].path)
    assert model.config.task.mean == tuple(config["target_mean"])
    assert "1 number" in repr(model)
    with torch.no_grad():
        outputs = model.network(torch.zeros(1, 1, 8, 8))
    dark = np.full((1, 8, 8), round(255 * model.config.mean[0]), dtype=np.uint8)
    assert model(dark).item() == pytest.approx(model.config.task.answers(outputs).item(), rel=1e-3)
    config = json.loads((runs["kind"].path / "model" / "config.json").read_text())
    assert "task" not in config  # as in earlier versions
    assert ddarts.load_model(runs["kind"].path).config.task.kind == "classification"


def test_words_are_a_classification_with_the_splits_of_the_file(runs: dict[str, Any]) -> None:
    found = runs["kind"]
    assert found.task == "classification"
    assert found.test_top1 > 0.9
    summary = RunFolder.open(found.path).summary
    assert summary["train_images"] == 60
    assert "task" not in summary
    assert dict(found.rows())["top-1 (test)"] == f"{100 * found.test_top1:.2f} %"


def test_a_model_is_tested_on_labels_of_its_task_only(runs: dict[str, Any], photos: Path) -> None:
    with pytest.raises(DataError, match="is for multi-label, the model for regression"):
        ddarts.test(runs["age"].path, data=str(photos), labels=str(photos / "tags.csv"), quiet=True)


def test_what_numbers_do_not_have_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"balance = weights .* regression"):
        ddarts.run(str(photos), labels=str(photos / "age.csv"), balance="weights", out=tmp_path / "a", **SMALL)
    changed = {**SMALL, "search": {**SMALL["search"], "search_classes": 2}}
    with pytest.raises(SettingsError, match="search_classes needs images of one class each"):
        ddarts.run(str(photos), labels=str(photos / "tags.csv"), out=tmp_path / "b", **changed)


def test_several_labels_can_be_balanced(runs: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    options = {k: v for k, v in SMALL.items() if k != "search"} | {"train": {**SMALL["train"], "epochs": 1}}
    for balance in ("weights", "sampling"):
        found = ddarts.train(
            str(photos),
            labels=str(photos / "tags.csv"),
            genotype=runs["tags"].path,
            balance=balance,
            out=tmp_path / balance,
            **options,
        )
        assert found.val_top1 is not None


def test_the_report_of_each_task_can_be_written_again(runs: dict[str, Any]) -> None:
    for found in runs.values():
        write_report(found.path)


def test_a_study_on_labels_from_a_file_compares_their_scores(photos: Path, tmp_path: Path) -> None:
    options = {name: value for name, value in SMALL.items() if name not in ("quiet", "device")}
    options |= {"train": {**SMALL["train"], "epochs": 1}, "reference": "none"}
    done = ddarts.study(
        data=str(photos), labels=str(photos / "tags.csv"), seeds=1, draws=2, out=tmp_path / "s", quiet=True, **options
    )
    (board,) = done.boards
    assert [line.trials[0].error for line in board.lines] == [None] * 3
    assert board.task.kind == "multi-label"
    assert all(0 <= score <= 1 for line in board.lines for score in line.top1)
    assert "Mean average precision" in (done.path / "report.html").read_text()
