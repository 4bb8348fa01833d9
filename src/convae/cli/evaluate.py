"""`convae evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convae.cli._options import BatchSize, Data, DataDir, Device, Force, ImageLabel, Model, Seed, SplitOption

PANEL = "Look"
"""Under which heading the help lists the command."""


def evaluate(
    model: Model,
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[metric.option=value ...]", help="Options of metrics, such as nll.samples=500."),
    ] = None,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = None,
    label: ImageLabel = None,
    metrics: Annotated[
        str, typer.Option(help="Names with commas between; all; default: those that do not take long.")
    ] = "default",
    encoder: Annotated[
        Path | None,
        typer.Option(
            help="A trained model, or FID's Inception weights, by whose features samples and images are compared."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures and their protocol to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with figures and pictures to this file.")] = None,
    seed: Seed = 0,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Measure a model on every image of a split.

    Example: `convae evaluate RUN --split test --json metrics.json`
    """
    from convae.cli._classes import wanted_class
    from convae.cli._figures import hint_of_gap, table
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import notes, results, work_bar, wrote
    from convae.core.config import override
    from convae.core.files import write_json, write_text
    from convae.evaluation import EncoderFeatures, InceptionFeatures
    from convae.evaluation import evaluate as measure
    from convae.evaluation.features import Features
    from convae.evaluation.page import page

    names = [name.strip() for name in metrics.split(",")]
    given = override({}, options or [])
    for file in (json, html):
        if file is not None:
            new_files(file.parent, [file.name], force)
    loaded = open_model(model, device)
    features: Features | None = None
    if encoder is not None and encoder.is_file():
        features = InceptionFeatures(encoder, next(loaded.parameters()).device)
    elif encoder is not None:
        features = EncoderFeatures(open_model(encoder, device))
    with work_bar() as bar:
        wanted = wanted_class(loaded, label)
        images = open_images(loaded, data, data_dir, split, bar, label=wanted, must_fill=True)
        report = measure(
            loaded,
            images,
            metrics=names,
            options=given,
            features=features,
            seed=seed,
            batch_size=batch_size,
            progress=bar,
        )
    results.print(table(report))
    if (hint := hint_of_gap(report)) is not None:
        notes.print(hint, soft_wrap=True)
    if loaded.classifier is not None and (images.labels is None or not (images.labels >= 0).any()):
        notes.print(f"no accuracy: none of the {len(images):,} images of {images.source} ({images.name}) has a label")
    if json is not None:
        write_json(json, report.as_dict())
        wrote(json)
    if html is not None:
        write_text(html, page(loaded, images, report))
        wrote(html)
