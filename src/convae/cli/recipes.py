"""`convae recipes`."""

from __future__ import annotations

from typing import Annotated

import typer

PANEL = "Start"
"""The heading under which the help lists the command."""


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this recipe instead.", show_default=False)] = None,
) -> None:
    """List the recipes that come with convae, or print one.

    `convae train NAME` trains one; redirect its text to a file to change it.

    Example: `convae recipes demo > my-recipe.yaml`
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from convae.cli._screen import results
    from convae.core.errors import ConfigError
    from convae.core.names import unknown_message
    from convae.training.recipe.reading import packaged_recipes, recipe_summary

    packaged = packaged_recipes()
    if name is not None:
        if name not in packaged:
            raise ConfigError(unknown_message("recipe", name, packaged))
        results.print(packaged[name].read_text(encoding="utf-8"), end="", soft_wrap=True, markup=False)
        return
    table = Table(box=SIMPLE_HEAD)
    table.add_column("recipe", no_wrap=True)
    table.add_column("what it trains")
    for each, path in packaged.items():
        table.add_row(each, recipe_summary(path))
    results.print(table)
