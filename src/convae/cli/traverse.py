"""`convae traverse`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import DataOptions, Label, Model, OutputOptions, open_session, with_option_groups
from convae.core.names import count_text

PANEL = "Look"
"""The heading under which the help lists the command."""


@with_option_groups
def traverse(
    model: Model,
    output: OutputOptions,
    data: DataOptions,
    image: Annotated[
        str | None, typer.Option(help="An image file, position or name to start from; otherwise the mean latent.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Number of latent dimensions, highest KL divergence first.")] = 10,
    steps: Annotated[int, typer.Option(min=2, help="Images per row.")] = 9,
    label: Label = None,
) -> None:
    """Draw latent traversals: one dimension per row, from its 2% to its 98% quantile over the images.

    In a model with several latents, those below the one that changes are at the mean of their prior.

    Example: `convae traverse RUN --out pictures`
    """
    import torch

    from convae.cli._files import new_files, short_name
    from convae.cli._screen import work_bar, wrote
    from convae.latents import kl_per_dimension, rank_by_kl
    from convae.latents import traverse as traversals_from
    from convae.latents.traversals import has_kl_per_dimension
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    (sheet,) = new_files(output.out, ["traversal.png"], output.force)
    with work_bar() as bar:
        session = open_session(model, data, bar, label=label)
        if image is None:
            session.require_label()
        images = session.images
        given = None if image is None else session.encode_inputs([image])
        encoding = session.encode()
    dimensions, kl = rank_by_kl(encoding)[:rows], kl_per_dimension(encoding)
    origin = encoding.mean.mean(0) if given is None else given.z[0]
    traversals = traversals_from(origin, encoding, dimensions, steps)
    labels = None if given is None or given.labels is None else given.labels.expand(steps)
    layout = session.model.latent_layout
    decoded = torch.cat(
        [
            session.decode(
                row, labels, nearest=session.model.bottleneck.is_spherical, levels=layout.level_of(dimension)
            )
            for row, dimension in zip(traversals, dimensions.tolist(), strict=True)
        ]
    )
    names = [f"z{dimension}" for dimension in dimensions.tolist()]
    if has_kl_per_dimension(session.model):
        names = [f"{name}: KL {kl[dimension]:.2f} nats" for name, dimension in zip(names, dimensions, strict=True)]
    heads = ["2%", *[""] * (steps - 2), "98%"]
    start = "the mean latent" if image is None else f"image {short_name(image)}"
    title = (
        f"{session.model.name}: traversals from {start}{session.label_text}, 2% to 98% quantiles of "
        f"{count_text(len(images), 'image')}"
    )
    save(grid(decoded, row_labels=names, column_labels=heads, title=title), sheet)
    wrote(sheet, output.show)
