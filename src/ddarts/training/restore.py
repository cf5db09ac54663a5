"""Optimizers from checkpoints, which may be damaged or untrusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ddarts.errors import RunError


@contextmanager
def checked_checkpoint(where: str, stage: str) -> Iterator[None]:
    """Turn what loading a damaged checkpoint raises into a `RunError`.

    Args:
        where: the run, for the message.
        stage: what the checkpoint is of, "search" or "training".
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"{where}: the checkpoint of the {stage} does not fit ({type(error).__name__}: {reason}); "
            "delete the folder checkpoints to start it anew"
        ) from None


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first floating-point tensor with a value that is not finite, or None."""
    named = [(name, tensor) for name, tensor in tensors.items() if tensor.is_floating_point()]
    finite = torch.stack([tensor.isfinite().all() for _, tensor in named]).tolist()
    return next((name for (name, _), ok in zip(named, finite, strict=True) if not ok), None)


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Take over what an optimizer remembers of each parameter, such as momentum, and its learning rates.

    Other hyperparameters are its own.

    PyTorch takes tensors of any shape and layout here, and its fused kernels walk through them as if they were laid
    out like the parameter: beyond their end, or in another order. So each is copied into the parameter's own layout.

    Args:
        optimizer: over parameters that stay the same objects.
        saved: what its `state_dict` returned, then.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: the state is not of this optimizer.
    """
    groups = optimizer.state_dict()["param_groups"]
    if [len(g["params"]) for g in saved["param_groups"]] != [len(g["params"]) for g in groups]:
        raise ValueError("the optimizer is of another number of parameters")
    for group, before in zip(groups, saved["param_groups"], strict=True):
        group["lr"] = float(before["lr"])
    optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})
    for parameter, values in optimizer.state.items():
        if not isinstance(parameter, Tensor):
            raise ValueError(f"the optimizer has no parameter {str(parameter)[:20]!r}")
        for name, value in values.items():
            if name == "momentum_buffer" and value is None:  # before the first step
                continue
            shape = () if name == "step" else parameter.shape
            if not isinstance(value, Tensor) or value.shape != shape:
                found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{name[:40]} of a parameter of shape {list(parameter.shape)} is {found}")
            own = torch.empty((), dtype=value.dtype) if name == "step" else torch.empty_like(parameter)
            values[name] = own.detach().copy_(value)
