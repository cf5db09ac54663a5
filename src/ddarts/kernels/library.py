"""Finds and loads the build of the kernels that fits the processor."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
from collections.abc import Iterator, Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

#: Set to `off`, the kernels are not used.
SWITCH = "DDARTS_KERNELS"

_POINTER, _COUNT = ctypes.c_void_p, ctypes.c_int64


def _structure(name: str, pointers: str, counts: str, *, eps: bool = True) -> Any:
    fields: list[tuple[str, Any]] = [(word, _POINTER) for word in pointers.split()]
    fields += [(word, _COUNT) for word in counts.split()]
    if eps:
        fields.append(("eps", ctypes.c_double))
    return type(name, (ctypes.Structure,), {"_fields_": fields})


#: The structures of the C files, field by field, by the names of the files; what they hold is said there.
STRUCTURES = {
    "forward": _structure(
        "Forward",
        "x mean var scale shift depthwise pointwise z u mean_u var_u",
        "batch height width channels edges kernel stride dilation threads",
    ),
    "backward": _structure(
        "Backward",
        "grad u z mean var scale sum dot x mean_x var_x scale_x shift_x depthwise pointwise "
        "at_x sum_x dot_x at_depthwise at_pointwise",
        "batch height width channels edges kernel stride dilation threads adds",
    ),
    "sums": _structure(
        "Sums",
        "u mean var shared before sums gates columns",
        "pixels channels edges operations branches shares threads",
    ),
    "pointwise": _structure(
        "Pointwise",
        "x weight u mean_u var_u grad mean var scale sum dot at_x at_weight",
        "batch height width inputs outputs wide stride offset threads adds",
    ),
    "nodes": _structure("Nodes", "u mean var scale shift sums sum dot", "pixels channels terms threads"),
    "norms": _structure(
        "Norms",
        "x extra y grad at_x at_extra mean var scale shift sum dot",
        "pixels channels relu threads",
    ),
    "winograd": _structure(
        "Winograd",
        "x weight y grad at_weight",
        "batch height width inputs outputs transposed threads",
        eps=False,
    ),
    "pools": _structure("Pools", "x y position", "batch height width channels stride backward threads", eps=False),
}


def pointers(addresses: Sequence[int | None]) -> Any:
    """An array of addresses for a structure; it must live as long as the call."""
    return ctypes.cast((_POINTER * len(addresses))(*addresses), _POINTER)


def counts(numbers: Sequence[int]) -> Any:
    """An array of whole numbers for a structure; it must live as long as the call."""
    return ctypes.cast((_COUNT * len(numbers))(*numbers), _POINTER)


class Library:
    """The functions of one build.

    Args:
        path: the shared library.

    Raises:
        OSError: it cannot be loaded.
    """

    def __init__(self, path: Path) -> None:
        import torch  # noqa: F401  its threads are found among the libraries that are loaded

        self._library = ctypes.CDLL(str(path))
        self.build = path.name.split(".")[0].removeprefix("_")
        self.has_threads = bool(self._library.ddarts_has_threads())

    def run(self, name: str, precision: str, **arguments: Any) -> None:
        """Run a kernel on images of `float32` or `bfloat16`.

        Args:
            name: of its C file.
            precision: the dtype of images.
            arguments: what its structure in `STRUCTURES` holds, by name; what is left out is 0.

        Raises:
            MemoryError: there is no room for its buffers.
        """
        function = getattr(self._library, f"ddarts_{name}" + {"float32": "", "bfloat16": "_bf16"}[precision])
        if function(ctypes.byref(STRUCTURES[name](**arguments))):
            raise MemoryError("no room for the buffers of a convolution")


def builds() -> tuple[str, ...]:
    """Names of the builds that run on this processor, the fastest first."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return ("any",)
    import torch

    able = torch.backends.cpu.get_cpu_capability()
    return {"AVX512": ("avx512", "avx2"), "AVX2": ("avx2",)}.get(able, ())


def find(build: str) -> Path | None:
    """The file of a build beside this one, if it was made."""
    folder = Path(__file__).parent
    return next((path for end in EXTENSION_SUFFIXES if (path := folder / f"_{build}{end}").exists()), None)


_allowed = True


@contextlib.contextmanager
def allowed(allow: bool) -> Iterator[None]:
    """Let this process use the kernels inside the context, or not: the setting `backend` of a search."""
    global _allowed
    before, _allowed = _allowed, allow
    try:
        yield
    finally:
        _allowed = before


def load() -> Library | None:
    """The fastest build that is there; None without one, where `allowed` forbids it, or with DDARTS_KERNELS=off."""
    return _find_and_load() if _allowed else None


@functools.cache
def _find_and_load() -> Library | None:
    if os.environ.get(SWITCH, "").lower() == "off":
        return None
    for path in filter(None, map(find, builds())):
        try:
            return Library(path)
        except (OSError, AttributeError):  # built elsewhere, or by another version
            continue
    return None


def describe() -> str:
    """Which build is used: `avx512`, `avx2`, `any`, or `none`."""
    library = load()
    return library.build if library else "none"
