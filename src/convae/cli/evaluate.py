"""`convae evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convae.cli._options import BatchSize, Data, DataDir, Device, Force, Model, Seed, SplitOption


def evaluate(
    model: Model,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "test",
    json: Annotated[Path | None, typer.Option(help="Write the figures and their protocol to this file.")] = None,
    seed: Seed = 0,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Measure a model on every image of a split."""
    from rich.table import Table

    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import results, work_bar, wrote
    from convae.core.files import write_json
    from convae.evaluation import evaluate as measure

    if json is not None:
        new_files(json.parent, [json.name], force)
    loaded = open_model(model, device)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar)
        report = measure(loaded, images, seed=seed, batch_size=batch_size, progress=bar)
    table = Table(title=f"{loaded.name} on {len(images):,} {images.source} images ({split})", title_justify="left")
    table.add_column("figure")
    table.add_column("mean per image", justify="right")
    table.add_column("± standard error", justify="right")
    table.add_column("unit")
    for name, figure in report.figures.items():
        table.add_row(name, f"{figure.value:.5g}", f"{figure.standard_error:.2g}", figure.unit)
    results.print(table)
    if json is not None:
        write_json(json, report.as_dict())
        wrote(json)
