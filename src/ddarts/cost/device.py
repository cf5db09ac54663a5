"""Latencies on a device: a table of measured networks, and predictions for others of the same kernels.

The latency is a linear function of what is computed (`ddarts.cost.kernels`), fitted to the table: no coefficient is
negative, and the squares of the relative errors are smallest. So it is a sum over the operations of a network.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddarts.cost.kernels import NETWORK, features, kernel_of
from ddarts.cost.latency import machine, threads_set, time_passes
from ddarts.errors import GenotypeError, SettingsError
from ddarts.genotype.random import random_genotype
from ddarts.nn.choice_network import AnyNetwork, build_network, load_skeleton
from ddarts.nn.operations import build_operation
from ddarts.runtime import json_input as checks
from ddarts.runtime.atomic_files import write_text
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace

FORMAT = "ddarts-latencies"
VERSION = 2
#: Name of the copy of the file inside the folder of a run.
FILE_NAME = "device.json"
#: Of the latencies of the machine that searches.
HERE_NAME = "latencies.json"
_MOST = 10_000
#: Numbers of a table, and letters of a name.
_MOST_NUMBERS, _MOST_LETTERS = 5_000_000, 200
#: Channels, and what divides the side of the images, of what is measured on this machine.
_SIZES = ((8, 1), (16, 2), (32, 2), (32, 4))
#: Weight of the squares of the coefficients, each as its largest share of a latency: kernels that always occur
#: together share their time instead of one of them taking all of it.
_RIDGE = 0.01


@dataclass(frozen=True)
class Device:
    """Measured latencies.

    Attributes:
        name: of the device, for people.
        operations: the names of the operations that were measured.
        columns: names of the features.
        rows: of each measured network the values of its features, and milliseconds.
    """

    name: str
    operations: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[tuple[float, ...], float], ...]

    @classmethod
    def of(cls, name: str, operations: Iterable[str], measured: Iterable[tuple[dict[str, float], float]]) -> Device:
        """Return the table of measured networks, each as its features and milliseconds."""
        measured = list(measured)
        columns = tuple(dict.fromkeys(column for row, _ in measured for column in row))
        rows = tuple((tuple(row.get(column, 0.0) for column in columns), ms) for row, ms in measured)
        return cls(name, tuple(operations), columns, rows)

    @cached_property
    def _rates(self) -> dict[str, float]:
        """Milliseconds of one of each feature."""
        import numpy as np
        from scipy.optimize import nnls

        table = np.array([values for values, _ in self.rows]) / np.array([[ms] for _, ms in self.rows])
        scale = np.maximum(table.max(0), 1e-12)
        matrix = np.vstack([table / scale, _RIDGE * np.eye(len(self.columns))])
        wanted = np.concatenate([np.ones(len(self.rows)), np.zeros(len(self.columns))])
        weights, _ = nnls(matrix, wanted)
        return dict(zip(self.columns, (weights / scale).tolist(), strict=True))

    @cached_property
    def _kernels(self) -> frozenset[str]:
        return frozenset(map(kernel_of, self.columns))

    def predict(self, module: nn.Module, shape: tuple[int, ...], *, edge: bool = False) -> float:
        """Return the milliseconds of a module for an image [channels, height, width].

        Args:
            module: it is not changed, and nothing is computed.
            shape: of the image.
            edge: see `ddarts.cost.kernels.features`.

        Raises:
            SettingsError: it has a kernel that was not measured.
        """
        return self.predict_features(features(module, shape, edge=edge))

    def predict_features(self, found: dict[str, float]) -> float:
        """Return the milliseconds of what `ddarts.cost.kernels.features` has counted; errors are those of `predict`."""
        for kernel in map(kernel_of, found):
            if kernel not in self._kernels:
                raise SettingsError(
                    f"the latencies of {self.name} have no {kernel}; make a probe of this space, resolution and stem"
                )
        return sum(self._rates.get(feature, 0.0) * value for feature, value in found.items())

    def whole(self, network: AnyNetwork, images: tuple[int, int, int]) -> float:
        """Return the milliseconds of a network: the sum over its parts, and what a call costs."""
        return self._rates.get(NETWORK, 0.0) + self.predict(network, images)

    def check(self, space: SearchSpace | ChoiceSpace, where: str) -> None:
        """Raise SettingsError if an operation of a space was not measured."""
        missing = [name for name in operations_of(space) if name not in self.operations]
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise SettingsError(f"{where} has no latency of {missing[0]}{more}; make a probe of this search space")

    # -- files -----------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | Path) -> Device:
        """Read a file of latencies, as the script of a probe writes it.

        Raises:
            GenotypeError: it is missing or not valid; the message names the place.
        """
        text, where = checks.read_text(path, what="latencies", inside=FILE_NAME, way_out="ddarts probe")
        data = checks.parse(text, where, "latencies")
        checks.header(data, where, what="latencies", form=FORMAT, version=VERSION)
        required = ("format", "version", "device", "operations", "features", "networks")
        data = checks.mapping(data, where, required, ("runtime", "threads", "clock", "rounds", "probe"))
        operations, columns = (_names(data[key], f"{where}: {key}") for key in ("operations", "features"))
        networks = checks.listing(data["networks"], f"{where}: networks")
        most = min(_MOST, _MOST_NUMBERS // len(columns))
        if not 0 < len(networks) <= most:
            raise GenotypeError(f"{where}: networks must hold 1 to {most} rows, found {len(networks)}")
        rows = tuple(_row(row, len(columns), f"{where}: networks[{i}]") for i, row in enumerate(networks))
        return cls(_name(data["device"], f"{where}: device"), operations, columns, rows)

    def save(self, path: str | Path) -> None:
        """Write the file of latencies, one network a line."""
        head = {"format": FORMAT, "version": VERSION, "device": self.name}
        head |= {"operations": list(self.operations), "features": list(self.columns)}
        lines = ",\n".join(f"  {json.dumps([ms, *values])}" for values, ms in self.rows)
        write_text(Path(path), f'{json.dumps(head)[:-1]}, "networks": [\n{lines}\n]}}\n')

    @classmethod
    def measure(cls, space: SearchSpace | ChoiceSpace, height: int, width: int, *, seconds: float = 0.02) -> Device:
        """Measure operations of a space, and small networks of it, on this machine in one thread of PyTorch.

        Args:
            space: whose operations.
            height, width: of the images, in pixels.
            seconds: of each measurement, about.
        """
        names = tuple(operations_of(space))
        measured: list[tuple[dict[str, float], float]] = []

        def add(module: nn.Module, shape: tuple[int, int, int], more: dict[str, float]) -> None:
            x = torch.zeros(1, *shape).contiguous(memory_format=torch.channels_last)
            module.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            found = features(module, shape) | more
            if found:  # an identity takes no time
                measured.append((found, min(time_passes(partial(module, x), seconds=seconds))))

        with torch.random.fork_rng(devices=[]), threads_set(1), torch.no_grad():
            for channels, divisor in _SIZES:
                sides = (-(-height // divisor), -(-width // divisor))
                for name in names:
                    for stride in (1, 2):
                        add(_built(space, name, channels, stride), (channels, *sides), {})
                for stem in ("cifar", "imagenet"):
                    network = build_network(random_genotype(space, seed=channels), channels=channels, stem=stem)
                    add(network, (3, height, width), {NETWORK: 1.0})
        return cls.of(machine(torch.device("cpu")), names, measured)


def operations_of(space: SearchSpace | ChoiceSpace) -> Iterable[str]:
    """Return the names of all operations or candidates of a space."""
    if isinstance(space, SearchSpace):
        return space.operations
    return dict.fromkeys(name for choice in space.choices for name in choice.candidates)


def _built(space: SearchSpace | ChoiceSpace, name: str, channels: int, stride: int) -> nn.Module:
    if isinstance(space, SearchSpace):
        return build_operation(name, channels, stride)
    return load_skeleton(space).candidate(name, channels, channels, stride, affine=True)


def _name(value: Any, where: str) -> str:
    found = checks.text(value, where)
    if not 0 < len(found) <= _MOST_LETTERS or not found.isprintable():
        raise GenotypeError(f"{where}: {checks.shown(value)} must have 1 to {_MOST_LETTERS} printable characters")
    return found


def _names(data: Any, where: str) -> tuple[str, ...]:
    found = checks.listing(data, where)
    if not 0 < len(found) <= _MOST:
        raise GenotypeError(f"{where} must hold 1 to {_MOST} names, found {len(found)}")
    names = tuple(_name(value, f"{where}[{i}]") for i, value in enumerate(found))
    if len(set(names)) < len(names):
        raise GenotypeError(f"{where}: a name stands twice")
    return names


def _row(row: Any, columns: int, where: str) -> tuple[tuple[float, ...], float]:
    good = isinstance(row, list) and all(type(n) in (int, float) and 0 <= n < 1e15 for n in row)
    if not good or len(row) != 1 + columns or row[0] < 1e-9:
        raise GenotypeError(f"{where}: {checks.shown(row)} must be milliseconds and {columns} numbers, none negative")
    return tuple(map(float, row[1:])), float(row[0])
