"""`convae table`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convae.cli._options import (
    AllDataOptions,
    Force,
    MissingLabel,
    Model,
    ScoreOptions,
    open_session,
    with_option_groups,
)
from convae.core.names import count_text

PANEL = "Use"
"""The heading under which the help lists the command."""


@with_option_groups
def table(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="The table: a .csv or .parquet file.", show_default=False)],
    scoring: ScoreOptions,
    data: AllDataOptions,
    clusters: Annotated[
        str | None, typer.Option(help="Add each image's cluster: how many clusters, or auto.", show_default=False)
    ] = None,
    logvar: Annotated[bool, typer.Option("--logvar", help="Add the log-variances.")] = False,
    label: MissingLabel = None,
    force: Force = False,
) -> None:
    """Write one table for pandas, R and spreadsheets: name, split, class, label, cluster, score and latents of images.

    Columns z0, z1, … hold the posterior means; code0, code1, … the codes of a model with a codebook. `--score none`
    leaves the score out.

    Example: `convae table RUN --data photos/ --out photos.csv`
    """
    from convae.cli._files import new_files
    from convae.cli._parsing import cluster_count
    from convae.cli._screen import results, work_bar, wrote
    from convae.core.errors import ConfigError
    from convae.evaluation import score_images
    from convae.latents import cluster
    from convae.latents.tables import encoding_columns, require_table, write_table

    require_table(out)
    number = None if clusters is None else cluster_count(clusters)
    if scoring.score == "none" and scoring.samples is not None:
        raise ConfigError("--samples does not apply to --score none: leave one of them out")
    (path,) = new_files(out.parent, [out.name], force)
    with work_bar() as bar:
        session = open_session(model, data, bar, default_split="all", missing_label=label)
        more = {}
        if scoring.score == "none":
            encoding = session.encode(batch_size=scoring.batch_size)
        else:
            asked = {"keep_encoding": True, **scoring.arguments()}
            scores = score_images(session.model, session.images, progress=bar, **asked)
            assert scores.encoding is not None  # asked for
            encoding = scores.encoding
            more[scores.column] = scores.values.tolist()
        if number is not None:
            more = {"cluster": cluster(encoding.mean, number, seed=scoring.seed).assigned.tolist(), **more}
    made = encoding_columns(encoding, ["mean", "logvar", "codes"] if logvar else ["mean", "codes"])
    first = {name: made.pop(name) for name in ("name", "split", "class", "label")}
    write_table(path, {**first, **more, **made})
    rows = count_text(len(encoding), "row")
    results.print(f"{rows}: {', '.join([*first, *more])}, {len(made)} of latents", soft_wrap=True)
    wrote(path)
