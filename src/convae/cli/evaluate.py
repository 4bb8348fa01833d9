"""`convae evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convae.cli._options import (
    BatchSize,
    DataOptions,
    Force,
    MissingLabel,
    Model,
    Refine,
    Seed,
    open_session,
    with_option_groups,
)

if TYPE_CHECKING:
    from convae.data import Split
    from convae.evaluation import Report
    from convae.model.vae import VAE

PANEL = "Look"
"""The heading under which the help lists the command."""


@with_option_groups
def evaluate(
    model: Model,
    data: DataOptions,
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[metric.option=value ...]", help="Options of metrics, such as nll.samples=500."),
    ] = None,
    label: MissingLabel = None,
    metrics: Annotated[
        str, typer.Option(help="Metrics separated by commas, or all; by default the fast ones.")
    ] = "default",
    features: Annotated[
        str | None,
        typer.Option(
            help="Feature network for comparing sets of images: a name such as efficientnet-lite0, a trained model, a "
            "file with the weights of FID's Inception or of DINOv2, or hf:OWNER/NAME of DINOv2 on the Hub."
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write metrics and protocol to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with metrics and pictures to this file.")] = None,
    refine: Refine = 0,
    seed: Seed = 0,
    batch_size: BatchSize = 256,
    force: Force = False,
) -> None:
    """Compute the metrics of a model over all images of a split.

    Example: `convae evaluate RUN --split test --json metrics.json`
    """
    from convae.cli._features import find_feature_network
    from convae.cli._files import new_files
    from convae.cli._screen import work_bar, wrote
    from convae.core.config import override
    from convae.core.files import write_json, write_text
    from convae.evaluation import evaluate as measure
    from convae.evaluation.page import render_page
    from convae.features import build_feature_network

    names = [name.strip() for name in metrics.split(",")]
    given = override({}, options or [])
    for file in (json, html):
        if file is not None:
            new_files(file.parent, [file.name], force)
    with work_bar() as bar:
        session = open_session(model, data, bar, missing_label=label)
        loaded, images = session.model, session.images
        network = None if features is None else build_feature_network(find_feature_network(features, bar))
        report = measure(
            loaded,
            images,
            metrics=names,
            options=given,
            features=network and network.to(next(loaded.parameters()).device),
            seed=seed,
            batch_size=batch_size,
            refinement_steps=refine,
            progress=bar,
        )
    _print(report, loaded, images)
    if json is not None:
        write_json(json, report.as_dict())
        wrote(json)
    if html is not None:
        write_text(html, render_page(loaded, images, report))
        wrote(html)


def _print(report: Report, model: VAE, images: Split) -> None:
    """Prints the metrics, and notes on their limits."""
    from convae.cli._metrics import metrics_table, prior_gap_hint
    from convae.cli._screen import notes, results

    results.print(metrics_table(report))
    if (hint := prior_gap_hint(report)) is not None:
        notes.print(hint, soft_wrap=True)
    if model.classifier is not None and (images.labels is None or not (images.labels >= 0).any()):
        notes.print(f"no accuracy: none of the {len(images):,} images of {images.source} ({images.name}) has a label")
