"""`convae sweep`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

PANEL = "Tune"
"""The heading under which the help lists the command."""


def sweep(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[RECIPE] key.path=value,value ...", help="A recipe file, and options with the values to try."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The folder of the sweep, new or to resume; otherwise one in sweeps/.")
    ] = None,
) -> int:
    """Train a recipe once for each value of an option, and compare the results.

    The same command resumes a sweep that was stopped; finished runs are not repeated.

    Example: `convae sweep RECIPE objective.kl.weight=1,2,4`
    """
    from convae.cli._parsing import recipe_and_overrides
    from convae.cli._screen import notes, results, work_bar, wrote
    from convae.training.report import TrainingReport
    from convae.training.sweep import sweep

    recipe, options = recipe_and_overrides(arguments, "key.path=value,value")

    with work_bar() as bar:
        found = sweep(recipe or {}, options, out=out, callback=TrainingReport(bar), progress=bar)
    for label, reason in found.failed.items():
        notes.print(f"{label}: {reason}", soft_wrap=True, style="yellow")
    if found.stopped:
        notes.print("stopped and saved; the same command resumes the sweep", soft_wrap=True)
        return 130
    if found.runs and results.is_terminal:
        results.print(_table(found.path / "table.csv"))
    elif found.runs:
        results.print((found.path / "table.md").read_text(encoding="utf-8").partition("\n\n!")[0], soft_wrap=True)
    wrote(found.path)
    return 0 if found.runs else 1


def _table(path: Path) -> Table:
    """The table of a sweep for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    with path.open(newline="", encoding="utf-8") as file:
        headings, *rows = csv.reader(file)
    table = Table(box=SIMPLE_HEAD, title="The best model of each run, per validation image", title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == headings[0] else "right")
    for row in rows:
        table.add_row(row[0], *(_short(text) for text in row[1:]))
    return table


def _short(text: str) -> str:
    """A number with five significant digits; other text unchanged."""
    try:
        return f"{float(text):.5g}" if "." in text or "e" in text else text
    except ValueError:
        return text
