"""Batches that other processes prepare ahead of time, in the order in which a training asks for them."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ddarts.errors import DataError, DDartsError

#: Pixels uint8 [B, C, H, W], labels int64 [B], and the state of the random generator after what was done to them.
Prepared = tuple[Tensor, Tensor, Tensor]


class Ahead:
    """Asks worker processes (PyTorch's DataLoader) for batches before they are wanted.

    What a batch is depends on epoch and step alone, so workers change when it is made, not what it is. After a jump
    (a resumed run) the workers start again from there.

    Args:
        prepare: makes batch (epoch, step); runs in the workers, on the CPU.
        workers: how many.
        steps: steps of an epoch that will be asked for.
    """

    def __init__(self, prepare: Callable[[int, int], Prepared], workers: int, steps: int) -> None:
        self._prepare, self._workers, self._steps = prepare, workers, steps
        self._batches: Iterator[Any] | None = None
        self._next: tuple[int, int] | None = None

    def get(self, epoch: int, step: int) -> Prepared:
        """Return a batch.

        Raises:
            DataError: an image cannot be decoded, and the data set is read strictly.
        """
        if self._batches is None or self._next != (epoch, step):
            self._start(epoch, step)
        assert self._batches is not None
        try:
            found = next(self._batches)
        except RuntimeError as error:
            # A worker has been ended, by a signal to all processes or by a system short of memory.
            self._batches = None
            if "exited unexpectedly" not in str(error):
                raise
            return self._prepare(epoch, step)
        if isinstance(found, str):
            raise DataError(found)
        self._next = (epoch, step + 1) if step + 1 < self._steps else (epoch + 1, 0)
        return found

    def _start(self, epoch: int, step: int) -> None:
        self._batches = None  # ends the workers of before
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # more workers than cores, and forks of a process with threads
            loader = DataLoader(
                _Steps(self._prepare),
                batch_size=None,
                sampler=_Onwards(epoch, step, self._steps),
                num_workers=self._workers,
                prefetch_factor=2,
                worker_init_fn=_leave_ctrl_c,
                generator=torch.Generator(),  # else it would draw from the global one
                multiprocessing_context="fork",
            )
            self._batches = iter(loader)


class _Steps(Dataset[Any]):
    def __init__(self, prepare: Callable[[int, int], Prepared]) -> None:
        self._prepare = prepare

    def __getitem__(self, index: tuple[int, int]) -> Prepared | str:
        try:
            return self._prepare(*index)
        except DDartsError as error:  # DataLoader would wrap it in a page of traceback
            return str(error)


class _Onwards(torch.utils.data.Sampler[tuple[int, int]]):
    """All (epoch, step) from one on, without end."""

    def __init__(self, epoch: int, step: int, steps: int) -> None:
        self._first, self._steps = (epoch, step), steps

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, step = self._first
        while True:
            yield epoch, step
            epoch, step = (epoch, step + 1) if step + 1 < self._steps else (epoch + 1, 0)


def _leave_ctrl_c(worker: int) -> None:
    """Let the main process decide what Ctrl-C means; its workers end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
