"""`convae sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Tune"
"""Under which heading the help lists the command."""


def sweep(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[RECIPE] key.path=value,value ...", help="A recipe file, and options with the values to try."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The folder of the sweep, which goes on with one; otherwise in sweeps/.")
    ] = None,
) -> int:
    """Train a recipe once for each value of an option, and compare what comes of it.

    The same command again goes on with a sweep that was stopped, and repeats no run that is done.

    Example: `convae sweep RECIPE objective.kl.weight=1,2,4`
    """
    from convae.cli._models import recipe_and_overrides
    from convae.cli._screen import notes, results, work_bar, wrote
    from convae.training.report import TrainingReport
    from convae.training.sweep import sweep

    recipe, options = recipe_and_overrides(arguments, "key.path=value,value")

    with work_bar() as bar:
        found = sweep(recipe or {}, options, out=out, observer=TrainingReport(bar), progress=bar)
    for label, reason in found.failed.items():
        notes.print(f"{label}: {reason}", soft_wrap=True, style="yellow")
    if found.stopped:
        notes.print("stopped and saved; the same command goes on", soft_wrap=True)
        return 130
    if found.runs:
        results.print((found.path / "table.md").read_text(encoding="utf-8").partition("\n\n!")[0], soft_wrap=True)
    wrote(found.path)
    return 0 if found.runs else 1
