"""The public functions on the embedded digits, as small as they can be."""

import json
import os
import random
import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ddarts
from ddarts import Edge, Genotype
from ddarts.cli.main import main
from ddarts.deploy.extras import installed
from ddarts.errors import DataError, GenotypeError, RunError, SettingsError, Stopped
from ddarts.genotype.genotype import CellGenotype
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.pipeline import Opening
from ddarts.runs.folder import RunFolder
from ddarts.runs.paths import new_run_path, reserve_run_path
from ddarts.runtime.seeds import seed_everything

TINY = {"data": "digits", "limit": 60, "channels": 2, "epochs": 2, "steps_per_epoch": 2, "batch": 8, "device": "cpu"}


@pytest.fixture(scope="module")
def genotype():
    cell = CellGenotype((Edge("sep_conv_3x3", 0, 2), Edge("skip_connect", 1, 2)), (2,))
    reduction = CellGenotype((Edge("max_pool_3x3", 0, 2),), (2,), reduction=True)
    return Genotype((cell, reduction, cell), "tiny")


@pytest.fixture(scope="module")
def trained(genotype, tmp_path_factory):
    """A run whose training is over."""
    return ddarts.train(genotype=genotype, out=tmp_path_factory.mktemp("stages") / "run", quiet=True, threads=1, **TINY)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "digit.png"
    Image.fromarray(ddarts.load_data("digits").train.pixels[0, 0].numpy()).save(path)
    return path


def test_an_interrupt_after_the_last_step_names_the_command_that_resumes_and_loses_nothing(trained, genotype, tmp_path):
    def interrupt(record):
        if record["epoch"] == TINY["epochs"]:
            os.kill(os.getpid(), signal.SIGINT)

    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match=f"^interrupted; resume with: ddarts train --resume {path}$"):
        ddarts.train(genotype=genotype, out=path, quiet=True, threads=1, on_epoch=interrupt, **TINY)
    assert not (path / "model").exists()
    ddarts.train(resume=path, quiet=True)
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (path, trained.path)]
    assert weights[0] == weights[1]


def test_a_run_that_was_killed_before_its_latency_was_measured_has_it_after_resuming(trained, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(trained.path, path)
    kept = json.loads((path / "summary.json").read_text())
    killed = {key: value for key, value in kept.items() if key != "size_bytes" and not key.startswith("latency")}
    (path / "summary.json").write_text(json.dumps(killed))
    ddarts.train(resume=path, quiet=True)
    resumed = RunFolder.open(path).summary
    assert resumed["size_bytes"] == kept["size_bytes"]
    assert resumed["latency_ms"] > 0
    assert resumed["latency_runtime"] == kept["latency_runtime"]


def test_training_leaves_everything_in_the_run(trained, genotype):
    run = RunFolder.open(trained.path)
    summary = run.summary
    assert summary["data"] == "digits"
    assert summary["seed"] == 0
    assert summary["parameters"] == trained.parameters > 0
    assert summary["macs"] == trained.macs > 0
    assert summary["train_s"] == trained.train_s > 0
    assert set(summary["versions"]) == {"ddarts", "torch", "torchvision", "python", "kernels"}
    assert run.read_settings("train")["limit"] == 60
    assert Genotype.load(run.path) == genotype
    assert {p.name for p in (run.path / "cells").iterdir()} == {
        "cell_00.svg",
        "cell_01.svg",
        "cell_02.svg",
        "cells.svg",
    }
    assert (run.path / "model" / "model.safetensors").is_file()


def test_training_never_sees_the_test_images(genotype, tmp_path, monkeypatch):
    seen = []

    def spy(genotype, settings, images, run, *, quiet):
        seen.append(images)
        raise DataError("enough")

    monkeypatch.setattr("ddarts.training.loop.train_network", spy)
    with pytest.raises(DataError, match="enough"):
        ddarts.train(genotype=genotype, out=tmp_path / "run", quiet=True, **TINY)
    assert seen[0].test is None
    assert ddarts.load_data("digits").test is not None


SEARCH = {"cells": 3, "nodes": 1, "channels": 2, "epochs": 1, "steps_per_epoch": 2, "batch": 8, "ablation": "off"}
TRAIN = {"channels": 2, "epochs": 1, "steps_per_epoch": 2, "batch": 8}
RULE = {"method": "darts", "layers": 4}
WHOLE = {"data": "digits", "limit": 60, "device": "cpu", "threads": 1, "search": SEARCH, "derive": RULE, "train": TRAIN}


def test_deriving_once_more_by_the_rule_of_the_search_changes_nothing(tmp_path):
    found = ddarts.search(
        data="digits", limit=60, device="cpu", threads=1, method="darts", out=tmp_path / "run", quiet=True, **SEARCH
    )
    before = (found.path / "genotype.json").read_bytes()
    ddarts.derive(found.path)
    assert (found.path / "genotype.json").read_bytes() == before
    with pytest.raises(RunError, match="holds another genotype"):
        ddarts.derive(found.path, layers=5)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from the search to the report."""
    return ddarts.run(out=tmp_path_factory.mktemp("stages") / "whole", quiet=True, **WHOLE)


def test_a_whole_run_with_its_export_leaves_the_callers_random_streams_alone(tmp_path, exported_latency):
    def streams():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()

    seed_everything(7, "caller")
    before = streams()
    done = ddarts.run(out=tmp_path / "run", quiet=True, reference="none", **WHOLE)
    assert streams() == before
    ddarts.test(done.path, quiet=True, device="cpu")
    assert streams() == before
    exports = all(map(installed, ("onnx", "onnxscript", "onnxruntime")))
    check_latency(done.path, "onnxruntime" if exports else "pytorch")


def check_latency(path, runtime):
    summary = RunFolder.open(path).summary
    assert summary["latency_runtime"] == runtime
    assert 0 < summary["latency_ms"] <= summary["latency_p95_ms"]
    assert summary["latency_pytorch_ms"] > 0
    assert (summary["latency_pytorch_ms"] == summary["latency_ms"]) == (runtime == "pytorch")
    assert summary["latency_on"].endswith("1 thread")


def test_a_training_without_onnxruntime_has_the_latency_of_pytorch(trained):
    check_latency(trained.path, "pytorch")


def test_a_whole_run_leaves_every_product_in_its_folder(whole):
    run = RunFolder.open(whole.path)
    assert run.stages == ("run",)
    assert {"gates.json", "genotype.json", "summary.json", "metrics.jsonl", "test.json", "report.html"} <= {
        p.name for p in run.path.iterdir()
    }
    assert run.summary["test_top1"] == whole.test_top1
    assert run.summary["search_s"] == whole.search_s
    assert len(Genotype.load(run.path)) == 4
    assert len(list((run.path / "cells").glob("cell_*.svg"))) == 4
    assert all((run.path / name).exists() for name in whole.files)
    assert dict(whole.rows())["top-1 (test)"] == f"{100 * whole.test_top1:.2f} %"


def test_the_stages_one_by_one_give_what_the_whole_run_gives(whole, tmp_path):
    shared = {name: WHOLE[name] for name in ("data", "limit", "device", "threads")}
    searched = ddarts.search(out=tmp_path / "s", quiet=True, **shared, **SEARCH, **RULE)
    assert searched.gates == ddarts.Gates.load(whole.path / "gates.json")
    assert searched.genotype.cells == Genotype.load(whole.path).cells
    trained = ddarts.train(genotype=tmp_path / "s", out=tmp_path / "t", quiet=True, **shared, **TRAIN)
    assert (trained.val_top1, trained.parameters, trained.macs) == (whole.val_top1, whole.parameters, whole.macs)
    assert ddarts.test(tmp_path / "t", quiet=True).top1 == whole.test_top1


def test_a_run_that_is_over_is_not_done_again(whole):
    assert ddarts.run(resume=whole.path, quiet=True) == whole
    assert ddarts.search(resume=whole.path, quiet=True).search_s == whole.search_s


def test_a_run_stopped_in_the_middle_goes_on_and_ends_the_same(whole, tmp_path, monkeypatch):
    import ddarts.training.loop as loop

    def stop(genotype, settings, images, run, *, quiet):
        raise Stopped(f"stopped at epoch 1, step 1; resume with: ddarts train --resume {run.path}")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_network", stop)
        with pytest.raises(Stopped, match=r"resume with: ddarts run --resume .*again"):
            ddarts.run(out=tmp_path / "again", quiet=True, **WHOLE)
    result = ddarts.run(resume=tmp_path / "again", quiet=True)
    assert (result.test_top1, result.val_top1) == (whole.test_top1, whole.val_top1)
    assert (tmp_path / "again" / "gates.json").read_bytes() == (whole.path / "gates.json").read_bytes()


def test_a_rule_that_finds_nothing_keeps_the_gates_and_another_rule_lets_the_run_go_on(tmp_path):
    strict = {**WHOLE, "derive": {"method": "threshold_sparse", "threshold": 1.0}}
    with pytest.raises(
        GenotypeError, match=r"the gates are kept: ddarts derive .*r --threshold .* then --resume .*r .*"
    ):
        ddarts.run(out=tmp_path / "r", quiet=True, **strict)
    ddarts.derive(tmp_path / "r", method="darts")
    assert ddarts.run(resume=tmp_path / "r", quiet=True).test_top1 is not None


def test_a_training_that_is_over_is_not_done_again(trained):
    before = (trained.path / "model" / "model.safetensors").stat().st_mtime_ns
    again = ddarts.train(resume=trained.path, quiet=True)
    assert again == trained
    assert (trained.path / "model" / "model.safetensors").stat().st_mtime_ns == before


def test_testing_a_run_writes_the_result_into_it(trained):
    result = ddarts.test(trained.path, quiet=True)
    assert result.count == len(ddarts.load_data("digits").test)
    assert sum(map(sum, result.confusion)) == result.count
    assert list(result.per_class) == list("0123456789")
    run = RunFolder.open(trained.path)
    assert run.summary["test_top1"] == result.top1
    stored = json.loads((run.path / "test.json").read_text())
    assert len(stored.pop("wrong")) == len(result.mistakes)
    assert stored == result.to_dict()
    assert ddarts.report(trained.path).path.is_file()


def test_testing_on_other_data_leaves_the_run_as_it_is(trained, tmp_path, image):
    for part in ("train", "test"):
        for name in "0123456789":
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for i in range(2):
                (folder / f"{i}.png").write_bytes(image.read_bytes())
    before = RunFolder.open(trained.path).summary
    result = ddarts.test(trained.path, data=tmp_path / "data", quiet=True)
    assert result.count == 20
    assert RunFolder.open(trained.path).summary == before


def test_a_model_alone_needs_the_data_named(trained, tmp_path):
    _copy(trained.path, tmp_path)
    with pytest.raises(SettingsError, match="does not say what data it is for; name them with --data"):
        ddarts.test(tmp_path / "model", quiet=True)
    assert ddarts.test(tmp_path / "model", data="digits", quiet=True).count > 0


def _copy(run, target):
    (target / "model").mkdir()
    for path in (run / "model").iterdir():
        (target / "model" / path.name).write_bytes(path.read_bytes())


def test_predictions_name_classes_and_skip_what_is_no_image(trained, image, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no image")
    result = ddarts.predict([image, tmp_path / "bad.png"], model=trained.path, top=3)
    ((name, classes),) = result.predictions
    assert name == str(image)
    assert len(classes) == 3
    assert classes[0][1] >= classes[1][1] >= classes[2][1]
    assert len(result.skipped) == 1
    assert main(["predict", str(image), "--model", str(trained.path), "--json", "--top", "1"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["predictions"][0]["classes"] == [{"class": classes[0][0], "probability": classes[0][1]}]
    with pytest.raises(DataError, match=r"bad.png"):
        ddarts.predict([image, tmp_path / "bad.png"], model=trained.path, strict=True)


def test_predict_names_the_model_and_skipped_files_give_status_3(trained, image, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert main(["predict", str(image), str(tmp_path / "bad.png"), "--model", str(trained.path)]) == 3
    printed = capsys.readouterr().out
    assert re.search(r"model +\S", printed)
    assert "skipped" in printed


def test_a_run_among_the_images_is_an_error_with_the_way_out(trained, image, tmp_path):
    with pytest.raises(SettingsError, match=r"is a run, not an image; name it with --model "):
        ddarts.predict([trained.path, image])
    with pytest.raises(SettingsError, match=r"is a folder, not an image; name the files in it"):
        ddarts.predict(tmp_path, model=trained.path)
    with pytest.raises(SettingsError, match="images must be names of files; call what load_model returns on arrays"):
        ddarts.predict(np.zeros((2, 8, 8), np.uint8), model=trained.path)


def test_predicting_uses_the_newest_run_unless_told(trained, image, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="no run with a trained model in runs"):
        ddarts.predict(image)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(trained.path)
    assert ddarts.predict(image).model == Path("runs/mine/model")


def test_new_runs_are_named_after_data_and_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ddarts.runs.paths.time.strftime", lambda form: "20250102-030405")
    first = new_run_path("/data/x")
    assert first == Path("runs/x-20250102-030405")
    assert new_run_path("fashion-mnist:/data/x") == Path("runs/fashion-mnist-20250102-030405")
    first.mkdir(parents=True)
    assert new_run_path("/data/x") == Path("runs/x-20250102-030405-2")
    with ThreadPoolExecutor(20) as threads:  # at once: each gets a folder of its own
        assert len(set(threads.map(reserve_run_path, ["x"] * 100))) == 100


def test_runs_that_start_at_once_have_a_folder_each(genotype, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ddarts.runs.paths.time.strftime", lambda form: "20250102-030405")
    openings = [Opening.of("train", None, None, None, None, False, {"data": "digits"}) for _ in range(2)]
    assert not Path("runs").exists()
    assert [opening.reserved().path.name for opening in openings] == [
        "digits-20250102-030405",
        "digits-20250102-030405-2",
    ]


def test_a_place_for_runs_that_cannot_be_made_is_one_error_and_no_endless_loop(genotype, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").symlink_to(tmp_path / "gone" / "away")
    with pytest.raises(
        RunError, match=r"runs/digits-.*: cannot be made: File exists; choose another folder with --out"
    ):
        ddarts.train(genotype=genotype, quiet=True, threads=1, **TINY)


def test_a_search_from_a_baseline_tells_how_far_it_came(genotype, tmp_path):
    genotype.save(tmp_path / "tiny.json")
    OperationWeights.published().save(tmp_path / "weights.json")
    wanted = {**TINY, "baseline": str(tmp_path / "tiny.json"), "operation_weights": str(tmp_path / "weights.json")}
    out = tmp_path / "run"
    still = ddarts.search(out=out, method="threshold_edge", pretrain_epochs=0, quiet=True, threads=1, **wanted)
    assert still.distance == RunFolder.open(out).summary["distance"] == still.to_dict()["distance"] == 0
    assert dict(still.rows())["operations"].startswith("none changed: search for more steps")
    (tmp_path / "tiny.json").unlink()
    (tmp_path / "weights.json").unlink()
    assert ddarts.search(resume=out, quiet=True).distance == 0
    far = ddarts.search(
        out=tmp_path / "far", method="darts", baseline="resnet18", pretrain_epochs=0, quiet=True, threads=1, **TINY
    )
    assert far.distance is not None
    assert dict(far.rows())["distance to the baseline"].startswith(f"Hausdorff {far.distance:.4f}, edit 0.")


def test_arrays_from_python_are_searched_trained_tested_and_asked_for_again(genotype, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    labels = np.arange(60) % 2
    tiny = {k: v for k, v in TINY.items() if k not in ("data", "limit")}
    monkeypatch.setenv("HOME", str(tmp_path))
    done = ddarts.train(data=(pixels, labels), genotype=genotype, out="~/run", quiet=True, threads=1, **tiny)
    assert done.path == tmp_path / "run"
    stored = RunFolder.open(done.path).read_settings("train")["data"]
    assert stored.startswith("arrays 60x8x8 sha256:")
    with pytest.raises(DataError, match="was given from Python; give the same data again"):
        ddarts.train(resume=done.path, quiet=True)
    with pytest.raises(SettingsError, match=r"data \(the run has arrays 60x8x8 sha256.*, given is arrays 60x8x8"):
        ddarts.train(resume=done.path, quiet=True, data=(255 - pixels, labels))
    assert ddarts.train(resume=done.path, quiet=True, data=(pixels, labels)).parameters == done.parameters
    result = ddarts.test(done.path, data=(pixels, labels), quiet=True, device="cpu")
    assert (result.count, result.data) == (8, stored)
    assert (done.path / "test.json").is_file()
    wrong = round((1 - result.top1) * 8)
    header, *lines = (done.path / "mistakes.csv").read_text().splitlines()
    assert header == "file,class,predicted class,its probability,probability of the class"
    assert len(lines) == len(result.mistakes) == wrong > 0
    for line in lines:
        name, truth, taken, *_ = line.split(",")
        assert truth == str(labels[int(name.removeprefix("arrays[").removesuffix("]"))]) != taken
    printed = dict(result.rows())
    assert printed["mistake"].startswith("arrays[")
    assert printed["all mistakes"] == str(done.path / "mistakes.csv")


def test_a_batch_that_nobody_chose_shrinks_to_few_images(genotype, tmp_path, capsys):
    tiny = {k: v for k, v in TINY.items() if k != "batch"}
    done = ddarts.train(genotype=genotype, out=tmp_path / "run", threads=1, **tiny)
    assert "train.batch = 50 instead of 64: there are few training images" in capsys.readouterr().err
    assert RunFolder.open(done.path).read_settings("train")["train"]["batch"] == 50
    with pytest.raises(DataError, match="batch = 51 is larger than the 50 training images; choose at most 50"):
        ddarts.train(genotype=genotype, out=tmp_path / "chosen", quiet=True, **tiny, batch=51)


def test_hooks_see_every_step_and_epoch_and_a_loss_replaces_the_cross_entropy(genotype, tmp_path):
    steps, epochs, used = [], [], []

    def squared(logits, labels):
        used.append(len(labels))
        return (logits.softmax(1) - torch.nn.functional.one_hot(labels, 10)).square().mean()

    out = tmp_path / "run"
    hooks = {"on_step": steps.append, "on_epoch": epochs.append}
    done = ddarts.train(genotype=genotype, out=out, quiet=True, threads=1, loss=squared, **hooks, **TINY)
    assert [(s["stage"], s["epoch"], s["step"]) for s in steps] == [
        ("train", 1, 1),
        ("train", 1, 2),
        ("train", 2, 3),
        ("train", 2, 4),
    ]
    run = RunFolder.open(done.path)
    assert epochs == run.metrics("train", "epoch")
    assert epochs[0]["train_loss"] < 0.2  # a mean of squares below 1, where the cross-entropy is about ln 10
    assert used == [8] * 4
    assert run.summary["loss"] == "squared"
    with pytest.raises(SettingsError, match=r"trains with the loss squared; resume it from Python with loss=squared"):
        ddarts.train(resume=out, quiet=True)
    assert ddarts.train(resume=out, quiet=True, loss=squared).parameters == done.parameters


def test_an_exception_of_a_hook_stops_a_search_that_can_be_resumed(whole, tmp_path):
    def stop(record):
        if record["epoch"] == 2:
            raise KeyError("enough")

    wanted = {**SEARCH, "epochs": 2}
    out = tmp_path / "run"
    with pytest.raises(KeyError, match="enough"):
        ddarts.search("digits", limit=60, out=out, quiet=True, threads=1, device="cpu", on_epoch=stop, **wanted)
    seen = []
    found = ddarts.search(resume=out, quiet=True, on_epoch=seen.append)
    assert [r["epoch"] for r in seen] == [2]
    assert found.best_epoch in (1, 2)
    with pytest.raises(SettingsError, match="trains with the cross-entropy; resume it without loss="):
        ddarts.run(resume=whole.path, quiet=True, loss=print)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda x, _: x.exp(), r"loss returned a value of shape \[8, 10\]; it must return a scalar"),
        (lambda x, _: x.detach().mean(), "loss returned a tensor without a gradient; compute it from the logits"),
        ("mse", "loss = 'mse': must be a function"),
    ],
)
def test_a_loss_that_cannot_be_minimised_is_an_error(loss, message, genotype, tmp_path):
    with pytest.raises(SettingsError, match=message):
        ddarts.train(genotype=genotype, out=tmp_path / "run", quiet=True, threads=1, loss=loss, **TINY)


def test_a_loaded_model_is_called_on_images(trained, image):
    model = ddarts.load_model(trained.path)
    pixels = ddarts.load_data("digits").test.pixels[:5]
    found = model(pixels)
    assert found.shape == (5, 10)
    assert torch.allclose(found.sum(1), torch.ones(5))
    assert torch.equal(model(pixels.permute(0, 2, 3, 1).numpy()), found)
    doubled = model(pixels.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.allclose(doubled, found, atol=0.05)
    alone = model(np.asarray(Image.open(image))[None])[0]
    ((_, classes),) = ddarts.predict(image, model=trained.path, top=10).predictions
    assert dict(classes) == pytest.approx({name: float(p) for name, p in zip(model.config.classes, alone, strict=True)})
    with pytest.raises(DataError, match="images of 3 channels: the model wants 1"):
        model(pixels.expand(-1, 3, -1, -1))


def test_representations_are_short(trained, genotype):
    model = ddarts.load_model(trained.path)
    tested = ddarts.test(trained.path, quiet=True)
    digits, run = ddarts.load_data("digits"), ddarts.RunFolder.open(trained.path)
    for thing in (trained, tested, model, digits, digits.test, run, ddarts.zoo(), ddarts.STRATEGIES, ddarts.SPACES):
        assert len(repr(thing)) < 300, repr(thing)
        assert " object at 0x" not in repr(thing)
    assert repr(digits.test) == "Images(359 of 8x8x1)"
    assert repr(ddarts.zoo()) == f"ZooResult(entries=<{len(ddarts.zoo().entries)} items>)"
    assert repr(ddarts.SPACES).startswith("Registry(")
    assert repr(tested).startswith("TestResult(model='")
    assert "top1=0." in repr(tested)
    assert repr(ddarts.load_data("digits")).startswith("ImageData('digits', 8x8x1, 10 classes, 1438 training, 359 test")


def test_every_function_with_data_takes_arrays(genotype, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    data = (pixels, np.arange(60) % 2)
    tiny = {k: v for k, v in TINY.items() if k not in ("data", "limit")} | {"quiet": True, "threads": 1}
    genotype.save(tmp_path / "a.json")
    compared = ddarts.compare([genotype, tmp_path / "a.json"], data=data, out=tmp_path / "c", seeds=1, **tiny)
    assert len(compared.board.lines) == 2
    loaded = ddarts.load_data(data)
    search = {k: v for k, v in SEARCH.items() if k not in ("limit", "data")}
    found = ddarts.search(loaded, out=tmp_path / "s", quiet=True, threads=1, device="cpu", **search)
    assert RunFolder.open(found.path).summary["train_images"] == len(loaded.train)
    with pytest.raises(SettingsError, match="a study reads data sets by name"):
        ddarts.study(["darts"], data=[data], out=tmp_path / "study")
