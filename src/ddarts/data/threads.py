"""Work on many items in threads, results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from ddarts.data.decode import Undecodable

_CHUNK = 64
_Result = TypeVar("_Result")


def in_threads(
    function: Callable[..., _Result], items: Iterator[object], threads: int | None = None
) -> Iterator[_Result | Undecodable]:
    """Yield `function` of each item in order, or why it failed, a few chunks ahead of the reader.

    Args:
        function: what to do with an item; may raise `Undecodable`.
        items: read in the calling thread.
        threads: how many; as many as there are cores, at most 8, if None.
    """

    def work(chunk: list[object]) -> list[_Result | Undecodable]:
        results: list[_Result | Undecodable] = []
        for item in chunk:
            try:
                results.append(function(item))
            except Undecodable as error:
                results.append(error)
        return results

    threads = min(os.cpu_count() or 1, 8) if threads is None else threads
    if threads == 1:
        while chunk := list(islice(items, _CHUNK)):
            yield from work(chunk)
        return
    waiting: deque[Future[list[_Result | Undecodable]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        while chunk := list(islice(items, _CHUNK)):
            waiting.append(pool.submit(work, chunk))
            if len(waiting) > 2 * threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
