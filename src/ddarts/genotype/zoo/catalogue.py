"""The zoo: published architectures as data, with their sources and figures (paper, section 4; docs/zoo.md).

An entry is a file of `published/zoo`, named after it. It holds a whole genotype or a two-cell one, where it comes from,
the figures that were published for it, and its size as this package counts it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources
from typing import Any

from ddarts.errors import GenotypeError, nearest
from ddarts.genotype.deepen import deepen
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.interop.writers import TWO_CELL_LAYERS, TwoCellGenotype
from ddarts.runtime import json_input as checks

FORMAT = "ddarts-zoo-entry"
VERSION = 1

SIZES_FORMAT = "ddarts-sizes"
SIZES_VERSION = 1

_PUBLISHED = resources.files("ddarts.genotype.zoo") / "published"
_FOLDER = _PUBLISHED / "zoo"


@dataclass(frozen=True)
class Figures:
    """Figures that somebody published; None where nothing was said.

    Attributes:
        label: what the model is called there.
        data: the data set, "CIFAR-10" or "ImageNet".
        parameters_m: parameters in millions.
        macs_m: multiply-accumulate operations of one image in millions ("FLOPs" in the literature).
        top1: accuracy in percent.
        auxiliary: whether the published parameters include the auxiliary head.
        cells: cells of that network, where it is not the size that `Size` counts.
    """

    label: str
    data: str
    parameters_m: float | None = None
    macs_m: float | None = None
    top1: float | None = None
    auxiliary: bool = False
    cells: int | None = None


@dataclass(frozen=True)
class Size:
    """The size of a CIFAR network as this package counts it (`ddarts.cost.counting`).

    Attributes:
        cells, channels, classes: the network that was counted.
        parameters: trainable scalars without the auxiliary head.
        auxiliary: trainable scalars of the auxiliary head.
        macs: multiply-accumulate operations of one image of 32x32 pixels.
    """

    cells: int
    channels: int
    classes: int
    parameters: int
    auxiliary: int
    macs: int


@dataclass(frozen=True)
class ZooEntry:
    """A published architecture.

    Attributes:
        name: its name here.
        published_name: its name in the code that published it.
        paper, year, arxiv: where it was published.
        note: what a user must know about it; may be empty.
        published: published figures, the main ones first.
        size: its size at the published width and depth.
        cells: the architecture.
    """

    name: str
    published_name: str
    paper: str
    year: int
    arxiv: str
    note: str
    published: tuple[Figures, ...]
    size: Size
    cells: Genotype | TwoCellGenotype

    @property
    def two_cells(self) -> bool:
        """Whether the entry is a normal and a reduction cell, for networks of any depth."""
        return isinstance(self.cells, TwoCellGenotype)

    def genotype(self, layers: int | None = None) -> Genotype:
        """Return the whole network's genotype.

        Args:
            layers: number of cells: any for a two-cell entry (20 if None); at least its own for another (its own if
                None), which is deepened as the paper says (`deepen`).

        Raises:
            GenotypeError: `layers` is out of range.
        """
        if isinstance(self.cells, TwoCellGenotype):
            return self.cells.expand(TWO_CELL_LAYERS if layers is None else layers)
        return self.cells if layers is None else deepen(self.cells, layers)


def zoo_names() -> tuple[str, ...]:
    """Return the names of all entries, sorted."""
    return tuple(sorted(file.name[:-5] for file in _FOLDER.iterdir() if file.name.endswith(".json")))


def published_names() -> tuple[str, ...]:
    """Return the names under which the entries were published, in the order of `zoo_names`."""
    return tuple(_entry(name).published_name for name in zoo_names())


def zoo_entry(name: str) -> ZooEntry:
    """Return an entry by its name or by its published name, in upper or lower case.

    Raises:
        GenotypeError: there is no such entry; the message names the nearest.
    """
    names = zoo_names()
    known = dict(zip((published.lower() for published in published_names()), names, strict=True))
    known |= {own: own for own in names}
    if name.lower() not in known:
        raise GenotypeError(f"unknown entry of the zoo {name[:60]!r}{nearest(name[:60].lower(), names)}")
    return _entry(known[name.lower()])


@functools.cache
def _entry(name: str) -> ZooEntry:
    text = (_FOLDER / f"{name}.json").read_text(encoding="utf-8")
    return read_entry(checks.parse(text, f"zoo entry {name}", "zoo entry"), f"zoo entry {name}")


@functools.cache
def baseline_sizes() -> dict[str, Size]:
    """Return the size of each baseline at the width of the published results, C = 64, with 10 classes."""
    where = "sizes of the baselines"
    text = (_PUBLISHED / "sizes" / "baselines.json").read_text(encoding="utf-8")
    data = checks.parse(text, where, where)
    checks.header(data, where, what=where, form=SIZES_FORMAT, version=SIZES_VERSION)
    sizes = checks.mapping(data, where, required=("format", "version", "sizes"))["sizes"]
    return {name: _size(size, f"{where}: {name}") for name, size in sizes.items()}


# -- JSON ----------------------------------------------------------------------------------------------------------


def read_entry(data: Any, where: str = "zoo entry") -> ZooEntry:
    """Build an entry from JSON data, checking every field.

    Raises:
        GenotypeError: with the path into the data and the reason.
    """
    checks.header(data, where, what="zoo entry", form=FORMAT, version=VERSION)
    texts, others = ("name", "published_name", "paper", "arxiv", "note"), ("year", "published", "size")
    required = ("format", "version", *texts, *others)
    data = checks.mapping(data, where, required=required, optional=("genotype", "two_cells"))
    if ("genotype" in data) == ("two_cells" in data):
        raise GenotypeError(f"{where}: expected either genotype or two_cells")
    name, published_name, paper, arxiv, note = (checks.text(data[key], f"{where}: {key}") for key in texts)
    return ZooEntry(
        name=name,
        published_name=published_name,
        paper=paper,
        year=checks.integer(data["year"], f"{where}: year"),
        arxiv=arxiv,
        note=note,
        published=tuple(
            _figures(item, f"{where}: published[{i}]")
            for i, item in enumerate(checks.listing(data["published"], f"{where}: published"))
        ),
        size=_size(data["size"], f"{where}: size"),
        cells=Genotype.from_dict(data["genotype"], f"{where}: genotype")
        if "genotype" in data
        else _two_cells(data["two_cells"], f"{where}: two_cells", published_name),
    )


def _size(data: Any, where: str) -> Size:
    data = checks.mapping(data, where, required=tuple(Size.__annotations__))
    return Size(**{key: checks.integer(value, f"{where}.{key}") for key, value in data.items()})


def _figures(data: Any, where: str) -> Figures:
    optional = ("parameters_m", "macs_m", "top1", "auxiliary", "cells")
    data = checks.mapping(data, where, required=("label", "data"), optional=optional)
    for key in ("parameters_m", "macs_m", "top1", "cells"):
        value = data.get(key)
        if value is not None and (type(value) not in (int, float) or not 0 < value < float("inf")):
            raise GenotypeError(f"{where}.{key}: {checks.shown(value)} must be a number above 0")
    if type(data.get("auxiliary", False)) is not bool:
        raise GenotypeError(f"{where}.auxiliary: {checks.shown(data['auxiliary'])} must be true or false")
    checks.text(data["label"], f"{where}.label")
    checks.text(data["data"], f"{where}.data")
    return Figures(**data)


def _two_cells(data: Any, where: str, name: str) -> TwoCellGenotype:
    data = checks.mapping(data, where, required=("normal", "reduce"))
    cells: dict[str, CellGenotype] = {}
    for which in ("normal", "reduce"):
        cell = checks.mapping(data[which], f"{where}.{which}", required=("concat", "edges"))
        edges = []
        for i, item in enumerate(checks.listing(cell["edges"], f"{where}.{which}.edges")):
            place = f"{where}.{which}.edges[{i}]"
            item = checks.mapping(item, place, required=("op", "from", "to"))
            states = (checks.integer(item[key], f"{place}.{key}") for key in ("from", "to"))
            edges.append(Edge(checks.text(item["op"], f"{place}.op"), *states))
        try:
            cells[which] = CellGenotype(tuple(edges), checks.integers(cell["concat"], f"{where}.{which}.concat"))
        except GenotypeError as error:
            raise GenotypeError(f"{where}.{which}: {error}") from None
    normal, reduce = cells["normal"], cells["reduce"]
    return TwoCellGenotype(normal.edges, normal.concat, reduce.edges, reduce.concat, name)
