"""`ddarts study`: trials are runs, opponents are added, what was stopped is resumed, what failed is recorded."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

import ddarts
from ddarts.cli.main import main
from ddarts.errors import RunError, SettingsError, Stopped
from ddarts.experiments.plan import EQUAL_COST, SAME_SIZE
from ddarts.experiments.trials import Trial
from ddarts.genotype.genotype import Genotype
from ddarts.runs.folder import RunFolder
from tests import processes  # noqa: F401

QUICK = {
    "draws": 3,
    "limit": 60,
    "search": {"cells": 3, "nodes": 1, "channels": 2, "epochs": 1, "steps_per_epoch": 1, "batch": 4},
    "train": {"channels": 2, "epochs": 2, "steps_per_epoch": 1, "batch": 4},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    return ddarts.study(data="digits", seeds=1, out=tmp_path_factory.mktemp("study") / "s", quiet=True, **QUICK)


@pytest.fixture
def copy(finished, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.path, tmp_path / "s"))


def record(folder: Path, name: str) -> Trial:
    found = Trial.load(folder / "trials" / "0-digits" / f"{name}-seed0.json")
    assert found is not None
    return found


def test_every_trial_is_a_run_and_the_opponents_are_there(finished):
    method, same, cost = (record(finished.path, name) for name in ("d-darts", SAME_SIZE, EQUAL_COST))
    for name, trial in (("d-darts", method), (SAME_SIZE, same), (EQUAL_COST, cost)):
        run = RunFolder.open(finished.path / "trials" / "0-digits" / f"{name}-seed0")
        assert run.summary["test_top1"] == trial.top1
        assert (run.summary["parameters"], run.summary["train_s"]) == (trial.parameters, trial.train_s)
        assert trial.train_steps == 2
        assert trial.error is None
    assert (method.search_steps, same.search_steps) == (1, None)
    assert None not in (method.parameters, same.parameters, cost.search_s, method.search_s)
    assert abs(same.parameters - method.parameters) <= 0.1 * method.parameters
    draws = json.loads((finished.path / "draws" / "0-digits" / f"{EQUAL_COST}-seed0" / "draws.json").read_text())[
        "draws"
    ]
    assert sum(draw["seconds"] for draw in draws) == pytest.approx(cost.search_s)
    assert cost.search_s <= max(method.search_s, draws[0]["seconds"])
    assert {draw["epochs"] for draw in draws} == {1}
    assert 1 <= len(draws) <= 3
    assert "one seed gives no spread" in finished.boards[0].verdicts[0].text


def test_a_run_with_the_same_settings_has_the_same_accuracy(finished, tmp_path):
    alone = ddarts.run(
        data="digits",
        out=tmp_path / "r",
        seed=0,
        threads=1,
        quiet=True,
        **{name: value for name, value in QUICK.items() if name != "draws"},
    )
    assert alone.test_top1 == record(finished.path, "d-darts").top1


def test_the_page_is_made_again_and_a_finished_study_is_over(finished, tmp_path):
    page = (finished.path / "report.html").read_text()
    assert "Study of 3 methods on digits" in page
    assert ddarts.report(finished.path, out=tmp_path / "p.html").path.read_text() == page
    seen = ddarts.watch(finished.path, once=True)
    assert (seen.state, seen.numbers) == ("finished", (("trainings complete", "3"),))


def test_a_damaged_study_is_refused(copy: Path):
    settings = copy / "settings.yaml"
    settings.write_text(settings.read_text().replace("draws: ", "sardw: "))
    for call in (lambda: ddarts.report(copy), lambda: ddarts.study(resume=copy)):
        with pytest.raises(SettingsError, match=r"settings\.yaml does not fit this version of ddarts"):
            call()


def test_resuming_does_only_what_is_missing_or_has_failed(finished, copy: Path, capsys):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("model.safetensors")}
    for name, error in ((SAME_SIZE, "it failed"), (EQUAL_COST, None)):
        path = copy / "trials" / "0-digits" / f"{name}-seed0.json"
        Trial(name, "digits", 0, error=error).save(path) if error else path.unlink()
    assert main(["study", "--resume", str(copy)]) == 0
    shown = capsys.readouterr()
    assert [n for n in (1, 2, 3) if f"trial {n} of 3: " in shown.err] == [2, 3]
    assert "digits: top-1 (test)" in shown.out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for name in ("d-darts", SAME_SIZE, EQUAL_COST):
        assert record(copy, name) == record(finished.path, name)


def test_a_trial_that_was_stopped_is_resumed_to_the_same_result(finished, copy: Path, monkeypatch):
    from ddarts.training import loop

    shutil.rmtree(copy / "trials" / "0-digits" / f"{SAME_SIZE}-seed0")
    (copy / "trials" / "0-digits" / f"{SAME_SIZE}-seed0.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", lambda *args, **kwargs: (_ for _ in ()).throw(Stopped("stopped")))
        with pytest.raises(Stopped, match=r"stopped; resume with: ddarts study --resume .*s$"):
            ddarts.study(resume=copy, quiet=True)
    ddarts.study(resume=copy, quiet=True)
    assert record(copy, SAME_SIZE).top1 == record(finished.path, SAME_SIZE).top1


def test_a_trial_that_fails_is_recorded_and_the_others_go_on(tmp_path, capsys):
    methods = {"broken": {"search.batch": 5000}, "fine": {}}
    done = ddarts.study(methods, data="digits", seeds=1, opponents=False, out=tmp_path / "s", **QUICK)
    broken, fine = done.boards[0].lines
    assert broken.failed[0].error is not None
    assert "batch = 5000 is larger than half of the training images" in broken.failed[0].error
    assert fine.mean is not None
    assert "trial 1 of 2: broken on digits, seed 0: batch = 5000" in capsys.readouterr().err


def test_a_table_judges_what_the_search_finds_without_training(tmp_path):
    class Table:
        def lookup(self, genotype: Genotype) -> list[float]:
            return [0.5, 0.7]

    done = ddarts.study(data="digits", seeds=1, table=Table(), out=tmp_path / "s", quiet=True, **QUICK)
    line = done.boards[0].lines[0]
    assert (line.mean, done.boards[0].part, len(done.boards[0].lines)) == (pytest.approx(0.6), "table", 1)
    assert line.trials[0].train_s is None
    assert not list(tmp_path.rglob("model"))


def test_two_processes_give_what_one_gives(finished, tmp_path, monkeypatch):
    monkeypatch.setattr("joblib.externals.loky.backend.context._DEFAULT_START_METHOD", "forkserver")  # tests.processes
    both = ddarts.study(data="digits", seeds=2, opponents=False, jobs=2, out=tmp_path / "s", quiet=True, **QUICK)
    assert len(both.boards[0].lines[0].top1) == 2
    assert record(tmp_path / "s", "d-darts").top1 == record(finished.path, "d-darts").top1


def test_what_cannot_be_done_is_an_error_that_leaves_nothing(finished, tmp_path, monkeypatch):
    for given, message in (
        ({"resume": finished.path, "seeds": 3}, "has its plan; leave out all but"),
        ({"jobs": "none"}, "jobs = 'none' must be a whole number"),
        ({"strategies": "dartz"}, "dartz"),
    ):
        with pytest.raises(SettingsError, match=message):
            ddarts.study(**{"out": None, **given})
    run = RunFolder.create(tmp_path / "r")
    with pytest.raises(RunError, match="holds no study; give a folder made by `ddarts study`"):
        ddarts.study(resume=run.path)
    if importlib.util.find_spec("distributed") is None:
        with pytest.raises(SettingsError, match=r"needs dask.distributed; pip install 'ddarts\[dask\]'"):
            ddarts.study(scheduler="tcp://nowhere:1")
