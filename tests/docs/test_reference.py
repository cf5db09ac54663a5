"""`make docs` writes a reference that reads well, and has nothing to complain of."""

from __future__ import annotations

import ast
import builtins
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.guide import ROOT, text_of


def test_sections_of_docstrings_become_lists_and_nothing_is_complained_of(tmp_path: Path) -> None:
    pytest.importorskip("pdoc", reason="needs the extra dev")
    (line,) = re.findall(r"^\t(.*-m pdoc .*)$", text_of("Makefile"), re.MULTILINE)
    words = shlex.split(line)
    *words, exclusion = words  # the builds of the kernels, which Python cannot import
    assert (words[0], words[-2:]) == ("$(BIN)/python", ["site", "$(DOCUMENTED)"])
    modules = [
        "ddarts.genotype.genotype",
        "ddarts.genotype.interop.tokens",
        "ddarts.reporting.layout",
        "ddarts.kernels",
    ]
    command = [sys.executable, *words[1:-2], str(tmp_path), *modules, exclusion]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "ddarts" / "genotype" / "genotype.html").read_text(encoding="utf-8")
    assert "<strong>concat:</strong>" in page  # an item of the list of attributes
    assert "Alias for field number" not in page


def test_tuples_with_names_hold_what_the_reference_can_link() -> None:
    # a NamedTuple's __new__ lives in a module of its own, where pdoc finds the names of builtins only; annotations that
    # are types, not text, need no names
    for path in sorted((ROOT / "src").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "from __future__ import annotations" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and "NamedTuple" in map(ast.unparse, node.bases):
                types = [field.annotation for field in node.body if isinstance(field, ast.AnnAssign)]
                names = {n.id for kind in types for n in ast.walk(kind) if isinstance(n, ast.Name)}
                assert names <= set(dir(builtins)), f"{path.name}: {node.name}; a frozen dataclass can hold it"
