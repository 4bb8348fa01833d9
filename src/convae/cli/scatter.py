"""`convae scatter`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from convae.cli._options import Data, DataDir, Device, Force, ImageLabel, Model, Out, Seed, Show, SplitOption

PANEL = "Look"
"""Under which heading the help lists the command."""


def scatter(
    model: Model,
    out: Out,
    method: Annotated[
        Literal["auto", "raw", "pca", "tsne", "umap"],
        typer.Option(help="How the plane is made; auto: raw for one or two latent values, PCA otherwise."),
    ] = "auto",
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = None,
    label: ImageLabel = None,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Draw the latents of images as points in a plane, coloured by class where there are classes.

    Latents of one value are drawn as histograms and strips.

    Example: `convae scatter RUN --out pictures`
    """
    from convae.cli._classes import wanted_class
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.latents import encode, project
    from convae.pictures.save import save
    from convae.pictures.scatter import CLASSES
    from convae.pictures.scatter import scatter as draw
    from convae.pictures.strips import strips

    still, drawing = new_files(out, ["scatter.png", "scatter.svg"], force)
    loaded = open_model(model, device)
    with work_bar() as bar:
        wanted = wanted_class(loaded, label)
        images = open_images(loaded, data, data_dir, split, bar, label=wanted, must_fill=True)
        encoding = encode(loaded, images, progress=bar)
    plane = project(encoding.mean, method, seed=seed)
    labels, names = encoding.labels, dict(enumerate(images.classes or ()))
    title = f"{loaded.name}: {len(images):,} {images.source} images ({images.name})"
    if labels is not None and len(set(labels.tolist())) > CLASSES:
        title += f", more than {CLASSES} classes, which no colours tell apart"
        labels = None
    names[-1] = "no label"
    x_label, *others = plane.labels
    if others:
        figure = draw(plane.points, labels, names=names, x_label=x_label, y_label=others[0], title=title)
    else:
        figure = strips(plane.points[:, 0], labels, names=names, x_label=x_label, title=title)
    wrote(save(figure, still), show)
    wrote(save(figure, drawing))
