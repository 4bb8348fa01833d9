"""`convae ood`."""

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


def ood(
    model: Model,
    out: Out,
    against: Annotated[
        str, typer.Option(help="A data set's name or a folder of images of another kind.", show_default=False)
    ],
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
    """Score how strange images are to the model, and how well that tells known images from another set.

    ood.csv holds the score of every image of both sets: that of `convae anomalies`.

    Example: `convae ood RUN --against fashion-mnist --out pictures`
    """
    from convae.cli._classes import wanted_class
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._options import samples_of
    from convae.cli._screen import results, work_bar, wrote
    from convae.cli._tables import columns_of
    from convae.core.files import write_json
    from convae.evaluation import separate
    from convae.latents.formats import write_table
    from convae.pictures.histograms import histograms
    from convae.pictures.save import save

    picture, drawing, table, listed = new_files(out, ["ood.png", "ood.svg", "ood.json", "ood.csv"], force)
    loaded = open_model(model, device)
    options = samples_of(score, samples)
    with work_bar() as bar:
        wanted = wanted_class(loaded, label)
        known = open_images(loaded, data, data_dir, split, bar, label=wanted)
        foreign = open_images(loaded, against, data_dir, split, bar, label=wanted)
        found = separate(
            loaded, known, foreign, score=score, options=options, seed=seed, batch_size=batch_size, progress=bar
        )
    low, high = found.interval
    scores, against_scores = found.scores
    text = f"AUROC {found.auroc:.4f} ({low:.4f} … {high:.4f})"
    counts = f"{len(foreign):,} {foreign.source} images ({foreign.name}) against {len(known):,} {known.source} images"
    results.print(f"{text}: {counts} ({known.name}) by {scores.what}", soft_wrap=True)
    sets = {known.source: found.known, foreign.source: found.foreign}
    if len(sets) == 1:
        sets = {"known": found.known, "foreign": found.foreign}
    one, other = columns_of(known), columns_of(foreign)
    one["set"], other["set"] = ["known"] * len(known), ["ood"] * len(foreign)
    one[scores.column], other[scores.column] = scores.values.tolist(), against_scores.values.tolist()
    write_json(table, found.as_dict())
    write_table(listed, {name: one[name] + other[name] for name in one})
    figure = histograms(sets, x_label=scores.label, title=f"{loaded.name}: {text}")
    wrote(save(figure, picture), show)
    wrote(save(figure, drawing))
    wrote(table)
    wrote(listed)
