"""`convae traverse`."""

from __future__ import annotations

from typing import Annotated

import typer

from convae.cli._options import Data, DataDir, Device, Force, Model, Out, Show, SplitOption


def traverse(
    model: Model,
    out: Out,
    image: Annotated[
        str | None, typer.Option(help="An image file or a position to start from; otherwise the mean latent.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many latent values, those that tell most first.")] = 10,
    steps: Annotated[int, typer.Option(min=2, help="Images in a row.")] = 9,
    data: Data = None,
    data_dir: DataDir = None,
    split: SplitOption = "test",
    device: Device = "auto",
    force: Force = False,
    show: Show = False,
) -> None:
    """Change one latent value at a time: a row for each, from its 2% to its 98% quantile over the images."""
    import torch

    from convae.cli._latents import named_images
    from convae.cli._models import new_files, open_images, open_model
    from convae.cli._screen import work_bar, wrote
    from convae.latents import by_information, decode, encode, information
    from convae.latents import traverse as walk
    from convae.pictures.grid import grid
    from convae.pictures.save import save

    (sheet,) = new_files(out, ["traversal.png"], force)
    loaded = open_model(model, device)
    with work_bar() as bar:
        images = open_images(loaded, data, data_dir, split, bar)
        encoding = encode(loaded, images, progress=bar)
    start = encoding.mean.mean(0)
    if image is not None:
        with torch.no_grad():
            given = named_images(loaded, [image], lambda: images).to(next(loaded.parameters()).device)
            start = loaded.encode(given).mean[0].cpu()
    values = by_information(encoding)[:rows]
    kl = information(encoding)
    walked = decode(loaded, walk(start, encoding, values, steps).flatten(0, 1))
    labels = [f"value {value}: {kl[value]:.2f} nats" for value in values.tolist()]
    beginning = "the mean latent" if image is None else f"image {image}"
    save(grid(walked, columns=steps, row_labels=labels, title=f"{loaded.name}: from {beginning}"), sheet)
    wrote(sheet, show)
