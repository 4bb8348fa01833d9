"""Notebooks as pages: their text, code and stored outputs in Markdown."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "_build" / "notebooks"
"""Where the pictures of notebooks are written while the pages are built."""


def notebook(name: str) -> str:
    """A notebook of `examples/` as Markdown; its pictures are written to `_build/notebooks`.

    Args:
        name: of the file, without its suffix.
    """
    cells = json.loads((ROOT / "examples" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n\n".join(part for number, cell in enumerate(cells) for part in _cell(cell, f"{name}-{number}"))


def _cell(cell: dict[str, Any], name: str) -> Iterator[str]:
    """The source of a cell, then its outputs."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        yield re.sub(r"\]\(([\w-]+)\.ipynb\)", r"](\1.md)", source)
        return
    yield f"```py\n{source}\n```"
    for number, output in enumerate(cell["outputs"]):
        data = output.get("data", {})
        if "image/png" in data:
            yield _picture("".join(data["image/png"]), f"{name}-{number}", _title(source))
        else:
            text = "".join(output.get("text", data.get("text/plain", "")))
            yield f"```\n{text.rstrip()}\n```"


def _title(source: str) -> str:
    """The title that the code of a picture gives it."""
    found = re.search(r'title="([^"]*)"', source)
    return found[1] if found else "Output"


def _picture(encoded: str, name: str, title: str) -> str:
    """Writes a PNG file; an image that shows it."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    path = IMAGES / f"{name}.png"
    path.write_bytes(base64.b64decode(encoded))
    return f"![{title}](/{path.relative_to(IMAGES.parents[1]).as_posix()})"
