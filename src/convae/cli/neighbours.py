"""`convae neighbours`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Data, DataDir, Device, Force, Images, Label, Model, Out, Show, SplitOption

PANEL = "Use"
"""Under which heading the help lists the command."""


def neighbours(
    model: Model,
    images: Images,
    out: Out,
    count: Annotated[int, typer.Option(min=1, help="How many neighbours of each.")] = 8,
    label: Label = None,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = None,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Find the images of a split whose latents are nearest to those of the given images.

    Example: `convae neighbours RUN cat.jpg --out pictures`
    """
    import torch

    from convae.cli._classes import wanted_class
    from convae.cli._latents import images_at, is_image_file, position, short_name, start
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.core.errors import ConfigError
    from convae.latents import encode
    from convae.latents import neighbours as nearest
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    (sheet,) = new_files(out, ["neighbours.png"], force)
    loaded = open_model(model, device)
    with work_bar() as bar:
        among = open_images(loaded, data, data_dir, split, bar, label=wanted_class(loaded, label))
        queries = start(loaded, images, lambda: among, label)
        # An image of the split is not its own neighbour.
        own = [None if is_image_file(word) else position(word, among) for word in images]
        most = len(among) - any(place is not None for place in own)
        if not most:
            raise ConfigError(f"{among.source} ({among.name}) holds no image but this one")
        encoding = encode(loaded, among, progress=bar)
    count = min(count, most)
    found, distances = nearest(queries.z, encoding.mean, min(count + 1, len(among)))
    cells, captions = [], []
    for word, place, query, near, far in zip(
        images, own, queries.images, found.tolist(), distances.tolist(), strict=True
    ):
        kept = [(index, distance) for index, distance in zip(near, far, strict=True) if index != place][:count]
        cells += [query, *images_at(among, [index for index, _ in kept])]
        captions += [short_name(word), *(f"{distance:.2f}" for _, distance in kept)]
    title = f"{loaded.name}: nearest {among.source} images ({among.name}), distance between latents"
    save(grid(torch.stack(cells), columns=len(cells) // len(images), captions=captions, title=title), sheet)
    wrote(sheet, show)
