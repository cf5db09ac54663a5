"""A process that keeps its memory touches it once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ddarts.runtime.allocator import memory_limit

_SCRIPT = """
import resource, sys
from ddarts.runtime.allocator import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
import torch
torch.set_num_threads(1)
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [torch.ones(40_000_000 // 4) for _ in range(3)]
    del held
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(faults[-1])
"""


def _faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", _SCRIPT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc on Linux can be told to keep memory")
def test_blocks_that_are_given_back_are_there_when_they_are_wanted_again() -> None:
    assert _faults("keep") < 100 < _faults("plain")


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    from ddarts.runtime import allocator as memory

    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert memory.keep_memory() is False


@pytest.mark.parametrize(
    ("group", "folder", "name"),
    [
        ("0::/user/job", "user", "memory.max"),  # v2: the tightest limit may be that of a group above
        ("0::/host/path", "", "memory.max"),  # in a container
        ("11:cpu,memory:/job", "memory/job", "memory.limit_in_bytes"),
        ("3:memory:/docker/1", "memory", "memory.limit_in_bytes"),
    ],
)
def test_the_limit_of_a_control_group_counts(tmp_path, group, folder, name):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"12:cpuset:/\n{group}\n")
    limits = tmp_path / "sys/fs/cgroup" / folder
    limits.mkdir(parents=True)
    (limits / name).write_text("12345678\n")
    assert memory_limit(tmp_path) == 12345678
    (limits / name).write_text("max\n")
    machine = memory_limit(tmp_path)
    assert machine is not None
    assert machine > 12345678
