"""The cells of the notebook run in order, and what they end with shows itself as HTML or as a short text."""

import ast
import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_steps.ipynb"


def test_the_notebook_runs_and_shows_tables_and_drawings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    shown = []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(NOTEBOOK), "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names))  # noqa: S307
    search, drawing, training, edits, model, classes, losses = shown
    for result in (search, drawing):
        assert result._repr_html_().startswith("<table>")
        assert "<svg" in result._repr_html_()
    assert "parameters" in training._repr_html_()
    assert 0 < edits <= 1
    assert repr(names["genotype"]).startswith("Genotype(name=")
    assert len(repr(search)) < 600
    assert repr(model).startswith("Model('notebook-train/model', ")
    assert classes.shape == (3,)
    assert len(losses) == 1
