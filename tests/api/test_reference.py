"""The standard network that a found network is compared with, on the embedded digits, as small as it can be."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import ddarts
from ddarts.errors import DDartsError, Stopped
from ddarts.reporting.reference import keep_reference
from ddarts.runs.folder import RunFolder
from ddarts.training.loop import _Training

WHOLE: dict[str, Any] = {
    "data": "digits",
    "limit": 60,
    "threads": 1,
    "device": "cpu",
    "genotype": "standard:resnet8",
    "channels": 3,
    "batch": 8,
    "epochs": 2,
    "steps_per_epoch": 2,
    "reference": "resnet",
    "quiet": True,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return ddarts.train(out=tmp_path_factory.mktemp("reference") / "run", **WHOLE)


def test_the_reference_is_trained_by_the_same_training(whole: Any) -> None:
    # the network is a ResNet-8 itself: its reference is the same network, and gets the same weights
    own, other = (load_file(path / "model" / "model.safetensors") for path in (whole.path, whole.path / "reference"))
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in own)
    assert whole.reference["parameters"] == whole.parameters
    assert whole.reference["val_top1"] == whole.val_top1


def test_testing_a_run_compares_both_on_the_same_images(whole: Any, tmp_path: Any) -> None:
    assert "verdict" not in RunFolder.open(whole.path).summary["reference"]
    tested = ddarts.test(whole.path, quiet=True)
    facts = RunFolder.open(whole.path).summary["reference"]
    assert facts["test_top1"] == tested.top1
    assert facts["count"] == 359
    assert facts["p"] == 1.0
    assert facts["verdict"].startswith("not distinguishable from ResNet-8 of the same size")
    page = ddarts.report(whole.path).path.read_text()
    ddarts.export(whole.path, out=tmp_path / "hub", format="safetensors")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "| compared on the same test images | not distinguishable from ResNet-8 of the same size" in card
    assert ", not distinguishable from ResNet-8 of the same size" in page


def test_a_damaged_test_of_a_run_is_no_part_of_the_comparison(whole: Any, tmp_path: Any) -> None:
    shutil.copytree(whole.path, tmp_path / "run")
    for run in (tmp_path / "run", tmp_path / "run" / "reference"):
        (run / "answers.safetensors").unlink(missing_ok=True)
        (run / "test.json").write_bytes(b'{"count": 1, "wrong": [\xff]}')
    with RunFolder.open(tmp_path / "run") as run, pytest.raises(DDartsError, match="not UTF-8 text at byte 23"):
        keep_reference(run)


def test_a_stopped_reference_is_resumed_with_the_whole_run_and_ends_the_same(
    whole: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = _Training.train_step

    def stop(self: _Training) -> None:
        if self.run.path.name == "reference" and self.state.epoch == 2:
            self.save_checkpoint()
            raise Stopped(f"stopped; resume with: ddarts train --resume {self.run.path}")
        train_step(self)

    with monkeypatch.context() as patch:
        patch.setattr(_Training, "train_step", stop)
        with pytest.raises(Stopped, match=r"resume with: ddarts train --resume \S*/run$"):
            ddarts.train(out=tmp_path / "run", **WHOLE)
    again = ddarts.train(resume=tmp_path / "run", quiet=True)
    one, two = (load_file(p / "reference" / "model" / "model.safetensors") for p in (whole.path, again.path))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_without_a_reference_nothing_is_compared(tmp_path: Any) -> None:
    done = ddarts.train(out=tmp_path / "run", **WHOLE | {"reference": "none"})
    assert done.reference is None
    assert not (done.path / "reference").exists()
