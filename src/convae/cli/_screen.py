"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

from pathlib import Path

import typer

from convae.core.console import notes, results, work_bar

__all__ = ["notes", "results", "work_bar", "wrote"]


def wrote(path: Path, show: bool = False) -> None:
    """Prints the path of what was written, and opens it with the system's own program on request."""
    results.print(str(path), soft_wrap=True)
    if show:
        typer.launch(str(path))
