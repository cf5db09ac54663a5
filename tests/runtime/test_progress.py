import io
import re

import pytest

from ddarts.runtime.progress import Progress, format_seconds, work_after


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_sees_steps_fields_and_notes(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    with Progress("search", 10, stream=screen) as progress:
        progress.update(4, epoch="1/2", loss=1.23456, accuracy=0.5)
        progress.note("epoch 1: [accuracy] 0.81")
    shown = screen.getvalue()
    assert "search" in shown
    assert "4/10" in shown
    assert "epoch 1/2  loss 1.235  accuracy 0.5" in shown
    assert "epoch 1: [accuracy] 0.81" in shown


def test_a_log_file_gets_plain_lines_and_not_one_a_step():
    log = io.StringIO()
    with Progress("train", 1000, stream=log) as progress:
        for step in range(1, 1001):
            progress.update(step, loss=2.0)
        progress.note("done")
    lines = log.getvalue().splitlines()
    assert lines[0] == "train: 1000 steps"
    with Progress("reading photos", 1, "image", stream=log) as progress:
        progress.update(1)
    assert "reading photos: 1 image\nreading photos: 1/1" in log.getvalue()
    assert lines[-2:] == ["train: 1000/1000  loss 2  left 0 s", "done"]
    assert len(lines) < 10
    assert "\x1b" not in log.getvalue()


def test_time_left_counts_from_where_a_resumed_job_began(monkeypatch):
    clock = iter([0.0, 0.0, 100.0])
    monkeypatch.setattr("ddarts.runtime.progress.time.monotonic", lambda: next(clock))
    log = io.StringIO()
    with Progress("search", 101, stream=log) as progress:
        progress.update(91)
    assert log.getvalue().splitlines()[-1] == "search: 91/101  left 16 min 40 s"


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_quiet_shows_nothing(kind):
    stream = kind()
    with Progress("search", 2, quiet=True, stream=stream) as progress:
        progress.update(1, loss=1.0)
        progress.note("hello")
    assert stream.getvalue() == ""


def test_it_writes_to_stderr(capsys):
    with Progress("search", 1) as progress:
        progress.update(1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "search: 1/1" in captured.err


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (0.4, "0 s"), (59.6, "1 min 0 s"), (61, "1 min 1 s"), (3725, "1 h 2 min")]
)
def test_durations_are_written_for_people(seconds, text):
    assert format_seconds(seconds) == text


class Gone(io.StringIO):
    def write(self, text):
        raise OSError(5, "Input/output error")


def test_a_full_disk_or_a_closed_terminal_ends_no_work():
    with Progress("train", 2, stream=Gone()) as progress:
        progress.update(2)
        progress.note("done")


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        (60, "epoch 3/15  accuracy 0.7988"),
        (80, "epoch 3/15  accuracy 0.7988  validation 0.9722"),
        (160, "epoch 3/15  loss 0.6583  alpha_loss 0.5985  accuracy 0.7988  validation 0.9722"),
    ],
)
def test_a_narrow_terminal_keeps_steps_and_time_left_and_drops_losses_first(monkeypatch, columns, fields):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    with Progress("search", 150, stream=screen) as progress:
        progress.update(7, epoch="3/15", loss=0.6583, alpha_loss=0.5985, accuracy=0.7988, validation=0.9722)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue()).replace("\r", "\n").strip().splitlines()[-1]
    assert len(last) <= columns
    assert re.search(r"7/150 .*left -:--:-- ", last)
    assert last.endswith(fields)


def test_time_left_is_that_of_the_whole_job(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("ddarts.runtime.progress.time.monotonic", lambda: now[0])
    log = io.StringIO()
    with work_after(300), Progress("search", 10, stream=log) as progress:
        now[0] = 20.0
        progress.update(5)
    assert log.getvalue().endswith("search: 5/10  left 6 min 40 s\n")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    with work_after(3700), Progress("search", 10, stream=screen) as progress:
        for done in (1, 2, 10):
            progress.update(done)
    assert "left 1:01:40" in screen.getvalue()
