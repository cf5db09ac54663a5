"""The whole network as a drawing: the chain of cells with their two inputs each, widths and resolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype
from ddarts.genotype.genotype import CellGenotype, Genotype
from ddarts.nn.pruning import live_cells, live_inputs
from ddarts.nn.resolution import STEM_HALVINGS
from ddarts.reporting.drawing import draw_genotype
from ddarts.reporting.formatting import count
from ddarts.reporting.names import cell_title, state_name
from ddarts.reporting.scene import Arrowhead, Box, Curve, Group, Item, Scene, Words, to_svg
from ddarts.space.cell_space import INPUT_STATES
from ddarts.space.operations import is_parameter_free

if TYPE_CHECKING:
    from ddarts.nn.choice_network import AnyNetwork

_WIDTH = 320.0  # of a box
_HEIGHT = 46.0
_GAP = 26.0
_SIDE = 34.0  # how far a line that passes a cell stands off from it
_MARGIN = 62.0
_TOP = 52.0
_LINE = "#2f3742"
_PALE = "#b3b9c3"
_FILL, _REDUCTION_FILL, _END_FILL = "#f4f6f8", "#faf0d8", "#dfe4ea"


@dataclass(frozen=True)
class NetworkNumbers:
    """What a genotype leaves open; what is None is written as a letter.

    Attributes:
        channels: C, width of the nodes of the first cell.
        resolution: (height, width) of the images in pixels.
        stem: "cifar" keeps the resolution, "imagenet" divides it by 4.
        in_channels: channels of the images.
        classes: number of classes.
    """

    channels: int | None = None
    resolution: tuple[int, int] | None = None
    stem: str = "cifar"
    in_channels: int | None = None
    classes: int | None = None


@dataclass(frozen=True)
class Stage:
    """One box of the chain: its name, what it puts out, and what is worth knowing."""

    name: str
    output: str
    note: str
    look: str
    built: bool = True


def network_scene(genotype: Genotype, numbers: NetworkNumbers | None = None) -> Scene:
    """Draw the chain of cells from top to bottom; each reads the outputs of the two before it.

    Inputs that a cell does not read are drawn pale, and so are cells whose output nothing reads (they are not built).

    Args:
        genotype: the architecture.
        numbers: sizes, as far as they are known.
    """
    numbers = numbers or NetworkNumbers()
    stages = network_stages(genotype, numbers)
    read = [live_inputs(cell) for cell in genotype.cells]
    lines: list[list[Curve | Arrowhead]] = []
    for i, stage in enumerate(stages):
        cell = i - 2  # images and stem come first
        if 0 <= cell < len(genotype):
            lines.append(_arrow(i, used=stage.built and 1 in read[cell]))
            lines.append(_side_line(i, used=stage.built and 0 in read[cell]))
        elif i > 0:
            lines.append(_arrow(i, used=True))
    reads = [
        f"cell {i} reads {' and '.join(state_name(state) for state in sorted(used))}"
        for i, used in enumerate(read)
        if len(used) < INPUT_STATES
    ]
    note = f"{'; '.join(reads)} only." if reads else "Every cell reads the two before it."
    return _chain(stages, f"Network {genotype.name}".rstrip(), lines, note)


def genotype_html(genotype: AnyGenotype) -> str:
    """Return the cells of a genotype, or its choices, as SVG for a notebook."""
    return _in_notebook(draw_genotype(genotype) if isinstance(genotype, Genotype) else to_svg(choice_scene(genotype)))


def network_html(network: AnyNetwork) -> str:
    """Return a table of the sizes of a network and the drawing of its chain as SVG, for a notebook."""
    from ddarts.cost.counting import count_parameters  # torch, which drawings do without

    genotype = network.genotype
    numbers = NetworkNumbers(network.channels, None, network.stem_name, network.in_channels, network.classes)
    cells = isinstance(genotype, Genotype)
    scene = network_scene(genotype, numbers) if cells else choice_scene(genotype, numbers)
    rows = (
        ("parameters", count(count_parameters(network))),
        ("channels", str(network.channels)),
        ("input", f"[B, {network.in_channels}, H, W]"),
        ("logits", f"[B, {network.classes}]"),
    )
    table = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return f"<table>{table}</table>{_in_notebook(to_svg(scene))}"


def _in_notebook(svg: str) -> str:
    """Return a drawing that shrinks to the width of a notebook."""
    return svg.replace("<svg ", '<svg style="max-width: 100%; height: auto" ', 1)


def _chain(stages: list[Stage], title: str, lines: list[list[Curve | Arrowhead]], note: str = "") -> Scene:
    """Draw boxes one below the other with the lines between them; `note` ends the description."""
    width = _WIDTH + 2 * _MARGIN
    height = _TOP + len(stages) * (_HEIGHT + _GAP) + 8
    items: list[Item] = [
        Box(0.5, 0.5, width - 1, height - 1, 8, "#ffffff", "#c9ced6", "paper frame"),
        Words(16, 27, _shortened(title, 46), 14, bold=True, look="ink"),
    ]
    # pale lines first, so that they never cover the others
    drawn = sorted((item for line in lines for item in line), key=lambda item: "faint" not in item.look)
    boxes = [_box(i, stage) for i, stage in enumerate(stages)]
    words = "; ".join(f"{stage.name}: {stage.output}" + (f", {stage.note}" if stage.note else "") for stage in stages)
    return Scene([*items, *drawn, *boxes], width, height, title, f"{words}. {note}".rstrip())


def choice_scene(genotype: ChoiceGenotype, numbers: NetworkNumbers | None = None) -> Scene:
    """Draw the choices of a choice space, one box each, between images and classifier.

    Args:
        genotype: the architecture.
        numbers: sizes, as far as they are known.
    """
    numbers = numbers or NetworkNumbers()
    space, classes = genotype.facts, f"{numbers.classes} classes" if numbers.classes else "classes"
    stages = [
        Stage("images", _side(numbers, 0), "", "input"),
        *(
            Stage(choice.name, name, "", "stage" if name in space.parameter_free else "stage reduction")
            for choice, name in zip(space.choices, genotype.choices, strict=True)
        ),
        Stage("classifier", classes, "", "output"),
    ]
    return _chain(stages, f"Network {genotype.name}".rstrip(), [_arrow(i, used=True) for i in range(1, len(stages))])


def network_stages(genotype: Genotype, numbers: NetworkNumbers) -> list[Stage]:
    """Return the boxes of the chain: images, stem, every cell, classifier."""
    live = live_cells(genotype)
    halvings = STEM_HALVINGS[numbers.stem]
    images = f"{numbers.in_channels} x {_side(numbers, 0)}" if numbers.in_channels else _side(numbers, 0)
    stem = "one 3x3 convolution" if halvings == 0 else "three 3x3 convolutions"
    stages = [
        Stage("images", images, "", "input"),
        Stage("stem", f"{_width(numbers, 3 if halvings == 0 else 1)}, {_side(numbers, halvings)}", stem, "input"),
    ]
    factor = 1
    for position, cell in enumerate(genotype.cells):
        factor *= 2 if cell.reduction else 1
        halvings += cell.reduction
        output = f"{_width(numbers, len(cell.live_concat) * factor)}, {_side(numbers, halvings)}"
        built = position in live
        note = _operations(cell) if built else "nothing reads its output: not built"
        look = "stage reduction" if cell.reduction else "stage"
        stages.append(Stage(cell_title(position, cell), output, note, look, built))
    classes = f"{numbers.classes} classes" if numbers.classes else "classes"
    return [*stages, Stage("classifier", classes, "global average pooling, linear", "output")]


def _operations(cell: CellGenotype) -> str:
    free = sum(is_parameter_free(edge.operation) for edge in cell.edges)
    count = len(cell.edges)
    return f"{count} operation{'s' * (count != 1)}, {free or 'none'} without weights"


def _width(numbers: NetworkNumbers, factor: int) -> str:
    if numbers.channels is None:
        return "C channels" if factor == 1 else f"{factor}C channels"
    return f"{factor * numbers.channels} channels"


def _side(numbers: NetworkNumbers, halvings: int) -> str:
    if numbers.resolution is None:
        return "HxW" if halvings == 0 else f"H/{2**halvings} x W/{2**halvings}"
    height, width = (-(-side // 2**halvings) for side in numbers.resolution)
    return f"{height}x{width}"


# -- parts of the drawing ----------------------------------------------------------------------------------------------


def _top(stage: int) -> float:
    return _TOP + stage * (_HEIGHT + _GAP)


def _box(i: int, stage: Stage) -> Item:
    y = _top(i)
    fill = _REDUCTION_FILL if "reduction" in stage.look else _FILL if "stage" in stage.look else _END_FILL
    stroke = "#7a4b00" if "reduction" in stage.look else _LINE
    parts = [
        Box(_MARGIN, y, _WIDTH, _HEIGHT, 8, fill, stroke if stage.built else "#8a929e"),
        Words(_MARGIN + 14, y + (20 if stage.note else 28), stage.name, 13, bold=True),
        Words(_MARGIN + _WIDTH - 14, y + (20 if stage.note else 28), stage.output, 12, "end"),
    ]
    if stage.note:
        parts.append(Words(_MARGIN + 14, y + 37, stage.note, 11, fill="#565d68", look="soft"))
    text = ", ".join(part for part in (stage.name, stage.output, stage.note) if part)
    return Group(tuple(parts), stage.look, text, faded=not stage.built)


def _arrow(i: int, *, used: bool) -> list[Curve | Arrowhead]:
    """The line from the box before."""
    x, start, end = _MARGIN + _WIDTH / 2, _top(i - 1) + _HEIGHT, _top(i)
    return _drawn(((("M", x, start)), ("V", end - 6)), x, end, used=used)


def _side_line(i: int, *, used: bool) -> list[Curve | Arrowhead]:
    """The line from the box before the last, past the one between, right and left in turn."""
    right = i % 2 == 0
    edge = _MARGIN + _WIDTH if right else _MARGIN
    sign = 1 if right else -1
    inner, outer = edge - sign * 46, edge + sign * _SIDE
    end = _top(i)
    source = max(i - 2, 1)  # both inputs of cell 0 come from the stem
    if source == i - 1:
        return _drawn((("M", inner, _top(source) + _HEIGHT), ("V", end - 6)), inner, end, used=used)
    start = _top(source) + _HEIGHT
    passing = _top(i - 1)
    path = (
        ("M", inner + sign * 20, start),
        ("C", inner + sign * 20, start + _GAP * 0.6, outer, start + _GAP * 0.4, outer, passing),
        ("V", passing + _HEIGHT),
        ("C", outer, passing + _HEIGHT + _GAP * 0.6, inner, passing + _HEIGHT + _GAP * 0.1, inner, end - 6),
    )
    return _drawn(path, inner, end, used=used)


def _drawn(
    path: tuple[tuple[str, *tuple[float, ...]], ...], x: float, y: float, *, used: bool
) -> list[Curve | Arrowhead]:
    if not used:
        return [Curve(path, _PALE, 1.2, (2, 3), "faint"), Arrowhead(x, y, _PALE, "faint-arrow")]
    return [Curve(path, _LINE, 1.6, look="chain"), Arrowhead(x, y, _LINE, "chain-arrow")]


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
