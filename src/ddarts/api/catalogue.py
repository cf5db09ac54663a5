"""`ddarts zoo` and `ddarts baselines`: the architectures of the package and their sizes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ddarts.errors import SettingsError, whole_number
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.zoo.baselines import BASELINES, baseline, shared_sequence
from ddarts.genotype.zoo.catalogue import Figures, Size, ZooEntry, baseline_sizes, zoo_entry, zoo_names
from ddarts.reporting.formatting import count, genotype_rows
from ddarts.results import Outcome, simple_table

if TYPE_CHECKING:
    from rich.table import Table

_CLASSES = 10
_RESOLUTION = 32
_MOST_CHANNELS = 4096


@dataclass(frozen=True)
class ZooResult(Outcome):
    """All entries of the zoo."""

    entries: tuple[ZooEntry, ...]

    title = "zoo: published architectures, counted as CIFAR networks with 10 classes, without auxiliary head"

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return each entry and its size."""
        for entry in self.entries:
            yield entry.name, f"{_millions(entry.size.parameters)} parameters, {_millions(entry.size.macs)} MACs"

    def table(self) -> Table:
        """Return a table with the published figures beside the counted ones."""
        columns = ("name", "arXiv, year", "cells", "C", "params", "published", "MACs", "published", "top-1")
        table = _table(self.title, columns, left=2)
        marks: dict[str, str] = {}
        for entry in self.entries:
            size, published = entry.size, _on_cifar(entry)
            mark = ""
            if published.auxiliary:
                mark, marks["*"] = "*", "with the auxiliary head"
            elif published.cells:
                mark, marks["+"] = "+", f"of a network of {published.cells} cells"
            table.add_row(
                entry.name,
                f"{entry.arxiv}, {entry.year}",
                str(size.cells),
                str(size.channels),
                _millions(size.parameters),
                _published(published.parameters_m) + mark,
                _millions(size.macs),
                _published(published.macs_m) + ("+" if mark == "+" else ""),
                "-" if published.top1 is None else f"{published.top1:.2f}",
            )
        lines = [f"{mark} {meaning}" for mark, meaning in marks.items()]
        table.caption = "; ".join([*lines, "top-1: published, CIFAR-10, in %; ddarts zoo NAME shows more"])
        table.caption_justify = "left"
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {"entries": [_entry_dict(entry) for entry in self.entries]}


@dataclass(frozen=True)
class ZooEntryResult(Outcome):
    """One entry of the zoo as a network of some depth and width."""

    entry: ZooEntry
    genotype: Genotype
    size: Size

    @property
    def title(self) -> str:
        """Title of the table."""
        return self.entry.name

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return the source, the figures, and the cells, equal ones once."""
        entry, size = self.entry, self.size
        yield "published as", entry.published_name
        yield "paper", f"{entry.paper} ({entry.year}), arXiv {entry.arxiv}"
        if entry.note:
            yield "note", entry.note
        for figures in entry.published:
            yield f"published, {figures.data}", _told(figures)
        yield "counted", f"{size.cells} cells, C = {size.channels}, {size.classes} classes, {_RESOLUTION}x{_RESOLUTION}"
        yield "parameters", count(size.parameters)
        yield "auxiliary head", f"{count(size.auxiliary)} more in training"
        yield "MACs", count(size.macs)
        yield from genotype_rows(self.genotype)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {**_entry_dict(self.entry), "counted": asdict(self.size), "genotype": self.genotype.to_dict()}


@dataclass(frozen=True)
class BaselineRow:
    """A hand-made network: its genotype, which of its cells are equal, and its size."""

    name: str
    genotype: Genotype
    sequence: tuple[int, ...]
    size: Size


@dataclass(frozen=True)
class BaselinesResult(Outcome):
    """The hand-made networks from which a search can start."""

    baselines: tuple[BaselineRow, ...]
    channels: int

    @property
    def title(self) -> str:
        """Title of the table."""
        return (
            f"baselines, counted as CIFAR networks with C = {self.channels} and {_CLASSES} classes; "
            "as published, about half of their cells never reach the output"
        )

    def rows(self) -> Iterable[tuple[str, str]]:
        """Return each baseline and its size."""
        for row in self.baselines:
            yield row.name, f"{_millions(row.size.parameters)} parameters, {_millions(row.size.macs)} MACs"

    def table(self) -> Table:
        """Return a table; equal numbers in the sequence are equal cells, which share their alphas."""
        table = _table(self.title, ("name", "cells", "sequence", "reductions", "params", "MACs"), left=1)
        for row in self.baselines:
            table.add_row(
                row.name,
                str(len(row.genotype)),
                " ".join(map(str, row.sequence)),
                " ".join(map(str, row.genotype.reductions)),
                _millions(row.size.parameters),
                _millions(row.size.macs),
            )
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data."""
        return {
            "baselines": [
                {
                    "name": row.name,
                    "sequence": list(row.sequence),
                    "reductions": list(row.genotype.reductions),
                    "size": asdict(row.size),
                    "genotype": row.genotype.to_dict(),
                }
                for row in self.baselines
            ]
        }


def zoo(
    name: str | None = None, *, layers: int | str | None = None, channels: int | str | None = None
) -> ZooResult | ZooEntryResult:
    """List the zoo, or show one of its entries.

    Args:
        name: an entry, by its name or its published name; all if None.
        layers: cells of that entry's network; as published if None. A two-cell entry takes any number, another at
            least its own.
        channels: width C of its first cell; as published if None.

    Raises:
        GenotypeError: there is no such entry (with the nearest name), or `layers` does not fit it.
        SettingsError: a number is none or out of range, or is given without a name.
    """
    if name is None:
        if layers is not None or channels is not None:
            raise SettingsError(
                "layers and channels belong to one entry; name it, as in ddarts zoo darts-v2 --layers 8"
            )
        return ZooResult(tuple(zoo_entry(known) for known in zoo_names()))
    entry = zoo_entry(name)
    cells = whole_number("layers", layers, 1, 1000) if layers is not None else entry.size.cells
    width = whole_number("channels", channels, 1, _MOST_CHANNELS) if channels is not None else entry.size.channels
    genotype = entry.genotype(cells)
    known = (entry.size.cells, entry.size.channels) == (cells, width)
    return ZooEntryResult(entry, genotype, entry.size if known else network_size(genotype, width))


def baselines(*, channels: int | str | None = None) -> BaselinesResult:
    """List the hand-made networks from which a search can start.

    Args:
        channels: width C of their first cell for the size; 64 as published if None.

    Raises:
        SettingsError: `channels` is no whole number or out of range.
    """
    sizes = baseline_sizes()
    stored = sizes[BASELINES[0]].channels
    width = stored if channels is None else whole_number("channels", channels, 1, _MOST_CHANNELS)
    rows = []
    for name in BASELINES:
        genotype = baseline(name)
        size = sizes[name] if width == stored else network_size(genotype, width)
        rows.append(BaselineRow(name, genotype, shared_sequence(genotype), size))
    return BaselinesResult(tuple(rows), width)


def network_size(genotype: Genotype, channels: int) -> Size:
    """Count a CIFAR network of 10 classes on images of 32x32 pixels; about a second, nothing is computed.

    Args:
        genotype: the architecture.
        channels: width C of its first cell.
    """
    import torch

    from ddarts.cost.counting import count_macs, count_parameters
    from ddarts.nn.network import Network

    with torch.device("meta"):
        network = Network(genotype, channels=channels, classes=_CLASSES, auxiliary=True)
    parameters = count_parameters(network)
    return Size(
        cells=len(genotype),
        channels=channels,
        classes=_CLASSES,
        parameters=parameters,
        auxiliary=count_parameters(network, auxiliary=True) - parameters,
        macs=count_macs(network, (3, _RESOLUTION, _RESOLUTION)),
    )


# -- text ----------------------------------------------------------------------------------------------------------


def _table(title: str, columns: Sequence[str], left: int) -> Table:
    """Make an empty table whose columns but the first `left` hold numbers."""
    table = simple_table(title)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < left else "right", no_wrap=True)
    return table


def _on_cifar(entry: ZooEntry) -> Figures:
    """Return the published CIFAR-10 figures, empty if there are none."""
    return next((f for f in entry.published if f.data == "CIFAR-10"), Figures("", "CIFAR-10"))


def _millions(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number < 1e8 else f"{number / 1e6:.1f} M"


def _published(millions: float | None) -> str:
    return "-" if millions is None else f"{millions:g} M"


def _told(figures: Figures) -> str:
    parts = [figures.label]
    if figures.cells:
        parts.append(f"{figures.cells} cells")
    if figures.parameters_m:
        parts.append(f"{figures.parameters_m:g} M parameters{' with auxiliary head' if figures.auxiliary else ''}")
    if figures.macs_m:
        parts.append(f"{figures.macs_m:g} M MACs")
    if figures.top1:
        parts.append(f"top-1 {figures.top1:.2f} %")
    return ", ".join(parts)


def _entry_dict(entry: ZooEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "published_name": entry.published_name,
        "paper": entry.paper,
        "year": entry.year,
        "arxiv": entry.arxiv,
        "note": entry.note,
        "two_cells": entry.two_cells,
        "published": [asdict(figures) for figures in entry.published],
        "size": asdict(entry.size),
    }
