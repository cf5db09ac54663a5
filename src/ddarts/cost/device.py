"""Latencies of operations on a device: a file of measurements, and predictions for networks of these operations.

The latency of an operation is a linear function of its multiply-adds and of the numbers that it reads and writes,
fitted to its measurements; that of a network is the sum over its parts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ddarts.cost.counting import Flops, count
from ddarts.cost.latency import machine, threads_set, time_passes
from ddarts.errors import GenotypeError, SettingsError
from ddarts.nn.choice_network import AnyNetwork, ChoiceNetwork, load_skeleton
from ddarts.nn.network import Cell
from ddarts.nn.operations import Rectified, build_operation
from ddarts.runtime import json_input as checks
from ddarts.runtime.atomic_files import write_text
from ddarts.space.cell_space import SearchSpace
from ddarts.space.choice_space import ChoiceSpace

FORMAT = "ddarts-latencies"
VERSION = 1
#: Name of the copy of the file inside the folder of a run.
FILE_NAME = "device.json"
#: Of the latencies of the machine that searches.
HERE_NAME = "latencies.json"
#: Stands for the convolutions between operations: stems, inputs of cells, classifiers.
OTHER = "other"
_MOST = 10_000
#: Channels, and what divides the side of the images, of what is measured.
_SIZES = ((8, 1), (16, 2), (32, 2), (32, 4))

#: Multiply-adds, numbers read and written, and milliseconds.
Row = tuple[float, float, float]


@dataclass(frozen=True)
class Device:
    """Measured latencies.

    Attributes:
        name: of the device, for people.
        rows: what was measured of each operation.
    """

    name: str
    rows: dict[str, list[Row]]

    @cached_property
    def _rates(self) -> dict[str, Row]:
        """Milliseconds for a call, a multiply-add and a number, none negative: smallest squared relative errors."""
        import numpy as np
        from scipy.optimize import nnls

        found = {}
        for name, rows in self.rows.items():
            features = np.array([[1.0, macs / 1e6, elements / 1e3] for macs, elements, _ in rows])
            times = np.array([ms for *_, ms in rows])
            weights, _ = nnls(features / times[:, None], np.ones(len(rows)))
            found[name] = (float(weights[0]), float(weights[1]) / 1e6, float(weights[2]) / 1e3)
        return found

    def predict(self, name: str, macs: float, elements: float) -> float:
        """Return the milliseconds of an operation with so many multiply-adds, inputs and outputs."""
        call, each_mac, each_element = self._rates[name]
        return call + each_mac * macs + each_element * elements

    def whole(self, network: AnyNetwork, images: tuple[int, int, int]) -> float:
        """Return the milliseconds of a network, the sum over its operations and the convolutions between them."""
        total = 0.0
        network.eval()
        parts = list(_parts(network))
        with torch.no_grad(), Flops() as flops:

            def around(name: str, method: Callable[..., Any], x: Any, *more: Any) -> Any:
                nonlocal total
                before = flops.total
                result = method(x, *more)
                total += self.predict(name, (flops.total - before) // 2, x.numel() + result.numel())
                return result

            try:
                for name, module, method in parts:
                    setattr(module, method, partial(around, name, getattr(module, method)))
                network(torch.zeros(1, *images, device=next(network.parameters()).device))
            finally:
                for _, module, method in parts:
                    module.__dict__.pop(method, None)  # the method of the class is seen again
        return total

    def check(self, space: SearchSpace | ChoiceSpace, where: str) -> None:
        """Raise SettingsError if an operation of a space was not measured."""
        missing = [name for name in (*_names(space), OTHER) if name not in self.rows]
        if missing:
            more = f" and {len(missing) - 1} more" if missing[1:] else ""
            raise SettingsError(
                f"{where} has no latency of {missing[0]}{more}; measure those of this search space on the device"
            )

    # -- files -----------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | Path) -> Device:
        """Read a file of latencies.

        Raises:
            GenotypeError: it is missing or not valid; the message names the place.
        """
        writer = "Device.measure(...).save(...)"
        text, where = checks.read_text(path, what="latencies", inside=FILE_NAME, way_out=writer)
        data = checks.parse(text, where, "latencies")
        checks.header(data, where, what="latencies", form=FORMAT, version=VERSION)
        data = checks.mapping(data, where, required=("format", "version", "device", "operations"))
        operations = data["operations"]
        if not isinstance(operations, dict) or not 0 < len(operations) <= _MOST:
            raise GenotypeError(f"{where}: operations must be an object of 1 to {_MOST} lists")
        rows: dict[str, list[Row]] = {}
        for name, items in operations.items():
            place = f"{where}: operations.{name[:100]}"
            found = checks.listing(items, place)
            if not 0 < len(found) <= _MOST:
                raise GenotypeError(f"{place} must hold 1 to {_MOST} rows")
            rows[name] = [_row(row, f"{place}[{i}]") for i, row in enumerate(found)]
        return cls(checks.text(data["device"], f"{where}: device"), rows)

    def save(self, path: str | Path) -> None:
        """Write the file of latencies, one operation a line."""
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(rows)}" for name, rows in self.rows.items())
        head = f'"format": "{FORMAT}",\n  "version": {VERSION},\n  "device": {json.dumps(self.name)}'
        write_text(Path(path), f'{{\n  {head},\n  "operations": {{\n{lines}\n  }}\n}}\n')

    @classmethod
    def measure(cls, space: SearchSpace | ChoiceSpace, height: int, width: int, *, seconds: float = 0.03) -> Device:
        """Measure the operations of a space on this machine, in one thread of PyTorch.

        Args:
            space: whose operations.
            height, width: of the images, in pixels.
            seconds: of each measurement, about.
        """
        rows: dict[str, list[Row]] = {}
        with torch.random.fork_rng(devices=[]), threads_set(1), torch.no_grad():
            for name in (*_names(space), OTHER):
                for channels, divisor in _SIZES:
                    module, inputs = _built(space, name, channels)
                    shape = (inputs, -(-height // divisor), -(-width // divisor))
                    macs = count(module, shape).macs
                    x = torch.zeros(1, *shape).contiguous(memory_format=torch.channels_last)
                    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
                    times = time_passes(partial(module, x), seconds=seconds)
                    rows.setdefault(name, []).append((float(macs), float(x.numel() + module(x).numel()), min(times)))
        return cls(machine(torch.device("cpu")), rows)


def _names(space: SearchSpace | ChoiceSpace) -> Iterable[str]:
    if isinstance(space, SearchSpace):
        return space.operations
    return dict.fromkeys(name for choice in space.choices for name in choice.candidates)


def _built(space: SearchSpace | ChoiceSpace, name: str, channels: int) -> tuple[nn.Module, int]:
    """Return an operation, and its channels of input."""
    if name == OTHER:
        conv = nn.Conv2d(4 * channels, channels, 1, bias=False)
        return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels)), 4 * channels
    if isinstance(space, SearchSpace):
        return build_operation(name, channels, 1), channels
    return load_skeleton(space).candidate(name, channels, channels, 1, affine=True), channels


def _parts(network: AnyNetwork) -> Iterable[tuple[str, nn.Module, str]]:
    """Yield the operations, and the convolutions between them, each with the method by which it is called."""
    inside: set[nn.Module] = set()
    if isinstance(network, ChoiceNetwork):
        for name, module in network.candidates():
            inside.update(module.modules())
            yield name, module, "forward"
    else:
        for position, cell in network.cells.items():
            assert isinstance(cell, Cell)
            for edge, module in cell.operations.items():
                inside.update(module.modules())
                name = network.genotype.cells[int(position)].edges[int(edge)].operation
                yield name, module, "after_relu" if isinstance(module, Rectified) else "forward"
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module not in inside:
            yield OTHER, module, "forward"


def _row(row: Sequence[Any], where: str) -> Row:
    good = isinstance(row, list) and len(row) == 3 and all(type(n) in (int, float) and 0 <= n < 1e15 for n in row)
    if not good or row[2] < 1e-9:
        raise GenotypeError(f"{where}: {checks.shown(row)} must be multiply-adds, numbers moved, milliseconds")
    return float(row[0]), float(row[1]), float(row[2])
