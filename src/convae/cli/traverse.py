"""`convae traverse`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Data, DataDir, Device, Force, Label, Model, Out, Show, SplitOption

PANEL = "Look"
"""Under which heading the help lists the command."""


def traverse(
    model: Model,
    out: Out,
    image: Annotated[
        str | None, typer.Option(help="An image file or a position to start from; otherwise the mean latent.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many latent values, those that tell most first.")] = 10,
    steps: Annotated[int, typer.Option(min=2, help="Images in a row.")] = 9,
    label: Label = None,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = None,
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Change one latent value at a time: a row for each, from its 2% to its 98% quantile over the images.

    Example: `convae traverse RUN --out pictures`
    """
    import torch

    from convae.cli._classes import drawn_as, needed_class, wanted_class
    from convae.cli._latents import short_name, start
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.latents import by_information, decode, encode, information
    from convae.latents import traverse as walk
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    (sheet,) = new_files(out, ["traversal.png"], force)
    loaded = open_model(model, device)
    wanted = needed_class(loaded, label) if image is None else wanted_class(loaded, label)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar, label=wanted)
        given = None if image is None else start(loaded, [image], lambda: images, label)
        encoding = encode(loaded, images, progress=bar)
    values = by_information(encoding)[:rows]
    kl = information(encoding)
    if given is None:
        begin, beginning = encoding.mean.mean(0), f"the mean latent{drawn_as(loaded, wanted)}"
        kinds = None if wanted is None else torch.tensor([wanted])
    else:
        begin, beginning, kinds = given.z[0], f"image {short_name(image or '')}{given.drawn_as}", given.labels
    walked = walk(begin, encoding, values, steps).flatten(0, 1)
    drawn = decode(loaded, walked, labels=None if kinds is None else kinds.expand(len(walked)))
    names = [f"z{value}: KL {kl[value]:.2f} nats" for value in values.tolist()]
    heads = ["2%", *[""] * (steps - 2), "98%"]
    title = (
        f"{loaded.name}: from {beginning}, one latent value a row, from its 2% to its 98% quantile over "
        f"{len(images):,} images; KL: what the value tells about an image on average"
    )
    save(grid(drawn, row_labels=names, column_labels=heads, title=title), sheet)
    wrote(sheet, show)
