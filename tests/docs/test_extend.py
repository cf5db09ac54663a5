"""The package that docs/extend.md builds is found by its entry points and passes the conformance checks."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.docs.guide import blocks, python
from tests.processes import finished

PAGE = "docs/extend.md"


def install(folder: Path) -> None:
    """Write the files of the page as pip would install them into a folder of sys.path."""
    (folder / "my_parts").mkdir()
    (folder / "my_parts" / "__init__.py").touch()
    info = folder / "my_parts-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-parts\nVersion: 1.0\n")
    (toml,) = (block for language, block in blocks(PAGE) if language == "toml")
    groups = tomllib.loads(toml)["project"]["entry-points"]
    entries = (f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items())
    (info / "entry_points.txt").write_text("\n".join(entries))
    for block in python(PAGE):
        first = block.code.partition("\n")[0]
        if first.startswith("# my_parts/"):
            (folder / first.removeprefix("# ")).write_text(block.code)


def test_the_parts_of_the_page_pass_the_checks_and_can_be_searched(tmp_path: Path) -> None:
    install(tmp_path)
    assert len(list((tmp_path / "my_parts").glob("*.py"))) == 1 + 5
    used = [block for block in python(PAGE) if not block.code.startswith("# my_parts/")]
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    script = "\n".join([path, "import warnings; warnings.simplefilter('error')", *(block.code for block in used)])
    done = finished(script, folder=tmp_path)
    assert (done.status, done.out) == (0, used[-1].prints), done.err
