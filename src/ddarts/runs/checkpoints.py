"""Checkpoint files: plain data, loaded without running code; at every moment a complete one is on the disk.

A file is what `torch.save` writes, followed by the SHA-256 digest of those bytes: a damaged checkpoint is never loaded.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

from ddarts.errors import RunError
from ddarts.runtime.atomic_files import write_bytes
from ddarts.runtime.distributed import Ranks

#: Precedes the 32 bytes of the digest at the end of a file.
_MARK = b"ddarts-sha256:"


def save(state: dict[str, Any], newest: Path, previous: Path) -> None:
    """Write `state` to `newest`; what was there is kept as `previous`.

    Raises:
        RunError: the disk is full or the folder cannot be written; the last checkpoint is untouched.
        TypeError: `state` holds something that could not be loaded again, with the path to it.
    """
    check_state(state, newest.stem)
    data = _to_bytes(state)
    if newest.exists():
        _keep(newest, previous)
    write_bytes(newest, sealed(data))


def sealed(data: bytes) -> bytes:
    """Return `data` followed by its digest: the content of a checkpoint file."""
    return data + _MARK + hashlib.sha256(data).digest()


def shared(state: dict[str, Any] | None, ranks: Ranks) -> dict[str, Any] | None:
    """Return the state that rank 0 has loaded, or None if it has found none."""
    if ranks.size == 1:
        return state
    data = ranks.share_bytes(None if state is None else _to_bytes(state))
    return _from(io.BytesIO(data), "the checkpoint of rank 0") if data else None


def _to_bytes(state: dict[str, Any]) -> bytes:
    import torch

    memory = io.BytesIO()
    torch.save(state, memory)
    return memory.getvalue()


def _keep(newest: Path, previous: Path) -> None:
    """Let `previous` name the file that `newest` names, without a moment in which neither is there."""
    beside = previous.with_name(f".{previous.name}.tmp")
    try:
        beside.unlink(missing_ok=True)
        try:
            os.link(newest, beside)
        except OSError:  # a file system without hard links
            shutil.copyfile(newest, beside)
        os.replace(beside, previous)
        beside.unlink(missing_ok=True)  # renaming between two names of one file does nothing at all
    except OSError as error:
        raise RunError(
            f"{previous}: cannot be written: {error.strerror}; {newest.name} beside it is still usable"
        ) from None


def load(path: Path) -> dict[str, Any]:
    """Load a checkpoint onto the CPU.

    Raises:
        RunError: the file is damaged, or not a checkpoint, or asks for code to be run.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None
    data, mark, digest = content.rpartition(_MARK)
    if not mark:
        raise RunError(f"{path} is broken or not a checkpoint of ddarts (it has no checksum)")
    if hashlib.sha256(data).digest() != digest:
        raise RunError(f"{path} is broken: its content does not match its checksum")
    return _from(io.BytesIO(data), str(path))


def _from(source: io.BytesIO, path: str) -> dict[str, Any]:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about strange pickles: they fail anyway
            state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets, and an untrusted file may hold anything
        raise RunError(f"{path} is broken or not a checkpoint of ddarts ({_reason(error)})") from None
    if not isinstance(state, dict):
        raise RunError(f"{path} is not a checkpoint of ddarts (it holds a {type(state).__name__})")
    return state


def _reason(error: Exception) -> str:
    """Return the gist of a message of `torch.load`, which may run over twenty lines of advice."""
    text = str(error).strip()
    code = re.search(r"GLOBAL (\S+)", text)
    if code:
        return f"it asks for {code[1]} to be run, which is refused"
    if not text or text.startswith("Weights only load failed"):
        return "not in the format that ddarts writes"
    return text.splitlines()[0].split(". ")[0][:100]


def check_state(value: Any, where: str) -> None:
    """Raise TypeError, with the path, if `value` holds anything but tensors and plain data."""
    import torch

    if isinstance(value, dict):
        for key, item in value.items():
            check_state(key, f"{where} key")
            check_state(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            check_state(item, f"{where}[{i}]")
    elif type(value) not in (int, float, bool, str, bytes, type(None)) and not isinstance(value, torch.Tensor):
        raise TypeError(f"{where} is a {type(value).__name__}; a checkpoint may hold tensors and plain data only")
