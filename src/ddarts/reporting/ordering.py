"""The first half of a layout: ranks, waypoints of long edges, and the order within each rank."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ddarts.reporting.shapes import Link, Size

BETWEEN = 12.0  # least space between neighbours in a rank
WAYPOINT = 4.0  # width of a line that passes through a rank
_SWEEPS = 24


class OrderedRanks:
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
            load[label_rank] += link.label.width + BETWEEN
        chain = [link.source]
        label = None
        for rank in range(first + 1, last):
            vertex = len(self.sizes)
            if rank == label_rank and link.label is not None:
                label = vertex
                self.sizes.append(link.label)
            else:
                self.sizes.append(Size(WAYPOINT, 0.0))
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
        for sweep in range(_SWEEPS):
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
