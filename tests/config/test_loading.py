from pathlib import Path

import pytest

from ddarts.cli.options import documented_fields
from ddarts.config.layers import GROUPS, STAGES, groups_of, presets
from ddarts.config.loading import load_settings, resume_settings
from ddarts.config.schema import DeriveOptions, RunSettings, SearchOptions, SearchSettings, TrainSettings
from ddarts.config.strategies import DDartsOptions, strategy_fields
from ddarts.errors import SettingsError


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "my.yaml"
        path.write_text(text)
        return path

    return write


# -- layers ------------------------------------------------------------------------------------------------------------


def test_each_layer_goes_over_the_one_before(config):
    path = config("seed: 1\nsearch:\n  epochs: 7\n  batch: 40\n")
    settings = load_settings("search", preset="demo", config=path, overrides={"batch": "50"})
    assert isinstance(settings, SearchSettings)
    assert (settings.seed, settings.search.epochs, settings.search.batch) == (1, 7, 50)
    assert settings.search.cells == load_settings("search", preset="demo").search.cells != SearchOptions().cells
    assert settings.search.clip == SearchOptions().clip


def test_the_digits_have_the_demo_preset_and_other_data_the_small_one(config):
    assert load_settings("search") == load_settings("search", preset="demo")
    other = load_settings("search", overrides={"data": "x"})
    assert other == load_settings("search", preset="small", overrides={"data": "x"})
    assert load_settings("search", config=config("data: x\n")) == other
    assert load_settings("search", config=config("data: x\npreset: demo\n")).search == load_settings("search").search


def test_a_job_with_nothing_said_about_the_search_has_the_residual_preset():
    assert load_settings("run", overrides={"data": "x"}) == load_settings(
        "run", preset="residual", overrides={"data": "x", "time": "10m"}
    )
    timed = load_settings("run", overrides={"data": "x", "time": 60, "train.channels": 8})
    assert timed == load_settings("run", preset="residual", overrides={"data": "x", "time": 60, "train.channels": 8})
    assert load_settings("run", overrides={"time": 60}).search == load_settings("run", preset="demo").search
    for more in ({"cells": 3}, {"search": {"baseline": "resnet18"}}, {"derive.method": "darts"}):
        assert load_settings("run", overrides={"data": "x", "time": 60, **more}).search.space == "auto"
    chosen = load_settings("run", preset="residual", overrides={"search": {"trials": 3}})
    assert (chosen.search.strategy.name, chosen.search.strategy.trials) == ("random", 3)


def test_the_stages_one_by_one_have_the_settings_of_the_whole_run():
    for preset in presets():
        whole = load_settings("run", preset=preset)
        assert isinstance(whole, RunSettings)
        assert isinstance(whole, SearchSettings)
        assert isinstance(whole, TrainSettings)
        for stage in ("search", "derive", "train"):
            alone = dict(load_settings(stage, preset=preset))
            assert alone.pop("reference", "none") == "none"  # only a whole run compares unless it is told to
            assert alone.items() <= dict(whole).items()
            assert stage in alone


def test_there_are_four_presets_and_paper_is_the_published_setting():
    assert presets() == ("demo", "paper", "residual", "small")
    paper = load_settings("run", preset="paper")
    search, train = paper.search, paper.train
    assert (search.cells, search.nodes, search.channels, search.epochs, search.batch) == (8, 4, 16, 50, 96)
    assert (search.alpha_lr, search.alpha_lr_min, search.lr, search.lr_min) == (3e-3, 1e-3, 5e-3, 1e-3)
    assert search.strategy == DDartsOptions(zero_one_schedule="constant", ablation_kind="random")
    assert (DDartsOptions().zero_one_weight, DDartsOptions().ablation_weight) == (9, 0.7)
    assert (train.channels, train.epochs, train.batch, train.lr, train.drop_path) == (36, 600, 128, 0.025, 0.2)
    assert (train.auxiliary_weight, train.cutout, train.policy) == (0.4, 16, "autoaugment")


def test_a_group_of_another_stage_is_left_out_but_its_names_are_checked(config):
    path = config("search:\n  epochs: 3\ntrain:\n  epochs: 4\n")
    assert load_settings("search", config=path).search.epochs == 3
    assert load_settings("train", config=path).train.epochs == 4
    with pytest.raises(
        SettingsError, match=r"my.yaml: line 2: unknown setting 'train.epoch'; did you mean 'train.epochs'"
    ):
        load_settings("search", config=config("train:\n  epoch: 4\n"))


def test_a_name_that_one_group_of_the_stage_has_may_stand_on_top(config):
    settings = load_settings("run", overrides={"cells": 5, "drop_path": 0.1, "zero_one_weight": 2, "threshold": 0.7})
    assert (settings.search.cells, settings.train.drop_path, settings.derive.threshold) == (5, 0.1, 0.7)
    assert settings.search.strategy.zero_one_weight == 2
    assert load_settings("search", overrides={"search.epochs": 3, "derive.layers": 9}).search.epochs == 3

    assert load_settings("train", config=config("epochs: 4\n")).train.epochs == 4
    with pytest.raises(SettingsError, match=r"line 3: search.epochs is given twice, on top and in its group; keep one"):
        load_settings("search", config=config("epochs: 4\nsearch:\n  epochs: 3\n"))
    with pytest.raises(
        SettingsError, match=r"line 1: setting 'epochs' belongs to a group; write search.epochs or train"
    ):
        load_settings("run", config=config("epochs: 4\n"))


def test_python_may_give_groups_objects_and_paths():
    settings = load_settings(
        "run", overrides={"data": Path("a/b"), "search": {"epochs": 3}, "derive": DeriveOptions(threshold=0.5)}
    )
    assert settings.data == "a/b"
    assert settings.search.epochs == 3
    assert settings.derive.threshold == 0.5
    assert load_settings("run", config={"train": {"epochs": 2}, "seed": 5}).train.epochs == 2


def test_none_means_not_given_in_python_and_not_set_as_text(config):
    path = config("derive:\n  layers: 20\n")
    assert load_settings("search", config=path, overrides={"layers": None}).derive.layers == 20
    assert load_settings("search", config=path, overrides={"layers": "none"}).derive.layers is None
    assert load_settings("train", overrides={"policy": "none"}).train.policy == "none"


def test_text_becomes_what_the_setting_is(config):
    path = config("ablation: off\nreductions: [1, 2]\nalpha_lr: 1e-2\nstop_on_collapse: no\nflip: yes\n")
    settings = load_settings("search", config=path)
    search = settings.search
    assert (search.strategy.ablation, search.reductions, search.alpha_lr) == ("off", (1, 2), 0.01)
    assert (search.stop_on_collapse, settings.flip) == (False, True)
    assert load_settings("search", overrides={"reductions": "0,3"}).search.reductions == (0, 3)


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; did you mean 'epochs'?"),
        ({"trian": {}}, "unknown setting 'trian'; did you mean 'train'?"),
        ({"zzz": 3}, "unknown setting 'zzz'; known: "),
        ({"search.epoch": 3}, "unknown setting 'search.epoch'; did you mean 'search.epochs'?"),
        ({"epochs": "x"}, "epochs = 'x' must be a whole number"),
        ({"epochs": 0}, "epochs = 0 must be at least 1"),
        ({"epochs": "0"}, "epochs = 0 must be at least 1"),
        ({"epochs": 2.5}, "epochs = 2.5 must be a whole number"),
        ({"nodes": 9}, "nodes = 9 must be at most 8"),
        ({"threshold": "1.5"}, "threshold = 1.5 must be at most 1.0"),
        ({"threshold": -0.1}, "threshold = -0.1 must be at least 0.0"),
        ({"lr": "nan"}, "lr = nan must be a finite number"),
        ({"lr": 0}, "lr = 0 must be above 0.0"),
        ({"lr": "fast"}, "lr = 'fast' must be a number"),
        ({"momentum": 1}, "momentum = 1 must be below 1.0"),
        ({"flip": "maybe"}, "flip = 'maybe' must be true or false"),
        ({"ablation": "of"}, "unknown ablation 'of'; did you mean 'off'?"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; did you mean 'fp16'?"),
        ({"reductions": "1,x"}, "reductions = '1,x' must be a list of whole numbers, such as 2,5"),
        ({"reductions": 3}, "reductions = 3 must be a list of whole numbers, such as 2,5"),
        ({"data": [1]}, "data = [1] must be text"),
        ({"search": 3}, "search must be a group of keys and values"),
        ({"data": "x" * 500, "seed": "y" * 500}, "must be a whole number"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_key_value_and_reason(given, message):
    with pytest.raises(SettingsError) as caught:
        load_settings("search", overrides=given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 900


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search:\n  epochs: 0\n", "my.yaml: line 2: search.epochs = 0 must be at least 1"),
        ("seed: 1\n\nepoch: 3\n", "my.yaml: line 3: unknown setting 'epoch'; did you mean 'epochs'?"),
        ("search: 3\n", "my.yaml: line 1: search must be a group of keys and values"),
        ("lr: [1]\n", "my.yaml: line 1: lr = ['1'] must be a number"),
        ("lr:\n  a: 1\n", "my.yaml: line 1: lr = {'a': '1'} must be a number"),
        ("a: [", "my.yaml: line 1, column 5: "),
        ("preset: dmo\n", "unknown preset 'dmo'; did you mean 'demo'?"),
    ],
)
def test_a_fault_in_a_file_is_named_with_file_and_line(config, text, message):
    with pytest.raises(SettingsError) as caught:
        load_settings("search", config=config(text))
    assert message in str(caught.value)


@pytest.mark.parametrize("other", [{"optimizer": "adamw"}, {"momentum": 0}])
def test_nesterov_momentum_without_momentum_is_refused_before_anything_runs(other):
    message = r"^nesterov = True needs optimizer sgd and a momentum above 0; leave it out, or set both$"
    with pytest.raises(SettingsError, match=message):
        load_settings("train", overrides={"nesterov": True, **other})
    assert load_settings("train", overrides={"nesterov": True}).train.nesterov


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(SettingsError, match=r"nowhere.yaml: no such file; check the path"):
        load_settings("search", config="nowhere.yaml")


def test_an_unknown_preset_is_answered_with_the_nearest():
    with pytest.raises(SettingsError, match="unknown preset 'smal'; did you mean 'small'"):
        load_settings("run", preset="smal")
    with pytest.raises(SettingsError, match=r"unknown preset '../x'; known: demo, paper, residual, small"):
        load_settings("run", preset="../x")


# -- resuming ----------------------------------------------------------------------------------------------------------

FIVE = SearchSettings(search=SearchOptions(epochs=5), seed=3)
STORED = FIVE.model_dump(mode="json")


def test_a_run_goes_on_with_its_own_settings_not_those_of_a_preset():
    assert resume_settings("search", STORED, Path("r")) == FIVE


def test_settings_that_agree_may_be_given_again():
    settings = resume_settings("search", STORED, Path("r"), overrides={"epochs": "5", "seed": 3})
    assert settings == FIVE


def test_settings_that_disagree_are_listed_with_both_values():
    with pytest.raises(SettingsError) as caught:
        resume_settings("search", STORED, Path("r"), overrides={"epochs": "6", "seed": 3, "alpha_lr": 1})
    assert str(caught.value) == (
        "r cannot be resumed with other settings: search.alpha_lr (the run has 0.003, given is 1.0), "
        "search.epochs (the run has 5, given is 6); leave them out to resume it, or start a new run: "
        "results would differ"
    )


def test_settings_of_a_file_or_preset_must_agree_too(config):
    with pytest.raises(SettingsError, match=r"seed \(the run has 3, given is 4\)"):
        resume_settings("search", STORED, Path("r"), config=config("seed: 4\n"))
    with pytest.raises(SettingsError, match=r"search.cells \(the run has 8, given is 4\)"):
        resume_settings("search", STORED, Path("r"), preset="demo")


def test_where_and_how_fast_to_compute_may_change():
    free = {"device": "cpu", "devices": 2, "checkpoint_steps": 9}
    settings = resume_settings("search", STORED, Path("r"), overrides=free)
    assert settings == SearchSettings(
        search=SearchOptions(epochs=5, checkpoint_steps=9), seed=3, device="cpu", devices=2
    )


@pytest.mark.parametrize(("name", "value"), [("threads", 2), ("backend", "inductor")])
def test_what_changes_the_order_of_sums_is_held(name, value):
    with pytest.raises(SettingsError, match=rf"{name} \(the run has .*start a new run: results would differ"):
        resume_settings("search", STORED, Path("r"), overrides={name: value})


def test_a_whole_run_is_compared_group_by_group():
    stored = RunSettings(seed=1).model_dump(mode="json")
    free = {"train.checkpoint_steps": 3, "search": {"checkpoint_steps": 4}}
    settings = resume_settings("run", stored, Path("r"), overrides=free)
    assert (settings.train.checkpoint_steps, settings.search.checkpoint_steps) == (3, 4)
    with pytest.raises(SettingsError, match=r"train.epochs \(the run has 600, given is 1\)"):
        resume_settings("run", stored, Path("r"), overrides={"train.epochs": 1})


def test_settings_of_another_version_are_refused():
    with pytest.raises(
        SettingsError, match=r"r: settings.yaml does not fit this version of ddarts \(.*\); start a new"
    ):
        resume_settings("search", {**STORED, "bogus": 1}, Path("r"))


# -- as options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_of_a_stage_is_an_option_with_a_help_text(stage):
    docs = {doc.name: doc for doc in documented_fields(stage)}
    assert all(doc.help and doc.metavar for doc in docs.values())
    names = {f"search.{name}" for name in strategy_fields("d-darts")} if "search" in groups_of(stage) else set()
    for name, value in STAGES[stage]():
        names |= {f"{name}.{inner}" for inner, _ in value} if name in GROUPS else {name}
    if stage == "run":
        assert set(docs) == names
    else:
        assert {name.rpartition(".")[2] for name in names} == set(docs)
    given = {name for doc in docs.values() for name in (doc.name, doc.other)}
    assert names <= given  # the dotted name is always accepted


def test_help_tells_choices_bounds_and_default():
    docs = {doc.name: doc.help for doc in documented_fields("search")}
    assert docs["zero_one_kind"].endswith("(default l2)\n  l2: squared\n  l1: absolute")
    assert docs["nodes"].endswith("(at least 1, at most 8; default 4)")
    assert docs["stop_on_collapse"].endswith("(default yes)")
