"""Reading published text formats: ``Genotype_nested(...)``, ``Genotype_opt(...)`` and the two-cell ``Genotype(...)``.

All are read as bare text and as Python source with such assignments (`literals`); nothing in them is run. `written`
holds the records that they become, and writes them.
"""

from __future__ import annotations

from dataclasses import replace

from ddarts.errors import GenotypeError, nearest
from ddarts.genotype.genotype import Edge, Genotype
from ddarts.genotype.interop.literals import Call, Sequence, Statements, Text, Value, Whole, read_statements
from ddarts.genotype.interop.tokens import Place, complain
from ddarts.genotype.interop.writers import MOST_CELLS, TWO_CELL_LAYERS, ReferenceGenotype, TwoCellGenotype
from ddarts.runtime.json_input import shown
from ddarts.space.cell_space import INPUT_STATES
from ddarts.space.operations import check_operation

_FIELDS = {
    "Genotype_nested": ("genes", "concat", "reductions"),
    "Genotype_opt": ("genes", "seq", "concat", "reductions"),
    "Genotype": ("normal", "normal_concat", "reduce", "reduce_concat"),
}
_MOST_NAMES_TOLD = 12

Record = ReferenceGenotype | TwoCellGenotype


def read_record(text: str, where: str = "text", name: str | None = None) -> Record:
    """Read one genotype of a text as it is written, before it becomes a network.

    Args:
        text: a bare constructor, or Python source with assignments.
        where: prefix of error messages, such as a file name.
        name: which assignment; may be left out where there is only one.

    Raises:
        GenotypeError: with line and column, what is broken; or the names there are, if `name` does not tell one.
    """
    return _record(_chosen(read_statements(text, where, _FIELDS), where, name), where, name or "")


def read_genotype(text: str, where: str = "text", name: str | None = None, layers: int | None = None) -> Genotype:
    """Read one genotype of a text as a whole network; see `read_record` for the arguments.

    Args:
        text, where, name: as for `read_record`.
        layers: number of cells of a two-cell genotype (20 if None).

    Raises:
        GenotypeError: as `read_record`, and if a cell cannot be built.
    """
    call = _chosen(read_statements(text, where, _FIELDS), where, name)
    record = _record(call, where, name or "")
    try:
        if isinstance(record, TwoCellGenotype):
            return record.expand(TWO_CELL_LAYERS if layers is None else layers)
        return record.expand()
    except GenotypeError as error:
        complain(where, call.place, f"{error} (`formats.read_record` reads it as it is written)")


# -- from calls to records -----------------------------------------------------------------------------------------


def _chosen(statements: Statements, where: str, name: str | None) -> Call:
    named = statements.named
    if name is not None:
        if name not in named:
            raise GenotypeError(f"{where}: no genotype is assigned to {shown(name)}{nearest(name[:60], named)}")
        return named[name]
    distinct = list({id(call): call for call in [*statements.bare, *named.values()]}.values())  # aliases once
    if len(distinct) == 1:
        return distinct[0]
    if not distinct:
        why = f"; {statements.unread}" if statements.unread else ""
        raise GenotypeError(f"{where}: line 1, column 1: no {', '.join(_FIELDS)} is in this text{why}")
    listed = ", ".join(list(named)[:_MOST_NAMES_TOLD]) + (", ..." if len(named) > _MOST_NAMES_TOLD else "")
    way_out = f"name one as {where}:NAME, of {listed}" if named else "keep one"
    raise GenotypeError(f"{where}: {distinct[1].place}: holds {len(distinct)} genotypes; {way_out}")


def _record(call: Call, where: str, name: str) -> Record:
    values = _arguments(call, where)
    if call.function == "Genotype":
        cells = {}
        for which in ("normal", "reduce"):
            cells[which] = _edges(values[which], where, pairs=True)
            cells[f"{which}_concat"] = _concat(values[f"{which}_concat"], where)
        return TwoCellGenotype(**cells, name=name)
    genes = _listed(values["genes"], where, "a list of cells")
    if not 1 <= len(genes) <= MOST_CELLS:
        complain(where, values["genes"].place, f"{len(genes)} cells, expected 1 to {MOST_CELLS}")
    record = ReferenceGenotype(
        tuple(_edges(gene, where) for gene in genes),
        _concat(values["concat"], where),
        tuple(_number(item, where, 0, MOST_CELLS) for item in _listed(values["reductions"], where, "positions")),
        None,
        name,
    )
    if "seq" not in values:
        return record
    sequence = _listed(values["seq"], where, "indices of cells")
    if not 1 <= len(sequence) <= MOST_CELLS:
        complain(where, values["seq"].place, f"a sequence of {len(sequence)} cells, expected 1 to {MOST_CELLS}")
    return replace(record, sequence=tuple(_number(item, where, 0, len(genes) - 1) for item in sequence))


def _arguments(call: Call, where: str) -> dict[str, Value]:
    fields = _FIELDS[call.function]
    if len(call.positional) > len(fields):
        complain(where, call.positional[len(fields)].place, f"{call.function} takes {len(fields)} arguments")
    values = dict(zip(fields, call.positional, strict=False))
    for key, value, place in call.keywords:
        if key not in fields:
            complain(where, place, f"{call.function} has no field {shown(key)}{nearest(key[:60], fields)}")
        if key in values:
            complain(where, place, f"{shown(key)} is given twice")
        values[key] = value
    for key in fields:
        if key not in values:
            complain(where, call.place, f"{call.function} without {key!r}; its fields are {', '.join(fields)}")
    return values


def _edges(value: Value, where: str, *, pairs: bool = False) -> tuple[Edge, ...]:
    edges: dict[Edge, None] = {}
    kind = 0  # entries of each edge of this cell
    for index, item in enumerate(_listed(value, where, "a list of edges")):
        form = "(operation, to, from)" if not pairs else "(operation, from) or (operation, to, from)"
        entries = _listed(item, where, f"an edge {form}")
        if len(entries) not in ((2, 3) if pairs else (3,)):
            complain(where, item.place, f"an edge of {len(entries)} entries, expected {form}")
        if kind not in (0, len(entries)):
            complain(where, item.place, f"an edge of {len(entries)} entries after edges of {kind}")
        kind = len(entries)
        if not isinstance(entries[0], Text):
            complain(where, entries[0].place, "expected the name of an operation")
        operation = check_operation(entries[0].value, f"{where}: {entries[0].place}")
        target = INPUT_STATES + index // 2
        if kind == 3:
            target = _number(entries[1], where, INPUT_STATES, INPUT_STATES + 31)
        edge = Edge(operation, _number(entries[-1], where, 0, target - 1), target)
        if edge in edges:
            complain(where, item.place, f"{operation} from {edge.source} to {target} stands twice")
        edges[edge] = None
    return tuple(edges)


def _concat(value: Value, where: str) -> tuple[int, ...]:
    states: list[int] = []
    for item in _listed(value, where, "states"):
        state = _number(item, where, INPUT_STATES, INPUT_STATES + 31)
        if state in states:
            complain(where, item.place, f"state {state} stands twice")
        states.append(state)
    if not states:
        complain(where, value.place, "an empty concatenation; name at least one state")
    return tuple(states)


def _listed(value: Value, where: str, what: str) -> tuple[Value, ...]:
    if not isinstance(value, Sequence):
        complain(where, value.place, f"expected {what}, in brackets")
    return value.items


def _number(value: Value, where: str, least: int, most: int) -> int:
    place: Place = value.place
    if not isinstance(value, Whole):
        complain(where, place, f"expected a whole number from {least} to {most}")
    if not least <= value.value <= most:
        complain(where, place, f"{value.value} is out of range; expected {least} to {most}")
    return value.value
