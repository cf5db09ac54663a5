import io

import numpy
from PIL import Image

from ddarts.genotype.zoo.baselines import BASELINES, baseline
from ddarts.reporting.drawing import genotype_scene
from ddarts.reporting.network_drawing import network_scene
from ddarts.reporting.picture import LARGEST_SIDE, to_pdf, to_png
from ddarts.reporting.scene import Arrowhead, Box, Curve, Group, Scene, Words


def pixels(scene: Scene) -> numpy.ndarray:
    return numpy.asarray(Image.open(io.BytesIO(to_png(scene, scale=1.0))).convert("RGB"))


def test_parts_stand_where_the_scene_says_with_the_colours_that_it_says() -> None:
    box = Group((Box(2, 3, 20, 10, fill="#ff0000"),), x=10, y=20)
    line = Curve((("M", 60.5, 5), ("V", 45)), "#0000ff", width=3)
    shown = pixels(Scene([box, line], 80, 60, "t"))
    assert shown.shape == (60, 80, 3)
    assert tuple(shown[28, 22]) == (255, 0, 0)
    assert tuple(shown[20, 22]) == tuple(shown[28, 40]) == (255, 255, 255)
    assert tuple(shown[25, 60]) == (0, 0, 255)


def test_later_parts_lie_above_earlier_ones_and_faded_ones_are_pale() -> None:
    red, green = Box(0, 0, 30, 30, fill="#ff0000"), Box(0, 0, 30, 30, fill="#00ff00")
    assert tuple(pixels(Scene([red, green], 30, 30, "t"))[15, 15]) == (0, 255, 0)
    pale = pixels(Scene([Group((red,), faded=True)], 30, 30, "t"))[15, 15]
    assert pale[0] == 255
    assert 100 < pale[1] < 130


def test_words_and_arrowheads_are_painted_and_formulas_are_not_read() -> None:
    shown = pixels(
        Scene(
            [Words(5, 25, "$x$", 20), Words(60, 25, "c", 13, "middle", low="k"), Arrowhead(90, 30, "#000000")],
            99,
            40,
            "t",
        )
    )
    for left, right in ((0, 45), (50, 75), (85, 95)):
        assert (shown[:, left:right] < 100).any()


def test_every_baseline_becomes_a_png_and_a_pdf_whose_text_can_be_searched() -> None:
    for name in BASELINES:
        scene = genotype_scene(baseline(name))
        picture = Image.open(io.BytesIO(to_png(scene)))
        assert picture.size == (round(2 * scene.width), round(2 * scene.height))
        assert to_pdf(scene).startswith(b"%PDF")
    pdf = to_pdf(network_scene(baseline("resnet18")))
    assert b"/Type0" in pdf  # TrueType outlines: letters stay letters
    assert to_pdf(network_scene(baseline("resnet18"))) == pdf


def test_a_huge_drawing_is_scaled_down() -> None:
    picture = Image.open(io.BytesIO(to_png(Scene([], 20, 40_000, "t"), scale=2.0)))
    assert max(picture.size) <= LARGEST_SIDE
