"""`convae ood`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import (
    DataOptions,
    MissingLabel,
    Model,
    OutputOptions,
    ScoreOptions,
    open_session,
    with_option_groups,
)

PANEL = "Use"
"""The heading under which the help lists the command."""


@with_option_groups
def ood(
    model: Model,
    output: OutputOptions,
    ood_data: Annotated[
        str,
        typer.Option(
            "--ood-data",
            help="Out-of-distribution images: a data set's name or a folder; all of them, or those of --split.",
            show_default=False,
        ),
    ],
    scoring: ScoreOptions,
    data: DataOptions,
    label: MissingLabel = None,
) -> None:
    """Measure how well an anomaly score separates out-of-distribution images from test images, by the AUROC.

    ood.csv lists the score of every image of both sets. The scores are those of `convae anomalies`.

    Example: `convae ood RUN --ood-data fashion-mnist --out pictures`
    """
    from convae.cli._files import image_columns, new_files
    from convae.cli._parsing import data_source
    from convae.cli._screen import results, work_bar, wrote
    from convae.core.files import write_json
    from convae.evaluation import separate
    from convae.latents.tables import write_table
    from convae.pictures.histograms import histograms
    from convae.pictures.save import save

    names = ["ood.png", "ood.svg", "ood.json", "ood.csv"]
    picture, drawing, table, listed = new_files(output.out, names, output.force)
    with work_bar() as bar:
        session = open_session(model, data, bar, label=label)
        known, foreign = session.images, session.open_images(data_source(ood_data, "--ood-data"), data.split)
        found = separate(session.model, known, foreign, progress=bar, **scoring.arguments())
    low, high = found.interval
    scores, ood_scores = found.scores
    text = f"AUROC {found.auroc:.4f} ({low:.4f} … {high:.4f})"
    counts = f"{len(foreign):,} {foreign.source} images ({foreign.name}) from {len(known):,} {known.source} images"
    results.print(f"{text}: {counts} ({known.name}) by {scores.name}", soft_wrap=True)
    sets = {known.source: scores.values, foreign.source: ood_scores.values}
    if len(sets) == 1:
        sets = {"in distribution": scores.values, "out of distribution": ood_scores.values}
    one, other = image_columns(known), image_columns(foreign)
    one["set"], other["set"] = ["known"] * len(known), ["ood"] * len(foreign)
    one[scores.column], other[scores.column] = scores.values.tolist(), ood_scores.values.tolist()
    write_json(table, found.as_dict())
    write_table(listed, {name: one[name] + other[name] for name in one})
    figure = histograms(sets, x_label=scores.label, title=f"{session.model.name}: {text}")
    wrote(save(figure, picture), output.show)
    wrote(save(figure, drawing))
    wrote(table)
    wrote(listed)
