"""The genotype of a choice space: one candidate for each choice, as plain, validated, versioned data."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from ddarts.errors import GenotypeError, SettingsError, nearest
from ddarts.genotype.genotype import FORMAT as CELL_FORMAT
from ddarts.genotype.genotype import Genotype, Size, check_name, size_from, size_to_dict
from ddarts.runtime import json_input as checks
from ddarts.runtime.atomic_files import write_text
from ddarts.runtime.progress import counted
from ddarts.runtime.registry import load_reference
from ddarts.runtime.seeds import derive_seed
from ddarts.space.choice_space import ChoiceSpace, find_choice_space

FORMAT = "ddarts-choices"
GATES_FORMAT = "ddarts-choice-gates"
VERSION = 1


@dataclass(frozen=True)
class ChoiceGenotype:
    """An architecture of a choice space.

    Attributes:
        space: name of the space.
        choices: for each choice of the space, the name of the candidate.
        name: where it comes from, for people; one line of at most 200 printable characters.
        size: see `Genotype.size`.

    Raises:
        GenotypeError: the space or a candidate is unknown, the number of choices does not fit the space, or a name
            that cannot be printed.
    """

    space: str
    choices: tuple[str, ...]
    name: str = ""
    size: Size | None = None

    def __post_init__(self) -> None:
        space = find_choice_space(self.space, "space")
        if len(self.choices) != len(space):
            raise GenotypeError(
                f"{counted(len(self.choices), 'choice')}, expected {len(space)}, those of the space {space.name}"
            )
        for i, (candidate, choice) in enumerate(zip(self.choices, space.choices, strict=True)):
            if candidate not in choice.candidates:
                raise GenotypeError(
                    f"choices[{i}]: {checks.shown(candidate)} is not a candidate of {choice.name} in the space "
                    f"{space.name}{nearest(candidate[:60], choice.candidates)}"
                )
        check_name(self.name)

    def __len__(self) -> int:
        return len(self.choices)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, space={self.space!r}, choices={len(self)})"

    def _repr_html_(self) -> str:
        """Return a drawing for a notebook."""
        return load_reference("ddarts.reporting.network_drawing:genotype_html")(self)

    @property
    def facts(self) -> ChoiceSpace:
        """The space that the choices belong to."""
        return find_choice_space(self.space)

    @property
    def reductions(self) -> tuple[int, ...]:
        """Positions of the blocks that halve the resolution."""
        return self.facts.reductions

    @property
    def operations(self) -> tuple[str, ...]:
        """The distinct candidates in use, sorted by name."""
        return tuple(sorted(set(self.choices)))

    @property
    def indices(self) -> tuple[int, ...]:
        """For each choice, the position of its candidate in the space."""
        choices = zip(self.facts.choices, self.choices, strict=True)
        return tuple(choice.candidates.index(candidate) for choice, candidate in choices)

    @property
    def parameter_free_share(self) -> float:
        """Share of choices without weights, 0 to 1."""
        return sum(candidate in self.facts.parameter_free for candidate in self.choices) / len(self)

    @classmethod
    def from_indices(cls, space: ChoiceSpace, indices: Sequence[int], name: str = "") -> ChoiceGenotype:
        """Build a genotype from the positions of its candidates in the space."""
        return cls(space.name, tuple(c.candidates[i] for c, i in zip(space.choices, indices, strict=True)), name)

    def canonical(self) -> ChoiceGenotype:
        """Return the same architecture without name and size; equal canonical forms mean the same network."""
        return replace(self, name="", size=None)

    # -- JSON ------------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the genotype as JSON-ready data (`from_dict` reads it back)."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "space": self.space,
            "choices": list(self.choices),
            **size_to_dict(self.size),
        }

    @classmethod
    def from_dict(cls, data: Any, where: str = "genotype") -> ChoiceGenotype:
        """Build a genotype from JSON data, checking every field.

        Raises:
            GenotypeError: with the path into the data (``choices[2]``) and the reason.
        """
        checks.header(data, where, what="genotype", form=FORMAT, version=VERSION)
        data = checks.mapping(
            data, where, required=("format", "version", "space", "choices"), optional=("name", "size")
        )
        name, space = (checks.text(data.get(key, ""), f"{where}: {key}") for key in ("name", "space"))
        items = checks.listing(data["choices"], f"{where}: choices")
        choices = tuple(checks.text(item, f"{where}: choices[{i}]") for i, item in enumerate(items))
        try:
            return cls(space, choices, name, size_from(data, where))
        except GenotypeError as error:
            raise GenotypeError(f"{where}: {error}") from None

    def to_json(self) -> str:
        """Return the genotype as JSON text."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the genotype as JSON; the file appears whole or not at all."""
        write_text(Path(path), self.to_json())


@dataclass(frozen=True)
class ChoiceGates:
    """The gates of every choice, as a search has found them.

    Attributes:
        space_name: name of the space.
        values: for each choice one row with a gate for each candidate, 0 to 1; the shape of a searched cell with one
            edge.

    Raises:
        GenotypeError: the space is unknown, the shape does not fit it, or a gate is not a number from 0 to 1.
    """

    space_name: str
    values: tuple[tuple[tuple[float, ...], ...], ...]

    def __post_init__(self) -> None:
        space = self.space
        if len(self.values) != len(space):
            raise GenotypeError(f"gates: {len(self.values)} entries, expected {len(space)}, the number of choices")
        for i, (choice, rows) in enumerate(zip(space.choices, self.values, strict=True)):
            if len(rows) != 1 or len(rows[0]) != len(choice.candidates):
                raise GenotypeError(
                    f"gates[{i}]: expected one row of {len(choice.candidates)} gates, one for each candidate"
                )
            for o, gate in enumerate(rows[0]):
                if isinstance(gate, bool) or not isinstance(gate, int | float) or not 0 <= gate <= 1:
                    raise GenotypeError(f"gates[{i}][0][{o}]: {checks.shown(gate)} is not a number from 0 to 1")

    @property
    def space(self) -> ChoiceSpace:
        """The space that the gates belong to."""
        return find_choice_space(self.space_name, "space")

    @classmethod
    def from_space(cls, space: ChoiceSpace, values: Iterable[Iterable[Iterable[float]]]) -> ChoiceGates:
        """Join a space and gates in nested lists (such as ``tensor.tolist()``)."""
        return cls(space.name, tuple(tuple(tuple(row) for row in rows) for rows in values))

    def to_dict(self) -> dict[str, Any]:
        """Return the gates as JSON-ready data (`from_dict` reads it back, bit for bit)."""
        gates = [[list(row) for row in rows] for rows in self.values]
        return {"format": GATES_FORMAT, "version": VERSION, "space": self.space_name, "gates": gates}

    @classmethod
    def from_dict(cls, data: Any, where: str = "gates") -> ChoiceGates:
        """Build gates from JSON data, checking every field.

        Raises:
            GenotypeError: with the path into the data (``gates[2][0][5]``) and the reason.
        """
        checks.header(data, where, what="gates", form=GATES_FORMAT, version=VERSION)
        data = checks.mapping(data, where, required=("format", "version", "space", "gates"))
        space = checks.text(data["space"], f"{where}: space")
        values = [
            tuple(tuple(checks.listing(row, f"{where}: gates[{i}]")) for row in checks.listing(rows, f"{where}: gates"))
            for i, rows in enumerate(checks.listing(data["gates"], f"{where}: gates"))
        ]
        try:
            return cls(space, tuple(values))
        except GenotypeError as error:
            raise GenotypeError(f"{where}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the gates as JSON, one choice a line; the file appears whole or not at all."""
        data = self.to_dict()
        rows = ",\n".join(f"    {json.dumps(rows)}" for rows in data.pop("gates"))
        head = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in data.items())
        write_text(Path(path), f'{{\n{head},\n  "gates": [\n{rows}\n  ]\n}}\n')


#: The architecture of a cell space or of a choice space.
AnyGenotype = Genotype | ChoiceGenotype


def genotype_from_dict(data: Any, where: str = "genotype") -> AnyGenotype:
    """Build the genotype of a cell space or of a choice space from JSON data; its format decides.

    Raises:
        GenotypeError: with the path into the data and the reason.
    """
    form = data.get("format") if isinstance(data, dict) else None
    if form in (CELL_FORMAT, None):
        return Genotype.from_dict(data, where)
    if form == FORMAT:
        return ChoiceGenotype.from_dict(data, where)
    raise GenotypeError(
        f"{where}: format is {checks.shown(form)}, expected {CELL_FORMAT!r} or {FORMAT!r}; is this a genotype file?"
    )


def genotype_from_json(text: str, where: str = "genotype") -> AnyGenotype:
    """Parse JSON text; see `genotype_from_dict`.

    Raises:
        GenotypeError: with line and column where the text is not JSON.
    """
    return genotype_from_dict(checks.parse(text, where, "genotype"), where)


def load_genotype(path: str | os.PathLike[str]) -> AnyGenotype:
    """Read a genotype file, or the `genotype.json` of a run folder.

    Raises:
        GenotypeError: the file is missing, is not JSON (with line and column), or is not a valid genotype.
    """
    text, where = checks.read_text(path, what="genotype", inside="genotype.json", way_out="ddarts derive")
    return genotype_from_json(text, where)


# -- the space as a set of architectures -------------------------------------------------------------------------------


def best_choices(space: ChoiceSpace, weights: Sequence[Sequence[float]], name: str = "") -> ChoiceGenotype:
    """Derive a genotype: for each choice the candidate of the largest weight, the first of equals.

    Args:
        space: the space.
        weights: for each choice, one weight for each candidate.
        name: name of the genotype.
    """
    indices = [
        max(range(len(choice.candidates)), key=row.__getitem__)
        for choice, row in zip(space.choices, weights, strict=True)
    ]
    return ChoiceGenotype.from_indices(space, indices, name)


def random_choices(space: ChoiceSpace, *, seed: int) -> ChoiceGenotype:
    """Draw a genotype; all are equally likely."""
    draw = random.Random(derive_seed(seed, "random choices"))
    indices = [draw.randrange(len(choice.candidates)) for choice in space.choices]
    return ChoiceGenotype.from_indices(space, indices, f"random {seed}")


def neighbours(genotype: ChoiceGenotype) -> Iterator[ChoiceGenotype]:
    """Yield every genotype that differs in one choice, without a name."""
    for i, choice in enumerate(genotype.facts.choices):
        for candidate in choice.candidates:
            if candidate != genotype.choices[i]:
                changed = (*genotype.choices[:i], candidate, *genotype.choices[i + 1 :])
                yield ChoiceGenotype(genotype.space, changed)


class Difference(NamedTuple):
    """A choice in which two genotypes differ."""

    choice: str
    kind: str
    """``added`` or ``removed`` where one of both has no weights there, else ``changed``."""
    before: str
    after: str


def choice_differences(a: ChoiceGenotype, b: ChoiceGenotype) -> list[Difference]:
    """Return the choices in which `b` differs from `a`, in the order of the network.

    Raises:
        SettingsError: they are of different spaces.
    """
    choice_distance(a, b)
    free = a.facts.parameter_free
    found = []
    for choice, x, y in zip(a.facts.choices, a.choices, b.choices, strict=True):
        if x != y:
            kind = "added" if x in free and y not in free else "removed" if y in free and x not in free else "changed"
            found.append(Difference(choice.name, kind, x, y))
    return found


def choice_distance(a: ChoiceGenotype, b: ChoiceGenotype) -> float:
    """Return the share of choices in which two genotypes differ, 0 to 1.

    Raises:
        SettingsError: they are of different spaces.
    """
    if a.space != b.space:
        raise SettingsError(
            f"genotypes of the spaces {a.space} and {b.space} have no distance; compare genotypes of one space"
        )
    return sum(x != y for x, y in zip(a.choices, b.choices, strict=True)) / len(a)
