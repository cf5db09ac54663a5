"""How much memory this process may still use."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def available_memory(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> int:
    """Return the bytes that this process may still allocate: of the machine, its control group and its own limit.

    Where the system does not say, it is half of the physical memory, or 8 GB.

    Args:
        meminfo: Linux's file on memory.
        cgroup: root of the control groups, as a container sees its own (version 2, or 1 below ``memory``).
    """
    found = []
    for line in _read(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            found.append(1024 * int(line.split()[1]))
    for limit, used in (
        (cgroup / "memory.max", cgroup / "memory.current"),
        (cgroup / "memory" / "memory.limit_in_bytes", cgroup / "memory" / "memory.usage_in_bytes"),
    ):
        most, now = _read(limit).strip(), _read(used).strip()
        if most.isdecimal() and now.isdecimal():
            found.append(max(int(most) - int(now), 0))
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            used = int(_read(Path("/proc/self/statm")).split()[0]) * resource.getpagesize()
            found.append(max(limit - used, 0))
    except (ImportError, IndexError):  # not POSIX; no /proc
        pass
    if not found:
        try:
            found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
        except (AttributeError, ValueError, OSError):
            found.append(8 * 2**30)
    return min(found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
