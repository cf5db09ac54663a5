"""A seeded cut of the campaign (`make campaign`): its damage, its verdicts, and readers that need no run."""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.campaign import attempts, disks, kills, readers
from benchmarks.campaign.__main__ import kinds
from benchmarks.campaign.attempts import COMMANDS, Bench, damage, one_line, stopped
from benchmarks.campaign.samples import READERS, Reader
from ddarts.errors import RunError
from tests.processes import finished

#: Readers whose files come from no run, and which are fast.
_ALONE = [
    *("genotype", "gates", "gates of choices", "genotype text of authors", "two-cell text of authors", "settings file"),
    *("operation weights", "latencies of a device", "record of a trial", "table of accuracies", "labels", "IDX"),
    *("IDX, compressed", "CIFAR pickles", "CIFAR binary", "Parquet", "decoded data set", "weights of other programs"),
    *(f"image, {ending}" for ending in ("PNG", "JPG", "WEBP", "GIF", "TIFF")),
]


@pytest.mark.parametrize("name", _ALONE)
def test_a_damaged_file_is_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    reader.make(tmp_path, Bench(tmp_path))
    reader.read(tmp_path)
    paths = [path for pattern in reader.files for path in sorted(tmp_path.glob(pattern))]
    assert paths
    for seed in range(24):
        path = paths[seed % len(paths)]
        content = path.read_bytes()
        path.write_bytes(damage(content, random.Random(seed)))
        assert readers.judge(reader, tmp_path) is None
        path.write_bytes(content)


@pytest.mark.parametrize("kind", range(3))
def test_damage_is_seeded_and_changes_every_file(kind: int) -> None:
    for content in (b"", b"a", b"aaaa", bytes(range(100))):
        assert damage(content, random.Random(kind)) == damage(content, random.Random(kind)) != content


def _raise(error: BaseException) -> None:
    raise error


def test_a_reader_fails_by_any_exception_but_one_line_of_ddarts_and_by_silence(tmp_path: Path) -> None:
    def judged(error: BaseException | None, must_notice: bool = False) -> str | None:
        reader = Reader(lambda *_: None, (), lambda _: _raise(error) if error else None, must_notice)
        return readers.judge(reader, tmp_path)

    assert judged(None) is None
    assert judged(RunError("one line")) is None
    assert "not one line" in (judged(RunError("")) or "")
    for error in (ValueError("x"), MemoryError(), RecursionError(), KeyboardInterrupt()):
        assert type(error).__name__ in (judged(error) or "")
    assert judged(None, must_notice=True) == "the damage was not noticed"
    assert judged(RunError("one line"), must_notice=True) is None


def test_only_a_result_or_one_line_of_status_2_passes() -> None:
    assert one_line(0, "") is None
    assert one_line(2, "ddarts: error: x\n") is None
    for status, said in ((1, "ddarts: error: x"), (2, ""), (2, "ddarts: error: x\nddarts: error: y"), (124, "")):
        assert one_line(status, said)
    assert one_line(2, "Traceback\nddarts: error: x")


def test_a_signal_ends_a_command_by_itself_or_with_one_line() -> None:
    assert stopped(-9, "", 9) is None
    assert stopped(130, "ddarts: stopped; resume with: x\n", 15) is None
    for status, said in ((-9, ""), (130, "ddarts: a\nddarts: b\n"), (1, "ddarts: error: x"), (-15, "Traceback")):
        assert stopped(status, said, 15)


WORK = """
import sys, time
from collections.abc import Iterator
from pathlib import Path
from benchmarks.campaign import attempts, readers, samples
from benchmarks.campaign.attempts import Bench, Command
out = Path(sys.argv[1])
command = Command("show", "nowhere", said=out / "a")
assert command.end() == (2, command.said) and command.said.startswith("ddarts: error: nowhere"), command.said
command = Command("zoo", said=out / "b", before=lambda: time.sleep(60))
command.send(9)
assert command.end()[0] == -9
assert Command("--version", said=out / "c", fresh=True).end()[0] == 0
attempts.LONGEST_S = 0.1

def read(folder):
    data = (folder / "f").read_bytes()
    if data[0] % 4 == 0:
        while True:
            pass
    if data[0] % 4 == 1:
        bytearray(2**31)

def make(folder, bench):
    (folder / "f").write_bytes(bytes([2] * 8))

samples.READERS["test"] = samples.Reader(make, ("f",), read)
Bench.reference = lambda *_: out
readers.CPU_S = 0.2
readers.damage = lambda content, moments: bytes([moments.randrange(4)])
wrong = readers.damaged(Bench(out), "test", 0, 0, 8)
kinds = {text.partition(" ")[0] for text in wrong}
assert kinds == {"MemoryError", "ended"} and any("too long" in text for text in wrong), wrong
"""


def test_processes_of_an_attempt_are_limited_and_judged(tmp_path: Path) -> None:
    process = finished(WORK, tmp_path)
    assert process.status == 0, process.err


def test_a_run_that_differs_or_leaves_files_is_noticed(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.seconds["search"] = 1.0
    for run in (bench.reference("search"), bench.work):
        run.mkdir(parents=True)
        for name in COMMANDS["search"][1]:
            (run / name).write_text(f"made in {run}")
    assert bench.differs("search", bench.work) is None
    (bench.work / ".gates.json.tmp").touch()
    assert "left over" in (bench.differs("search", bench.work) or "")
    (bench.work / "gates.json").write_text("other")
    assert "gates.json" in (bench.differs("search", bench.work) or "")
    (bench.work / "gates.json").unlink()
    assert "gates.json" in (bench.differs("search", bench.work) or "")


def test_the_clock_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", time.time)
    monkeypatch.setattr(time, "time_ns", time.time_ns)
    before = time.time()
    kills.set_back(0.0, 3600)
    assert before - 3700 < time.time() < before - 3500
    assert time.time_ns() < (before - 3500) * 1e9


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder in which every user may look; nobody else may in pytest's."""
    with tempfile.TemporaryDirectory(prefix="ddarts-") as place:
        Path(place).chmod(0o755)
        yield Path(place)


def test_a_disk_of_a_user_who_is_not_root_is_full(open_path: Path) -> None:
    bench = Bench(open_path)
    bench.place.mkdir()
    bench.seconds["search"] = 1.0

    def attempt(bench: Bench, name: str, disk: Path) -> str:
        try:
            disks.enter_namespace()
        except OSError:
            return "not allowed"
        disks.mount(disk, "size=64k,nr_inodes=9")
        disks.fill(disk, inodes=False)
        try:
            (disk / "more").write_bytes(bytes(9000))
        except OSError as error:
            return error.strerror
        return "not full"

    said = disks.by_nobody(bench, attempt, "search")
    if said == "not allowed":
        pytest.skip("user namespaces are not allowed here")
    assert said == "No space left on device"


def test_every_kind_of_attempt_is_known_by_a_name_and_a_number() -> None:
    found = kinds()
    assert {"kill -9", "full disks and inode tables", "runs started in the same second"} <= found.keys()
    assert {f"damaged: {name}" for name in READERS} <= found.keys()
    assert all(kind.count >= 1 and kind.tries >= 1 for kind in found.values())
    assert signal.SIGTERM in kills.SIGNALS
    assert attempts.MOST_BYTES > readers.MORE_BYTES
