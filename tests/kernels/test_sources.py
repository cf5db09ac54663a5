"""What Python believes about the C files: the fields of their structures, and which files are built."""

from __future__ import annotations

import ctypes
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import setuptools

from ddarts.kernels import library

ROOT = Path(__file__).parents[2]
FOLDER = Path(library.__file__).parent

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="not a copy of the repository")


def _fields(name: str) -> list[tuple[str, type]]:
    """Names and types of the fields of the structure that a C file's function takes."""
    text = re.sub(r"/\*.*?\*/", "", (FOLDER / f"{name}.c").read_text(), flags=re.DOTALL)
    body = re.search(r"typedef struct \{([^}]*)\} " + name.capitalize() + ";", text)
    assert body is not None
    found = []
    for declaration in filter(str.strip, body[1].split(";")):
        kind = ctypes.c_void_p if "*" in declaration else {"int64_t": ctypes.c_int64, "double": ctypes.c_double}
        for part in declaration.split(","):
            field = re.search(r"(\w+)\s*$", part)
            assert field is not None
            found.append((field[1], kind if isinstance(kind, type) else kind[declaration.split()[0]]))
    return found


@pytest.mark.parametrize("name", library.STRUCTURES)
def test_structures_have_the_fields_of_the_c_files_in_their_order(name: str) -> None:
    assert list(library.STRUCTURES[name]._fields_) == _fields(name)


def test_every_c_file_is_built_for_every_kind_of_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    runpy.run_path(str(ROOT / "setup.py"))
    files = {f"src/ddarts/kernels/{path.name}" for path in FOLDER.glob("*.c")}
    assert given["ext_modules"]
    for extension in given["ext_modules"]:
        assert set(extension.sources) == files
        assert extension.optional
