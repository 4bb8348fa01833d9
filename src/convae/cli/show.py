"""`convae show`."""

from __future__ import annotations

import math
from typing import Annotated

import typer


def show(
    model: Annotated[str, typer.Argument(help="A preset, a YAML or JSON file, an artifact or a run folder.")],
) -> None:
    """Print what a model is made of: layers, output shapes, parameters, operations, receptive field."""
    from pathlib import Path

    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from convae.cli._screen import results
    from convae.core.names import shape_text
    from convae.model.artifact import load
    from convae.model.spec import resolve
    from convae.model.summary import summary
    from convae.model.vae import VAE

    path = Path(model)
    described = load(path) if path.is_dir() else VAE(resolve(model))
    rows = summary(described)
    title = f"{described.name}: input {shape_text(described.input_shape)}, latent {shape_text(described.latent_shape)}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("layer", overflow="fold")
    for name in ("output shape", "parameters", "FLOPs", "receptive field"):
        table.add_column(name, justify="right", no_wrap=True)
    for part in dict.fromkeys(row.part for row in rows):
        table.add_row(f"[bold]{part}[/]")
        for row in rows:
            if row.part == part:
                counts = (f"{row.parameters:,}" if row.parameters else "", engineering(row.flops))
                table.add_row(f"  {row.layer}", shape_text(row.shape), *counts, _field(row.field))
    table.add_section()
    parameters, flops = (sum(getattr(row, name) for row in rows) for name in ("parameters", "flops"))
    table.add_row("[bold]total[/]", "", f"{parameters:,}", engineering(flops), "")
    results.print(table)


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
