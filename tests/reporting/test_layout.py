from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddarts.reporting.layout import Layout, Link, Point, Size, lay_out

Box = tuple[float, float, float, float]


def box(at: Point, size: Size) -> Box:
    return (at.x - size.width / 2, at.y - size.height / 2, at.x + size.width / 2, at.y + size.height / 2)


def overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def inside(point: Point, b: Box) -> bool:
    return b[0] < point.x < b[2] and b[1] < point.y < b[3]


def bezier(start: Point, end: Point, t: float) -> Point:
    """The curve that the drawing makes: it leaves and arrives straight down."""
    bend = (end.y - start.y) / 2
    y = start.y * (1 - t) ** 3 + 3 * (start.y + bend) * (1 - t) ** 2 * t + 3 * (end.y - bend) * (1 - t) * t**2
    return Point(
        start.x * ((1 - t) ** 3 + 3 * (1 - t) ** 2 * t) + end.x * (3 * (1 - t) * t**2 + t**3), y + end.y * t**3
    )


def check(layout: Layout, sizes: list[Size], links: list[Link]) -> None:
    """Nothing overlaps: vertices, labels, and lines that pass them."""
    boxes = [box(p, s) for p, s in zip(layout.places, sizes, strict=True)]
    labels = {
        i: box(route.label, link.label)
        for i, (route, link) in enumerate(zip(layout.routes, links, strict=True))
        if route.label is not None and link.label is not None
    }
    assert len(labels) == sum(link.label is not None for link in links)
    everything = [*boxes, *labels.values()]
    assert not any(overlap(a, b) for a, b in combinations(everything, 2))
    assert all(
        b[0] > -1e-6 and b[1] > -1e-6 and b[2] < layout.width + 1e-6 and b[3] < layout.height + 1e-6 for b in everything
    )
    for i, route in enumerate(layout.routes):
        line = []
        for k, (start, end) in enumerate(pairwise(route.points)):
            if k % 2 == 0:
                line += [bezier(start, end, t / 8) for t in range(9)]
            else:
                assert start.x == end.x
                line += [Point(start.x, start.y + (end.y - start.y) * t / 4) for t in range(5)]
        assert [p.y for p in line] == sorted(p.y for p in line)
        others = [*boxes, *(b for j, b in labels.items() if j != i)]
        assert not any(inside(p, b) for p in line for b in others)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Size], list[int], list[Link]]:
    layers = [0, 0, *draw(st.lists(st.integers(1, 6), min_size=1, max_size=7))]
    size = st.builds(Size, st.floats(10, 120), st.floats(8, 40))
    sizes = [draw(size) for _ in layers]
    pairs = [(a, b) for a in range(len(layers)) for b in range(len(layers)) if layers[a] < layers[b]]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=24))
    return sizes, layers, [Link(a, b, draw(st.none() | size)) for a, b in chosen]


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_nothing_collides_in_any_graph(graph: tuple[list[Size], list[int], list[Link]]) -> None:
    sizes, layers, links = graph
    check(lay_out(sizes, layers, links), sizes, links)


def test_vertices_stand_in_their_layers_and_the_first_layer_keeps_its_order() -> None:
    sizes = [Size(20, 10)] * 4
    layout = lay_out(sizes, [0, 0, 1, 2], [Link(1, 2, Size(30, 10)), Link(0, 3, None), Link(2, 3, None)])
    assert layout.places[0].x < layout.places[1].x
    assert layout.places[0].y == layout.places[1].y < layout.places[2].y < layout.places[3].y


def test_a_lone_chain_is_straight() -> None:
    layout = lay_out([Size(20, 10)] * 3, [0, 1, 2], [Link(0, 1, Size(40, 10)), Link(1, 2, Size(60, 10))])
    assert {round(p.x, 6) for p in layout.places} == {30.0}
    assert {round(p.x, 6) for route in layout.routes for p in route.points} == {30.0}


def test_lines_that_need_not_cross_do_not() -> None:
    # two pairs of vertices whose order in the second layer is the wrong one at first
    layout = lay_out([Size(20, 10)] * 4, [0, 0, 1, 1], [Link(0, 3, None), Link(1, 2, None)])
    assert layout.places[3].x < layout.places[2].x


def test_lines_meet_a_vertex_side_by_side() -> None:
    links = [Link(0, 2, Size(30, 10)), Link(1, 2, Size(30, 10)), Link(0, 2, Size(30, 10))]
    layout = lay_out([Size(40, 10)] * 3, [0, 0, 1], links)
    ends = [route.points[-1].x for route in layout.routes]
    assert len(set(ends)) == 3
    assert all(abs(x - layout.places[2].x) < 20 for x in ends)


def test_the_same_graph_gives_the_same_layout() -> None:
    sizes, layers = [Size(20, 10)] * 5, [0, 0, 1, 2, 2]
    links = [Link(a, b, Size(30, 12)) for a, b in [(0, 2), (1, 2), (0, 3), (2, 3), (1, 4), (2, 4)]]
    assert lay_out(sizes, layers, links) == lay_out(sizes, layers, links)
    check(lay_out(sizes, layers, links), sizes, links)


@pytest.mark.parametrize("count", [1, 30])
def test_parallel_edges_each_get_a_label(count: int) -> None:
    links = [Link(0, 1, Size(50, 12))] * count
    layout = lay_out([Size(20, 10)] * 2, [0, 1], links)
    check(layout, [Size(20, 10)] * 2, links)
