"""The picture of the rooms is up to date, and its page names every room."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_committed_picture_is_that_of_the_imports():
    spec = importlib.util.spec_from_file_location("make_architecture", DOCS / "make_architecture.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    graph = script.imports()
    assert script.PICTURE.read_text(encoding="utf-8") == script.draw(graph), "run python docs/make_architecture.py"
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert [room for room in graph if f"`{room}`" not in page] == []
