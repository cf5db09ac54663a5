"""Networks as programs of torch.export (.pt2): run in PyTorch, or compiled by AOTInductor or ExecuTorch."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ddarts.deploy.onnxfile import quiet_export
from ddarts.nn.preprocessing import FILE_NAME, ModelError, Preprocessing

SUFFIX = ".pt2"


def program_bytes(network: nn.Module, shape: Sequence[int], prepared: Preprocessing) -> bytes:
    """Return a network as a file of `torch.export.save`, with the preprocessing inside as an extra file.

    Args:
        network: in evaluation mode, on the CPU. It is not changed.
        shape: [channels, height, width] of an image; the batch is dynamic.
        prepared: kept under the name preprocessing.json; `torch.export.load` gives it to whoever asks with
            ``extra_files``.

    Raises:
        ModelError: torch cannot export the network.
    """
    try:
        with torch.no_grad(), quiet_export():
            program = torch.export.export(
                network, (torch.zeros(2, *shape),), dynamic_shapes=({0: torch.export.Dim("batch")},)
            )
            for node in program.graph.nodes:
                node.meta.pop("stack_trace", None)  # contains paths of this machine
            stream = io.BytesIO()
            torch.export.save(program, stream, extra_files={FILE_NAME: prepared.to_json()})
    except Exception as error:
        raise ModelError(f"torch cannot export the network: {' '.join(str(error).split())[:300]}") from error
    return stream.getvalue()


def load_program(data: bytes) -> Callable[[Tensor], Tensor]:
    """Return what maps images [B, C, H, W] to logits, from a file that `program_bytes` made.

    For our own bytes only: torch's reader is not safe for untrusted files.
    """
    with quiet_export():
        module = torch.export.load(io.BytesIO(data)).module()

    def logits(x: Tensor) -> Tensor:
        with torch.no_grad():
            return module(x)

    return logits
