"""A layered layout of a small directed graph whose edges carry labels.

After Sugiyama, Tagawa and Toda (1981): vertices get ranks from top to bottom, an edge that spans several ranks runs
through a waypoint in each, a label is a waypoint with a size of its own (so that nothing can collide with it), the
order within a rank is found by barycentre sweeps, and the places by weighted least squares that keep that order. No
randomness: the same graph always gives the same drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ddarts.reporting.placing import PlacedRanks
from ddarts.reporting.shapes import Layout, Link, Point, Route, Size

_SMALLEST_GAP = 16.0  # between ranks
_LARGEST_GAP = 56.0


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
    graph = _Routed(sizes, layers, links)
    graph.order()
    graph.place()
    return graph.result()


class _Routed(PlacedRanks):
    """Placed ranks, and the routes of the edges through them."""

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
