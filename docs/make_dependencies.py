"""Write the versions that CI installs, and the licences of all of them, from the environment that runs this script.

python docs/make_dependencies.py    # writes constraints.txt and docs/dependencies.md
"""

from __future__ import annotations

from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONSTRAINTS, PAGE = ROOT / "constraints.txt", ROOT / "docs" / "dependencies.md"
PACKAGE, EXTRA = "ddarts", "dev"
_LONGEST = 120  # characters of a licence's name; longer ones are its text
_HEADER = """# Dependencies

`make` installs these versions (constraints.txt), and so does CI; `pip install ddarts` takes any version in the ranges
of pyproject.toml. The table holds what a Linux machine with an x86-64 processor installs for the tests: packages that
`ddarts` requires, those of its extras, and what those require. Both files are written by `python
docs/make_dependencies.py` from the metadata of the installed packages. The extra `dask` (`distributed`, BSD-3-Clause)
is not among them. NVIDIA's packages belong to the CUDA build of torch; the CPU build needs none.

| package | version | required by | licence |
|---|---|---|---|
"""


def closure() -> dict[str, tuple[Distribution, set[str]]]:
    """Return the packages that the tests need, directly or not, each with the names of those that require it."""
    found: dict[str, tuple[Distribution, set[str]]] = {}
    seen: set[tuple[str, str]] = set()

    def visit(name: str, extra: str) -> None:
        if (name, extra) in seen:
            return
        seen.add((name, extra))
        for line in distribution(name).requires or []:
            needed = Requirement(line)
            if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
                continue
            child = canonicalize_name(needed.name)
            if child != PACKAGE:
                conditional = needed.marker is not None and "extra" in str(needed.marker)
                found.setdefault(child, (distribution(child), set()))[1].add(
                    f"{name}[{extra}]" if conditional else name
                )
            for wanted in ("", *sorted(needed.extras)):
                visit(child, wanted)

    visit(PACKAGE, EXTRA)
    return dict(sorted(found.items()))


def licence(package: Distribution) -> str:
    """Return the licence that the metadata of a package state: an expression, a name, or classifiers."""
    stated = [package.metadata.get(field) or "" for field in ("License-Expression", "License")]
    classifiers = [c.split(" :: ")[-1] for c in package.metadata.get_all("Classifier") or [] if c.startswith("License")]
    short = [text for text in stated if text and "\n" not in text and len(text) <= _LONGEST]
    return next(iter([*short, *([", ".join(classifiers)] if classifiers else [])]), "not stated in its metadata")


if __name__ == "__main__":
    packages = closure()
    note = "# The versions that make and CI install (docs/dependencies.md); written by docs/make_dependencies.py.\n"
    pins = (f"{name}=={package.version}\n" for name, (package, _) in packages.items())
    CONSTRAINTS.write_text(note + "".join(pins), encoding="utf-8")
    rows = (
        f"| {name} | {package.version} | {', '.join(sorted(parents))} | {licence(package)} |\n"
        for name, (package, parents) in packages.items()
    )
    PAGE.write_text(_HEADER + "".join(rows), encoding="utf-8")
