"""The plan of a job."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ddarts
from ddarts.cli.main import main
from ddarts.config.loading import load_settings
from ddarts.config.schema import RunSettings, TrainSettings
from ddarts.errors import SettingsError
from ddarts.genotype.zoo.lookup import find_architecture
from ddarts.pipeline import Opening
from ddarts.planning import (
    Plan,
    Speed,
    Speeds,
    plan_job,
    reference_of,
    training_s,
)
from ddarts.reporting.page import write_report
from ddarts.reporting.results import longer_training
from ddarts.runs.folder import RunFolder


@pytest.fixture(scope="module")
def digits():
    return ddarts.load_data("digits")


def settings_of(**changes) -> RunSettings:
    return load_settings("run", overrides={"data": "digits", **changes})


def test_a_plan_adds_up_the_steps_of_all_stages_and_says_how_to_change_them(digits):
    speeds = Speeds(Speed(2.0, 1.0, 2**20), Speed(0.5, 0.25, 2**20))
    plan = plan_job(settings_of(), digits, found=("resolution", "flip"), speeds=speeds)
    assert plan.search_s == 15 * (10 * 2.0 + 1.0)  # 647 images of the half in batches of 64
    validated = 25 * 144 / 64 * 0.5 / 3
    assert plan.train_s == pytest.approx(25 * (20 * 0.5 + 0.25) + validated, rel=0.01)
    text = "\n".join(plan.lines)
    assert "resolution  8x8: the size of the images (--resolution)" in text
    assert "flip        no: found from the data (--flip)" in text
    assert "search      15 epochs of 10 steps, batch 64, about 5 min 15 s (--search.epochs, --search.batch)" in text
    assert "training    25 epochs of 20 steps, batch 64, C = 16, about" in text
    assert "in all      about 9 min" in text
    assert "MiB of disk" in text


def test_a_plan_has_the_share_of_the_standard_network(digits):
    speeds = Speeds(Speed(2.0, 1.0, 0), Speed(0.5, 0.25, 0), Speed(0.1, 0.05, 0))
    plan, without = (plan_job(settings_of(), digits, speeds=s) for s in (speeds, replace(speeds, reference=None)))
    assert plan.reference_s == pytest.approx(plan.train_s / 5)
    assert plan.rest_s > without.rest_s
    assert any("trained alike, about" in line and "--reference none" in line for line in plan.lines)
    assert without.reference_s == 0


def test_speeds_are_measured_where_they_are_not_given_and_leave_nothing_behind(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    settings = load_settings("train", overrides={"data": "digits", "channels": 2, "batch": 8, "threads": 1})
    plan = plan_job(settings, digits, genotype=find_architecture("resnet18"))
    assert plan.train_s > 0
    assert plan.search_s == 0
    assert not list(tmp_path.iterdir())


def test_steps_at_half_the_resolution_are_planned_as_cheaper(digits):
    speed = Speed(0.5, 0.0, 0)
    whole = training_s(settings_of(validation=0), digits, speed)
    assert training_s(settings_of(validation=0, half_resolution=0.5), digits, speed) == pytest.approx(0.65 * whole)


def test_no_standard_network_is_compared_that_half_the_resolution_is_too_small_for(digits):
    small = replace(digits, height=5, width=5)
    assert reference_of(settings_of(), small, 80_000, 10**7) is not None
    assert reference_of(settings_of(half_resolution=0.5), small, 80_000, 10**7) is None


def test_a_run_that_was_killed_before_it_kept_its_plan_has_one_that_is_not_final(tmp_path):
    with RunFolder.create(tmp_path / "run") as run:
        assert Plan.of(run) == Plan((), 0.0, 0.0, 0.0, 0)
        kept = Plan((), 1.0, 2.0, 3.0, 0, 5.0, 4.0, True)
        kept.keep(run)
        assert Plan.of(run) == kept


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h30m", 9000), ("45 min", 2700), ("12", 12), (7.5, 7.5)]
)
def test_durations_are_read(text, seconds):
    assert settings_of(time=text).time == seconds


def test_what_was_found_is_recorded_and_kept_on_resume(digits, tmp_path):
    given = {"data": "digits", "channels": 2, "min_steps": 100}
    opening = Opening.of("train", tmp_path / "run", "small", None, None, False, given).fitted(digits)
    with opening.start(digits) as run:
        stored = run.read_settings("train")
    assert stored["train"]["epochs"] == 8  # 13 steps each
    assert (stored["resolution"], stored["flip"], stored["workers"]) == (8, False, 0)
    assert stored["threads"] >= 1
    assert run.summary["found"] == ["flip", "resolution", "threads", "workers"]
    assert "8 (found)" in write_report(run.path).read_text()
    again = Opening.of("train", None, "small", None, run.path, False, given)  # the preset's epochs are nobody's wish
    assert again.settings.train.epochs == 8
    with pytest.raises(SettingsError, match=r"train.epochs \(the run has 8, given is 9\)"):
        Opening.of("train", None, None, None, run.path, False, {"epochs": 9})


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [({}, 300), ({"min_steps": 31}, 7), ({"epochs": 1}, 1), ({"epochs": 1, "min_steps": 9}, 2)],
)
def test_few_images_are_passed_over_more_often_unless_epochs_are_chosen(digits, tmp_path, changes, epochs):
    given = {"data": "digits", "batch": 10, **changes}
    opening = Opening.of("train", tmp_path / "run", "small", None, None, False, given)
    few = replace(digits, train=digits.train.select(torch.arange(60)))
    assert opening.fitted(few).settings.train.epochs == epochs


@pytest.mark.parametrize("stage", ["train", "run"])
def test_the_command_for_a_longer_training_has_the_settings_of_the_run(stage, monkeypatch):
    group = {"channels": 12, "epochs": 7, "policy": "none"}
    options = {"data": "./my images", "seed": 3, "validation": 0.2, "resolution": 24, "strict": True}
    overrides = options | ({"train": group} if stage == "run" else group)
    settings = load_settings(stage, overrides=overrides)
    command = longer_training({stage: settings.model_dump()}, "runs/a", found=("resolution",))
    seen = {}
    monkeypatch.setattr("ddarts.api.stages.train", lambda **given: seen.update(given) or ddarts_result())
    assert main(shlex.split(command)[1:]) == 0
    assert (seen.pop("genotype"), seen.pop("out")) == ("runs/a", "runs/a-longer")
    again: TrainSettings = load_settings("train", overrides=seen)
    assert again == load_settings("train", overrides=options | group | {"epochs": 14, "resolution": None})


def ddarts_result():
    from ddarts.results import TrainResult

    return TrainResult(Path("runs/a-longer"), 1, 1, 1.0)


def test_the_python_for_a_longer_training_on_data_from_python():
    settings = load_settings("train", overrides={"data": "arrays 6x8x8 sha256:0123456789abcdef", "epochs": 3})
    code = longer_training({"train": settings.model_dump()}, "runs/a")
    assert code == "ddarts.train(data, genotype='runs/a', epochs=6, out='runs/a-longer')"
