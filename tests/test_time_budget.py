"""A time for a whole job."""

import time
from dataclasses import replace

import pytest
import torch

import ddarts
from ddarts.config.loading import load_settings
from ddarts.config.schema import RunSettings
from ddarts.cost.budget import Budget
from ddarts.cost.counting import count_parameters
from ddarts.errors import SettingsError, Stopped
from ddarts.genotype.genotype import Size
from ddarts.nn.choice_network import build_network
from ddarts.planning import Speed, Speeds, plan_job, training_s, training_steps
from ddarts.preflight import settle_time
from ddarts.runs.folder import RunFolder
from ddarts.space.choice_space import find_choice_space
from ddarts.time_budget import TimeBudget, _trials_within

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


def test_short_epochs_are_whole(digits):
    few = replace(digits, train=digits.train.select(torch.arange(160)))  # two steps of 64 without the validation images
    settings = TimeBudget(1.0, 0.0)._trained_in(settings_of(), few, Speeds(None, Speed(0.1, 0.0, 0)), 60.0)
    assert training_steps(settings, few) == 2
    assert settings.train.steps_per_epoch == 2
    assert 40 <= training_s(settings, few, Speed(0.1, 0.0, 0)) <= 50


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
    monkeypatch.setattr("ddarts.time_budget.training_speeds", lambda *_: Speeds(None, Speed(step_s, 0.0, 0)))
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
    monkeypatch.setattr("ddarts.time_budget.training_speeds", lambda *_: Speeds(None, Speed(step_s, 0.0, 0)))
    settings, budget = settings_of(search={"strategy": "bayes"}), TimeBudget(600.0, time.perf_counter())
    planned, _, _ = budget.before_the_search(settings, digits, None, frozenset(chosen), lambda side: digits)
    assert planned.train.channels == channels


@pytest.mark.parametrize(
    ("seconds", "chosen", "reference"),
    [(600, (), "none"), (1799, (), "none"), (1800, (), "resnet"), (600, ("reference",), "resnet")],
)
def test_a_short_job_trains_no_standard_network_unless_asked(digits, monkeypatch, seconds, chosen, reference):
    monkeypatch.setattr("ddarts.time_budget.training_speeds", lambda *_: Speeds(None, Speed(0.1, 0.0, 0)))
    budget = TimeBudget(float(seconds), time.perf_counter())
    settings = load_settings("run", preset="residual")
    planned, images, speeds = budget.before_the_search(settings, digits, None, frozenset(chosen), lambda side: digits)
    assert planned.reference == reference
    told = [line for line in plan_job(planned, images, speeds=speeds).lines if "reference" in line]
    assert ["--reference resnet" in line for line in told] == ([] if reference == "resnet" else [True])


def test_candidates_of_a_choice_space_cost_alike_unless_there_is_a_budget(digits, monkeypatch):
    measured = []

    def speeds(genotype, settings, *_):
        measured.append(genotype)
        return Speeds(None, Speed(1.0, 0.0, 0))

    monkeypatch.setattr("ddarts.time_budget.training_speeds", speeds)

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
    ("given", "left"),
    [
        ({}, 600),
        ({"time": 60}, 60),
        ({"train.channels": 8}, 600),
        ({"train.epochs": 3}, None),
        ({"train.min_steps": 300}, None),
        ({"devices": 2}, None),
    ],
)
def test_the_time_of_a_preset_gives_way_to_what_somebody_chose(given, left):
    settings = load_settings("run", overrides={"data": "x", **given})
    assert settle_time(settings, given.keys()).time == left


def test_a_training_at_half_the_resolution_gets_the_steps_that_it_saves(digits):
    speed = Speed(0.5, 0.0, 0)
    settings = settings_of(half_resolution=0.5, reference="none")
    fitted = TimeBudget(1.0, 0.0)._trained_in(settings, digits, Speeds(None, speed), 100.0)
    assert training_s(fitted, digits, speed) == pytest.approx(100 - 10 - 359 / 64 * 0.5 / 3, rel=0.1)
