"""`convae anomalies`."""

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
def anomalies(
    model: Model,
    output: OutputOptions,
    scoring: ScoreOptions,
    data: DataOptions,
    count: Annotated[int, typer.Option(min=1, help="How many images to show, highest score first.")] = 8,
    label: MissingLabel = None,
) -> None:
    """Rank images by anomaly score, and draw the highest with their reconstructions and error maps.

    anomalies.csv lists all images. The scores are those of `convae ood`. The default is the negative ELBO, minus the
    `elbo` of `convae evaluate`.

    Example: `convae anomalies RUN --data photos/ --out anomalies`
    """
    from convae.cli._files import image_columns, new_files, sorted_rows
    from convae.cli._screen import work_bar, wrote
    from convae.evaluation import score_images
    from convae.latents import map_errors
    from convae.latents.tables import write_table
    from convae.pictures.grid import compare
    from convae.pictures.heat import heat
    from convae.pictures.save import save

    sheet, table = new_files(output.out, ["anomalies.png", "anomalies.csv"], output.force)
    with work_bar() as bar:
        session = open_session(model, data, bar, missing_label=label)
        loaded, images = session.model, session.images
        scores = score_images(loaded, images, progress=bar, **scoring.arguments())
    order = scores.values.argsort(descending=True, stable=True)
    highest = map_errors(loaded, images, order[:count])
    rows = {"image": highest.images, "reconstruction": highest.reconstructions}
    if len(loaded.input_shape) > 2:  # signals are drawn with their reconstruction in one picture
        rows["error"] = heat(highest.errors)  # type: ignore[assignment]  # pictures take arrays too
    captions = [f"{value:.5g}" for value in scores.values[order[:count]].tolist()]
    title = f"{loaded.name}: highest {scores.label} of {len(images):,} {images.source} images ({images.name})"
    save(compare(rows, captions=captions, title=title), sheet)
    listed = {**image_columns(images), scores.column: scores.values.tolist()}
    write_table(table, {"rank": list(range(1, len(order) + 1)), **sorted_rows(listed, order.tolist())})
    wrote(sheet, output.show)
    wrote(table)
