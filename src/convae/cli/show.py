"""`convae show`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from convae.model.vae import VAE

PANEL = "Look"
"""The heading under which the help lists the command."""


def show(
    model: Annotated[
        str,
        typer.Argument(help="A preset, a YAML, JSON or Python file, an artifact or run folder, or a pretrained model."),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Arguments of a preset or keys of a file, such as input=[1,28,28].", show_default=False),
    ] = None,
    notation: Annotated[
        str | None,
        typer.Option(
            "--as", help="Print the description instead, in this notation: yaml, codes or arch-def.", show_default=False
        ),
    ] = None,
    draw: Annotated[
        Path | None, typer.Option(help="Draw a diagram into this .svg or .png file instead.", show_default=False)
    ] = None,
) -> None:
    """Print the layers and the prior of a model with output shapes, parameters, operations and receptive field.

    Example: `convae show torch-vae input=[1,28,28] --draw network.svg`
    """
    from convae.cli._screen import results, wrote
    from convae.core.errors import ConfigError
    from convae.describe import write

    if draw is not None and notation is not None:
        raise ConfigError("--as prints a model and --draw draws it: give one of them")
    described = _described(model, overrides or [])
    if draw is not None:
        from convae.model.summary import summarize
        from convae.pictures.save import save
        from convae.pictures.structure import draw_structure

        wrote(save(draw_structure(summarize(described), input_shape=described.input_shape, title=described.name), draw))
    elif notation is not None:
        results.print(write(described.spec, notation), end="", soft_wrap=True)
    else:
        results.print(_table(described))


def _described(model: str, overrides: list[str]) -> VAE:
    """The model of an artifact or a run, or of a description with overrides."""
    from convae.core.errors import ConfigError
    from convae.describe import resolve
    from convae.model.artifact import load
    from convae.model.construct import construct
    from convae.model.pretrained import is_model_name, missing_model_advice, model_path

    path = model_path(model)
    if path.is_dir():
        if overrides:
            raise ConfigError(f"{path}: is a trained model, whose description cannot be changed by '{overrides[0]}'")
        return load(path)
    if not path.exists() and is_model_name(model):
        raise ConfigError(f"{model}: no such file or model. {missing_model_advice(model)}")
    return construct(resolve(model, overrides))


def _table(model: VAE) -> Table:
    """One line for each layer, and the sums."""
    from rich.box import SIMPLE_HEAD
    from rich.padding import Padding
    from rich.table import Table

    from convae.core.names import shape_text
    from convae.model.summary import summarize

    rows = summarize(model)
    title = f"{model.name}: input {shape_text(model.input_shape)}, latent {shape_text(model.latent_shape)}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("layer", overflow="fold")
    for name in ("output shape", "parameters", "FLOPs", "receptive\nfield"):
        table.add_column(name, justify="right", no_wrap=True)
    for part in dict.fromkeys(row.part for row in rows):
        table.add_row(part, style="bold")
        for row in rows:
            if row.part == part:
                counts = (f"{row.parameters:,}" if row.parameters else "", engineering(row.flops))
                layer = Padding(row.layer, (0, 0, 0, 2))  # which its further lines have, too
                table.add_row(layer, shape_text(row.shape), *counts, _field(row.receptive_field))
    table.add_section()
    parameters, flops = (sum(getattr(row, name) for row in rows) for name in ("parameters", "flops"))
    table.add_row("total", "", f"{parameters:,}", engineering(flops), "", style="bold")
    if model.other_sizes is not None:
        table.caption = f"also takes {model.other_sizes}"
    return table


def engineering(count: int) -> str:
    """A count with three digits and a prefix: `44.4 M`; nothing for none."""
    if not count:
        return ""
    prefixes = ["", " k", " M", " G", " T", " P"]
    power = min(len(prefixes) - 1, max(0, math.floor(math.log10(count) / 3)))
    return f"{count / 1000**power:.3g}{prefixes[power]}"


def _field(sizes: tuple[float, ...]) -> str:
    """A receptive field: `15×15`; `all` once the axes are gone or seen whole."""
    return "×".join(f"{size:g}" for size in sizes) if sizes and not any(map(math.isinf, sizes)) else "all" * bool(sizes)
