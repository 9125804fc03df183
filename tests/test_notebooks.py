"""The notebooks of docs/ run from the first cell to the last, and what they display reaches no web service."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


def code_cells(notebook: Path) -> list[str]:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def execute(cell: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does and return what it would display: the value of its last line."""
    tree = ast.parse(cell)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(tree, "<cell>", "exec"), names)
        return None
    del tree.body[-1]
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)


def test_there_is_a_notebook_for_each_way_in() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_first_plate", "02_own_classifier", "03_campaign"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_as_it_is_written(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = [execute(cell, names) for cell in code_cells(notebook)]
    figures = [value for value in shown if hasattr(value, "to_plotly_json")]
    assert all(figure.data for figure in figures)
    for figure in figures:
        html = figure._repr_html_()
        assert '"showSendToCloud": false' in html
    assert any(value is not None for value in shown), "a notebook shows something"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    """Outputs would carry somebody's paths, and megabytes of plotly.js."""
    held = json.loads(notebook.read_text(encoding="utf-8"))
    assert held["nbformat"] == 4
    assert held["cells"][0]["cell_type"] == "markdown"
    for cell in held["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
