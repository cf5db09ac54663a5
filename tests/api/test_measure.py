"""`ddarts measure-operations` on the embedded digits, as small as it can be."""

import json
import signal
import statistics
from dataclasses import replace
from types import SimpleNamespace

import pytest

import ddarts
from ddarts.cli.main import main
from ddarts.config.schema import MeasureOptions, TrainSettings
from ddarts.data import Batches, load_data, split
from ddarts.errors import DivergedError, RunError, SettingsError, Stopped
from ddarts.genotype.operation_weights import OperationWeights
from ddarts.genotype.reference_network import reference_network, with_operation
from ddarts.runs.folder import RunFolder
from ddarts.runtime.seeds import derive_seed
from ddarts.space.operations import BUILT_IN_OPERATIONS
from ddarts.training import operation_scores
from ddarts.training.loop import train_network
from ddarts.training.operation_scores import OperationScores, Placement

TINY = {
    "data": "digits",
    "limit": 200,
    "validation": 0.5,
    "cells": 1,
    "positions": 2,
    "channels": 3,
    "epochs": 1,
    "steps_per_epoch": 3,
    "batch": 16,
    "lr": 0.1,
    "device": "cpu",
    "threads": 1,
}
TRAININGS = 24


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    return ddarts.measure_operations(out=tmp_path_factory.mktemp("measured") / "run", quiet=True, **TINY)


def counted(monkeypatch, *, fail_at=None):
    """Count the trainings that really run; the one with number `fail_at` ends in an error when it is over."""
    trained = []
    original = operation_scores.train_network

    def train(genotype, *rest, **named):
        outcome = original(genotype, *rest, **named)
        trained.append(genotype)
        if len(trained) == fail_at:
            raise RuntimeError("killed")
        return outcome

    monkeypatch.setattr(operation_scores, "train_network", train)
    return trained


# -- what is measured ----------------------------------------------------------------------------------------------


def test_every_operation_is_measured_at_every_position(measured):
    assert set(measured.scores) == set(BUILT_IN_OPERATIONS)
    for at in measured.scores.values():
        assert list(at) == [(0, 0), (0, 1)]
        assert all(0 <= accuracy <= 100 for accuracy in at.values())
    assert len({value for at in measured.scores.values() for value in at.values()}) > 2
    assert measured.elapsed_s > 0


def test_the_weight_is_the_median_over_the_positions(measured):
    for name in BUILT_IN_OPERATIONS:
        assert measured.weights.weights[name] == pytest.approx(statistics.median(measured.scores[name].values()))


def test_the_file_is_what_distance_takes(measured):
    weights = OperationWeights.load(measured.file)
    assert weights == measured.weights
    assert weights.source == "measured by ddarts on digits: medians over 2 positions"
    by_folder = ddarts.distance("resnet18", "xception", weights=measured.path)
    assert by_folder.matrix != ddarts.distance("resnet18", "xception").matrix


def test_an_accuracy_is_that_of_training_the_network_with_the_operation_in_place(measured):
    stored = RunFolder.open(measured.path).read_settings("measure-operations")
    images = load_data("digits", limit=200)
    parts = split(images, validation=stored["validation"], seed=stored["seed"])
    images = replace(images, train=parts.train, validation=parts.validation)
    options = MeasureOptions(**stored.pop("measure"))
    stored["seed"] = derive_seed(stored["seed"], "measure-operations", 0, 1, "sep_conv_5x5", 0)
    with RunFolder.create("alone") as run:
        genotype = with_operation(reference_network(1, 2), 0, 1, "sep_conv_5x5")
        alone = train_network(genotype, TrainSettings(**stored, train=options), images, run, quiet=True)
    assert alone.val_top1 is not None
    assert 100 * alone.val_top1 == measured.scores["sep_conv_5x5"][0, 1]


def test_test_images_play_no_part(monkeypatch):
    seen = []

    def train(genotype, settings, images, *rest, **named):
        seen.append(images)
        raise RuntimeError("enough")

    monkeypatch.setattr(operation_scores, "train_network", train)
    with pytest.raises(RuntimeError, match="enough"):
        ddarts.measure_operations(out="run", quiet=True, **TINY)
    assert seen[0].test is None
    assert len(seen[0].train) + len(seen[0].validation) == 200


def test_no_trace_of_the_single_trainings_is_left(measured):
    assert not (measured.path / "checkpoints" / "trainings").exists()


# -- going on ------------------------------------------------------------------------------------------------------


def test_a_run_stopped_killed_and_torn_ends_with_the_result_of_an_uninterrupted_one(measured, monkeypatch):
    original, batches = Batches.batch, []

    def batch(self, epoch, step):
        batches.append((epoch, step))
        if len(batches) == 8:  # in the midst of the third training
            signal.raise_signal(signal.SIGINT)
        return original(self, epoch, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", batch)
        with pytest.raises(
            Stopped, match=r"stopped while training max_pool.* resume with: ddarts measure-operations --resume parts"
        ):
            ddarts.measure_operations(out="parts", quiet=True, **TINY)
        run = RunFolder.open("parts")
        assert (run.path / "checkpoints" / "trainings" / "3" / "checkpoints").is_dir()
        before = len(batches)
        counted(patch, fail_at=2)
        with pytest.raises(RuntimeError, match="killed"):
            ddarts.measure_operations(resume="parts", quiet=True)
        assert len(batches) - before == 1 + 3  # what was left of the third training, and all of the fourth
    metrics = run.path / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-20])  # tears the line of the third
    assert len(run.metrics("measure-operations")) == 2

    with monkeypatch.context() as patch:
        trained = counted(patch)
        found = ddarts.measure_operations(resume="parts", quiet=True)
    assert len(trained) == TRAININGS - 2
    assert found.scores == measured.scores
    assert found.file.read_bytes() == measured.file.read_bytes()


def test_a_finished_run_is_returned_as_it_is(measured, monkeypatch):
    trained = counted(monkeypatch)
    again = ddarts.measure_operations(resume=measured.path, quiet=True)
    assert trained == []
    assert again == measured


def test_other_settings_cannot_go_on(measured):
    with pytest.raises(SettingsError, match=r"cannot be resumed with other settings: .*epochs"):
        ddarts.measure_operations(resume=measured.path, epochs=7, quiet=True)


def test_a_replaced_run_leaves_no_old_weights(measured, monkeypatch):
    weights = OperationWeights.published()
    with RunFolder.create("old"):
        weights.save("old/operation_weights.json")
    counted(monkeypatch, fail_at=1)
    with pytest.raises(RuntimeError, match="killed"):
        ddarts.measure_operations(out="old", overwrite=True, quiet=True, **TINY)
    assert not (RunFolder.open("old").path / "operation_weights.json").exists()


# -- sums ----------------------------------------------------------------------------------------------------------


def scores(statistic):
    """Two repeats on one cell of three positions: accuracies 0.1 and 0.3, 0.3 and 0.5, 0.8 and 1.0."""
    values = {(0, 0): 0.1, (1, 0): 0.3, (0, 1): 0.3, (1, 1): 0.5, (0, 2): 0.8, (1, 2): 1.0}
    return OperationScores(
        {Placement(0, p, name, r): value for name in BUILT_IN_OPERATIONS for (r, p), value in values.items()},
        statistic,
        1.0,
    )


def test_repeats_are_averaged_before_positions():
    assert scores("median").by_position("skip_connect") == pytest.approx({(0, 0): 20, (0, 1): 40, (0, 2): 90})
    assert scores("median").weights()["skip_connect"] == pytest.approx(40)
    assert scores("mean").weights()["skip_connect"] == pytest.approx(50)


def test_every_training_has_its_own_seed_and_all_share_the_validation_part(monkeypatch):
    seen = []

    def train(genotype, settings, images, *rest, **named):
        seen.append((settings.seed, images.validation))
        return SimpleNamespace(val_top1=0.5)

    monkeypatch.setattr(operation_scores, "train_network", train)
    ddarts.measure_operations(out="run", quiet=True, **{**TINY, "repeats": 2})
    assert len({seed for seed, _ in seen}) == len(seen) == 2 * TRAININGS
    assert all(validation is seen[0][1] for _, validation in seen)


# -- the command ---------------------------------------------------------------------------------------------------


def arguments(**changes):
    return [f"--{name.replace('_', '-')}={value}" for name, value in {**TINY, **changes}.items()]


def test_the_command_shows_a_table_and_json(measured, capsys):
    assert main(["measure-operations", f"--resume={measured.path}", "--quiet"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in BUILT_IN_OPERATIONS)
    assert "operation_weights.json" in text
    assert main(["measure-operations", f"--resume={measured.path}", "--quiet", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["weights"] == dict(measured.weights.weights)
    assert data["scores"]["skip_connect"][1] == {
        "cell": 0,
        "position": 1,
        "accuracy": measured.scores["skip_connect"][0, 1],
    }
    assert -1 <= data["rank_correlation"] <= 1


def test_progress_tells_the_time_left(capsys, monkeypatch):
    monkeypatch.setattr("ddarts.runtime.progress._LINE_EVERY_S", 0.0)
    assert main(["measure-operations", "--out=run", *arguments(positions=1, steps_per_epoch=1, channels=1)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert "measure-operations: 12 trainings" in lines
    assert any("3/12" in line and "in cell 0, position 0" in line and "left" in line for line in lines)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--validation=0", "validation = 0 leaves no images to measure operations on"),
        ("--cells=0", "cells = 0 must be at least 1"),
        ("--positions=13", "positions = 13 must be at most 12"),
        ("--statistic=mode", "unknown statistic 'mode'; did you mean 'mean'"),
        ("--cells=8 --data=digits --resolution=2", "images of 2x2 pixels are too small for 2 reductions"),
        ("--batch=4000", "batch = 4000 is larger than the"),
        ("--data=nowhere", "data 'nowhere': no such data set or folder"),
        ("--resume=nowhere", "nowhere: there is no such run"),
        ("--epoch=3", "unknown option '--epoch' of ddarts measure-operations; did you mean '--epochs'"),
    ],
)
def test_bad_input_gives_one_line_and_status_2(capsys, tmp_path, given, told):
    assert main(["measure-operations", *given.split(), "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_diverges_names_the_placement():
    with pytest.raises(DivergedError, match=r"conv_3x1_1x3 in cell 0, position 0: .* lower learning rate"):
        ddarts.measure_operations(out="run", quiet=True, **{**TINY, "lr": 1e30, "clip": 1e30, "steps_per_epoch": 20})


def test_an_operation_without_any_accuracy_is_told(monkeypatch):
    monkeypatch.setattr(operation_scores, "_train", lambda *_: 0.0)
    with pytest.raises(RunError, match=r"the accuracies make no weights .* train longer"):
        ddarts.measure_operations(out="run", quiet=True, **TINY)


def test_a_run_of_another_command_cannot_go_on(tmp_path):
    with RunFolder.create(tmp_path / "run") as run:
        run.write_settings("train", TrainSettings())
    with pytest.raises(
        RunError, match="was not made by `ddarts measure-operations`; resume it with ddarts train --resume"
    ):
        ddarts.measure_operations(resume=tmp_path / "run")
