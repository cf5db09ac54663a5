"""`ddarts compare`: the same training for all, n seeds each, and a verdict."""

import json
import math

import pytest

import ddarts
from ddarts.api.compare import CompareResult, Contestant
from ddarts.cli.main import main
from ddarts.errors import GenotypeError, SettingsError, Stopped
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.zoo.baselines import baseline
from ddarts.runs.folder import RunFolder

QUICK = {"data": "digits", "limit": 100, "epochs": 1, "steps_per_epoch": 2, "channels": 4, "batch": 16}


@pytest.fixture(scope="module")
def genotypes(tmp_path_factory):
    """Return the files of two small architectures."""
    folder = tmp_path_factory.mktemp("genotypes")
    for name, operation in (("plain", "sep_conv_3x3"), ("wide", "sep_conv_5x5")):
        Genotype((CellGenotype((Edge(operation, 0, 2), Edge("skip_connect", 1, 2)), (2,)),)).save(
            folder / f"{name}.json"
        )
    return [folder / "plain.json", folder / "wide.json"]


@pytest.fixture(scope="module")
def compared(genotypes, tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "run"
    return ddarts.compare(genotypes, out=out, seeds=2, seed=5, quiet=True, **QUICK)


def test_every_architecture_is_trained_with_every_seed_and_tested_once(compared):
    names = sorted(p.name for p in (compared.path / "trainings").iterdir())
    assert names == ["0-plain-seed5", "0-plain-seed6", "1-wide-seed5", "1-wide-seed6"]
    for i, one in enumerate(compared.contestants):
        for top1, seed in zip(one.top1, (5, 6), strict=True):
            run = RunFolder.open(compared.path / "trainings" / f"{i}-{one.name}-seed{seed}")
            assert run.summary["test_top1"] == top1
            assert run.read_settings("train")["seed"] == seed


def test_one_training_equals_a_plain_one_with_that_seed(compared, genotypes, tmp_path):
    trained = ddarts.train(genotype=genotypes[1], out=tmp_path / "run", seed=6, quiet=True, **QUICK)
    tested = ddarts.test(trained.path, quiet=True)
    assert tested.top1 == compared.contestants[1].top1[1]
    assert trained.parameters == compared.contestants[1].parameters > compared.contestants[0].parameters


def made(*accuracies):
    people = tuple(Contestant(f"n{i}", 1, 1, top1, 1.0) for i, top1 in enumerate(accuracies))
    return CompareResult("x", people, "test", (0, 1, 2)[: len(accuracies[0])])


def test_a_difference_counts_if_it_is_more_than_the_spread():
    result = made((0.90, 0.92), (0.93, 0.95), (0.90, 0.93))
    assert result.contestants[0].spread == pytest.approx(math.sqrt(2) * 0.01)
    assert result.difference(1) == pytest.approx((0.03, 0.02))
    assert result.verdict(1) == "3.00 points better than n0, more than the spread of 2.00"
    assert "0.50 points better than n0, within the spread of 2.55" in result.verdict(2)
    rows = result.to_dict()["architectures"]
    assert [row.get("more_than_spread") for row in rows] == [None, True, False]


def test_one_seed_tells_no_spread():
    result = made((0.9,), (0.8,))
    assert result.verdict(1) == "10.00 points worse than n0; one seed tells no spread"
    assert result.to_dict()["architectures"][1]["more_than_spread"] is None


def test_the_table_shows_every_seed(compared):
    from rich.console import Console

    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(compared.table())
    console.file.close()
    text = console.export_text()
    for one in compared.contestants:
        assert f"{100 * one.mean:.2f} %" in text
        assert " ".join(f"{100 * t:.2f}" for t in one.top1) in text


def test_a_comparison_that_was_stopped_goes_on_and_ends_the_same(compared, genotypes, tmp_path, monkeypatch):
    from ddarts.api import compare

    original, calls = compare._train_and_test, []

    def stop_in_the_third(*args):
        calls.append(args[1])
        if len(calls) == 3:
            raise Stopped("stopped at epoch 1")
        return original(*args)

    monkeypatch.setattr(compare, "_train_and_test", stop_in_the_third)
    with pytest.raises(Stopped, match="ddarts compare --resume"):
        ddarts.compare(genotypes, out=tmp_path / "run", seeds=2, seed=5, quiet=True, **QUICK)
    monkeypatch.setattr(compare, "_train_and_test", original)
    resumed = ddarts.compare(resume=tmp_path / "run", quiet=True)
    assert [one.top1 for one in resumed.contestants] == [one.top1 for one in compared.contestants]


def test_names_of_baselines_may_be_compared(tmp_path, capsys):
    options = ["--data", "digits", "--limit", "60", "--epochs", "1", "--steps-per-epoch", "1", "--channels", "2"]
    out = tmp_path / "run"
    status = main(
        ["compare", "resnet18", "ResNet18", *options, "--batch", "8", "--seeds", "1", "--out", str(out), "--json"]
    )
    rows = json.loads(capsys.readouterr().out)["architectures"]
    assert status == 0
    assert [row["name"] for row in rows] == ["resnet18", "ResNet18"]
    assert rows[0]["top1"] == rows[1]["top1"]
    assert Genotype.load(out / "architectures" / "0-resnet18.json").cells == baseline("resnet18").cells


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        (["resnet18"], SettingsError, "1 architectures are named, a comparison needs at least 2"),
        (["resnet18", "resnt50"], GenotypeError, "did you mean 'resnet50'"),
    ],
)
def test_too_few_or_unknown_architectures_are_errors_and_leave_nothing(given, error, told, tmp_path):
    with pytest.raises(error, match=told):
        ddarts.compare(given, out=tmp_path / "run", quiet=True, **QUICK)
    assert not (tmp_path / "run").exists()


def test_architectures_cannot_be_given_again_on_resume(compared):
    with pytest.raises(SettingsError, match="has its architectures"):
        ddarts.compare(["resnet18", "resnet50"], resume=compared.path)


def test_overwriting_trains_anew_and_leaves_nothing_of_the_old_comparison(genotypes, tmp_path):
    out = tmp_path / "run"
    ddarts.compare([*genotypes, "resnet18"], out=out, seeds=1, quiet=True, **{**QUICK, "batch": 8})
    again = ddarts.compare(genotypes, out=out, seeds=1, quiet=True, overwrite=True, **{**QUICK, "channels": 2})
    assert sorted(p.name for p in (out / "trainings").iterdir()) == ["0-plain-seed0", "1-wide-seed0"]
    assert sorted(p.name for p in (out / "architectures").iterdir()) == ["0-plain.json", "1-wide.json"]
    fresh = ddarts.compare(genotypes, out=tmp_path / "fresh", seeds=1, quiet=True, **{**QUICK, "channels": 2})
    assert [one.parameters for one in again.contestants] == [one.parameters for one in fresh.contestants]
    assert [one.top1 for one in again.contestants] == [one.top1 for one in fresh.contestants]
