"""Weights files of other programs, read without running anything that they say: PyTorch's formats and safetensors."""

from __future__ import annotations

import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ddarts.hub.saved import ModelError
from ddarts.runtime.json_input import shown

#: Keys under which training programs keep the state dict of the network in their checkpoints.
STATE_KEYS = ("state_dict", "network", "model", "model_state_dict", "net", "network_state_dict")

#: What wrappers put before every name: DataParallel, and torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")

#: Last parts of the names of the counters that the profiler `thop` leaves in a network.
_COUNTERS = ("total_ops", "total_params")

#: How deep a state dict may lie in a checkpoint.
_MAX_DEPTH = 3

_SAVE_ALONE = "save its state dict alone: torch.save(network.state_dict(), FILE)"


@dataclass(frozen=True, eq=False)
class ForeignState:
    """A state dict as it was found.

    Attributes:
        tensors: by name, without the prefixes of wrappers; on the CPU, of any real dtype.
        counters: number of counters of a profiler that were left out.
    """

    tensors: dict[str, Tensor]
    counters: int


def read_state(path: Path) -> ForeignState:
    """Read a state dict, plain or inside a training checkpoint, from a .pth, .pt, .pth.tar or .safetensors file.

    The content decides the format. Nothing in the file is run, and no more memory is claimed than it has bytes.

    Raises:
        ModelError: the file is missing, broken or cut short, asks for code to be run, or holds no state dict.
    """
    data = _load(path)
    state = _find_state(data, path)
    for name, value in state.items():
        if not isinstance(name, str) or not name.isprintable():  # names are shown
            raise ModelError(f"{path}: its state dict has the key {shown(name)}, expected names of tensors")
        _check_tensor(value, f"{path}: {name[:200]}")
    names = {name: name for name in state}
    while prefix := next((p for p in _WRAPPERS if all(n.startswith(p) for n in names)), None):
        names = {name.removeprefix(prefix): full for name, full in names.items()}
    found = {name: state[full] for name, full in names.items() if name.rpartition(".")[2] not in _COUNTERS}
    size = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
    if size > path.stat().st_size:  # views of a few numbers can claim to be of any size
        raise ModelError(f"{path}: its tensors claim {size} bytes, more than the whole file has; is it broken?")
    return ForeignState(found, len(state) - len(found))


def _load(path: Path) -> Any:
    """Return what a file holds, whichever of the formats it has."""
    if path.is_dir():
        raise ModelError(f"{path} is a folder; name the checkpoint file in it")
    try:
        if not path.is_file():
            raise ModelError(f"{path}: no such checkpoint file; check the path")
        with path.open("rb") as stream:
            start = stream.read(64)
        if start.startswith(b"version https://git-lfs"):
            raise ModelError(f"{path} only points to a checkpoint in Git LFS; fetch the file itself: git lfs pull")
        if path.suffix == ".safetensors" or start[8:9] == b"{":
            return load_file(path)
        if start.startswith(b"PK"):
            _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about strange pickles: they fail anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except (SafetensorError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} is broken or cut short: {_line(error)}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path, or a broken pickle
        raise ModelError(f"{path}: cannot be read: {_line(getattr(error, 'strerror', None) or error)}") from None
    except Exception as error:  # torch raises whatever its unpickler meets, and an untrusted file may hold anything
        raise ModelError(f"{path} {_refusal(error)}") from None


def _check_archive(path: Path) -> None:
    """Raise unless a zip archive is whole and not compressed, as `torch.save` writes it."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ModelError(f"{path}: a compressed archive; name the checkpoint file that is inside it")


def _refusal(error: Exception) -> str:
    """Return the gist of a message of `torch.load`, which may run over twenty lines of advice."""
    text = str(error).strip()
    found = re.search(r"GLOBAL (\S+)", text)
    code = _line(found[1])[:100] if found else ""
    if code.startswith("separate_loss."):
        return (
            f"holds a whole search of the reference (it asks for {code} to be run, which is refused); "
            "import-weights takes networks that its train.py trained"
        )
    if code:
        return f"asks for {code} to be run, which is refused; {_SAVE_ALONE}"
    if not text or text.startswith("Weights only load failed"):
        return "is broken, or in no format that holds tensors; expected .pth or .safetensors"
    return f"is broken, or in no format that holds tensors: {_line(error)}"


def _line(error: object) -> str:
    """Return a message, which may repeat parts of the file, as one short line that no terminal obeys."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(str(error).split()))[:150]


def _find_state(data: Any, path: Path) -> dict[Any, Any]:
    """Return the state dict in what a file holds: what stands under one of `STATE_KEYS`, or else all of it."""
    if not isinstance(data, dict):
        raise ModelError(f"{path} holds a {type(data).__name__} and no state dict; {_SAVE_ALONE}")
    keys = ", ".join(shown(key) for key in list(data)[:8]) + ", ..." * (len(data) > 8)
    for _ in range(_MAX_DEPTH):
        inner = next((data[key] for key in STATE_KEYS if isinstance(data.get(key), dict)), None)
        if inner is None:
            break
        data = inner
    if any(isinstance(value, Tensor) for value in data.values()):
        return data
    if "network_states" in data:  # where its search keeps the supernet
        raise ModelError(f"{path} is a checkpoint of a search; import-weights takes networks that train.py trained")
    raise ModelError(
        f"{path} holds no state dict: its keys are {keys or 'none'}; expected names of tensors, or one of "
        f"{', '.join(STATE_KEYS)}"
    )


def _check_tensor(value: Any, where: str) -> None:
    """Raise unless `value` is a plain tensor of real numbers in memory."""
    if not isinstance(value, Tensor):
        raise ModelError(f"{where} is a {type(value).__name__}, expected a tensor")
    kind = str(value.dtype).removeprefix("torch.")
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu" or value.is_complex():
        layout = str(value.layout).removeprefix("torch.")
        raise ModelError(f"{where} is a {layout} {kind} tensor on {value.device.type}, expected plain numbers")
    if value.dtype == torch.bool or (value.is_floating_point() and value.element_size() < 2):
        raise ModelError(f"{where} is {kind}, expected float32 (float16, bfloat16 and float64 are converted)")
