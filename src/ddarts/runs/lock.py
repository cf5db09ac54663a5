"""One writer a run: an advisory lock that the kernel releases when its process ends, however it ends."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import ClassVar

from ddarts.errors import RunError

try:
    import fcntl
except ImportError:  # Windows has no flock; runs are not guarded there
    fcntl = None


class RunLock:
    """A lock held by this process, released when the last holder drops it. Take it with `RunLock.take`."""

    _held: ClassVar[weakref.WeakValueDictionary[tuple[int, int], RunLock]] = weakref.WeakValueDictionary()

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __del__(self) -> None:
        os.close(self._handle)

    @classmethod
    def take(cls, path: Path) -> RunLock:
        """Lock the file `path`, creating it if need be. Holders within one process share the lock.

        Raises:
            RunError: another process holds it, or the file cannot be made.
        """
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise RunError(
                f"{path.parent}: cannot be written: {error.strerror}; choose another folder with --out"
            ) from None
        status = os.fstat(handle)
        key = (status.st_dev, status.st_ino)
        shared = cls._held.get(key)
        if shared is not None:
            os.close(handle)
            return shared
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise RunError(
                    f"{path.parent} is in use by another ddarts process; wait until it ends or stop it first"
                ) from None
            except OSError:
                pass  # a file system without locks: continue without a lock rather than not at all
        lock = cls(handle)
        cls._held[key] = lock
        return lock

    def still_at(self, path: Path) -> bool:
        """Return whether `path` is still the file that this lock holds: not if the folder was removed or replaced."""
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(path))
        except OSError:
            return False

    @staticmethod
    def is_held(path: Path) -> bool | None:
        """Return whether a process holds the lock file `path`; None where that cannot be found out.

        To ask is to take the lock, shared, for an instant.
        """
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        except OSError:
            return None
        try:
            if fcntl is None:
                return None
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            except OSError:
                return None
            return False
        finally:
            os.close(handle)
