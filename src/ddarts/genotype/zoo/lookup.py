"""What a person may call an architecture: a file, a run, or the name of a baseline or of an entry of the zoo."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ddarts.errors import GenotypeError, nearest
from ddarts.genotype.choices import AnyGenotype, ChoiceGenotype, genotype_from_json, load_genotype
from ddarts.genotype.genotype import Genotype
from ddarts.genotype.interop.formats import read_genotype
from ddarts.genotype.starting import original_genotype
from ddarts.genotype.zoo.baselines import BASELINES, baseline
from ddarts.genotype.zoo.catalogue import published_names, zoo_entry, zoo_names
from ddarts.runtime import json_input as checks
from ddarts.space.imported import is_imported
from ddarts.space.standard import FAMILY

PathLike = str | os.PathLike[str]

_FILE_SUFFIXES = (".json", ".txt", ".py")


def find_genotype(source: AnyGenotype | PathLike) -> Genotype:
    """Return the genotype of cells that `source` means; see `find_architecture`.

    Raises:
        GenotypeError: likewise, or it is a genotype of a choice space.
    """
    found = find_architecture(source)
    if isinstance(found, ChoiceGenotype):
        raise GenotypeError(
            f"{found.name or source} is a genotype of the choice space {found.space}, which has no cells; "
            "name a genotype of cells"
        )
    return found


def find_architecture(source: AnyGenotype | PathLike) -> AnyGenotype:
    """Return the genotype, of a cell space or of a choice space, that `source` means.

    Args:
        source: a `Genotype`; a genotype file, as JSON or in a published text format (`formats`; the content decides);
            ``FILE.py:NAME`` for one of several assignments in a file; a run folder that has a genotype; or the name of
            a baseline or of an entry of the zoo, in upper or lower case, or of a network as ``torchvision:NAME``,
            ``timm:NAME`` or ``standard:NAME``. What is there as a file wins over a name. A
            two-cell genotype, from a file or the zoo, is laid out over 20 cells.

    Raises:
        GenotypeError: nothing of that name is there (with the nearest name), or the file is broken.
    """
    if isinstance(source, AnyGenotype):
        return source
    text = os.fspath(source)
    if Path(text).exists():
        return _load(text)
    file, colon, name = text.rpartition(":")
    if colon and Path(file).is_file():
        return _load(file, name)
    if is_imported(text) or text.partition(":")[0] == FAMILY:
        return original_genotype(text)
    if text.lower() in BASELINES:
        return baseline(text)
    if text.lower() in {known.lower() for known in (*zoo_names(), *published_names())}:
        return zoo_entry(text).genotype()
    if re.fullmatch(r"[\w.-]+", text) and Path(text).suffix.lower() not in _FILE_SUFFIXES:
        known = (*BASELINES, *zoo_names())
        raise GenotypeError(
            f"{text}: no such genotype file, run, baseline or entry of the zoo{nearest(text.lower(), known)}"
        )
    return load_genotype(text)


def short_names(sources: Sequence[AnyGenotype | PathLike], *, endings: bool = True) -> list[str]:
    """Return a short printable name for each of several architectures; those that would be alike are numbered.

    Files are called by their names, with or without `endings`; what lies in a run or model folder, after the folder.
    """
    names: list[str] = []
    for source in sources:
        short = source.name or "genotype" if isinstance(source, AnyGenotype) else _short_name(Path(source), endings)
        short = "".join(c if c.isprintable() else "?" for c in short)
        same = sum(name == short or name.startswith(f"{short} #") for name in names)
        names.append(f"{short} #{same + 1}" if same else short)
    return names


def _short_name(path: Path, endings: bool) -> str:
    if path.name in ("model", "genotype.json"):
        return f"{path.resolve().parent.name}/{path.name if endings else path.stem}"
    if path.name in ("", "."):
        return path.resolve().name or "genotype"
    return path.stem if not endings and path.suffix.lower() in _FILE_SUFFIXES else path.name


def _load(path: str, name: str | None = None) -> AnyGenotype:
    """Read a file by its content: JSON opens with a bracket, everything else is a published text format."""
    text, where = checks.read_text(path, what="genotype", inside="genotype.json", way_out="ddarts derive")
    if name is None and (Path(where).suffix.lower() == ".json" or text.lstrip()[:1] in ("{", "[", "")):
        return genotype_from_json(text, where)
    return read_genotype(text, where, name)
