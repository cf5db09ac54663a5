"""What the processes of a run tell each other: means, flags, and what only rank 0 knows.

Alone, every function here is the identity and costs nothing. Together they rest on the process group that Lightning
Fabric has opened (gloo on CPUs, NCCL on GPUs); `ddarts.runtime.engine.join` opens it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ddarts.errors import DDartsError, RunError
from ddarts.runtime.processes import world_size

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: How gloo, NCCL and the store behind them say that another process has gone.
_LOST = ("closed by peer", "reset by peer", "refused", "broken pipe", "socket", "timed out", "timeout", "nccl", "gloo")


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, seen from one of them. All must call the same methods in the same order.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
        device: where tensors that travel must lie.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of the `values` of all processes; the same bits everywhere."""
        if self.size == 1:
            return values
        from torch import distributed

        result = values.detach().clone()
        distributed.all_reduce(result)
        return result

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of the `values` of all processes; the same bits everywhere."""
        return values if self.size == 1 else self.total(values) / self.size

    def means(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the mean of each tensor (of one dtype), all in one message."""
        if self.size == 1:
            return list(tensors)
        import torch

        flat = self.mean(torch.cat([t.detach().reshape(-1) for t in tensors]))
        return [part.view(t.shape) for part, t in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True)]

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true in any process."""
        if self.size == 1:
            return flag
        import torch

        return bool(self.total(torch.tensor([float(flag)], device=self.device)).item() > 0)

    def same(self, tensors: Sequence[Tensor]) -> bool:
        """Return whether the tensors (of one dtype) hold the same bits in all processes."""
        if self.size == 1:
            return True
        import torch
        from torch import distributed

        mine = torch.cat([t.detach().reshape(-1) for t in tensors])
        first = mine.clone()
        distributed.broadcast(first, 0)
        return not self.any(not torch.equal(mine, first))

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite the tensors with those of rank 0."""
        if self.size == 1:
            return
        from torch import distributed

        for tensor in tensors:
            distributed.broadcast(tensor, 0)

    def share(self, value: Any) -> Any:
        """Return the `value` of rank 0 (plain data, as JSON has it); what the others pass is not looked at."""
        if self.size == 1:
            return value
        return json.loads(self.share_bytes(json.dumps(value).encode() if self.leads else None))

    def share_bytes(self, data: bytes | None) -> bytes:
        """Return the `data` of rank 0; the others pass None."""
        if self.size == 1:
            return data or b""
        import torch
        from torch import distributed

        data = data or b""
        length = torch.tensor([len(data)], device=self.device)
        distributed.broadcast(length, 0)
        buffer = torch.zeros(int(length), dtype=torch.uint8)
        if data:
            buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        buffer = buffer.to(self.device)
        distributed.broadcast(buffer, 0)
        return buffer.cpu().numpy().tobytes()

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.any(False)

    @contextlib.contextmanager
    def watched(self, advice: str) -> Iterator[None]:
        """Turn what the process group raises when another process has gone into a `RunError`.

        Args:
            advice: the command that resumes the run.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not is_lost(error):
                raise
            raise RunError(
                f"another of the {self.size} processes has ended or cannot be reached, rank {self.rank} stops too; "
                f"resume from the last checkpoint, with any number of processes: {advice}"
            ) from error


_current = Ranks()


def current() -> Ranks:
    """Return the processes that this one has joined; alone if none."""
    return _current


def set_current(ranks: Ranks) -> None:
    """Remember the processes that this one has joined; for `ddarts.runtime.engine`."""
    global _current
    _current = ranks


def is_lost(error: BaseException) -> bool:
    """Return whether an error means that another process has gone."""
    if isinstance(error, DDartsError):
        return False
    from torch import distributed

    if isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _LOST)


def note_for_torchrun(line: str) -> None:
    """Let torchrun repeat the line of an error at the end of its own report, which is long."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path and "TORCHELASTIC_RUN_ID" in os.environ:
        details = {"py_callstack": line, "timestamp": str(int(time.time()))}
        with contextlib.suppress(OSError), open(path, "w", encoding="utf-8") as stream:
            json.dump({"message": {"message": line, "extraInfo": details}}, stream)


def says_it() -> bool:
    """Return whether this process should print the error that ends it: one of all processes does, the first that asks.

    The store behind the process group keeps count. Where it has gone (with rank 0, which may hold it), all may speak.
    """
    if world_size() == 1:
        return True
    from torch import distributed

    address, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    try:
        socket.create_connection((address, int(port)), 3).close()
        store = distributed.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
            address, int(port), is_master=False, timeout=timedelta(seconds=3)
        )
        return store.add(f"ddarts/said/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", 1) == 1
    except (OSError, ValueError, RuntimeError):
        return True
