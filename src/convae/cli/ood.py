"""`convae ood`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import BatchSize, Data, DataDir, Device, Force, Model, Out, Seed, Show, SplitOption


def ood(
    model: Model,
    out: Out,
    against: Annotated[
        str, typer.Option(help="A data set's name or a folder of images of another kind.", show_default=False)
    ],
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "test",
    score: Annotated[str, typer.Option(help="elbo, nll, reconstruction, kl or another figure of an image.")] = "elbo",
    seed: Seed = 0,
    batch_size: BatchSize = 256,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Score how strange images are to the model, and how well that parts known images from another set."""
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import results, work_bar, wrote
    from convae.core.files import write_json
    from convae.evaluation import separate
    from convae.pictures.histograms import histograms
    from convae.pictures.save import save

    picture, drawing, table = new_files(out, ["ood.png", "ood.svg", "ood.json"], force)
    loaded = open_model(model, device)
    with work_bar() as bar:
        known = open_images(loaded, data, data_dir, split, bar)
        foreign = open_images(loaded, against, data_dir, split, bar)
        found = separate(loaded, known, foreign, score=score, seed=seed, batch_size=batch_size, progress=bar)
    low, high = found.interval
    text = f"AUROC {found.auroc:.4f} ({low:.4f} … {high:.4f})"
    results.print(f"{text}: {foreign.source} against {known.source} images ({split}) by {score}")
    sets = {known.source: found.known, foreign.source: found.foreign}
    if len(sets) == 1:
        sets = {"known": found.known, "foreign": found.foreign}
    x_label = f"{'negative ELBO' if score == 'elbo' else score} ({found.unit} per image)"
    write_json(table, found.as_dict())
    figure = histograms(sets, x_label=x_label, title=f"{loaded.name}: {text}")
    wrote(save(figure, picture), show)
    wrote(save(figure, drawing))
    wrote(table)
