from xml.etree import ElementTree

import pytest

from ddarts.cost.counting import count_parameters
from ddarts.genotype.choices import AnyGenotype, random_choices
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.genotype.zoo.baselines import baseline
from ddarts.nn.choice_network import build_network
from ddarts.nn.network import Network
from ddarts.reporting.formatting import count
from ddarts.reporting.network_drawing import NetworkNumbers, network_scene, network_stages
from ddarts.reporting.scene import to_svg
from ddarts.space.mobile import MOBILE

SVG = "{http://www.w3.org/2000/svg}"
BOTH = CellGenotype((Edge("sep_conv_3x3", 0, 2), Edge("skip_connect", 1, 2)), (2,))
HALVING = CellGenotype((Edge("max_pool_3x3", 0, 2), Edge("skip_connect", 1, 3)), (2, 3), reduction=True)
ONLY_OLDER = CellGenotype((Edge("sep_conv_3x3", 0, 2),), (2,))
THREE = Genotype((BOTH, HALVING, BOTH), "three")


def test_stages_tell_widths_and_resolutions_as_letters() -> None:
    assert [(s.name, s.output) for s in network_stages(THREE, NetworkNumbers())] == [
        ("images", "HxW"),
        ("stem", "3C channels, HxW"),
        ("cell 0", "C channels, HxW"),
        ("cell 1 (reduction)", "4C channels, H/2 x W/2"),
        ("cell 2", "2C channels, H/2 x W/2"),
        ("classifier", "classes"),
    ]


def test_numbers_take_the_place_of_letters_and_are_those_of_the_network() -> None:
    numbers = NetworkNumbers(channels=6, resolution=(33, 65), stem="imagenet", in_channels=3, classes=7)
    stages = network_stages(THREE, numbers)
    assert [s.output for s in stages] == [
        "3 x 33x65",
        "6 channels, 9x17",
        "6 channels, 9x17",
        "24 channels, 5x9",
        "12 channels, 5x9",
        "7 classes",
    ]
    network = Network(THREE, channels=6, in_channels=3, classes=7, stem="imagenet")
    assert network.outputs == 12


def test_operations_are_counted() -> None:
    notes = [s.note for s in network_stages(THREE, NetworkNumbers())]
    assert notes[2] == "2 operations, 1 without weights"
    assert notes[3] == "2 operations, 2 without weights"
    assert network_stages(Genotype((ONLY_OLDER,)), NetworkNumbers())[2].note == "1 operation, none without weights"


def test_inputs_that_are_not_read_and_cells_that_are_not_built_are_pale() -> None:
    whole = to_svg(network_scene(THREE))
    assert 'class="faint"' not in whole
    assert "stroke-dasharray" not in whole
    scene = network_scene(Genotype((BOTH, ONLY_OLDER, ONLY_OLDER)))
    svg = to_svg(scene)
    assert svg.count('class="chain"') == 6 - 1  # cell 1 is not built; cell 2 reads cell 0
    assert svg.count('class="faint"') == 3
    assert "cell 1: C channels, HxW, nothing reads its output: not built" in scene.description
    assert scene.description.endswith("cell 1 reads c_{k-2}; cell 2 reads c_{k-2} only.")


def test_the_drawing_marks_reductions_and_stays_in_its_frame() -> None:
    root = ElementTree.fromstring(to_svg(network_scene(baseline("inceptionv4"))))
    groups = [g.get("class") for g in root.iter(f"{SVG}g")]
    assert groups.count("stage reduction") == 2
    assert groups.count("stage") == 14
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("x", 0)) + float(box.get("width", 0)) <= width
        assert float(box.get("y", 0)) + float(box.get("height", 0)) <= height


def test_hostile_and_long_names_are_escaped_and_cut() -> None:
    svg = to_svg(network_scene(Genotype((BOTH,), "<script>" + 80 * "x")))
    assert "<script" not in svg
    ElementTree.fromstring(svg)
    assert "\N{HORIZONTAL ELLIPSIS}" in svg


@pytest.mark.parametrize(
    ("genotype", "words"),
    [(THREE, ("sep_conv_3x3", "cell 1")), (random_choices(MOBILE, seed=0), ("images", "classes"))],
)
def test_a_notebook_shows_genotypes_and_networks_as_drawings(genotype: AnyGenotype, words: tuple[str, ...]) -> None:
    shown = genotype._repr_html_()
    assert shown.startswith('<svg style="max-width: 100%; height: auto" ')  # no wider than the notebook
    assert all(word in shown for word in words)
    network = build_network(genotype, channels=8, classes=7)
    shown = network._repr_html_()
    assert f"<th>parameters</th><td>{count(count_parameters(network))}</td>" in shown
    assert "[B, 7]" in shown
    assert shown.count("<svg") == 1
