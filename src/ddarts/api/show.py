"""``ddarts show``: a genotype as text, and as a drawing of its cells or of the whole network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddarts.errors import GenotypeError, SettingsError, nearest, whole_number
from ddarts.genotype.choices import ChoiceGenotype
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.zoo.lookup import find_architecture
from ddarts.results import ShowResult
from ddarts.runtime.atomic_files import write_bytes

if TYPE_CHECKING:
    from ddarts.reporting.background import Background
    from ddarts.reporting.scene import Scene

PathLike = str | os.PathLike[str]

#: Formats of a drawing, by the ending of its file.
FORMS = (".svg", ".png", ".pdf", ".html")


def show(
    genotype: Genotype | PathLike, *, out: PathLike | None = None, cell: int | None = None, network: bool = False
) -> ShowResult:
    """List the cells of a genotype, equal ones once, or their chain, and draw them if `out` is given.

    Of a run, gates and margins are drawn too, and the network with the widths and resolutions that it was trained with.

    Args:
        genotype: a `Genotype`, its file, a run that has one, or the name of a baseline.
        out: file for the drawing, in the format of its ending: .svg, .png, .pdf or .html.
        cell: only this cell, counted from 0.
        network: the chain of cells instead of their content.

    Raises:
        GenotypeError: there is no such genotype, or it has no such cell.
        SettingsError: `out` ends in something else, or both `cell` and `network` are given.
        RunError: the file cannot be written.
    """
    architecture = find_architecture(genotype)
    if isinstance(architecture, ChoiceGenotype):
        return _show_choices(architecture, None if out is None else Path(out), cell)
    if cell is not None:
        cell = whole_number("cell", cell)
        if network:
            raise SettingsError("cell and network exclude each other; leave one out")
        if not 0 <= cell < len(architecture):
            raise GenotypeError(f"cell = {cell} is out of range; the genotype has cells 0 to {len(architecture) - 1}")
    path = None if out is None else Path(out)
    if path is not None and path.suffix.lower() not in FORMS:
        raise SettingsError(
            f"out = {str(out)!r}: a drawing ends in .svg, .png, .pdf or .html"
            f"{nearest(path.suffix.lower(), FORMS) if path.suffix else ''}"
        )
    from ddarts.reporting.background import read_background

    background = read_background(None if isinstance(genotype, Genotype) else Path(genotype), architecture)
    if path is not None:
        write_bytes(path, _document(path.suffix.lower(), architecture, background, cell, network))
    chain: tuple[tuple[str, str], ...] = ()
    if network:
        from ddarts.reporting.network_drawing import network_stages

        stages = network_stages(architecture, background.numbers)
        chain = tuple((s.name, s.output + (f"; {s.note}" if s.note else "")) for s in stages)
    return ShowResult(architecture, path, cell, chain)


def _show_choices(genotype: ChoiceGenotype, path: Path | None, cell: int | None) -> ShowResult:
    if cell is not None:
        raise SettingsError(f"cell = {cell} has no effect in the space {genotype.space}; leave it out")
    if path is not None:
        from ddarts.reporting.network_drawing import choice_scene
        from ddarts.reporting.scene import to_svg

        if path.suffix.lower() != ".svg":
            raise SettingsError(f"out = {str(path)!r}: the drawing of choices ends in .svg")
        write_bytes(path, to_svg(choice_scene(genotype)).encode())
    return ShowResult(genotype, path, None, ())


def _document(form: str, genotype: Genotype, background: Background, cell: int | None, network: bool) -> bytes:
    if form == ".html":
        from ddarts.reporting.genotype_page import render_genotype

        return render_genotype(genotype, background, cell=cell, network=network).encode()
    from ddarts.reporting.picture import to_pdf, to_png
    from ddarts.reporting.scene import to_svg

    write: dict[str, Callable[[Scene], Any]] = {
        ".svg": lambda scene: to_svg(scene).encode(),
        ".png": to_png,
        ".pdf": to_pdf,
    }
    return write[form](_scene(genotype, background, cell, network))


def _scene(genotype: Genotype, background: Background, cell: int | None, network: bool) -> Scene:
    from ddarts.reporting.drawing import cell_scene, genotype_scene
    from ddarts.reporting.names import cell_title
    from ddarts.reporting.network_drawing import network_scene

    if network:
        return network_scene(genotype, background.numbers)
    if cell is None:
        return genotype_scene(genotype, background.proofs)
    one, proof = genotype.cells[cell], background.proof(cell)
    return cell_scene(one, title=cell_title(cell, one), gates=proof.gates, margins=proof.margins)
