import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddarts.errors import GenotypeError
from ddarts.genotype.deepen import deepen
from ddarts.genotype.genotype import CellGenotype, Edge, Genotype
from ddarts.space.cell_space import default_reductions


def numbered(kinds: str) -> Genotype:
    """A genotype of normal (n) and reduction (r) cells; cell i is told apart by its concat."""
    return Genotype(
        tuple(
            CellGenotype((Edge("skip_connect", 0, 2), Edge("skip_connect", 0, i + 3)), (2, i + 3), kind == "r")
            for i, kind in enumerate(kinds)
        ),
        "numbered",
    )


def numbers(genotype: Genotype) -> str:
    """The searched cells that stand at each position, reductions in brackets."""
    return " ".join(f"[{c.concat[1] - 3}]" if c.reduction else str(c.concat[1] - 3) for c in genotype.cells)


@pytest.mark.parametrize(
    ("kinds", "layers", "expected"),
    [
        ("nnrnnrnn", 14, "0 1 0 1 [2] 3 4 3 4 [5] 6 7 6 7"),
        ("nnrnnrnn", 20, "0 1 0 1 0 1 [2] 3 4 3 4 3 4 [5] 6 7 6 7 6 7"),
        ("nnrnnrnn", 9, "0 1 0 [2] 3 4 [5] 6 7"),
        ("nnrnnrnn", 10, "0 1 0 [2] 3 4 [5] 6 7 6"),
        ("nnrnnnrn", 11, "0 1 0 [2] 3 4 5 [6] 7 7 7"),  # the published reductions [2, 6]
        ("nn", 5, "0 1 0 1 0"),
        ("nrn", 6, "0 0 0 [1] 2 2"),
        ("rrr", 4, "0 [0] [1] [2]"),
        ("rr", 7, "0 0 [0] 0 [1] 1 1"),
        ("r", 4, "0 0 [0] 0"),
        ("nrrn", 9, "0 0 0 [1] 0 0 [2] 3 3"),  # the middle stage borrows from the one before
        ("rnrn", 9, "1 1 1 [0] 1 1 [2] 3 3"),  # the first stage from the one after
        ("nrr", 9, "0 0 0 [1] 0 0 [2] 0 0"),
        ("rrn", 9, "2 2 2 [0] 2 2 [1] 2 2"),
    ],
)
def test_stages_repeat_their_own_cells_in_turn(kinds: str, layers: int, expected: str) -> None:
    assert numbers(deepen(numbered(kinds), layers)) == expected


def test_as_many_layers_as_cells_change_nothing() -> None:
    genotype = numbered("nnrnnnrn")
    assert deepen(genotype, 8) is genotype


def test_fewer_layers_than_cells_are_refused() -> None:
    with pytest.raises(GenotypeError, match="layers = 7 is fewer than the 8 searched cells; choose 8 or more"):
        deepen(numbered("nnrnnrnn"), 7)


def test_the_name_is_kept() -> None:
    assert deepen(numbered("nr"), 9).name == "numbered"


def stages(genotype: Genotype) -> list[list[CellGenotype]]:
    found: list[list[CellGenotype]] = [[]]
    for cell in genotype.cells:
        if cell.reduction:
            found.append([])
        else:
            found[-1].append(cell)
    return found


@given(st.text("nr", min_size=1, max_size=12), st.integers(1, 25))
def test_any_deeper_network_keeps_length_reductions_and_stages(kinds: str, more: int) -> None:
    genotype = numbered(kinds)
    layers = len(kinds) + more
    deeper = deepen(genotype, layers)
    assert len(deeper) == layers
    count = kinds.count("r")
    assert deeper.reductions == tuple(layers * k // (count + 1) for k in range(1, count + 1))
    assert [c for c in deeper.cells if c.reduction] == [c for c in genotype.cells if c.reduction]
    for searched, built in zip(stages(genotype), stages(deeper), strict=True):
        period = len(searched)
        if period:
            assert built == [searched[i % period] for i in range(len(built))]


@given(st.integers(3, 12), st.integers(1, 25))
def test_the_default_space_keeps_its_thirds(cells: int, more: int) -> None:
    kinds = "".join("r" if i in default_reductions(cells) else "n" for i in range(cells))
    assert deepen(numbered(kinds), cells + more).reductions == default_reductions(cells + more)
