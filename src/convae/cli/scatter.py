"""`convae scatter`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from convae.cli._options import DataOptions, MissingLabel, Model, OutputOptions, Seed, open_session, with_option_groups

PANEL = "Look"
"""The heading under which the help lists the command."""


@with_option_groups
def scatter(
    model: Model,
    output: OutputOptions,
    data: DataOptions,
    method: Annotated[
        Literal["auto", "raw", "pca", "tsne", "umap"],
        typer.Option(help="Projection; auto: raw for one or two latent dimensions, PCA otherwise."),
    ] = "auto",
    label: MissingLabel = None,
    seed: Seed = 0,
) -> None:
    """Draw the latents of images as a scatter plot, colored by class.

    One-dimensional latents are drawn as histograms and strips.

    Example: `convae scatter RUN --out pictures`
    """
    from convae.cli._files import new_files
    from convae.cli._screen import work_bar, wrote
    from convae.latents import project
    from convae.pictures.save import save
    from convae.pictures.scatter import CLASSES
    from convae.pictures.scatter import scatter as draw
    from convae.pictures.strips import strips

    still, drawing = new_files(output.out, ["scatter.png", "scatter.svg"], output.force)
    with work_bar() as bar:
        session = open_session(model, data, bar, missing_label=label)
        images, encoding = session.images, session.encode()
    projection = project(encoding.mean, method, seed=seed)
    labels, names = encoding.labels, dict(enumerate(images.classes or ()))
    title = f"{session.model.name}: {len(images):,} {images.source} images ({images.name})"
    if labels is not None and len(set(labels.tolist())) > CLASSES:
        title += f", not colored: more than {CLASSES} classes"
        labels = None
    names[-1] = "no label"
    x_label, *others = projection.labels
    if others:
        figure = draw(projection.points, labels, names=names, x_label=x_label, y_label=others[0], title=title)
    else:
        figure = strips(projection.points[:, 0], labels, names=names, x_label=x_label, title=title)
    wrote(save(figure, still), output.show)
    wrote(save(figure, drawing))
