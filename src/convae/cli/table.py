"""`convae table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convae.cli._options import (
    BatchSize,
    Data,
    DataDir,
    Device,
    EncodeSplit,
    Force,
    ImageLabel,
    Model,
    Samples,
    Seed,
)

PANEL = "Use"
"""Under which heading the help lists the command."""


def table(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="The table: a .csv or .parquet file.", show_default=False)],
    clusters: Annotated[
        str | None, typer.Option(help="A column with the cluster of each image: how many, or auto.", show_default=False)
    ] = None,
    score: Annotated[str, typer.Option("--score", help="A column with this score, as of anomalies; or none.")] = "elbo",
    samples: Samples = None,
    logvar: Annotated[bool, typer.Option("--logvar", help="Columns with the log-variances too.")] = False,
    data: Data = None,
    data_dir: DataDir = None,
    split: EncodeSplit = None,
    label: ImageLabel = None,
    seed: Seed = 0,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Write one table for pandas, R and spreadsheets: name, split, class, label, cluster, score and latents of images.

    The latents are the means of the posteriors, in the columns z0, z1, …; codes are in code0, code1, ….

    Example: `convae table RUN --data photos/ --out table`
    """
    from convae.cli._classes import wanted_class
    from convae.cli._latents import cluster_count
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._options import samples_of
    from convae.cli._screen import results, work_bar, wrote
    from convae.core.errors import ConfigError
    from convae.evaluation import score_images
    from convae.latents import cluster, encode
    from convae.latents.formats import columns, require_table, write_table

    require_table(out)
    wished = None if clusters is None else cluster_count(clusters)
    if score == "none" and samples is not None:
        raise ConfigError("--samples: with --score none nothing is drawn, so leave one of them out")
    (path,) = new_files(out.parent, [out.name], force)
    loaded = open_model(model, device)
    wanted = wanted_class(loaded, label)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar, usual="all", label=wanted, must_fill=True)
        encoding = encode(loaded, images, batch_size=batch_size, progress=bar)
        made = columns(encoding, ["mean", "logvar", "codes"] if logvar else ["mean", "codes"])
        beside = {}
        if wished is not None:
            found = cluster(encoding.mean, wished, seed=seed)
            beside["cluster"] = found.assigned.tolist()
        if score != "none":
            options = samples_of(score, samples)
            scores = score_images(
                loaded, images, score=score, options=options, seed=seed, batch_size=batch_size, progress=bar
            )
            beside[scores.column] = scores.values.tolist()
    first = {name: made.pop(name) for name in ("name", "split", "class", "label")}
    write_table(path, {**first, **beside, **made})
    results.print(f"{len(encoding):,} rows: {', '.join([*first, *beside])}, {len(made)} of latents", soft_wrap=True)
    wrote(path)
