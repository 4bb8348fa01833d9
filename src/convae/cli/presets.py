"""`convae presets`."""

from __future__ import annotations

from typing import Annotated

import typer

PANEL = "Start"
"""The heading under which the help lists the command."""


def presets(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """List the presets with their shapes, parameters and operations at the default size.

    Example: `convae presets`
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from convae.cli._screen import notes, results
    from convae.cli.show import engineering
    from convae.core.names import one_line, shape_text
    from convae.describe import resolve
    from convae.model.construct import construct
    from convae.model.presets import PRESETS
    from convae.model.summary import summarize

    head = ["preset", "input", "latent", "parameters", "FLOPs per image", "description"]
    rows = []
    own = PRESETS.own_names()
    for name in PRESETS.names():
        try:
            model = construct(resolve(name))
        except Exception as error:  # whatever the code of another package raises
            if name in own:
                raise
            notes.print(f"the preset '{name}' is omitted: {one_line(error)}", soft_wrap=True)
            continue
        layers = summarize(model)
        parameters, flops = (sum(getattr(row, key) for row in layers) for key in ("parameters", "flops"))
        shapes = (shape_text(model.input_shape), shape_text(model.latent_shape))
        rows.append([name, *shapes, engineering(parameters), engineering(flops), PRESETS.summary(name)])
    if markdown:
        lines = [head, ["---", *["---:"] * 4, "---"], *rows]
        results.print("\n".join(f"| {' | '.join(line)} |" for line in lines), soft_wrap=True)
        return
    table = Table(box=SIMPLE_HEAD)
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if 0 < place < len(head) - 1 else "left", no_wrap=place < len(head) - 1)
    for row in rows:
        table.add_row(*row)
    results.print(table)
