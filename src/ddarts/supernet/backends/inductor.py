"""Grouped edges under PyTorch's compiler: an option for GPUs.

What is compiled is everything that leaves one state (`GroupedEdges.send`), forward and backward. Groups of one shape
share what is compiled, in whatever cell they are: 8 cells of 4 nodes have 40 groups of 19 shapes, while hardly two of
the cells are alike. A shape is compiled once for each way in which it is run: with gradients of gates or of weights, or
without any.

The same numbers as without, up to rounding (tests/supernet/backends/test_inductor.py).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ddarts.errors import SettingsError
from ddarts.nn.batch_norm import BatchStatistics
from ddarts.supernet.cell import MixedCell
from ddarts.supernet.grouped_edges import GroupedEdges
from ddarts.supernet.supernet import Supernet

#: How often a group may be compiled anew; PyTorch gives up after 8. Nodes, resolutions and ways to run bound it.
_LIMIT = 1024


def compile_edges(net: Supernet, backend: str | Callable[..., Any] = "inductor") -> None:
    """Let the grouped edges of a supernet be compiled when they first run, which takes minutes in all.

    Parameters, buffers and their names stay what they are.

    Args:
        net: the supernet.
        backend: what `torch.compile` takes.

    Raises:
        SettingsError: its batch norms are synchronised.
    """
    if any(isinstance(m, BatchStatistics) and m.synchronised for m in net.modules()):
        raise SettingsError(
            "backend inductor has no synchronised batch norm: processes meet in the middle of what would be compiled; "
            "choose another backend, or leave out sync_batch_norm"
        )
    from torch._dynamo import config  # takes seconds to import

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # without a GPU it warns and continues
    for name in ("recompile_limit", "accumulated_recompile_limit"):
        name = name if hasattr(config, name) else name.replace("recompile", "cache_size")  # its name in older versions
        setattr(config, name, max(getattr(config, name), _LIMIT))
    send = torch.compile(GroupedEdges.send, backend=backend, fullgraph=True, dynamic=False)
    for cell in net.cells:
        assert isinstance(cell, MixedCell)
        cell.send = send


@contextmanager
def compiler_errors_explained() -> Iterator[None]:
    """Turn what PyTorch's compiler raises into one line.

    Raises:
        SettingsError: it could not compile.
    """
    try:
        yield
    except Exception as error:
        compiler = sys.modules.get("torch._dynamo.exc")  # to import it would keep every other error waiting
        if compiler is None or not isinstance(error, compiler.TorchDynamoException):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if not line.startswith("backend=")), type(error).__name__)
        raise SettingsError(f"PyTorch's compiler failed: {reason}; choose another backend") from error
