"""Sizes, places and routes of a layout, in pixels; y grows downwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Size(NamedTuple):
    """Width and height in pixels."""

    width: float
    height: float


class Point(NamedTuple):
    """A place in pixels."""

    x: float
    y: float


@dataclass(frozen=True)
class Link:
    """An edge from one vertex to another of a larger layer, with the size of its label if it has one."""

    source: int
    target: int
    label: Size | None


@dataclass(frozen=True)
class Route:
    """Where an edge runs.

    Attributes:
        points: ends and bends from top to bottom; between points 2i and 2i + 1 the line may curve, between 2i + 1 and
            2i + 2 it is straight down (it passes a rank).
        label: centre of the label, None without one.
    """

    points: tuple[Point, ...]
    label: Point | None


@dataclass(frozen=True)
class Layout:
    """The result: centres of vertices, routes of edges in the order given, and the size of the whole."""

    places: tuple[Point, ...]
    routes: tuple[Route, ...]
    width: float
    height: float
