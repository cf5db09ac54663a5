import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import ddarts
from ddarts.cli.main import main
from ddarts.config.schema import RunSettings, SearchOptions, TrainOptions
from ddarts.errors import RunError, SettingsError
from ddarts.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "r")
    folder.write_settings("run", RunSettings(search=SearchOptions(epochs=4), train=TrainOptions(epochs=10)))
    return folder


def search_epoch(run: RunFolder, epoch: int) -> None:
    run.log(
        "search",
        "epoch",
        epoch=epoch,
        step=10 * epoch,
        search_loss=1.0 / epoch,
        search_accuracy=0.5,
        margin=[0.1, None],
        parameter_free=[0.5, 1.0],
        marginal=[-0.25, 0.0],
        elapsed_s=100.0 * epoch,
    )


def test_a_run_that_is_being_written_is_running_and_has_time_left(run: RunFolder) -> None:
    search_epoch(run, 1)
    search_epoch(run, 2)
    seen = ddarts.watch(run.path, once=True)
    assert (seen.state, seen.stage, seen.epoch, seen.epochs) == ("running", "search", 2, 4)
    assert seen.left_s is not None
    assert 150 < seen.left_s <= 200
    assert dict(seen.numbers) == {"loss, search half": "0.5", "accuracy, search half": "50.00 %"}
    assert seen.cells == ((0.1, 0.5, -0.25), (None, 1.0, 0.0))


def test_a_run_that_nobody_writes_is_stopped_until_it_is_complete(run: RunFolder) -> None:
    search_epoch(run, 1)
    run.close()
    seen = ddarts.watch(run.path)  # returns at once
    assert seen.state == f"stopped; resume with: ddarts run --resume {run.path}"
    assert seen.left_s is None
    (run.path / "report.html").write_text("made")
    assert ddarts.watch(run.path).state == "finished"


def test_a_run_without_metrics_is_shown_too(run: RunFolder) -> None:
    seen = ddarts.watch(run.path, once=True)
    assert (seen.stage, seen.epoch, seen.epochs, seen.numbers) == ("", 0, None, ())


def test_watching_follows_until_the_run_ends_with_a_line_an_epoch(run: RunFolder, capfd) -> None:
    search_epoch(run, 1)

    def work() -> None:
        for epoch in (2, 3):
            time.sleep(0.15)
            search_epoch(run, epoch)
        time.sleep(0.15)
        run.log("train", "epoch", epoch=1, step=1, train_loss=0.25, elapsed_s=1.0)
        run.close()

    writer = threading.Thread(target=work)
    writer.start()
    seen = ddarts.watch(run.path, every=0.02)
    writer.join()
    assert (seen.stage, seen.epoch, seen.epochs) == ("train", 1, 10)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "search: epoch 1/4",
        "search: epoch 2/4",
        "search: epoch 3/4",
        "train: epoch 1/10",
    ]


def test_another_process_that_writes_is_seen_and_not_disturbed(run: RunFolder) -> None:
    run.close()
    code = (
        "import sys; from ddarts.runs.folder import RunFolder\n"
        f"run = RunFolder.open({str(run.path)!r}); run.claim(); print('ready', flush=True); sys.stdin.read()"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert ddarts.watch(run.path, once=True).state == "running"
        child.communicate()
    assert ddarts.watch(run.path, once=True).state.startswith("stopped")
    run.claim()  # the lock is free


def test_a_run_that_goes_on_from_a_checkpoint_is_read_anew(run: RunFolder) -> None:
    from ddarts.reporting.watched import MetricsTail

    tail = MetricsTail(run.path / "metrics.jsonl")
    search_epoch(run, 1)
    search_epoch(run, 2)
    records, again = tail.read()
    assert ([r["epoch"] for r in records], again) == ([1, 2], True)
    search_epoch(run, 3)
    records, again = tail.read()
    assert ([r["epoch"] for r in records], again) == ([3], False)
    run.rewind("search", 10, epoch=2)
    records, again = tail.read()
    assert ([r["epoch"] for r in records], again) == ([1], True)


def test_a_line_that_is_being_written_waits_for_its_end(tmp_path: Path) -> None:
    from ddarts.reporting.watched import MetricsTail

    path = tmp_path / "metrics.jsonl"
    path.write_text('{"a": 1}\n{"a":')
    tail = MetricsTail(path)
    assert tail.read()[0] == [{"a": 1}]
    with path.open("a") as stream:
        stream.write(" 2}\nno json\n")
    assert tail.read()[0] == [{"a": 2}]


def test_interrupting_ends_the_watching_with_the_state(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    search_epoch(run, 1)
    monkeypatch.setattr("ddarts.api.watch.time.sleep", interrupt)
    assert ddarts.watch(run.path).state == "running"


def test_a_terminal_gets_a_picture_with_every_cell(run: RunFolder) -> None:
    from rich.console import Console

    from ddarts.api.watch import _Follower

    search_epoch(run, 1)
    follower = _Follower(run)
    follower.look()
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.capture() as captured:
        console.print(follower.picture())
    console.file.close()
    shown = captured.get()
    assert "lead of the gates" in shown
    assert "-0.250" in shown
    assert "100.00 %" in shown
    assert "Ctrl-C ends this display, not the run" in shown


def test_the_command_prints_the_state_as_json(run: RunFolder, capsys) -> None:
    search_epoch(run, 1)
    assert main(["watch", str(run.path), "--once", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["state"] == "running"
    assert shown["cells"][0] == {"lead": 0.1, "parameter_free": 0.5, "marginal": -0.25}


def test_what_is_no_run_or_no_time_is_an_error(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such run"):
        ddarts.watch(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="every = 'soon' must be a number of seconds"):
        ddarts.watch(run.path, every="soon")  # pyright: ignore[reportArgumentType]
