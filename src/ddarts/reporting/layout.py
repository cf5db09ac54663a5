"""A layered layout of a small directed graph whose edges carry labels.

After Sugiyama, Tagawa and Toda (1981): vertices get ranks from top to bottom, an edge that spans several ranks runs
through a waypoint in each, a label is a waypoint with a size of its own (so that nothing can collide with it), the
order within a rank is found by barycentre sweeps, and the places by weighted least squares that keep that order. No
randomness: the same graph always gives the same drawing. All lengths are pixels; y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

_BETWEEN = 12.0  # least space between neighbours in a rank
_WAYPOINT = 4.0  # width of a line that passes through a rank
_ORDER_SWEEPS = 24
_PLACE_SWEEPS = 96
_STRAIGHTENINGS = 3
_STRAIGHT = 6.0  # how much more the middle of a long edge resists a bend than its ends
_SMALLEST_GAP = 16.0  # between ranks
_LARGEST_GAP = 56.0


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


def lay_out(sizes: Sequence[Size], layers: Sequence[int], links: Sequence[Link]) -> Layout:
    """Place vertices and labelled edges so that no vertex, label or passing line overlaps another.

    Args:
        sizes: size of each vertex.
        layers: layer of each vertex from 0 (top); vertices of layer 0 keep their order.
        links: edges; each leads to a larger layer.

    Returns:
        A layout whose top left corner is (0, 0).
    """
    return _lay_out(tuple(sizes), tuple(layers), tuple(links))


@lru_cache(maxsize=64)  # a deep network repeats its cells
def _lay_out(sizes: tuple[Size, ...], layers: tuple[int, ...], links: tuple[Link, ...]) -> Layout:
    graph = _Ranks(sizes, layers, links)
    graph.order()
    graph.place()
    return graph.result()


class _Ranks:
    """Vertices, labels and waypoints by rank: layers stand at even ranks, labels at odd ones."""

    def __init__(self, sizes: Sequence[Size], layers: Sequence[int], links: Sequence[Link]) -> None:
        self.links = links
        self.count = len(sizes)
        self.sizes = list(sizes)
        self.rank = [2 * layer for layer in layers]
        self.ranks: list[list[int]] = [[] for _ in range(max(self.rank) + 1)]
        self.above: list[list[int]] = [[] for _ in sizes]
        self.below: list[list[int]] = [[] for _ in sizes]
        for vertex, rank in enumerate(self.rank):
            self.ranks[rank].append(vertex)
        self.labels: list[int | None] = []
        self.chains: list[list[int]] = []
        load = [0.0] * len(self.ranks)  # width taken by labels, rank by rank
        for link in links:
            self._add(link, load)
        self.x = [0.0] * len(self.sizes)
        self.index = [0] * len(self.sizes)
        for members in self.ranks:
            self._number(members)

    def _add(self, link: Link, load: list[float]) -> None:
        first, last = self.rank[link.source], self.rank[link.target]
        label_rank = None
        if link.label is not None:  # the emptiest rank on the way, near the middle of the edge
            middle = (first + last) / 2
            label_rank = min(range(first + 1, last, 2), key=lambda r: (load[r], abs(r - middle), r))
            load[label_rank] += link.label.width + _BETWEEN
        chain = [link.source]
        label = None
        for rank in range(first + 1, last):
            vertex = len(self.sizes)
            if rank == label_rank and link.label is not None:
                label = vertex
                self.sizes.append(link.label)
            else:
                self.sizes.append(Size(_WAYPOINT, 0.0))
            self.rank.append(rank)
            self.ranks[rank].append(vertex)
            self.above.append([])
            self.below.append([])
            chain.append(vertex)
        chain.append(link.target)
        for upper, lower in pairwise(chain):
            self.below[upper].append(lower)
            self.above[lower].append(upper)
        self.chains.append(chain)
        self.labels.append(label)

    def _number(self, members: list[int]) -> None:
        for position, vertex in enumerate(members):
            self.index[vertex] = position

    def order(self) -> None:
        """Find an order with few crossings: barycentres down and up, then swaps of neighbours."""
        best, fewest = [list(members) for members in self.ranks], self._crossings()
        for sweep in range(_ORDER_SWEEPS):
            down = sweep % 2 == 0
            ranks = range(1, len(self.ranks)) if down else range(len(self.ranks) - 2, 0, -1)
            for rank in ranks:
                self._sort(rank, self.above if down else self.below)
            self._swap_neighbours()
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(members) for members in self.ranks], crossings
        self.ranks = best
        for members in self.ranks:
            self._number(members)

    def _sort(self, rank: int, near: list[list[int]]) -> None:
        def barycentre(vertex: int) -> float:
            neighbours = near[vertex]
            if not neighbours:
                return float(self.index[vertex])
            return sum(self.index[n] for n in neighbours) / len(neighbours)

        self.ranks[rank].sort(key=barycentre)
        self._number(self.ranks[rank])

    def _swap_neighbours(self) -> None:
        for members in self.ranks[1:]:
            for i in range(len(members) - 1):
                left, right = members[i], members[i + 1]
                if self._pair(left, right) > self._pair(right, left):
                    members[i], members[i + 1] = right, left
                    self._number(members)

    def _pair(self, left: int, right: int) -> int:
        """Crossings between the edges of two neighbours when `left` stands left of `right`."""
        return sum(
            self.index[a] > self.index[b] for near in (self.above, self.below) for a in near[left] for b in near[right]
        )

    def _crossings(self) -> int:
        total = 0
        for members in self.ranks[:-1]:
            ends = [self.index[lower] for upper in members for lower in sorted(self.below[upper], key=self._index_of)]
            total += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
        return total

    def _index_of(self, vertex: int) -> int:
        return self.index[vertex]

    # -- places ----------------------------------------------------------------------------------------------------

    def place(self) -> None:
        """Find places: everything near what it is joined to, long lines straight."""
        for members in self.ranks:
            self._settle(members, [0.0] * len(members))
        both = [above + below for above, below in zip(self.above, self.below, strict=True)]
        for sweep in range(_PLACE_SWEEPS):
            near = (self.above, self.below)[sweep % 2] if sweep < _PLACE_SWEEPS // 3 else both
            ranks = self.ranks if sweep % 2 == 0 else list(reversed(self.ranks))
            for members in ranks:
                self._settle(members, [self._wish(vertex, near[vertex]) for vertex in members])
        for _ in range(_STRAIGHTENINGS):
            for chain in self.chains:
                self._straighten(chain)
        for members in self.ranks:
            self._tuck_in(members)
        left = min(self.x[v] - self.sizes[v].width / 2 for v in range(len(self.sizes)))
        self.x = [x - left for x in self.x]

    def _wish(self, vertex: int, near: list[int]) -> float:
        if not near:
            return self.x[vertex]
        weights = [self._pull(vertex, n) for n in near]
        return sum(w * self.x[n] for w, n in zip(weights, near, strict=True)) / sum(weights)

    def _pull(self, one: int, other: int) -> float:
        return _STRAIGHT if one >= self.count and other >= self.count else 1.0

    def _settle(self, members: list[int], wishes: list[float]) -> None:
        """Give each member the place nearest to its wish (least squares) that keeps order and distance.

        With the distances taken off, this is isotonic regression: neighbours that would overlap pool their wishes, in
        which waypoints and labels, whose lines should be straight, have a larger weight than vertices.
        """
        offsets = [0.0]
        for left, right in pairwise(members):
            space = (self.sizes[left].width + self.sizes[right].width) / 2 + _BETWEEN
            offsets.append(offsets[-1] + space)
        blocks: list[tuple[float, float, int]] = []  # weighted sum of wishes, weight, members
        for vertex, wish, offset in zip(members, wishes, offsets, strict=False):
            weight = _STRAIGHT if vertex >= self.count else 1.0
            blocks.append((weight * (wish - offset), weight, 1))
            while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] > blocks[-1][0] * blocks[-2][1]:
                last = blocks.pop()
                blocks[-1] = (blocks[-1][0] + last[0], blocks[-1][1] + last[1], blocks[-1][2] + last[2])
        settled = [total / weight for total, weight, count in blocks for _ in range(count)]
        for vertex, base, offset in zip(members, settled, offsets, strict=False):
            self.x[vertex] = base + offset

    def _tuck_in(self, members: list[int]) -> None:
        """Move vertices without lines, which nothing holds, beside their neighbours."""
        for order, side in ((members, 1), (members[::-1], -1)):
            for near, vertex in pairwise(order):
                if not any(self.above[v] or self.below[v] for v in order[order.index(vertex) :]):
                    space = (self.sizes[near].width + self.sizes[vertex].width) / 2 + _BETWEEN
                    self.x[vertex] = self.x[near] + side * space

    def _straighten(self, chain: list[int]) -> None:
        """Give the waypoints between two ends (vertex or label) as few different places as their neighbours allow."""
        start = 0
        for end in range(1, len(chain)):
            if chain[end] >= self.count and self.sizes[chain[end]].height == 0:
                continue
            run = chain[start + 1 : end]
            if run:
                self._straighten_run(run, self._aim(chain[start]), self._aim(chain[end]))
            start = end

    def _aim(self, vertex: int) -> float | None:
        """Where a line should run to meet a label in its middle; None for a vertex, which it may meet anywhere."""
        return self.x[vertex] if vertex >= self.count else None

    def _straighten_run(self, run: list[int], first: float | None, last: float | None) -> None:
        pieces: list[tuple[list[int], float, float]] = []
        for vertex in run:
            low, high = self._corridor(vertex)
            if pieces and max(pieces[-1][1], low) <= min(pieces[-1][2], high):
                members, low0, high0 = pieces.pop()
                pieces.append(([*members, vertex], max(low0, low), min(high0, high)))
            else:
                pieces.append(([vertex], low, high))
        for i, (members, low, high) in enumerate(pieces):
            wish = first if i == 0 and first is not None else last if i + 1 == len(pieces) else None
            if wish is None:
                wish = sum(self.x[v] for v in members) / len(members)
            place = min(max(wish, low), high)
            for vertex in members:
                self.x[vertex] = place

    def _corridor(self, vertex: int) -> tuple[float, float]:
        """Least and largest place between the neighbours in the rank."""
        members, at = self.ranks[self.rank[vertex]], self.index[vertex]
        low, high = -math.inf, math.inf
        if at > 0:
            low = self.x[members[at - 1]] + (self.sizes[members[at - 1]].width + _WAYPOINT) / 2 + _BETWEEN
        if at + 1 < len(members):
            high = self.x[members[at + 1]] - (self.sizes[members[at + 1]].width + _WAYPOINT) / 2 - _BETWEEN
        return min(low, self.x[vertex]), max(high, self.x[vertex])

    # -- routes ----------------------------------------------------------------------------------------------------

    def result(self) -> Layout:
        """Return the places as a layout."""
        heights = [max((self.sizes[v].height for v in members), default=0.0) for members in self.ranks]
        middles, y = [], 0.0
        for rank, height in enumerate(heights):
            middles.append(y + height / 2)
            y += height + (self._gap(rank) if rank + 1 < len(heights) else 0.0)
        starts = self._ports(self.below, [chain[1] for chain in self.chains], [c[0] for c in self.chains])
        ends = self._ports(self.above, [chain[-2] for chain in self.chains], [c[-1] for c in self.chains])
        routes = []
        for i, chain in enumerate(self.chains):
            source, target = chain[0], chain[-1]
            points = [Point(starts[i], middles[self.rank[source]] + self.sizes[source].height / 2)]
            for vertex in chain[1:-1]:
                if heights[self.rank[vertex]] == 0:  # nothing but lines in this rank: one curve passes it
                    continue
                half = heights[self.rank[vertex]] / 2
                middle = middles[self.rank[vertex]]
                points += [Point(self.x[vertex], middle - half), Point(self.x[vertex], middle + half)]
            points.append(Point(ends[i], middles[self.rank[target]] - self.sizes[target].height / 2))
            label = self.labels[i]
            at = None if label is None else Point(self.x[label], middles[self.rank[label]])
            routes.append(Route(tuple(points), at))
        width = max(self.x[v] + self.sizes[v].width / 2 for v in range(len(self.sizes)))
        places = tuple(Point(self.x[v], middles[self.rank[v]]) for v in range(self.count))
        return Layout(places, tuple(routes), width, y)

    def _gap(self, rank: int) -> float:
        """Space under a rank: more where lines run far sideways, so that they stay steep enough to follow."""
        run = max((abs(self.x[u] - self.x[v]) for u in self.ranks[rank] for v in self.below[u]), default=0.0)
        return min(_LARGEST_GAP, max(_SMALLEST_GAP, 0.22 * run))

    def _ports(self, near: list[list[int]], others: list[int], ends: list[int]) -> list[float]:
        """Spread the lines that meet a vertex along its side, in the order in which they come in."""
        places = [0.0] * len(ends)
        for vertex in set(ends):
            lines = sorted((i for i, end in enumerate(ends) if end == vertex), key=lambda i: (self.x[others[i]], i))
            usable = 0.7 * self.sizes[vertex].width
            for position, i in enumerate(lines):
                places[i] = self.x[vertex] + usable * ((position + 0.5) / len(lines) - 0.5)
        return places
