import fcntl
import json
import os
import pickle
import random
import signal
import time
from pathlib import Path

import numpy
import pytest
import torch

from ddarts.config.schema import EngineOptions, SearchOptions, SearchSettings
from ddarts.cost.device import FILE_NAME, HERE_NAME
from ddarts.errors import RunError
from ddarts.reporting.reference import ANSWERS, REFERENCE
from ddarts.runs.checkpoints import sealed
from ddarts.runs.folder import PRODUCTS, RunFolder
from ddarts.runtime.atomic_files import write_bytes
from tests.processes import Started, finished


@pytest.fixture
def run(tmp_path):
    with RunFolder.create(tmp_path / "run") as run:
        yield run


# -- creating and opening ----------------------------------------------------------------------------------------------


def test_a_new_run_is_a_run_at_once_and_can_be_opened_by_others(run):
    assert RunFolder.open(run.path).path == run.path
    assert RunFolder.open(run.path).stages == ()


def test_a_folder_that_holds_a_run_is_not_overwritten_unless_asked(run):
    run.update_summary(seed=1)
    run.log("search", "epoch", epoch=1, step=1, x=1.0)
    run.save_checkpoint("search", {"step": 1})
    (run.path / "notes.txt").write_text("mine")
    with pytest.raises(
        RunError, match=r"holds a run already; .*--out, .*--resume .*run, or replace it with --overwrite"
    ):
        RunFolder.create(run.path)
    assert run.summary == {"seed": 1}
    fresh = RunFolder.create(run.path, overwrite=True)
    assert fresh.summary == {}
    assert fresh.metrics() == []
    assert fresh.load_checkpoint("search") is None
    assert (run.path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match=r"is not empty and holds no run of ddarts \(it holds 'thesis.tex'\)"):
        RunFolder.create(tmp_path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["format: other\n", "a: 1\n", "[", "format: [ddarts-run]\n"])
def test_settings_of_another_program_do_not_make_a_folder_a_run(tmp_path, text):
    (tmp_path / "settings.yaml").write_text(text)
    (tmp_path / "model").mkdir()
    with pytest.raises(RunError, match="holds no run of ddarts"):
        RunFolder.create(tmp_path, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "settings.yaml"]


def test_overwriting_removes_links_and_leaves_what_they_point_to(run, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "weights").write_text("mine")
    (run.path / "model").symlink_to(outside)
    (run.path / "cells").write_text("a file where a folder is expected")
    run.close()
    RunFolder.create(run.path, overwrite=True).close()
    assert (outside / "weights").read_text() == "mine"
    assert sorted(p.name for p in run.path.iterdir()) == [".lock", "settings.yaml"]


@pytest.mark.parametrize("deletions", range(0, len(PRODUCTS) - 1, 4))
def test_an_overwriting_that_is_killed_leaves_no_half_of_a_run(run, monkeypatch, deletions):
    run.write_settings("search", SearchOptions())
    for name in PRODUCTS:
        if name != "settings.yaml":
            (run.path / name).write_text("")
    run.close()
    counted = iter(range(deletions))

    def killed(path):
        if next(counted, None) is None:
            raise KeyboardInterrupt
        path.unlink()

    monkeypatch.setattr("ddarts.runs.folder._delete", killed)
    with pytest.raises(KeyboardInterrupt):
        RunFolder.create(run.path, overwrite=True)
    monkeypatch.undo()
    assert RunFolder.open(run.path).stages == ()
    RunFolder.create(run.path, overwrite=True).close()
    assert sorted(p.name for p in run.path.iterdir()) == [".lock", "settings.yaml"]


@pytest.mark.parametrize("name", ["x" * 300, "y/" * 2000, os.fsdecode(b"caf\xe9")])
def test_a_path_that_cannot_hold_a_run_is_refused_before_anything_is_made(tmp_path, name):
    with pytest.raises(RunError, match=r"is not UTF-8 text|is too long"):
        RunFolder.check_free(tmp_path / name)


def test_a_run_whose_folder_is_removed_meanwhile_stops_and_does_not_make_it_again(run):
    run.log("search", "step", epoch=1, step=1)
    run.path.rename(run.path.with_name("moved"))
    with pytest.raises(RunError, match="was removed or replaced while the run was in progress; start a new run"):
        run.log("search", "step", epoch=1, step=2)
    with pytest.raises(RunError, match="was removed or replaced"):
        run.save_checkpoint("search", {"step": 2})
    assert not run.path.exists()


def test_files_have_the_permissions_of_the_umask_which_never_changes(tmp_path, monkeypatch):
    before = os.umask(0o027)
    monkeypatch.setattr("os.umask", lambda mask: pytest.fail("other threads would make files with this mask"))
    try:
        write_bytes(tmp_path / ("n" * 250), b"1")
    finally:
        monkeypatch.undo()
        os.umask(before)
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o640


def test_checking_a_place_makes_nothing(tmp_path):
    RunFolder.check_free(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_creation_left_is_no_obstacle(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".settings.yaml.abc.tmp").touch()
    RunFolder.create(tmp_path).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "settings.yaml"]


def test_what_a_killed_write_left_in_a_folder_of_the_run_is_swept(run):
    run.close()
    for name in ("cells", "model", "checkpoints"):
        (run.path / name).mkdir()
        (run.path / name / ".a.svg.0429c3aa28991263.tmp").touch()
    with RunFolder.open(run.path) as again:
        again.claim()
    assert not list(run.path.rglob("*.tmp"))


def test_overwriting_leaves_nothing_that_a_stage_would_take_for_its_own(run):
    names = (ANSWERS, FILE_NAME, HERE_NAME, REFERENCE, "front")
    for name in names:
        (run.path / name).touch()
    run.close()
    RunFolder.create(run.path, overwrite=True).close()
    assert not [name for name in names if (run.path / name).exists()]


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file is a file, not a folder; choose another folder with --out"):
        RunFolder.create(tmp_path / "file" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RunError, match="no permission to write; choose another folder with --out"):
            RunFolder.create(tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


def test_no_permission_is_named_even_to_root(tmp_path, monkeypatch):
    monkeypatch.setattr("ddarts.runs.folder.os.access", lambda path, mode: False)
    with pytest.raises(RunError, match="no permission to write; choose another folder with --out"):
        RunFolder.create(tmp_path / "run")


def test_what_holds_no_run_cannot_be_opened(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="nowhere: there is no such run"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is a file, not the folder of a run"):
        RunFolder.open(tmp_path / "file")
    with pytest.raises(RunError, match=r"holds no run \(no settings.yaml\)"):
        RunFolder.open(tmp_path)


# -- settings and summary ----------------------------------------------------------------------------------------------


def test_settings_of_several_stages_are_read_back_as_they_were(run):
    options = SearchOptions(reductions=(1, 2), alpha_lr=1e-5)
    search = SearchSettings(search=options, data="my: data #1", strict=True)
    run.write_settings("search", search)
    run.write_settings("engine", EngineOptions(seed=2**62))
    again = RunFolder.open(run.path)
    assert again.stages == ("search", "engine")
    assert SearchSettings.model_validate(again.read_settings("search")) == search
    assert EngineOptions.model_validate(again.read_settings("engine")) == EngineOptions(seed=2**62)


def test_a_stage_that_the_run_has_not_is_an_error_that_tells_which_it_has(run):
    run.write_settings("search", SearchOptions())
    with pytest.raises(RunError, match=r"no settings of the stage 'train' \(it has search\)"):
        run.read_settings("train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "line 1, column 5"),
        ("format: other\n", "not the settings of a ddarts run"),
        ("format: ddarts-run\nversion: 9\n", "run version 9 cannot be read, this ddarts reads version 2"),
        ("format: ddarts-run\nversion: 2\nsearch: 3\n", "section 'search' must hold keys and values"),
        ("x: !!python/object/apply:os.system [echo]\n", "line 1: tag .* is not allowed"),
    ],
)
def test_broken_or_hostile_settings_are_one_line(run, text, message):
    (run.path / "settings.yaml").write_text(text)
    with pytest.raises(RunError, match=message):
        RunFolder.open(run.path).read_settings("search")


def test_the_summary_is_merged_and_holds_plain_numbers(run):
    run.update_summary(test_top1=torch.tensor(0.5), seed=3)
    run.update_summary(seed=4, macs=numpy.int64(7))
    with pytest.raises(RunError, match="val_top1 is nan, which is no result"):
        run.update_summary(seed=5, val_top1=float("nan"))
    assert json.loads((run.path / "summary.json").read_text()) == {"test_top1": 0.5, "seed": 4, "macs": 7}
    assert run.summary["seed"] == 4


@pytest.mark.parametrize("text", ["{", "[1]", "\x00", "[" * 100_000])
def test_a_broken_summary_is_named(run, text):
    (run.path / "summary.json").write_text(text)
    with pytest.raises(RunError, match=r"summary.json: .*delete the file, it is made again"):
        _ = run.summary


# -- metrics -----------------------------------------------------------------------------------------------------------


def test_metrics_are_lines_of_json_in_order(run):
    run.log("search", "step", epoch=1, step=1, ce=torch.tensor(1.5), gates=[[0.5, 0.25]], bad=float("inf"))
    run.log("train", "epoch", epoch=1, step=9, val_loss=2.0)
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {
        "stage": "search", "kind": "step", "epoch": 1, "step": 1, "ce": 1.5, "gates": [[0.5, 0.25]], "bad": None,
    }  # fmt: skip
    assert [r["stage"] for r in run.metrics()] == ["search", "train"]
    assert [r["step"] for r in run.metrics("train")] == [9]
    assert run.metrics("search", "epoch") == []


def test_a_torn_last_line_is_dropped_and_written_over(run):
    run.log("search", "step", epoch=1, step=1)
    run.close()
    with (run.path / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"stage": "search", "ki')
    assert [r["step"] for r in run.metrics()] == [1]
    run.log("search", "step", epoch=1, step=2)
    assert [r["step"] for r in run.metrics()] == [1, 2]
    assert all(json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines())


def test_rewinding_a_stage_forgets_its_later_lines_only(run):
    for step in range(1, 6):
        run.log("search", "step", epoch=1, step=step)
        run.log("train", "step", epoch=1, step=step)
    run.rewind("search", 3)
    run.log("search", "step", epoch=1, step=4, again=1)
    assert [r["step"] for r in run.metrics("search")] == [1, 2, 3, 4]
    assert run.metrics("search")[-1]["again"] == 1
    assert [r["step"] for r in run.metrics("train")] == [1, 2, 3, 4, 5]


def test_the_closing_line_of_an_epoch_that_is_closed_again_is_forgotten(run):
    """A kill between that line and the checkpoint after it leaves a line for an epoch whose steps are all done."""
    for epoch in (1, 2):
        run.log("search", "step", epoch=epoch, step=5 * epoch)
        run.log("search", "epoch", epoch=epoch, step=5 * epoch)
    run.rewind("search", 10, epoch=3)
    assert len(run.metrics("search")) == 4
    run.rewind("search", 10, epoch=2)
    assert [(r["kind"], r["epoch"]) for r in run.metrics("search")] == [("step", 1), ("epoch", 1), ("step", 2)]


def test_rewinding_bears_lines_with_anything_in_them(run):
    (run.path / "metrics.jsonl").write_text('{"stage": "search", "step": "x", "kind": "epoch", "epoch": null}\n')
    run.rewind("search", 3, epoch=2)
    assert len(run.metrics("search")) == 1


def read_events(folder: Path):
    """Read TensorBoard event files, oldest first: a length, its checksum, the record, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted(folder.iterdir(), key=lambda p: int(p.name.rsplit(".", 1)[1])):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event = Event()
            event.ParseFromString(data[12 : 12 + length])
            events.append(event)
            data = data[16 + length :]
    return events


def test_tensorboard_sees_scalars_at_once_and_is_told_of_a_rewind(run):
    run.log("search", "step", epoch=1, step=5, ce=1.5, gates=[1.0], note="x", done=True)
    (event,) = [e for e in read_events(run.path / "events" / "search") if e.summary.value]
    assert event.step == 5
    assert {v.tag: v.simple_value for v in event.summary.value} == {"search/epoch": 1.0, "search/ce": 1.5}
    run.rewind("search", 4)
    run.log("search", "step", epoch=1, step=5, ce=2.5)
    events = read_events(run.path / "events" / "search")
    assert [e.step for e in events if e.session_log.status] == [5]
    assert events[-1].summary.value[1].simple_value == 2.5


def test_tensorboard_sees_gates_as_histograms_and_numbers_cell_by_cell(run):
    gates = [[[0.0, 0.49], [0.51, 1.0]], [[None, 0.25]]]
    run.log("search", "epoch", epoch=1, step=5, gates=gates, marginal=[-0.5, None])
    (event,) = [e for e in read_events(run.path / "events" / "search") if e.summary.value]
    found = {v.tag: v for v in event.summary.value}
    assert found["search/marginal/cell 0"].simple_value == -0.5
    assert "search/marginal/cell 1" not in found
    histogram = found["search/gates/cell 0"].histo
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (0.0, 1.0, 4, 2.0)
    assert [i for i, n in enumerate(histogram.bucket) if n] == [0, 9, 10, 19]
    assert list(histogram.bucket_limit)[-1] == 1.0
    assert found["search/gates/cell 1"].histo.num == 1


def test_tensorboard_gets_the_pictures_that_a_record_calls_for(run):
    png = b"\x89PNG\r\n\x1a\n" + bytes(8) + (640).to_bytes(4, "big") + (480).to_bytes(4, "big")
    run.pictures = lambda record: {"cell 0": png} if record["kind"] == "epoch" else {}
    run.log("search", "step", epoch=1, step=4, ce=1.0)
    run.log("search", "epoch", epoch=1, step=5)
    values = [v for e in read_events(run.path / "events" / "search") for v in e.summary.value]
    (picture,) = [v for v in values if v.HasField("image")]
    assert picture.tag == "search/cell 0"
    assert (picture.image.width, picture.image.height, picture.image.encoded_image_string) == (640, 480, png)


# -- checkpoints -------------------------------------------------------------------------------------------------------


def state(step):
    return {"step": step, "w": torch.full((50,), float(step)), "nested": [{"lr": 0.1, 3: None}, (1, "x"), b"y"]}


def test_a_checkpoint_comes_back_as_it_was(run):
    assert run.load_checkpoint("search") is None
    run.save_checkpoint("search", state(7))
    loaded = run.load_checkpoint("search")
    assert loaded["step"] == 7
    assert torch.equal(loaded["w"], torch.full((50,), 7.0))
    assert loaded["nested"] == [{"lr": 0.1, 3: None}, (1, "x"), b"y"]
    assert run.load_checkpoint("train") is None


def test_optimizer_states_can_be_kept(run):
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    run.save_checkpoint("search", {"model": layer.state_dict(), "optimizer": optimizer.state_dict()})
    optimizer.load_state_dict(run.load_checkpoint("search")["optimizer"])


def test_the_checkpoint_before_is_kept_and_used_when_the_newest_is_broken(run, capsys):
    run.save_checkpoint("search", state(1))
    run.save_checkpoint("search", state(2))
    newest = run.path / "checkpoints" / "search.pt"
    newest.write_bytes(newest.read_bytes()[:-200])
    assert run.load_checkpoint("search")["step"] == 1
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert "search.pt is broken" in warning
    assert "resuming from search.previous.pt" in warning


def test_every_flipped_bit_of_a_checkpoint_is_noticed(run, capsys):
    run.save_checkpoint("search", state(1))
    run.save_checkpoint("search", state(2))
    newest = run.path / "checkpoints" / "search.pt"
    content, where = newest.read_bytes(), random.Random(0)
    for _ in range(40):
        damaged = bytearray(content)
        damaged[where.randrange(len(content))] ^= 1 << where.randrange(8)
        newest.write_bytes(damaged)
        assert run.load_checkpoint("search")["step"] == 1
    assert capsys.readouterr().err.count("resuming from search.previous.pt") == 40


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["garbage", "empty", "pickle", "torch", "not a dict"])
def test_no_whole_checkpoint_is_one_line_with_the_way_out_and_runs_no_code(run, tmp_path, kind):
    trap = tmp_path / "trap"
    path = run.path / "checkpoints" / "search.pt"
    path.parent.mkdir()
    if kind in ("torch", "not a dict"):
        torch.save({"x": Attack(trap)} if kind == "torch" else [1], path)
        path.write_bytes(sealed(path.read_bytes()))
    else:
        path.write_bytes({"garbage": b"xx" * 99, "empty": b"", "pickle": pickle.dumps(Attack(trap))}[kind])
    with pytest.raises(RunError) as caught:
        run.load_checkpoint("search")
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert "search.pt" in message
    assert "to start the stage again, or start a new run" in message
    assert not trap.exists()
    if kind == "torch":
        assert "it asks for posix.mkdir to be run, which is refused" in message


def test_what_could_not_be_loaded_safely_is_refused_when_saving(run):
    run.save_checkpoint("search", state(1))
    with pytest.raises(
        TypeError, match=r"search\['a'\]\[1\] is a float64; a checkpoint may hold tensors and plain data"
    ):
        run.save_checkpoint("search", {"a": [1, numpy.float64(2)]})
    assert run.load_checkpoint("search")["step"] == 1


SAVE_FOREVER = """
import sys, torch
from ddarts.runs.folder import RunFolder
run = RunFolder.open(sys.argv[1])
step = (run.load_checkpoint("search") or {"step": 0})["step"]
run.rewind("search", step)
while True:
    step += 1
    run.log("search", "step", epoch=1, step=step)
    run.save_checkpoint("search", {"step": step, "w": torch.full((20_000,), float(step))})
    print("ready", flush=True)
"""


def test_killed_at_any_moment_a_whole_checkpoint_is_left(run):
    run.close()
    moments = random.Random(0)
    last = 0
    for _ in range(3):
        child = Started(SAVE_FOREVER, run.path)
        child.wait_until_it_says("ready")
        time.sleep(moments.uniform(0.05, 0.25))
        child.send(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        loaded = run.load_checkpoint("search")
        assert loaded["step"] > last
        assert torch.equal(loaded["w"], torch.full((20_000,), float(loaded["step"])))
        last = loaded["step"]
        steps = [r["step"] for r in run.metrics("search")]
        assert steps[:last] == list(range(1, last + 1))
    run.save_checkpoint("search", {"step": last})  # the lock died with its holder, and leftovers are swept
    assert sorted(p.name for p in (run.path / "checkpoints").iterdir()) == ["search.previous.pt", "search.pt"]


FILL_THE_DISK = """
import resource, sys, torch
from ddarts.errors import RunError
from ddarts.runs.folder import RunFolder
run = RunFolder.open(sys.argv[1])
run.save_checkpoint("search", {"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    run.save_checkpoint("search", {"step": 2, "w": torch.zeros(20_000)})
except RunError as error:
    print(error)
try:
    for step in range(10_000):
        run.log("search", "step", epoch=1, step=step, filler="x" * 400)
except RunError as error:
    print(error)
"""


def test_a_full_disk_names_the_file_and_leaves_the_checkpoint_usable(run):
    run.close()
    done = finished(FILL_THE_DISK, run.path)
    assert (done.status, done.err) == (0, "")
    about_checkpoint, about_metrics = done.out.splitlines()
    assert "search.pt: cannot be written: File too large; free some space" in about_checkpoint
    assert (
        "metrics.jsonl: cannot be written: File too large; free some space, then resume with --resume" in about_metrics
    )
    assert run.load_checkpoint("search") == {"step": 1}
    assert len(run.metrics()) > 10
    assert all(r["filler"] for r in run.metrics())
    run.log("search", "step", epoch=9, step=9, filler="y")
    assert run.metrics()[-1]["filler"] == "y"


# -- one writer at a time ----------------------------------------------------------------------------------------------

WRITE = """
import sys
from ddarts.errors import RunError
from ddarts.runs.folder import RunFolder
run = RunFolder.open(sys.argv[1])
print(run.summary)
try:
    run.update_summary(seed=2)
    print("written")
except RunError as error:
    print(error)
"""


def test_another_process_may_read_but_not_write_until_the_run_is_closed(run):
    run.update_summary(seed=1)
    done = finished(WRITE, run.path)
    assert done.out.splitlines()[0] == "{'seed': 1}"
    assert "is in use by another ddarts process; wait until it ends or stop it first" in done.out
    run.close()
    assert finished(WRITE, run.path).out.splitlines() == ["{'seed': 1}", "written"]


def test_one_process_may_write_through_several_objects(run):
    other = RunFolder.open(run.path)
    other.log("search", "step", epoch=1, step=1)
    run.log("search", "step", epoch=1, step=2)
    run.close()
    with (run.path / ".lock").open("rb") as stream, pytest.raises(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # `other` still holds the lock
    other.close()
    with (run.path / ".lock").open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
