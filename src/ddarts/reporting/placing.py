"""The second half of a layout: where in its rank each vertex, label and waypoint stands."""

from __future__ import annotations

import math
from itertools import pairwise

from ddarts.reporting.ordering import BETWEEN, WAYPOINT, OrderedRanks

_SWEEPS = 96
_STRAIGHTENINGS = 3
_STRAIGHT = 6.0  # how much more the middle of a long edge resists a bend than its ends


class PlacedRanks(OrderedRanks):
    """Ordered ranks whose members get places, in `x`."""

    def place(self) -> None:
        """Find places: everything near what it is joined to, long lines straight."""
        for members in self.ranks:
            self._settle(members, [0.0] * len(members))
        both = [above + below for above, below in zip(self.above, self.below, strict=True)]
        for sweep in range(_SWEEPS):
            near = (self.above, self.below)[sweep % 2] if sweep < _SWEEPS // 3 else both
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
            space = (self.sizes[left].width + self.sizes[right].width) / 2 + BETWEEN
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
                    space = (self.sizes[near].width + self.sizes[vertex].width) / 2 + BETWEEN
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
            low = self.x[members[at - 1]] + (self.sizes[members[at - 1]].width + WAYPOINT) / 2 + BETWEEN
        if at + 1 < len(members):
            high = self.x[members[at + 1]] - (self.sizes[members[at + 1]].width + WAYPOINT) / 2 - BETWEEN
        return min(low, self.x[vertex]), max(high, self.x[vertex])
