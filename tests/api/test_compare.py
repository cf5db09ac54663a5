"""`ddarts compare`: the same training for all, n seeds each, and a verdict."""

import json
import re
import shutil

import pytest

import ddarts
from ddarts.cli.main import main
from ddarts.errors import GenotypeError, RunError, SettingsError, Stopped
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
    for i, one in enumerate(compared.board.lines):
        for top1, seed in zip(one.top1, (5, 6), strict=True):
            run = RunFolder.open(compared.path / "trainings" / f"{i}-{one.name}-seed{seed}")
            assert run.summary["test_top1"] == top1
            assert run.read_settings("train")["seed"] == seed


def test_one_training_equals_a_plain_one_with_that_seed(compared, genotypes, tmp_path):
    trained = ddarts.train(genotype=genotypes[1], out=tmp_path / "run", seed=6, quiet=True, **QUICK)
    tested = ddarts.test(trained.path, quiet=True)
    assert tested.top1 == compared.board.lines[1].top1[1]
    plain, wide = (line.average("parameters") for line in compared.board.lines)
    assert trained.parameters == wide > plain


def printed(compared):
    from rich.console import Console

    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(compared.table())
    console.file.close()
    return console.export_text()


def test_the_table_shows_every_seed_and_the_verdict(compared):
    text = printed(compared)
    for one in compared.board.lines:
        assert f"{100 * one.mean:.2f} %" in text
        assert " ".join(f"{100 * t:.2f}" for t in one.top1) in text
    assert "wide and plain are not distinguishable" in text  # two seeds cannot do more
    assert compared.to_dict()["verdicts"][0]["distinguishable"] is False


def test_a_comparison_has_a_page_which_report_makes_again_elsewhere(compared, tmp_path):
    page = (compared.path / "report.html").read_text()
    assert "2 architectures compared" in page
    assert "wide and plain are not distinguishable" in page
    assert page.count('class="dot"') == 4
    assert ddarts.report(compared.path, out=tmp_path / "x.html").path.read_text() == page
    assert json.loads((compared.path / "compare.json").read_text()) == json.loads(json.dumps(compared.to_dict()))


def test_a_finished_comparison_is_over_for_watch(compared, tmp_path):
    seen = ddarts.watch(compared.path, once=True)
    assert seen.state == "finished"
    assert seen.numbers == (("trainings complete", "4"),)
    shutil.copytree(compared.path, tmp_path / "cut")
    (tmp_path / "cut" / "compare.json").unlink()
    state = ddarts.watch(tmp_path / "cut", once=True).state
    assert state == f"stopped; resume with: ddarts compare --resume {tmp_path / 'cut'}"


def test_a_comparison_is_no_run_among_others(compared, tmp_path):
    with pytest.raises(SettingsError, match="holds many runs and has its own page: ddarts report "):
        ddarts.report([compared.path, compared.path], out=tmp_path / "x.html")


def test_a_comparison_without_a_complete_training_has_no_page(compared, tmp_path):
    shutil.copytree(compared.path, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "trainings")
    with pytest.raises(RunError, match="no training of the comparison is complete"):
        ddarts.report(tmp_path / "cut")


def test_a_damaged_comparison_has_no_page_and_can_be_watched(compared, tmp_path):
    shutil.copytree(compared.path, tmp_path / "cut")
    settings = tmp_path / "cut" / "settings.yaml"
    settings.write_text(settings.read_text().replace("seeds: 2", "seeds: many"))
    with pytest.raises(SettingsError, match=r"settings\.yaml does not fit this version of ddarts"):
        ddarts.report(tmp_path / "cut")
    next((tmp_path / "cut").glob("trainings/*/summary.json")).write_bytes(b"\xff")
    assert ddarts.watch(tmp_path / "cut", once=True).numbers == (("trainings complete", "3"),)


def test_progress_counts_the_trainings_of_the_whole_comparison(genotypes, tmp_path, capsys):
    ddarts.compare(genotypes, out=tmp_path / "run", seeds=1, **QUICK)
    told = capsys.readouterr().err
    for training in ("1 of 2: plain", "2 of 2: wide"):
        assert re.search(rf"training {training}, seed 0, \d+ s left in all", told)
    plan = told[told.index("plan:") : told.index("training 1 of 2")]
    for line in ("  resolution  8x8: ", "  flip        no: ", "  trainings   2 trainings of ", "  in all      about "):
        assert line in plan


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
    assert [one.top1 for one in resumed.board.lines] == [one.top1 for one in compared.board.lines]


def test_a_comparison_killed_while_its_architectures_are_written_is_begun_anew(genotypes, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ddarts.training.initial.copy_for_training", killed)
    with pytest.raises(KeyboardInterrupt):
        ddarts.compare([*genotypes, "resnet18"], out=tmp_path / "run", seeds=1, quiet=True, **{**QUICK, "batch": 8})
    monkeypatch.undo()
    with pytest.raises(RunError, match=r"architectures holds 0 architectures: stopped before it began; .*--overwrite"):
        ddarts.compare(resume=tmp_path / "run", quiet=True)
    ddarts.compare(genotypes, out=tmp_path / "run", seeds=1, quiet=True, overwrite=True, **QUICK)
    assert not list((tmp_path / "run").glob(".*.tmp"))


def test_names_of_baselines_may_be_compared(tmp_path, capsys):
    options = ["--data", "digits", "--limit", "60", "--epochs", "1", "--steps-per-epoch", "1", "--channels", "2"]
    out = tmp_path / "run"
    status = main(
        ["compare", "resnet18", "ResNet18", *options, "--batch", "8", "--seeds", "1", "--out", str(out), "--json"]
    )
    captured = capsys.readouterr()
    rows = json.loads(captured.out)["methods"]
    assert status == 0
    for text in (captured.err, (out / "report.html").read_text()):
        assert "resnet18: 2 of 4 cells never reach the output: 0, 2; they are not built" in text
    assert [row["name"] for row in rows] == ["resnet18", "ResNet18"]
    assert rows[0]["top1"] == rows[1]["top1"]
    assert Genotype.load(out / "architectures" / "0-resnet18.json").cells == baseline("resnet18").cells


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        (["resnet18"], SettingsError, "a comparison needs at least 2 architectures, 1 given"),
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
    assert [one.average("macs") for one in again.board.lines] == [one.average("macs") for one in fresh.board.lines]
    assert [one.top1 for one in again.board.lines] == [one.top1 for one in fresh.board.lines]
