"""The notebooks are whole: they parse, what they import exists, and their pictures are in place.

CI runs them too, by `make examples`: that takes longer than a test should.
"""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def code(path: Path) -> list[NotebookNode]:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_the_four_and_all_are_linked() -> None:
    names = {path.name for path in NOTEBOOKS}
    assert names == {"first-steps.ipynb", "latent-space.ipynb", "semi-supervised.ipynb", "own-images.ipynb"}
    for page in (ROOT / "README.md", ROOT / "docs" / "examples.md"):
        assert all(f"examples/{name}" in page.read_text(encoding="utf-8") for name in names)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_was_run_in_order_without_a_fault_and_shows_pictures(path: Path) -> None:
    cells = code(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"execute_result", "stream", "display_data"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_imports_is_there(path: Path) -> None:
    source = "\n".join(cell.source.replace("%matplotlib", "# %matplotlib") for cell in code(path))
    imports: list[ast.stmt] = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(imports) >= 5
    exec(compile(ast.Module(imports, []), path.name, "exec"), {})
