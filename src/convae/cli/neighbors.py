"""`convae neighbors`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import (
    DataOptions,
    Images,
    MissingLabel,
    Model,
    OutputOptions,
    open_session,
    with_option_groups,
)

PANEL = "Use"
"""The heading under which the help lists the command."""


@with_option_groups
def neighbors(
    model: Model,
    images: Images,
    output: OutputOptions,
    data: DataOptions,
    count: Annotated[int, typer.Option(min=1, help="Number of neighbors.")] = 8,
    label: MissingLabel = None,
) -> None:
    """Find the images of a split whose latents are nearest to those of the given images.

    Example: `convae neighbors RUN cat.jpg --out pictures`
    """
    import torch

    from convae.cli._files import new_files, short_name
    from convae.cli._screen import work_bar, wrote
    from convae.core.errors import ConfigError
    from convae.latents import find_image, find_neighbors, is_image_file, read_images
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    (sheet,) = new_files(output.out, ["neighbors.png"], output.force)
    with work_bar() as bar:
        session = open_session(model, data, bar, label=label)
        among = session.images
        queries = session.encode_inputs(images)
        # An image of the split is not its own neighbor.
        own = [None if is_image_file(word) else find_image(word, among) for word in images]
        most = len(among) - any(place is not None for place in own)
        if not most:
            raise ConfigError(f"{among.source} ({among.name}) holds no other image")
        encoding = session.encode()
    count = min(count, most)
    found, distances = find_neighbors(queries.z, encoding.mean, min(count + 1, len(among)))
    cells, captions = [], []
    for word, place, query, near, far in zip(
        images, own, queries.images, found.tolist(), distances.tolist(), strict=True
    ):
        kept = [(index, distance) for index, distance in zip(near, far, strict=True) if index != place][:count]
        cells += [query, *read_images(among, [index for index, _ in kept])]
        captions += [short_name(word), *(f"{distance:.2f}" for _, distance in kept)]
    title = f"{session.model.name}: nearest {among.source} images ({among.name}), Euclidean distance of latents"
    save(grid(torch.stack(cells), columns=len(cells) // len(images), captions=captions, title=title), sheet)
    wrote(sheet, output.show)
