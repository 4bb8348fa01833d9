"""`convae anomalies`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import (
    BatchSize,
    Data,
    DataDir,
    Device,
    Force,
    ImageLabel,
    Model,
    Out,
    Samples,
    Score,
    Seed,
    Show,
    SplitOption,
)

PANEL = "Use"
"""Under which heading the help lists the command."""


def anomalies(
    model: Model,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="How many images to show, the strangest first.")] = 8,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = None,
    label: ImageLabel = None,
    score: Score = "elbo",
    samples: Samples = None,
    seed: Seed = 0,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Rank images by how badly the model explains them, and show where the strangest differ.

    anomalies.csv lists all of them. The score is that of `convae ood`, and its mean that of `convae evaluate`: the
    negative ELBO with latents drawn from the posterior by the seed.

    Example: `convae anomalies RUN --data photos/ --out strange`
    """
    from convae.cli._classes import wanted_class
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._options import samples_of
    from convae.cli._screen import work_bar, wrote
    from convae.cli._tables import columns_of, sorted_by
    from convae.evaluation import score_images
    from convae.latents import explain
    from convae.latents.formats import write_table
    from convae.pictures.grid import compare
    from convae.pictures.heat import heat
    from convae.pictures.save import save

    sheet, table = new_files(out, ["anomalies.png", "anomalies.csv"], force)
    loaded = open_model(model, device)
    with work_bar() as bar:
        wanted = wanted_class(loaded, label)
        images = open_images(loaded, data, data_dir, split, bar, label=wanted, must_fill=True)
        options = samples_of(score, samples)
        scores = score_images(
            loaded, images, score=score, options=options, seed=seed, batch_size=batch_size, progress=bar
        )
    order = scores.values.argsort(descending=True, stable=True)
    shown = explain(loaded, images, order[:count])
    rows = {"image": shown.images, "reconstruction": shown.reconstructions}
    if len(loaded.input_shape) > 2:  # the error of a signal is seen where its two lines part
        rows["error"] = heat(shown.errors)  # type: ignore[assignment]  # pictures take arrays as well
    captions = [f"{value:.5g}" for value in scores.values[order[:count]].tolist()]
    title = f"{loaded.name}: highest {scores.label} of {len(images):,} {images.source} images ({images.name})"
    save(compare(rows, captions=captions, title=title), sheet)
    listed = {**columns_of(images), scores.column: scores.values.tolist()}
    ranks = list(range(1, len(order) + 1))
    write_table(table, {"rank": ranks, **sorted_by(listed, order.tolist())})
    wrote(sheet, show)
    wrote(table)
