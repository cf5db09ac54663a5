"""Full disks, exhausted inode tables and read-only folders, for a user who is not root.

The disk is a tmpfs in a user namespace, whose size and number of inodes are chosen, so its errors are the kernel's own.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.campaign.attempts import NOBODY, Bench, fork, one_line

_NEW_USER, _NEW_MOUNT, _REMOUNT, _READ_ONLY, _DUMPABLE = 0x10000000, 0x00020000, 32, 1, 4
_ROOM = "size=256m,nr_inodes=100000"


def _checked(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def enter_namespace() -> None:
    """Give this process, which must not be root, a view of mounts of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    libc.prctl(_DUMPABLE, 1, 0, 0, 0)  # else /proc/self belongs to root after a change of the user
    _checked(libc.unshare(_NEW_USER | _NEW_MOUNT), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def mount(folder: Path, how: str, flags: int = 0) -> None:
    """Mount a tmpfs, or change one."""
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.mount(b"none", os.fsencode(folder), b"tmpfs", flags, how.encode()), f"mount {how}")


def by_nobody(bench: Bench, attempt: Callable[[Bench, str, Path], str | None], name: str) -> str | None:
    """Let a user who is not root make an attempt in a folder of its own; return its verdict."""
    folder, verdict = bench.place / "disk", bench.place / "verdict"
    folder.mkdir()
    bench.reference(name)
    if os.getuid() == 0:
        os.chown(bench.place, NOBODY, NOBODY)
        os.chown(folder, NOBODY, NOBODY)

    def work() -> int:
        inner = Bench(bench.out)
        inner.seconds, inner.said = bench.seconds, bench.place / "said.txt"
        verdict.write_text(attempt(inner, name, folder) or "", encoding="utf-8")
        return 0

    pid = fork(work, bench.said, user=NOBODY if os.getuid() == 0 else None)
    if os.waitpid(pid, 0)[1]:
        return f"ended: {bench.said.read_text('utf-8', 'replace')[-800:]}"
    return verdict.read_text(encoding="utf-8") or None


def full(bench: Bench, moments: random.Random) -> str | None:
    """Let a disk, or its table of inodes, be full from the start or from a random instant on; make room; resume."""
    name = moments.choice(["search", "train", "run", "compare", "study", "measure-operations"])
    inodes, filled = moments.random() < 0.5, moments.random() < 0.5
    small = f"nr_inodes={moments.randint(2, 40)}" if inodes else f"size={moments.choice([4, 8, 16, 32, 64, 128, 256])}k"
    moment = moments.random()

    def attempt(bench: Bench, name: str, disk: Path) -> str | None:
        enter_namespace()
        mount(disk, _ROOM if filled else small)
        command = bench.command(*bench.words(name), "--out", disk / "run")
        if filled:
            command.wait(moment * bench.seconds[name])
            fill(disk, inodes)
        wrong = one_line(*command.end())
        shutil.rmtree(disk / "filler", ignore_errors=True)
        mount(disk, _ROOM, _REMOUNT)
        if wrong is None and not (disk / "run" / "settings.yaml").is_file():
            shutil.rmtree(disk / "run", ignore_errors=True)
        return (wrong and f"{name}, {small}: {wrong}") or bench.completed(name, disk / "run")

    return by_nobody(bench, attempt, name)


def fill(disk: Path, inodes: bool) -> None:
    """Take all space, or all inodes, of a disk."""
    folder = disk / "filler"
    try:
        folder.mkdir()
        if inodes:
            for number in range(200_000):
                (folder / str(number)).touch()
        with (folder / "bytes").open("wb", buffering=0) as stream:
            while True:
                stream.write(b"\0" * 65536)
    except OSError:
        return


def read_only(bench: Bench, moments: random.Random) -> str | None:
    """Let a folder be read-only (by its permissions, or the whole disk), from the start or on resuming; then resume."""
    name = moments.choice(["search", "train", "run", "compare", "study", "measure-operations"])
    by_disk, begun, moment = moments.random() < 0.5, moments.random() < 0.5, moments.random()

    def attempt(bench: Bench, name: str, disk: Path) -> str | None:
        if by_disk:
            enter_namespace()
            mount(disk, _ROOM)
        run = disk / "run"
        if begun:
            command = bench.command(*bench.words(name), "--out", run)
            command.wait(moment * bench.seconds[name])
            command.send(9)
            command.end()
        there = (run / "settings.yaml").is_file()
        folders = [disk, *(path for path in run.rglob("*") if path.is_dir()), *([run] if run.is_dir() else [])]
        if by_disk:
            mount(disk, _ROOM, _REMOUNT | _READ_ONLY)
        else:
            for folder in folders:
                folder.chmod(0o555)
        words = [name, "--resume", run, "--quiet"] if there else [*bench.words(name), "--out", run]
        status, said = bench.command(*words).end()
        if by_disk:
            mount(disk, _ROOM, _REMOUNT)
        else:
            for folder in folders:
                folder.chmod(0o755)
        if status == 0 and not there:
            return f"{name}: status 0 in a folder that is read-only"
        return one_line(status, said) or bench.completed(name, run)

    return by_nobody(bench, attempt, name)
