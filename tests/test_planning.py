"""The plan of a job, and time budgets."""

import shlex
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import ddarts
from ddarts.cli.main import main
from ddarts.config.loading import load_settings
from ddarts.config.schema import RunSettings, TrainSettings
from ddarts.cost.budget import Budget
from ddarts.cost.counting import count_parameters
from ddarts.errors import SettingsError, Stopped
from ddarts.genotype.genotype import Size
from ddarts.genotype.zoo.lookup import find_architecture
from ddarts.nn.choice_network import build_network
from ddarts.pipeline import Opening
from ddarts.planning import (
    Plan,
    Speed,
    Speeds,
    TimeBudget,
    _trials_within,
    plan_job,
    reference_of,
    training_s,
    training_steps,
)
from ddarts.reporting.page import write_report
from ddarts.reporting.results import longer_training
from ddarts.runs.folder import RunFolder
from ddarts.space.choice_space import find_choice_space

SMALL = {
    "limit": 60,
    "threads": 1,
    "device": "cpu",
    "search": {"cells": 3, "nodes": 1, "channels": 2, "batch": 8, "ablation": "off", "epochs": 2, "steps_per_epoch": 3},
    "train": {"channels": 2, "batch": 8},
}


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
    settings = settings_of(half_resolution=0.5, reference="none")
    fitted = TimeBudget(1.0, 0.0)._trained_in(settings, digits, Speeds(None, speed), 100.0)
    assert training_s(fitted, digits, speed) == pytest.approx(100 - 10 - 359 / 64 * 0.5 / 3, rel=0.1)


def test_no_standard_network_is_compared_that_half_the_resolution_is_too_small_for(digits):
    small = replace(digits, height=5, width=5)
    assert reference_of(settings_of(), small, 80_000, 10**7) is not None
    assert reference_of(settings_of(half_resolution=0.5), small, 80_000, 10**7) is None


@pytest.mark.parametrize("left", [20.0, 60.0, 300.0, 4000.0])
@pytest.mark.parametrize("step_s", [0.02, 0.4])
@pytest.mark.parametrize("reference", [None, Speed(0.01, 0.05, 0)])
def test_both_trainings_are_as_long_as_the_time_left(digits, left, step_s, reference):
    speeds = Speeds(None, Speed(step_s, 0.1, 0), reference)
    left -= 0 if reference is None else 4  # the latency of the standard network is measured too
    settings = TimeBudget(1.0, 0.0)._trained_in(settings_of(), digits, speeds, left + (10 if reference is None else 14))
    speed, step_s = speeds.trainings, speeds.trainings.step_s
    seconds = training_s(settings, digits, speed)
    tested = 359 / 64 * step_s / 3
    assert left - tested - step_s * settings.train.epochs - 1e-6 <= seconds <= left - tested + 1e-6
    assert 1 <= training_steps(settings, digits) <= 20


def test_a_time_becomes_a_plan_that_a_resumed_run_keeps(tmp_path):
    def stop(record):
        if record["stage"] == "search":
            raise Stopped("enough")

    wanted = {**SMALL, "time": "45s", "search": {k: v for k, v in SMALL["search"].items() if "epoch" not in k}}
    with pytest.raises(Stopped):
        ddarts.run("digits", out=tmp_path / "run", quiet=True, on_epoch=stop, **wanted)
    run = RunFolder.open(tmp_path / "run")
    assert run.read_settings("run")["time"] == 45.0
    assert not run.summary["plan"]["final"]
    first = run.read_settings("run")["search"]
    assert 1 <= first["epochs"] * first["steps_per_epoch"] <= 45
    with pytest.raises(SettingsError, match=r"time \(the run has 45.0, given is 60.0\)"):
        ddarts.run(resume=tmp_path / "run", quiet=True, time="1m")
    run.update_summary(plan=run.summary["plan"] | {"setup_s": 45.0})  # so that nothing is left for the training
    ddarts.run(resume=tmp_path / "run", quiet=True, time="45s")
    stored = run.read_settings("run")
    assert stored["search"] == first
    assert run.summary["plan"]["final"]
    assert (stored["train"]["epochs"], stored["train"]["steps_per_epoch"]) == (1, 1)
    assert [record["step"] for record in run.metrics("train", "epoch")] == [1]


@pytest.mark.parametrize("chosen", [(), ("search.trials",), ("search.trials", "search.trial_steps")])
def test_trials_of_a_search_take_at_most_their_share_of_the_time_unless_they_were_chosen(digits, monkeypatch, chosen):
    step_s = 0.1
    monkeypatch.setattr("ddarts.planning.training_speeds", lambda *_: Speeds(None, Speed(step_s, 0.0, 0)))
    settings = settings_of(search={"strategy": "bayes", "trials": 40, "trial_steps": 100})
    budget = TimeBudget(600.0, time.perf_counter())
    planned, _, _ = budget.before_the_search(settings, digits, None, frozenset(chosen), lambda side: digits)
    trial = planned.search.strategy
    if chosen == ():
        assert (trial.trials, trial.trial_steps) == (17, 102)
    elif len(chosen) == 1:
        assert (trial.trials, trial.trial_steps) == (40, 43)
    else:
        assert (trial.trials, trial.trial_steps) == (40, 100)


@pytest.mark.parametrize(
    ("step_s", "chosen", "channels"),
    [(0.1, (), 16), (0.4, (), 12), (1.0, (), 8), (1.0, ("train.channels",), 16)],
)
def test_a_short_time_makes_the_network_narrower_unless_its_width_was_chosen(
    digits, monkeypatch, step_s, chosen, channels
):
    monkeypatch.setattr("ddarts.planning.training_speeds", lambda *_: Speeds(None, Speed(step_s, 0.0, 0)))
    settings, budget = settings_of(search={"strategy": "bayes"}), TimeBudget(600.0, time.perf_counter())
    planned, _, _ = budget.before_the_search(settings, digits, None, frozenset(chosen), lambda side: digits)
    assert planned.train.channels == channels


def test_candidates_of_a_choice_space_cost_alike_unless_there_is_a_budget(digits, monkeypatch):
    measured = []

    def speeds(genotype, settings, *_):
        measured.append(genotype)
        return Speeds(None, Speed(1.0, 0.0, 0))

    monkeypatch.setattr("ddarts.planning.training_speeds", speeds)

    def planned(**budget):
        settings = load_settings("run", preset="residual", overrides=budget)
        return TimeBudget(6000.0, time.perf_counter()).before_the_search(
            settings, digits, None, frozenset(), lambda side: digits
        )[0]

    settings = planned()
    budget = Budget(settings.budget.limits, (1, 8, 8), 10, channels=settings.train.channels)
    size = Size(settings.train.channels, "cifar")
    assert list(budget.limits) == ["macs"]
    assert budget.costs(replace(measured[-1], size=size)) == budget.limits
    assert settings.search.strategy.steps() <= 0.3 * 0.97 * 6000
    assert measured[-1].choices == find_choice_space("residual").known
    limited = planned(max_parameters=3000)
    assert limited.budget.limits == {"parameters": 3000}
    assert count_parameters(build_network(measured[-1], **measured[-1].size._asdict(), in_channels=1)) <= 3000


@pytest.mark.parametrize(
    ("steps", "trials", "trial_steps"), [(100_000, 8, 6250), (9600, 8, 600), (7200, 6, 800), (3599, 1, 600)]
)
def test_where_trials_would_be_too_short_the_hand_made_network_is_taken(steps, trials, trial_steps):
    trial = load_settings("run", preset="residual").search.strategy
    found = _trials_within(trial, steps, frozenset(), known=True)
    assert (found.trials, found.trial_steps) == (trials, trial_steps)
    assert found.steps() <= steps


def test_a_run_that_was_killed_before_it_kept_its_plan_has_one_that_is_not_final(tmp_path):
    with RunFolder.create(tmp_path / "run") as run:
        assert Plan.of(run) == Plan((), 0.0, 0.0, 0.0, 0)
        kept = Plan((), 1.0, 2.0, 3.0, 0, 5.0, 4.0, True)
        kept.keep(run)
        assert Plan.of(run) == kept


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"time": "5m", "train": {"epochs": 3}}, "train.epochs follows from time = 300 s; leave one of them out"),
        ({"time": "5m", "devices": 2}, "time is planned for one process"),
        ({"time": "soon"}, "time = 'soon' must be a duration"),
        ({"time": 0}, "time = 0 must be above 0"),
        ({"time": "11s", **SMALL}, "time = 11 s is too short for these images and networks: about"),
        ({"time": "0.1s", **SMALL}, "time = 0 s is too short for these images and networks: about"),
    ],
)
def test_a_time_that_cannot_be_kept_is_refused(given, told, tmp_path):
    with pytest.raises(SettingsError) as caught:
        ddarts.run("digits", out=tmp_path / "run", quiet=True, **given)
    assert told in str(caught.value)
    assert not (tmp_path / "run").exists()


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
