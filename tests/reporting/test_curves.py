import re
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib

from ddarts.reporting.curves import Line, line_chart, thinned
from ddarts.reporting.heatmap import colour_range

SVG = "{http://www.w3.org/2000/svg}"


def chart(*lines: Line, **options) -> ElementTree.Element:
    return ElementTree.fromstring(line_chart("loss", lines, y_label="loss", **options))


def path_of(root: ElementTree.Element, label: str) -> str:
    group = next(g for g in root.iter(f"{SVG}g") if g.findtext(f"{SVG}title") == label)
    path = group.find(f"{SVG}path")
    assert path is not None
    return path.get("d", "")


def test_each_line_is_drawn_and_says_what_it_is() -> None:
    root = chart(Line("train", [1, 2, 3], [3.0, 2.0, 1.0]), Line("a <b> & c", [1, 2], [1.0, 1.0], faint=True))
    assert path_of(root, "train").count("L") == 2
    assert path_of(root, "a <b> & c").count("L") == 1


def test_higher_values_stand_higher() -> None:
    y = [float(v) for v in re.findall(r"[\d.]+ ([\d.]+)", path_of(chart(Line("x", [1, 2], [0.0, 5.0])), "x"))]
    assert y[0] > y[1]


def test_only_strong_lines_stand_in_the_legend() -> None:
    root = chart(Line("strong", [1, 2], [1.0, 2.0]), Line("faint", [1, 2], [2.0, 1.0], faint=True))
    written = [e.text for e in root.iter(f"{SVG}text")]
    assert "strong" in written
    assert "faint" not in written
    assert "epoch" in written


def test_a_missing_value_is_a_gap() -> None:
    path = path_of(chart(Line("x", [1, 2, 3, 4, 5], [1.0, 2.0, None, 2.0, 1.0])), "x")
    assert path.count("M") == 2


def test_one_point_and_none_at_all_can_be_drawn() -> None:
    assert chart(Line("x", [1], [0.5])) is not None
    assert chart(Line("x", [1, 2], [None, None])) is not None
    assert chart(Line("x", [], [])) is not None


def test_the_page_gives_the_colours_and_the_font() -> None:
    svg = line_chart("loss", [Line("x", [1, 2], [1.0, 2.0])], y_label="loss")
    assert "var(--series-0, #0072b2)" in svg
    assert "currentColor" in svg
    assert "font-family" not in svg
    assert "<style" not in svg
    assert "<metadata" not in svg


def test_ids_of_two_charts_do_not_meet() -> None:
    first, second = (line_chart(n, [Line("x", [1, 2], [1.0, 2.0])], y_label="y") for n in ("one", "two"))
    ids = [set(re.findall(r'id="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", svg)) | set(re.findall(r'href="#([^"]+)"', svg)) <= own


def test_the_same_data_give_the_same_bytes_and_leave_no_trace() -> None:
    before = dict(matplotlib.rcParams)
    lines = [Line("x", [1, 2], [1.0, 2.0])]
    assert line_chart("n", lines, y_label="y") == line_chart("n", lines, y_label="y")
    assert dict(matplotlib.rcParams) == before


def test_dollar_signs_are_no_formulas() -> None:
    assert "a $x$ b" in [e.text for e in chart(Line("a $x$ b", [1, 2], [1.0, 2.0])).iter(f"{SVG}text")]


def test_importing_the_module_loads_no_plotting_library_and_drawing_no_pyplot() -> None:
    code = (
        "import sys, ddarts.reporting.curves as c\n"
        "assert 'matplotlib' not in sys.modules\n"
        "c.line_chart('n', [c.Line('x', [1, 2], [1.0, 2.0])], y_label='y')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_thinning_keeps_both_ends() -> None:
    for count in (0, 1, 99, 100, 101, 250, 1000):
        values = list(range(count))
        kept = thinned(values)
        assert len(kept) <= 102
        assert kept[:1] == values[:1]
        assert kept[-1:] == values[-1:]
    assert thinned([1, 2, 3]) == [1, 2, 3]


def ticks(x: list[float], y: list[float]) -> list[float]:
    texts = [t.text.replace("\N{MINUS SIGN}", "-") for t in chart(Line("x", x, y)).iter(f"{SVG}text") if t.text]
    return [float(text) for text in texts if re.fullmatch(r"-?[\d.]+", text)]


def test_an_axis_does_not_magnify_a_constant() -> None:
    assert max(ticks([1, 2], [50.0, 50.001])) >= 54
    assert max(ticks([1, 2], [50.0, 60.0])) <= 62
    assert min(ticks([1, 2], [0.0, 0.0])) >= 0  # a distance or a share has no negative values


def test_an_axis_of_whole_numbers_has_whole_ticks_and_one_of_fractions_has_others() -> None:
    assert all(tick.is_integer() for tick in ticks([1, 2, 3], [10.0, 20.0, 30.0]))
    assert sum(0.2 <= tick <= 0.5 for tick in ticks([0.2, 0.5], [10.0, 20.0])) >= 3


def test_colours_of_a_heat_map_follow_its_values() -> None:
    low, high = colour_range([[0, 0.084, 0.085], [0.084, 0, 0.0845], [0.085, 0.0845, 0]])
    assert high == 0.085
    assert 0.0838 < low < 0.084
    assert colour_range([[0, 0.1], [0.1, 0]]) == (0.0, 0.1)
    assert colour_range([[0.0]]) == (0.0, 1.0)
