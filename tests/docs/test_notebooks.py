from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest
from made.notebooks import notebook

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("name", NAMES)
def test_every_notebook_has_a_page(name: str) -> None:
    assert f'notebook("{name}")' in (ROOT / "docs" / "notebooks" / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_the_code_the_text_and_the_pictures_of_its_notebook(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("made.notebooks.IMAGES", tmp_path / "_build" / "notebooks")
    text = notebook(name)
    cells = json.loads((ROOT / "examples" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [block.strip() for block in re.findall(r"^```py\n(.*?)^```", text, flags=re.M | re.S)] == [
        "".join(cell["source"]).strip() for cell in code
    ]
    outputs = [output.get("data", {}) for cell in code for output in cell["outputs"]]
    stored = [data["image/png"] for data in outputs if "image/png" in data]
    shown = [tmp_path / path for path in re.findall(r"^!\[.*\]\(/(.*)\)$", text, flags=re.M)]
    assert [path.read_bytes() for path in shown] == [base64.b64decode("".join(picture)) for picture in stored]
    assert ".ipynb)" not in text
