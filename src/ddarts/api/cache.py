"""`ddarts cache`: the decoded data sets that are kept, and how large they are."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ddarts.data.cache import Entry, cache_entries, cache_folder, clear_cache
from ddarts.results import Outcome
from ddarts.runtime.progress import counted


@dataclass(frozen=True)
class CacheResult(Outcome):
    """The entries of the cache, the one that was used last first; `folder` is None if it is off."""

    folder: Path | None
    entries: tuple[Entry, ...]

    title = "decoded data sets"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return what the table shows."""
        yield "folder", str(self.folder or "off (DDARTS_CACHE)")
        for entry in self.entries:
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
            yield entry.name, f"{counted(entry.images, 'image')}, {entry.bytes / 2**20:.1f} MiB, used {used}"
        yield "total", f"{sum(entry.bytes for entry in self.entries) / 2**20:.1f} MiB"


def cache(*, clear: bool = False) -> CacheResult:
    """List the decoded data sets that are kept for the next use, or remove them.

    Args:
        clear: remove all.
    """
    if clear:
        clear_cache()
    return CacheResult(cache_folder(), tuple(cache_entries()))
