"""`convae evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convae.cli._options import BatchSize, Data, DataDir, Device, Force, Model, Seed, SplitOption


def evaluate(
    model: Model,
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[metric.option=value ...]", help="Options of metrics, such as nll.samples=500."),
    ] = None,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "test",
    metrics: Annotated[
        str, typer.Option(help="Names with commas between; all; default: those that do not take long.")
    ] = "default",
    json: Annotated[Path | None, typer.Option(help="Write the figures and their protocol to this file.")] = None,
    seed: Seed = 0,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Measure a model on every image of a split."""
    from convae.cli._figures import table
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import results, work_bar, wrote
    from convae.core.config import override
    from convae.core.files import write_json
    from convae.evaluation import evaluate as measure

    names = [name.strip() for name in metrics.split(",")]
    given = override({}, options or [])
    if json is not None:
        new_files(json.parent, [json.name], force)
    loaded = open_model(model, device)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar)
        report = measure(loaded, images, metrics=names, options=given, seed=seed, batch_size=batch_size, progress=bar)
    results.print(table(report))
    if json is not None:
        write_json(json, report.as_dict())
        wrote(json)
