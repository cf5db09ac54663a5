"""Memory of a search or training on the CPU: kept once it is there, in large pages.

A step asks for and gives back a few gigabytes in blocks of some megabytes. glibc hands such blocks back to the kernel,
which must clear every page anew when the next step touches it, and small pages make every access dearer, above all on
virtual machines. Measured shares: docs/performance.md. Nothing here changes a number, nor how much is in use at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_MADV_HUGEPAGE = 14  # sys/mman.h
_LARGEST_INT = 2**31 - 1
_LARGE_PAGE = 2**21


def keep_memory() -> bool:
    """Let this process keep the memory that it frees, and use large pages where the kernel gives them on request.

    It concerns the whole process, so only commands and the benchmarks call it. On other systems than Linux with glibc
    nothing happens.

    Returns:
        whether large pages were granted.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mallopt(_M_MMAP_MAX, 0)  # large blocks come from the heap, too
    libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
    libc.mallopt(_M_TOP_PAD, _LARGEST_INT - _LARGE_PAGE)  # address space, not memory: pages come when they are touched
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.free(libc.malloc(64 * _LARGE_PAGE))  # the heap grows by all of that now
    return _ask_for_large_pages(libc)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return how many bytes this process may use: of the machine, or fewer if its control groups (v1 or v2) say so.

    Args:
        root: where ``proc`` and ``sys`` are.

    Returns:
        None if nothing is known on this system.
    """
    limits = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    groups = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top, name = (groups / "memory", "memory.limit_in_bytes") if controllers else (groups, "memory.max")
            inside = top / path.lstrip("/")
            for folder in (inside, *inside.parents):  # in a container the path may be the host's; the top is there
                with contextlib.suppress(OSError, ValueError):  # "max" is no number
                    limits.append(int((folder / name).read_text()))
                if folder == top:
                    break
    return min(limits, default=None)


def _ask_for_large_pages(libc: ctypes.CDLL) -> bool:
    for line in Path("/proc/self/maps").read_text("utf-8", "replace").splitlines():
        if line.endswith("[heap]"):
            start, end = (int(n, 16) for n in line.split(maxsplit=1)[0].split("-"))
            start = -(-start // _LARGE_PAGE) * _LARGE_PAGE
            libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
            return libc.madvise(start, end - start, _MADV_HUGEPAGE) == 0
    return False
